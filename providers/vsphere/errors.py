"""vSphere's faults and ours.

Names and their meaning are those of each method's faults in the vSphere Web Services API reference.
"""

from pyVmomi import vim, vmodl

from providers.core.errors import (
    CommandFailed,
    GuestLoginRefused,
    HypervisorUnavailable,
    Locked,
    ProgramMissing,
    VMNotFound,
    VmpowerError,
)

_PERMISSION = (
    "The provider's vSphere account lacks a privilege ({why}); vCenter's operator grants it (docs/vsphere.md)."
)
_TOOLS = "Its VMware Tools do not answer ({why}); the guest's owner looks after them."
_LOCKED = "Another task holds the VM ({why}); it is asked again when that ends."
_IN_USE = "Something else uses the VM or its files at this moment ({why}); it is asked again in a few seconds."
_STATE = "The VM's state does not allow it ({why}); look at its state and ask again."
_HOST = "The VM's host cannot be reached ({why}); it is asked again when it can, and vCenter's operator looks into it."
_LOGIN = "The guest refuses the login ({why}); the hook's owner names another user or password."
_CANNOT = "vSphere or this VM does not offer that ({why}); the VM's owner changes it."
_QUIESCE = (
    "The guest's file systems could not be brought to rest for the snapshot ({why}); the guest's owner looks into it."
)
_OTHER = "vSphere refused or failed it ({why}); vCenter's operator looks into it."

FAULTS: dict[type[Exception], tuple[type[VmpowerError], str]] = {
    vmodl.fault.ManagedObjectNotFound: (VMNotFound, "There is no such VM any more ({why}); name one that exists."),
    vmodl.fault.HostCommunication: (HypervisorUnavailable, _HOST),
    vmodl.fault.NotSupported: (CommandFailed, _CANNOT),
    vmodl.fault.RequestCanceled: (HypervisorUnavailable, "vCenter ended the call ({why}); it is repeated."),
    vmodl.fault.SecurityError: (CommandFailed, _PERMISSION),
    vim.fault.ConcurrentAccess: (Locked, _IN_USE),
    vim.fault.FileLocked: (Locked, _IN_USE),
    vim.fault.FileNotFound: (ProgramMissing, "The guest has no such file ({why}); the hook's owner mends the command."),
    vim.fault.GuestOperationsUnavailable: (CommandFailed, _TOOLS),
    vim.fault.GuestPermissionDenied: (CommandFailed, _LOGIN),
    vim.fault.InvalidGuestLogin: (GuestLoginRefused, _LOGIN),
    vim.fault.InvalidHostConnectionState: (HypervisorUnavailable, _HOST),
    vim.fault.InvalidState: (CommandFailed, _STATE),
    vim.fault.MethodDisabled: (Locked, "vCenter has disabled that for this VM ({why}); whoever did enables it."),
    vim.fault.ResourceInUse: (Locked, _IN_USE),
    vim.fault.RestrictedVersion: (CommandFailed, "This ESXi's licence allows no changes by its API ({why})."),
    vim.fault.SnapshotFault: (CommandFailed, _QUIESCE),
    vim.fault.TaskInProgress: (Locked, _LOCKED),
    vim.fault.Timedout: (HypervisorUnavailable, "The VM's host did not answer in time ({why}); it is asked again."),
    vim.fault.ToolsUnavailable: (CommandFailed, _TOOLS),
}
"""The nearest of a fault's classes counts; every other fault is a CommandFailed with vSphere's own message."""


def translate(fault: Exception) -> VmpowerError:
    """What a fault means. The passing ones are Locked or HypervisorUnavailable: what they name ends by itself."""
    nearest = next((kind for kind in type(fault).__mro__ if kind in FAULTS), None)
    error, sentence = FAULTS[nearest] if nearest else (CommandFailed, _OTHER)
    return error(sentence.format(why=why(fault)))


def why(fault: Exception) -> str:
    """vSphere's own words, and the fault's name, by which manuals know it."""
    name = type(fault).__name__.rpartition(".")[2]
    told = [getattr(fault, "msg", None), getattr(fault, "privilegeId", None), name]
    return ", ".join(str(word).rstrip(".") for word in told if word)
