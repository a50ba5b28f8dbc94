"""The calls that change a VM. None waits until it has changed: most return the id of the task that does it.

A VM that is already as it should be is no error. vSphere says so by InvalidPowerState, at once or as a task's end.
"""

from collections.abc import Awaitable
from typing import Any

from pyVmomi import vim

from providers.vsphere.session import Link

ON, OFF = "poweredOn", "poweredOff"


async def power_on(link: Link, moid: str) -> str:
    """Start it, or resume it if it is suspended."""
    return await _switch(link.vm(moid).PowerOn(None), ON)


async def power_off(link: Link, moid: str) -> str:
    """Cut its power; of a suspended VM, discard the memory."""
    return await _switch(link.vm(moid).PowerOff(), OFF)


async def shut_down(link: Link, moid: str) -> None:
    """Ask the guest, by its tools; returns when they have been told."""
    try:
        await link.vm(moid).ShutdownGuest()
    except vim.fault.InvalidPowerState as fault:
        if not is_already(fault, OFF):
            raise


async def snapshot(link: Link, moid: str, name: str, description: str, include_memory: bool) -> str:
    """Take a snapshot; without the memory, of file systems that the tools have brought to rest."""
    return _task(await link.vm(moid).CreateSnapshot(name, description, include_memory, not include_memory))


def is_already(fault: Exception, state: str) -> bool:
    """Whether a fault only says that the VM is in this power state."""
    return isinstance(fault, vim.fault.InvalidPowerState) and fault.existingState == state


def blocking_task(fault: BaseException | None) -> str:
    """The id of the task that a VM is busy with, by TaskInProgress."""
    return _task(fault.task) if isinstance(fault, vim.fault.TaskInProgress) else ""


async def _switch(switching: Awaitable[Any], state: str) -> str:
    """The task's id; empty: the VM is there already."""
    try:
        return _task(await switching)
    except vim.fault.InvalidPowerState as fault:
        if is_already(fault, state):
            return ""
        raise


def _task(task: Any) -> str:
    return str(task._moId)
