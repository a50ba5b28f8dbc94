"""How a guest's last run ended: from its tasks, and from their logs.

Proxmox VE keeps no such record of a guest. A shutdown's task says in its log whether it used force, and then ends as
well as one whose guest obeyed (qemu-server, `_do_vm_stop`). A container's says nothing: lxc-stop kills it at the
timeout without a word, so that how long it took must tell (pve-container, `vm_stop`).
"""

from collections.abc import Sequence
from datetime import timedelta

from providers.core.adapter import Ended, OffCause, Reason
from providers.proxmox.api import Api
from providers.proxmox.guests import QEMU, Config, Guest
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS, Task

WAITED = "VM still running - terminating now with SIGTERM"
FAILED = "VM quit/powerdown failed - terminating now with SIGTERM"
"""Lines of a shutdown's log by which force was used, and why."""
PASSED_OVER = "QEMU Guest Agent is not running"
"""The line by which it asks by ACPI, because the agent does not answer a ping."""
RECENT = 20
"""How many of a guest's newest tasks are searched for its end."""


async def of_shutdown(api: Api, task: Task, config: Config | None) -> Ended:
    """How a guest went off that was shut down by this task, which may end a moment after its guest."""
    if task.kind != "qmshutdown":
        return Ended(after=timedelta(seconds=task.ended - task.started) if task.ended else None)
    said = await api.log(task)
    if reason := _forced(said, config):
        return Ended(OffCause.HOST, reason)
    runs_well = task.runs and not (said and said[-1].startswith("TASK ERROR"))  # it has logged no error yet
    return Ended(OffCause.GUEST if task.succeeded or runs_well else None)


def _forced(said: Sequence[str], config: Config | None) -> Reason | None:
    """Why the shutdown used force; None: it did not.

    An agent never answers that it shuts its guest down: Proxmox VE waits for that answer until the time is up, and then
    says that the request failed. Only one by ACPI fails at once.
    """
    text = "\n".join(said)
    if FAILED in text:
        by_agent = PASSED_OVER not in text and (config is None or config.agent)
        return Reason.TIMEOUT if by_agent else Reason.COMMAND_FAILED
    return Reason.TIMEOUT if WAITED in text else None


async def of_guest(api: Api, guest: Guest, config: Config | None) -> Ended:
    """How a guest went off whose shutdown was not awaited: by the newest task that can have ended its run.

    Tasks of others are seen only with Sys.Audit on the node.
    """
    for task in await api.tasks(guest.node, vmid=guest.id, limit=RECENT):
        if task.kind in STARTS:
            break
        if task.kind in STOPS and (task.succeeded or task.runs):
            return Ended(OffCause.HOST)
        if task.kind in SHUTDOWNS and (task.succeeded or (task.runs and guest.kind == QEMU)):
            return await of_shutdown(api, task, config)
    return Ended()
