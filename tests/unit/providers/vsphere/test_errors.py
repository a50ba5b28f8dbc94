"""vSphere's faults and ours, as a table."""

import pytest
from pyVmomi import vim, vmodl

from providers.core.errors import (
    CommandFailed,
    GuestLoginRefused,
    HypervisorUnavailable,
    Locked,
    VMNotFound,
    VmpowerError,
)
from providers.vsphere.errors import translate


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (vmodl.fault.ManagedObjectNotFound(), VMNotFound),
        (vmodl.fault.HostCommunication(), HypervisorUnavailable),
        (vmodl.fault.HostNotConnected(), HypervisorUnavailable),
        (vmodl.fault.HostNotReachable(), HypervisorUnavailable),
        (vim.fault.InvalidHostConnectionState(), HypervisorUnavailable),
        (vim.fault.Timedout(), HypervisorUnavailable),
        (vmodl.fault.RequestCanceled(), HypervisorUnavailable),
        (vim.fault.TaskInProgress(), Locked),
        (vim.fault.VAppTaskInProgress(), Locked),
        (vim.fault.ResourceInUse(), Locked),
        (vim.fault.ConcurrentAccess(), Locked),
        (vim.fault.FileLocked(), Locked),
        (vim.fault.MethodDisabled(), Locked),
        (vim.fault.ToolsUnavailable(), CommandFailed),
        (vim.fault.InvalidPowerState(), CommandFailed),
        (vim.fault.ApplicationQuiesceFault(), CommandFailed),
        (vim.fault.TooManyGuestLogons(), CommandFailed),
        (vim.fault.InvalidGuestLogin(), GuestLoginRefused),
        (vmodl.fault.SystemError(), CommandFailed),
    ],
)
def test_a_fault_becomes_an_error_of_ours(fault: Exception, kind: type[VmpowerError]) -> None:
    assert type(translate(fault)) is kind


def test_the_nearest_of_a_faults_classes_counts() -> None:
    assert "rest" in translate(vim.fault.FilesystemQuiesceFault()).message


def test_an_error_has_vspheres_own_words_and_the_faults_name() -> None:
    fault = vim.fault.InvalidState(msg="The operation is not allowed in the current state.")
    assert "(The operation is not allowed in the current state, InvalidState)" in translate(fault).message


def test_a_missing_privilege_is_named() -> None:
    message = translate(vim.fault.NoPermission(privilegeId="VirtualMachine.Interact.PowerOff")).message
    assert "lacks a privilege (VirtualMachine.Interact.PowerOff, NoPermission)" in message
