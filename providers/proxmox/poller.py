"""Polls the cluster: one call for all guests, and one a node for all tasks that are waited for.

Proxmox VE sends no events. While an operation is active everything is read every `active_interval`, else every
`idle_interval`, however many guests there are. What needs calls for each guest (its configuration, whether its agent
answers) is read when it is first seen, when its row changes, and of a few at a time beside the idle polls.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from providers.core.adapter import ActiveVMs, Change, Changed, Ended, OffCause, PowerState, none_active
from providers.core.clock import monotonic
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox import history
from providers.proxmox.api import Api
from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.details import DetailReader
from providers.proxmox.guests import LXC, QEMU, Guest
from providers.proxmox.states import power_state
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS, AwaitedTasks, Task, ended
from providers.proxmox.tracker import Tracker

AWAITED = 0.5
"""Seconds between polls of tasks that are soon done (a start, a stop)."""
BOOT_SECONDS = 300
"""How long after its start a guest is pinged with each poll until its agent answers."""
NEVER = float("inf")
OWN = 1000
"""Rows of a node's task list that are read at once; a task that is not among them is read by a call of its own."""


class Poller:
    """Keeps the tracker up to date, and reports what changes."""

    def __init__(self, api: Api, tracker: Tracker, settings: ProxmoxSettings) -> None:
        self._api, self._tracker = api, tracker
        self._active = settings.active_interval.total_seconds()
        self._idle = settings.idle_interval.total_seconds()
        self.details = DetailReader(api, tracker, self.report)
        self.awaited = AwaitedTasks()
        self._active_vms: ActiveVMs = none_active
        self._news = list[Change]()
        self._wakeup = asyncio.Event()
        self._watchers = set[asyncio.Event]()
        self._visits = dict[str, asyncio.Task[None]]()
        self._rows_read = self._tasks_read = 0.0

    async def changes(self, active_vms: ActiveVMs) -> AsyncGenerator[Sequence[Change], None]:
        """All guests first, then what changes; ends only by raising HypervisorUnavailable."""
        self._active_vms = active_vms
        rows = await self._rows()
        await self._recall(rows)
        await self._poll_tasks()
        await self._take_in(rows)
        await self.details.first()
        self._news.clear()
        yield [self._tracker.listed()]
        while True:
            await self._due()
            await self._poll()
            news, self._news = self._news, []
            if news:
                yield news

    def report(self, changes: Iterable[Change]) -> None:
        """Yield these changes with the next ones."""
        self._news += changes
        self._wakeup.set()
        for changed in self._watchers:
            changed.set()

    def wake(self) -> None:
        """An operation may have begun: `active_interval` counts from now on."""
        self._wakeup.set()

    def follow(self, task: Task) -> asyncio.Future[Task]:
        """Resolves to the task when it has ended."""
        ended = self.awaited.follow(task)
        self._wakeup.set()
        return ended

    async def refresh(self) -> None:
        changes = await self._take_in(await self._rows())
        self.report(changes)
        changed = [change.vm for change in changes if isinstance(change, Changed)]
        self.details.want(vm.id for vm in changed if vm.power_state is PowerState.ON)

    async def learn(self, guest: Guest, status: str, lock: str) -> None:
        """Apply a state that its node has just reported."""
        fresh = replace(guest, status=status, lock=lock)
        if self._defer(fresh):
            await self._poll_tasks()
            return
        ending = await self._ending(fresh) if self._tracker.went_off([fresh]) else None
        self.report(self._tracker.learn(guest.id, monotonic(), ending, status=status, lock=lock))

    async def reached(self, vm_id: str, state: PowerState) -> None:
        """Wait until a guest has this power state, or is gone."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while (guest := self._tracker.guests.get(vm_id)) and power_state(guest) is not state:
                changed.clear()
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    async def _rows(self) -> list[Guest]:
        rows = self._tracker.current(await self._api.guests(), monotonic())
        self._rows_read = monotonic()
        return rows

    async def _take_in(self, rows: Sequence[Guest]) -> list[Change]:
        """Apply rows. How guests have gone off is looked up for those with operations only."""
        before, active_vms = self._tracker.guests, self._active_vms()
        guests = [before.get(row.id) or replace(row, status="running") if self._defer(row) else row for row in rows]
        gone_off = [guest for guest in self._tracker.went_off(guests) if guest.id in active_vms]
        endings = await asyncio.gather(*(self._ending(guest) for guest in gone_off))
        return self._tracker.apply(guests, {guest.id: end for guest, end in zip(gone_off, endings, strict=True)})

    async def _due(self) -> None:
        """Wait until the next poll is due, or there are changes already."""
        while not self._news:
            self._wakeup.clear()
            wait = min(self._next_rows(), self._next_tasks()) - monotonic()
            if wait <= 0:
                return
            try:
                async with asyncio.timeout(wait):
                    await self._wakeup.wait()
            except TimeoutError:
                return

    def _next_rows(self) -> float:
        busy = self._active_vms() or self.awaited.running()
        return self._rows_read + (self._active if busy else self._idle)

    def _next_tasks(self) -> float:
        running = self.awaited.running()
        if not running:
            return NEVER
        soon = any(task.kind not in SHUTDOWNS for task in running)
        return self._tasks_read + (min(AWAITED, self._active) if soon else self._active)

    async def _poll(self) -> None:
        """Tasks first: they have an end before cluster/resources shows it, and its cause."""
        if monotonic() >= self._next_tasks():
            await self._poll_tasks()
        if monotonic() >= self._next_rows():
            await self.refresh()
            active_vms = self._active_vms()
            self.details.sweep([vm_id for vm_id in active_vms if self._awaits_agent(vm_id)], idle=not active_vms)

    def _awaits_agent(self, vm_id: str) -> bool:
        """Whether the guest started recently, and has an agent that does not answer yet."""
        guest, details = self._tracker.guests.get(vm_id), self._tracker.details(vm_id)
        if guest is None or power_state(guest) is not PowerState.ON or guest.uptime >= BOOT_SECONDS:
            return False
        has_one = guest.kind == QEMU and (details.config is None or details.config.agent)
        return has_one and not details.answers and self.awaited.shutdown_of(vm_id) is None

    # Tasks

    async def _poll_tasks(self) -> None:
        self._tasks_read = monotonic()
        busy = {node for node, visit in self._visits.items() if not visit.done()}
        nodes = self.awaited.nodes().items()
        await self._visit({node: self._poll_node(node, since) for node, since in nodes if node not in busy})

    async def _visit(self, work: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        """Ask nodes in parallel; one that is slow goes on in the background and delays no other one's changes."""
        visits = {node: asyncio.create_task(self._unless_away(one)) for node, one in work.items()}
        self._visits |= visits
        if visits:
            done, _ = await asyncio.wait(visits.values(), timeout=self._active)
            for visit in done:
                visit.result()

    async def _unless_away(self, work: Coroutine[Any, Any, None]) -> None:
        with suppress(HypervisorUnavailable):  # it is asked again when it is back
            await work

    async def _poll_node(self, node: str, since: int) -> None:
        known = {task.upid: task for task in await self._api.tasks(node, since=since, limit=OWN)}
        running = [task for task in self.awaited.running() if task.node == node]
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
        """Report what follows from the end of a task, then resolve its future."""
        guest = self._tracker.guests.get(task.vm_id)
        if guest and task.succeeded:
            if task.kind in STARTS:
                self.report(self._tracker.learn(guest.id, monotonic(), status="running"))
            elif task.kind in SHUTDOWNS | STOPS and power_state(guest) is not PowerState.OFF:
                ending = await self._ending(guest, task) if task.kind in SHUTDOWNS else Ended(OffCause.HOST)
                self.report(self._tracker.learn(guest.id, monotonic(), ending, status="stopped"))
        self.awaited.end(task)

    # How runs ended

    def _defer(self, guest: Guest) -> bool:
        """Whether a container's being off must wait: only the end of its shutdown shows whether it was killed."""
        off = guest.kind == LXC and power_state(guest) is PowerState.OFF
        return off and self.awaited.shutdown_of(guest.id) is not None

    async def _ending(self, guest: Guest, shutdown: Task | None = None) -> Ended:
        shutdown, config = shutdown or self.awaited.shutdown_of(guest.id), self._tracker.details(guest.id).config
        try:
            if shutdown:
                return await history.of_shutdown(self._api, shutdown, config)
            return await history.of_guest(self._api, guest, config)
        except CommandFailed:
            return Ended()

    async def _recall(self, rows: Sequence[Guest]) -> None:
        """After a start of the provider: find the shutdowns of operations that are still under way."""
        active_vms = self._active_vms()
        nodes = {guest.node for guest in rows if guest.id in active_vms}
        await self._visit({node: self._recall_at(node, active_vms) for node in nodes})

    async def _recall_at(self, node: str, active_vms: frozenset[str]) -> None:
        for task in await self._api.tasks(node, since=0, limit=OWN):
            if task.runs and task.kind in SHUTDOWNS and task.vm_id in active_vms:
                self.awaited.follow(task)
