"""How a guest's last run ended: from its tasks, and from their logs.

Proxmox VE keeps no such record of a guest; qmeventd, which sees QEMU end, tells nobody why. A guest that was seen to
run and then to be off, without a task of anybody, has left by itself (or QEMU died, which Proxmox VE does not tell).
One that went off unseen without a task that says so: that is not known.

A shutdown's task says in its log whether it used force, and then ends as well as one whose guest obeyed (qemu-server,
`_do_vm_stop`). A container's says nothing: lxc-stop kills it at the timeout without a word, so that how long it took
must tell (pve-container, `vm_stop`).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import takewhile

from providers.core.adapter import Ended, OffCause, Reason
from providers.proxmox.api import Api
from providers.proxmox.guests import Config, Guest
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS, Task

WAITED = "VM still running - terminating now with SIGTERM"
FAILED = "VM quit/powerdown failed - terminating now with SIGTERM"
"""Lines of a shutdown's log by which force was used, and why."""
INTERRUPTED = "failed: received interrupt"
"""How a container's shutdown says that it was ended before it would have killed: the signal ends lxc-stop, and the task
waits on for a guest that goes down by itself."""
PASSED_OVER = "QEMU Guest Agent is not running"
"""The line by which it asks by ACPI, because the agent does not answer a ping."""
BY_HA = "task started by HA resource agent"
"""The first line of a task by which HA does what it was told (pve-common, `PVE::RESTEnvironment`)."""
NOT_AT_WORK = ("TASK ERROR", "trying to acquire lock")
"""How the last line of a task begins that runs and has failed, or waits for what holds the guest (pve-common,
`PVE::Tools::lock_file_full`, which goes on with "OK")."""
RECENT = 20
"""How many of a guest's newest tasks are searched for its end."""

Trusts = Callable[[Task], bool]
"""Whether a task can be told to have ended the last run. One that began in an earlier run cannot, and whether it did is
seen only by those who see the starts of others too."""


async def of_shutdown(api: Api, task: Task, config: Config | None, *, ours: bool = True) -> Ended:
    """How a guest went off that was shut down by this task, which may end a moment after its guest.

    `ours`: the task was begun by us, so that what it did at its deadline is what it was told by us.
    """
    if task.kind != "qmshutdown":
        return await _of_container(api, task, ours)
    said = await api.log(task)
    if reason := _forced(said, config):
        return Ended(OffCause.HOST, reason if ours or BY_HA in said else None)
    runs_well = task.runs and not (said and said[-1].startswith(NOT_AT_WORK) and not said[-1].endswith("OK"))
    return Ended(OffCause.GUEST if task.succeeded or runs_well else None)


async def _of_container(api: Api, task: Task, ours: bool) -> Ended:
    """Of a container; HA never forces one (pve-ha-manager, `PVE::HA::Resources::PVECT`). The log of one that was over
    before its time would tell nothing more."""
    if not task.succeeded or not task.ended:
        return Ended()
    if ours and task.told is not None and task.ended - task.started < task.told:
        return Ended(after=timedelta(seconds=task.ended - task.started))
    said = await api.log(task)
    if any(INTERRUPTED in line for line in said):
        return Ended(OffCause.GUEST)
    if ours:
        return Ended(after=timedelta(seconds=task.ended - task.started))
    return Ended(OffCause.GUEST if BY_HA in said else None)


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


async def of_guest(
    api: Api, guest: Guest, config: Config | None, trusts: Trusts, user: str, *, witnessed: bool = False
) -> Ended:
    """How a guest went off: by the task that can have ended its run; or by itself, if there is none and we have
    `witnessed` it, with a view of everybody's tasks. `user` is who we are to Proxmox VE."""
    recent = await _recent(api, guest)
    found = enders(recent, trusts)
    for task in (*found, *_given_up(recent, trusts)):
        if task.kind in STOPS:
            return Ended(OffCause.HOST)
        ended = await of_shutdown(api, task, config, ours=task.user == user)
        if ended != Ended():
            return ended
    return Ended(OffCause.GUEST if witnessed and not found else None)


async def ended_by(api: Api, guest: Guest, task: Task) -> bool:
    """Whether this task, and none before it, ended the guest's last run."""
    recent = [each for each in await _recent(api, guest) if each.started <= task.started or each.kind not in STARTS]
    first = next(iter(enders(recent, lambda _task: True)), None)
    return first is None or first.upid == task.upid


async def stopped_by(api: Api, guest: Guest, trusts: Trusts, user: str) -> bool:
    """Whether it was a stop of this user's that ended the guest's last run."""
    found = enders(await _recent(api, guest), trusts)[:1]
    return any(task.kind in STOPS and task.user == user for task in found)


def enders(tasks: Iterable[Task], trusts: Trusts) -> Sequence[Task]:
    """Of a guest's tasks, those that can have ended its last run, likeliest first.

    That is the first which ended well since the guest was started, for those that came later found it off; then those
    that are still at it, unless they are a container's shutdowns, which tell nothing before their end.
    """
    able = _of_last_run(tasks, trusts)
    done = [task for task in able if task.succeeded]
    return done[:1] or [task for task in able if task.runs and task.kind != "vzshutdown"]


def _given_up(tasks: Iterable[Task], trusts: Trusts) -> Sequence[Task]:
    """Those shutdowns of its last run that did not end well, newest first: one that had begun to force has told QEMU to
    end, whatever became of the task then."""
    able = _of_last_run(tasks, trusts)
    return [task for task in able if task.kind == "qmshutdown" and not task.runs and not task.succeeded][::-1]


def _of_last_run(tasks: Iterable[Task], trusts: Trusts) -> Sequence[Task]:
    """The stops and shutdowns since the guest was started, oldest first."""
    newest_first = sorted(tasks, key=lambda task: task.started, reverse=True)
    of_run = list(takewhile(lambda task: not _began(task), newest_first))[::-1]
    return [task for task in of_run if task.kind in STOPS | SHUTDOWNS and trusts(task)]


def _began(task: Task) -> bool:
    """Whether a run began with it."""
    return task.kind in STARTS and (task.succeeded or task.runs)


async def _recent(api: Api, guest: Guest) -> Sequence[Task]:
    return await api.tasks(guest.node, vmid=guest.id, limit=RECENT)
