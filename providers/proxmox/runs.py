"""Which run of a guest is its present one: told by the process that it has, QEMU or a container's init.

Its number is the same on every read, whatever our clock or its node's say, and also after this provider was restarted.
One call a node and kind tells those of all guests; it is made when a guest runs of which none is known. A live
migration goes on with the run in another process, on another node: the old node's task tells it from a start there.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from providers.core.adapter import Change
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox.api import Api
from providers.proxmox.guests import Guest
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS
from providers.proxmox.tracker import Tracker
from providers.proxmox.visits import Visits

MIGRATION = "qmigrate"
RECENT = 20
"""How many of a guest's newest tasks at its old node are searched for its migration."""
ENDS = SHUTDOWNS | STOPS
RELEVANT = ENDS | STARTS | {MIGRATION}


class RunReader:
    """Names the runs of guests, and reports them."""

    def __init__(self, api: Api, tracker: Tracker, report: Callable[[Iterable[Change]], None], visits: Visits) -> None:
        self._api, self._tracker, self._report, self._visits = api, tracker, report, visits

    async def read(self) -> None:
        """Name those that are not known."""
        nameless = {(guest.node, guest.kind) for guest in self._tracker.unidentified()}
        works = {f"pids of {kind} on {node}": (node, kind) for node, kind in nameless}
        await self._visits.make({key: self._read(*at) for key, at in works.items() if not self._visits.busy(key)})

    async def note(self, guest: Guest, current: Mapping[str, Any]) -> None:
        """Name the run of a guest of which its node has just told how it is (status/current)."""
        await self._identify(guest, current.get("pid"))

    async def _read(self, node: str, kind: str) -> None:
        try:
            pids = await self._api.pids(node, kind)
        except CommandFailed:
            pids = {}
        for guest in self._tracker.unidentified():
            if (guest.node, guest.kind) == (node, kind):
                await self._identify(guest, pids.get(guest.id))

    async def _identify(self, guest: Guest, pid: int | None) -> None:
        migrated = guest.id in self._tracker.moves and await self._migrated(guest)
        self._report(self._tracker.identify(guest.id, pid, migrated=migrated))

    async def _migrated(self, guest: Guest) -> bool:
        """Whether it was moved while it ran: the last that its old node did with it, and it had not ended it before.
        A node that is away moves nothing: its guests are started elsewhere."""
        move = self._tracker.moves[guest.id]
        try:
            tasks = await self._api.tasks(move.node, vmid=guest.id, limit=RECENT)
        except (HypervisorUnavailable, CommandFailed):
            return False
        newest_first = sorted(tasks, key=lambda task: task.started, reverse=True)
        done = [task.kind for task in newest_first if task.kind in RELEVANT and (task.runs or task.succeeded)]
        return done[:1] == [MIGRATION] and not ENDS & {*done[1:2]}
