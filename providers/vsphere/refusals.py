"""Refusals to ask a guest that pass by themselves: what its VM shows for as long as they last."""

from typing import Any

from pyVmomi import vim

from providers.core.adapter import Problem
from providers.core.errors import CommandFailed, Locked
from providers.vsphere.errors import why
from providers.vsphere.properties import VMProperties
from providers.vsphere.states import DISABLED, NO_TOOLS, TOOLS_SILENT, locked

_STATES_THAT_STAY = (vim.fault.InvalidPowerState, vim.fault.QuestionPending)


def passing(error: CommandFailed, properties: VMProperties | None, task: str) -> tuple[Problem, str] | None:
    """What keeps the guest from being asked, and the task that does, as far as there is one; None: it does not pass.

    `task`: what is under way on the VM, which then is why its state does not allow it. Tools that were running, and are
    said not to be, have just stopped.
    """
    fault: Any = error.__cause__
    match fault:
        case vim.fault.TaskInProgress():
            holder = str(fault.task._moId)
            return locked(holder), holder
        case vim.fault.MethodDisabled():
            return DISABLED, ""
        case vim.fault.ToolsUnavailable():
            return (TOOLS_SILENT, "") if properties and properties.tools != NO_TOOLS else None
        case vim.fault.InvalidState() if not isinstance(fault, _STATES_THAT_STAY):
            return (locked(task), task) if task else None
    return (locked(why(fault)), task) if isinstance(error, Locked) else None
