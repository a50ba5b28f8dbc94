"""Tasks of Proxmox VE: decoding a UPID, and waiting for many tasks with one list a node.

UPID:node:pid:pstart:starttime:type:id:user: with hexadecimal numbers (pve-common, `PVE::Tools::upid_decode`).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

SHUTDOWNS = frozenset({"qmshutdown", "vzshutdown"})
STOPS = frozenset({"qmstop", "vzstop"})
STARTS = frozenset({"qmstart", "vzstart", "qmresume", "vzresume"})
SUSPENSIONS = frozenset({"qmsuspend"})
HA = frozenset({"hastart", "hastop"})
RUNNING = "RUNNING"
LOST = "lost: Proxmox VE does not know the task any more"

GAVE_UP = (
    "powerdown failed",
    "container did not stop",
    "received interrupt",
    "interrupted by signal",
    "unexpected status",
)
"""How a shutdown's task ends that has asked its guest, and then timed out or was ended (qemu-server,
`_do_vm_stop`; pve-container, `vm_stop`; pve-common, `PVE::RESTEnvironment`, `PVE::UPID`). An agent never answers that
it shuts its guest down: of a guest that is too slow the request itself fails, without "got timeout"."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task. `started` and `ended` are seconds since 1970 by its node's clock; `status` is empty while it runs.

    `told`: so many seconds we let a shutdown wait for its guest; None: we did not begin it, or named none.
    """

    upid: str
    node: str
    kind: str
    vm_id: str
    user: str
    started: int
    ended: int | None = None
    status: str = ""
    told: int | None = None

    @property
    def runs(self) -> bool:
        return not self.status

    @property
    def succeeded(self) -> bool:
        """Whether it ended well, perhaps with warnings."""
        return self.status == "OK" or self.status.startswith("WARNINGS")

    @property
    def path(self) -> str:
        return f"nodes/{self.node}/tasks/{self.upid}"


def decode(upid: str) -> Task:
    """The task of a UPID, as it is when it begins.

    Raises:
        ValueError: that is no UPID.
    """
    sign, node, _, _, started, kind, vm_id, user, _ = upid.split(":")
    if sign != "UPID":
        raise ValueError(f"{upid!r} is no UPID")
    return Task(upid, node, kind, vm_id, user, int(started, 16))


def gave_up(status: str) -> bool:
    """Whether a shutdown with this status had asked its guest, and did not wait to the end. One that was ended while it
    still waited for the lock of the guest's configuration had not."""
    return not status.startswith("can't lock file") and any(text in status for text in GAVE_UP)


def is_already(task: Task) -> bool:
    """Whether a start failed because its guest runs already, or a stop or a suspension because it does not run."""
    started = task.kind in STARTS and "already running" in task.status
    return started or (task.kind in STOPS | SUSPENSIONS and "not running" in task.status)


def listed(row: Mapping[str, Any]) -> Task:
    """The task of a row of nodes/{node}/tasks; there `status` is how it ended."""
    status, token = str(row.get("status") or (LOST if row.get("endtime") else "")), row.get("tokenid")
    return Task(
        upid=row["upid"],
        node=row["node"],
        kind=row["type"],
        vm_id=str(row.get("id") or ""),
        user=f"{row['user']}!{token}" if token and "!" not in row["user"] else row["user"],
        started=int(row["starttime"]),
        ended=int(row["endtime"]) if row.get("endtime") else None,
        status="" if status == RUNNING else status,
    )


def ended(task: Task, answer: Mapping[str, Any]) -> Task:
    """The task, updated from nodes/{node}/tasks/{upid}/status, which has no time of its end."""
    return replace(task, status=str(answer.get("exitstatus") or LOST)) if answer["status"] == "stopped" else task


class AwaitedTasks:
    """Tasks whose end is waited for."""

    def __init__(self) -> None:
        self._awaited: dict[str, tuple[Task, asyncio.Future[Task]]] = {}

    def follow(self, task: Task) -> asyncio.Future[Task]:
        """Resolves to the task when it has ended. Who gives up its own future cancels nobody else's."""
        if task.upid not in self._awaited:
            self._awaited[task.upid] = task, asyncio.get_running_loop().create_future()
        return asyncio.shield(self._awaited[task.upid][1])

    def running(self) -> Sequence[Task]:
        return tuple(task for task, _ in self._awaited.values())

    def nodes(self) -> Mapping[str, int]:
        """The nodes on which they run, each with the earliest start."""
        found = dict[str, int]()
        for task in self.running():
            found[task.node] = min(found.get(task.node, task.started), task.started)
        return found

    def shutdown_of(self, vm_id: str) -> Task | None:
        """The task that shuts this guest down now; None: none is known."""
        found = [task for task in self.running() if task.vm_id == vm_id and task.kind in SHUTDOWNS]
        return max(found, key=lambda task: task.started, default=None)

    def end(self, task: Task) -> None:
        _, end = self._awaited.pop(task.upid, (task, None))
        if end and not end.done():
            end.set_result(task)
