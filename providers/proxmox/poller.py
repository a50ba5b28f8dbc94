"""Following the cluster: one call for all guests, one a node for all tasks, as often as somebody needs to know.

Proxmox VE sends no events. While an operation is active everything is read every `active_interval`, else every
`idle_interval`, however many guests there are. What only a guest's own calls tell (its configuration, whether its agent
answers) is read when it is first seen, when its row changes, and of a few at a time beside the idle polls.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from providers.core.adapter import VM, Attended, Change, Changed, OffCause, PowerState, nobody
from providers.core.clock import monotonic
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox import history
from providers.proxmox.api import Api
from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.details import Details
from providers.proxmox.guests import LXC, QEMU, Config, Guest
from providers.proxmox.history import Ending
from providers.proxmox.states import power_state
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS, Followed, Task, ended
from providers.proxmox.tracker import Picture

AWAITED = 0.5
"""Seconds between looks at tasks that somebody waits for and that are soon done (a start, a stop)."""
BOOT_SECONDS = 300
"""How long after its start a guest's agent is waited for."""
NEVER = float("inf")
OWN = 1000
"""Rows of a node's task list that are read at once; what is not among them is asked for by itself."""


class Follower:
    """Keeps the picture up to date, and says what has changed."""

    def __init__(self, api: Api, picture: Picture, settings: ProxmoxSettings) -> None:
        self._api, self._picture = api, picture
        self._active = settings.active_interval.total_seconds()
        self._idle = settings.idle_interval.total_seconds()
        self._details = Details(api, picture, self.tell)
        self._followed = Followed()
        self._attended: Attended = nobody
        self._news = list[Change]()
        self._bell = asyncio.Event()
        self._turns = set[asyncio.Event]()
        self._visits = dict[str, asyncio.Task[None]]()
        self._rows_read = self._tasks_read = 0.0

    async def changes(self, attended: Attended) -> AsyncGenerator[Sequence[Change], None]:
        """All guests first, then what changes; ends only by raising HypervisorUnavailable."""
        self._attended = attended
        rows = await self._rows()
        await self._recall(rows)
        await self._look_at_tasks()
        await self._take_in(rows)
        await self._details.first()
        self._news.clear()
        yield [self._picture.listed()]
        while True:
            await self._due()
            await self._poll()
            news, self._news = self._news, []
            if news:
                yield news

    def tell(self, changes: Iterable[Change]) -> None:
        """Something has changed."""
        self._news += changes
        self._bell.set()
        for turn in self._turns:
            turn.set()

    def hurry(self) -> None:
        """An operation may have begun."""
        self._bell.set()

    def follow(self, task: Task) -> asyncio.Future[Task]:
        """The task when it has ended."""
        ended = self._followed.follow(task)
        self._bell.set()
        return ended

    def shutdown_of(self, vm_id: str) -> Task | None:
        """The shutdown of this guest that is under way, if it is known."""
        return self._followed.shutdown_of(vm_id)

    async def refresh(self) -> None:
        """Read all guests now."""
        changes = await self._take_in(await self._rows())
        self.tell(changes)
        self._details.want(change.vm.id for change in changes if isinstance(change, Changed) and _runs(change.vm))

    async def learn(self, guest: Guest, status: str, lock: str) -> None:
        """Its node has told its state just now."""
        fresh = replace(guest, status=status, lock=lock)
        if self._defer(fresh):
            await self._look_at_tasks()
            return
        ending = await self._ending(fresh) if self._picture.went_off([fresh]) else None
        self.tell(self._picture.learn(guest.id, monotonic(), ending, status=status, lock=lock))

    async def detail(self, guest: Guest) -> None:
        """Read now what only its own calls tell."""
        await self._details.read(guest)

    async def reached(self, vm_id: str, state: PowerState) -> None:
        """Wait until a guest's power is so, or it is gone."""
        turn = asyncio.Event()
        self._turns.add(turn)
        try:
            while (guest := self._picture.guests.get(vm_id)) and power_state(guest) is not state:
                turn.clear()
                await turn.wait()
        finally:
            self._turns.discard(turn)

    async def _rows(self) -> list[Guest]:
        rows = self._picture.current(await self._api.guests(), monotonic())
        self._rows_read = monotonic()
        return rows

    async def _take_in(self, rows: Sequence[Guest]) -> list[Change]:
        guests = [self._as_before(row) if self._defer(row) else row for row in rows]
        return self._picture.apply(guests, await self._endings(guests))

    async def _due(self) -> None:
        """Until it is time to look, or there is news already."""
        while not self._news:
            self._bell.clear()
            wait = min(self._next_rows(), self._next_tasks()) - monotonic()
            if wait <= 0:
                return
            try:
                async with asyncio.timeout(wait):
                    await self._bell.wait()
            except TimeoutError:
                return

    def _next_rows(self) -> float:
        busy = self._attended() or self._followed.running()
        return self._rows_read + (self._active if busy else self._idle)

    def _next_tasks(self) -> float:
        running = self._followed.running()
        if not running:
            return NEVER
        soon = any(task.kind not in SHUTDOWNS for task in running)
        return self._tasks_read + (min(AWAITED, self._active) if soon else self._active)

    async def _poll(self) -> None:
        """Tasks first: they know of an end before cluster/resources does, and by whom it came."""
        if monotonic() >= self._next_tasks():
            await self._look_at_tasks()
        if monotonic() >= self._next_rows():
            await self.refresh()
            self._details.sweep(self._silent(), idle=not self._attended())

    def _silent(self) -> list[str]:
        """Guests that operations are about, that have just come up, and whose agents are still to come."""
        guests = [self._picture.guests[vm_id] for vm_id in self._attended() if vm_id in self._picture.guests]
        return [guest.id for guest in guests if _boots(guest) and self._awaits_agent(guest)]

    def _awaits_agent(self, guest: Guest) -> bool:
        noticed = self._picture.noticed(guest.id)
        has_one = guest.kind == QEMU and (noticed.config is None or noticed.config.agent)
        return has_one and not noticed.answers and self._followed.shutdown_of(guest.id) is None

    # Tasks

    async def _look_at_tasks(self) -> None:
        self._tasks_read = monotonic()
        nodes = self._followed.nodes().items()
        await self._visit({node: self._look_at(node, since) for node, since in nodes if not self._waits_for(node)})

    async def _visit(self, work: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        """Ask nodes, each for itself; one that keeps us waiting is left to that, and holds up no other one's news."""
        visits = {node: asyncio.create_task(self._unless_away(one)) for node, one in work.items()}
        self._visits |= visits
        if visits:
            done, _ = await asyncio.wait(visits.values(), timeout=self._active)
            for visit in done:
                visit.result()

    def _waits_for(self, node: str) -> bool:
        return node in self._visits and not self._visits[node].done()

    async def _unless_away(self, work: Coroutine[Any, Any, None]) -> None:
        with suppress(HypervisorUnavailable):  # it is asked again when it is back
            await work

    async def _look_at(self, node: str, since: int) -> None:
        known = {task.upid: task for task in await self._api.tasks(node, since=since, limit=OWN)}
        running = [task for task in self._followed.running() if task.node == node]
        found = [known.get(task.upid) or await self._single(task) for task in running]
        over = [task for task in found if not task.runs]
        await asyncio.gather(*(self._ended(task) for task in over if task.kind in SHUTDOWNS))
        await asyncio.gather(*(self._ended(task) for task in over if task.kind not in SHUTDOWNS))

    async def _single(self, task: Task) -> Task:
        try:
            return ended(task, await self._api.task(task))
        except (HypervisorUnavailable, CommandFailed):
            return task

    async def _ended(self, task: Task) -> None:
        """Tell what follows from the end of a task, then those who wait for it."""
        guest = self._picture.guests.get(task.vm_id)
        off = guest is not None and power_state(guest) is PowerState.OFF
        if task.succeeded and task.kind in SHUTDOWNS and not off:
            self.tell(self._went(task, "stopped", await self._ending_of(task)))
        elif task.succeeded and task.kind in STOPS and not off:
            self.tell(self._went(task, "stopped", Ending(OffCause.HOST)))
        elif task.succeeded and task.kind in STARTS:
            self.tell(self._went(task, "running"))
        self._followed.end(task)

    def _went(self, task: Task, status: str, ending: Ending | None = None) -> list[Change]:
        return self._picture.learn(task.vm_id, monotonic(), ending, status=status)

    # What was before

    def _defer(self, guest: Guest) -> bool:
        """A container whose shutdown has not ended: only the end tells whether it was killed."""
        off = guest.kind == LXC and power_state(guest) is PowerState.OFF
        return off and self._followed.shutdown_of(guest.id) is not None

    def _as_before(self, row: Guest) -> Guest:
        return self._picture.guests.get(row.id) or replace(row, status="running")

    async def _ending(self, guest: Guest) -> Ending:
        if task := self._followed.shutdown_of(guest.id):
            return await self._ending_of(task)
        try:
            return await history.of_guest(self._api, guest, self._config(guest.id))
        except CommandFailed:
            return Ending()

    async def _ending_of(self, shutdown: Task) -> Ending:
        try:
            return await history.of_shutdown(self._api, shutdown, self._config(shutdown.vm_id))
        except CommandFailed:
            return Ending()

    def _config(self, vm_id: str) -> Config | None:
        return self._picture.noticed(vm_id).config

    async def _recall(self, rows: Sequence[Guest]) -> None:
        """After a start: which shutdowns that somebody waits for are still under way."""
        attended = self._attended()
        nodes = {guest.node for guest in rows if guest.id in attended}
        await self._visit({node: self._recall_at(node, attended) for node in nodes})

    async def _recall_at(self, node: str, attended: frozenset[str]) -> None:
        for task in await self._api.tasks(node, since=0, limit=OWN):
            if task.runs and task.kind in SHUTDOWNS and task.vm_id in attended:
                self._followed.follow(task)

    async def _endings(self, guests: Sequence[Guest]) -> dict[str, Ending]:
        """How those ended that have gone off and that somebody waits for; the others' past is nobody's concern."""
        attended = self._attended()
        gone_off = [guest for guest in self._picture.went_off(guests) if guest.id in attended]
        endings = await asyncio.gather(*(self._ending(guest) for guest in gone_off))
        return {guest.id: ending for guest, ending in zip(gone_off, endings, strict=True)}


def _boots(guest: Guest) -> bool:
    return power_state(guest) is PowerState.ON and guest.uptime < BOOT_SECONDS


def _runs(vm: VM) -> bool:
    return vm.power_state is PowerState.ON
