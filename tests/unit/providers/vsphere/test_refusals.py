"""Which refusals pass by themselves, as a table."""

from dataclasses import replace

import pytest
from pyVmomi import vim

from providers.core.adapter import Reason
from providers.core.errors import CommandFailed
from providers.vsphere.errors import translate
from providers.vsphere.properties import VMProperties
from providers.vsphere.refusals import passing

RUNNING = VMProperties("vm-1", name="web", id="5012", power="poweredOn", tools="guestToolsRunning")
MIGRATION = "task-9"


def refused(fault: Exception) -> CommandFailed:
    error = translate(fault)
    assert isinstance(error, CommandFailed)
    error.__cause__ = fault
    return error


def test_a_task_in_progress_is_waited_for_by_its_id() -> None:
    held = passing(refused(vim.fault.TaskInProgress(task=vim.Task("task-1", None))), RUNNING, MIGRATION)
    assert held
    assert (held[0].reason, held[0].passing, held[1]) == (Reason.LOCKED, True, "task-1")


@pytest.mark.parametrize(
    "fault",
    [vim.fault.ResourceInUse(), vim.fault.ConcurrentAccess(), vim.fault.FileLocked(), vim.fault.MethodDisabled()],
)
def test_what_is_in_use_passes(fault: Exception) -> None:
    held = passing(refused(fault), RUNNING, "")
    assert held
    assert (held[0].reason, held[0].passing, held[1]) == (Reason.LOCKED, True, "")


def test_what_is_in_use_while_a_task_is_under_way_is_so_until_that_ends() -> None:
    held = passing(refused(vim.fault.ResourceInUse()), RUNNING, MIGRATION)
    assert held
    assert held[1] == MIGRATION


def test_a_state_that_allows_nothing_while_a_task_is_under_way_passes_with_it() -> None:
    held = passing(refused(vim.fault.InvalidState()), RUNNING, MIGRATION)
    assert held
    assert (held[0].reason, held[1]) == (Reason.LOCKED, MIGRATION)


def test_a_state_that_allows_nothing_for_no_known_reason_stays() -> None:
    assert passing(refused(vim.fault.InvalidState()), RUNNING, "") is None


@pytest.mark.parametrize(
    "fault", [vim.fault.InvalidPowerState(existingState="suspended"), vim.fault.QuestionPending(text="Moved?")]
)
def test_a_state_that_no_task_ends_stays(fault: Exception) -> None:
    assert passing(refused(fault), RUNNING, MIGRATION) is None


def test_tools_that_were_running_a_moment_ago_are_asked_again() -> None:
    held = passing(refused(vim.fault.ToolsUnavailable()), RUNNING, "")
    assert held
    assert (held[0].reason, held[0].passing) == (Reason.TOOLS_UNAVAILABLE, True)


@pytest.mark.parametrize("properties", [None, replace(RUNNING, tools="guestToolsNotRunning")])
def test_tools_that_were_not_running_are_none(properties: VMProperties | None) -> None:
    assert passing(refused(vim.fault.ToolsUnavailable()), properties, "") is None


@pytest.mark.parametrize("fault", [vim.fault.NoPermission(privilegeId="x"), vim.fault.InvalidPowerState()])
def test_other_refusals_stay(fault: Exception) -> None:
    assert passing(refused(fault), RUNNING, MIGRATION) is None
