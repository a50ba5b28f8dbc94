"""How a guest's last run ended: from the tasks that were about it, and from what they said.

Proxmox VE keeps no such record of a guest. A shutdown's task says in its log whether it used force, and then ends as
well as one whose guest obeyed (qemu-server, `_do_vm_stop`). A container's says nothing: lxc-stop kills it at the
timeout without a word, so that how long it took must tell (pve-container, `vm_stop`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from providers.core.adapter import OffCause, Reason
from providers.proxmox.api import Api
from providers.proxmox.guests import QEMU, Config, Guest
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS, Task

WAITED = "VM still running - terminating now with SIGTERM"
FAILED = "VM quit/powerdown failed - terminating now with SIGTERM"
"""What a shutdown's log says of force, and why it was used."""
PASSED_OVER = "QEMU Guest Agent is not running"
"""What it says when it asks by ACPI because the agent does not answer a ping."""
RECENT = 20
"""Tasks about one guest among which its end is looked for."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, as far as that is known."""

    cause: OffCause | None = None
    forced: Reason | None = None
    off_after: timedelta | None = None


async def of_shutdown(api: Api, task: Task, config: Config | None) -> Ending:
    """How a guest went off about which this shutdown is, or was; it may end a moment after its guest."""
    if task.kind != "qmshutdown":
        return Ending(off_after=timedelta(seconds=task.ended - task.started) if task.ended else None)
    said = await api.log(task)
    if reason := _forced(said, config):
        return Ending(OffCause.HOST, reason)
    return Ending(OffCause.GUEST if _well(task, said) else None)


def _forced(said: Sequence[str], config: Config | None) -> Reason | None:
    """Why it used force, if it did.

    An agent never answers that it shuts its guest down: Proxmox VE waits for that answer until the time is up, and then
    says that the request failed. Only one by ACPI fails at once.
    """
    text = "\n".join(said)
    if FAILED in text:
        by_agent = PASSED_OVER not in text and (config is None or config.agent)
        return Reason.TIMEOUT if by_agent else Reason.COMMAND_FAILED
    return Reason.TIMEOUT if WAITED in text else None


def _well(task: Task, said: Sequence[str]) -> bool:
    """Whether it was not cut short: it ended well, or has said nothing of an error yet."""
    last = said[-1] if said else ""
    return task.succeeded or (task.runs and not last.startswith("TASK ERROR"))


async def of_guest(api: Api, guest: Guest, config: Config | None) -> Ending:
    """How a guest went off that was not followed, by the newest task that can have ended its run.

    Tasks of others are seen only with Sys.Audit on the node.
    """
    for task in await api.tasks(guest.node, vmid=guest.id, limit=RECENT):
        if task.kind in STARTS:
            break
        if task.kind in STOPS and (task.succeeded or task.runs):
            return Ending(OffCause.HOST)
        if task.kind in SHUTDOWNS and (task.succeeded or (task.runs and guest.kind == QEMU)):
            return await of_shutdown(api, task, config)
    return Ending()
