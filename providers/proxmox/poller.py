"""Polls the cluster: one call for all guests, and one a node for all tasks that are waited for.

Proxmox VE sends no events. While an operation is active everything is read every `active_interval`, else every
`idle_interval`, however many guests there are. What needs calls for each guest (its configuration, whether its agent
answers) is read when it is first seen, when its row changes, and of a few at a time each `idle_interval`.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from providers.core.adapter import ActiveVMs, Change, Changed, Ended, OffCause, PowerState, none_active
from providers.core.clock import monotonic
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox import history
from providers.proxmox.absent import Absent
from providers.proxmox.api import Api
from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.details import ROUND_SECONDS, DetailReader
from providers.proxmox.guests import LXC, QEMU, Guest, Rights
from providers.proxmox.runs import RunReader
from providers.proxmox.states import power_state
from providers.proxmox.tasks import SHUTDOWNS, STARTS, STOPS, AwaitedTasks, Task, ended
from providers.proxmox.tracker import Tracker
from providers.proxmox.visits import Visits

AWAITED = 0.5
"""Seconds between polls of tasks that are soon done (a start, a stop)."""
BOOT_SECONDS = 300
"""How long after its start a guest is pinged with each poll until its agent answers."""
NEVER = float("inf")
OWN = 1000
"""Rows of a node's task list that are read at once; a task that is not among them is read by a call of its own."""


class Poller:
    """Keeps the tracker up to date, and reports what changes. `rights` bound what is read of HA and others' tasks."""

    def __init__(self, api: Api, tracker: Tracker, settings: ProxmoxSettings) -> None:
        self._api, self._tracker = api, tracker
        self._active = settings.active_interval.total_seconds()
        self._idle = settings.idle_interval.total_seconds()
        self._visits = Visits(self._active)
        self.rights = Rights()
        self.details = DetailReader(api, tracker, self.report)
        self.runs = RunReader(api, tracker, self.report, self._visits)
        self.absent = Absent(api, tracker, self._visits, self)
        self.awaited = AwaitedTasks()
        self._active_vms: ActiveVMs = none_active
        self._news = list[Change]()
        self._wakeup = asyncio.Event()
        self._watchers = set[asyncio.Event]()
        self._rows_read = self._tasks_read = self._swept = self._rights_read = 0.0
        self.unrecalled = frozenset[str]()
        """Guests with operations from before the watch began whose node has not told yet what shuts them down."""

    async def changes(self, active_vms: ActiveVMs) -> AsyncGenerator[Sequence[Change], None]:
        """All guests first, then what changes; ends only by raising HypervisorUnavailable."""
        self._active_vms = active_vms
        rows = await self._rows()
        await self._recall(rows)
        await self._poll_tasks()
        await self._take_in(rows)
        await asyncio.gather(self.runs.read(), self.details.first())
        self._swept = monotonic()
        self._news.clear()
        yield [self._tracker.listed()]
        while True:
            await self._due()
            await self._poll()
            news, self._news = self._news, []
            if news:
                yield news

    async def read_rights(self) -> None:
        """Find out what the account may do; that is done again within `ROUND_SECONDS`."""
        self.rights = await self._api.rights()
        self._rights_read = monotonic()
        self._tracker.may_press = self.rights.has("Sys.Modify", "/")

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
        """Read cluster/resources now."""
        changes = await self._take_in(await self._rows())
        self.report(changes)
        changed = [change.vm for change in changes if isinstance(change, Changed)]
        self.details.want(vm.id for vm in changed if vm.power_state is PowerState.ON)

    async def ask(self, guest: Guest, *, to_cut: bool = False) -> None:
        """Ask its node how a guest is."""
        await self.learn(guest, await self._api.status(guest, to_cut=to_cut))

    async def learn(self, guest: Guest, current: Mapping[str, Any]) -> None:
        """Apply a state that its node has just reported (status/current)."""
        status, lock = status_of(current), str(current.get("lock") or "")
        disarmed = guest.disarmed and not (current.get("ha") or {}).get("managed")
        fresh = replace(guest, status=status, lock=lock, disarmed=disarmed)
        if self._defer(fresh):
            await self._poll_tasks()
            return
        ending = await self._ending(fresh) if self._tracker.went_off([fresh]) else None
        row = {"status": status, "lock": lock, "disarmed": disarmed}
        self.report(self._tracker.learn(guest.id, monotonic(), ending, **row))
        await self.runs.note(fresh, current)

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
        rows = await self._api.guests()
        if any(row.in_ha for row in rows) and await self._ha_ignores():
            rows = [replace(row, disarmed=row.in_ha) for row in rows]
        self._rows_read = monotonic()
        return self._tracker.current(rows, self._rows_read)

    async def _ha_ignores(self) -> bool:
        """Whether HA leaves alone what it manages; not so, as far as an account knows that may not see it."""
        if not self.rights.has("Sys.Audit", "/"):
            return False
        with suppress(CommandFailed):
            return await self._api.ha_ignores()
        return False

    async def _take_in(self, rows: Sequence[Guest]) -> list[Change]:
        """Apply rows. How guests have gone off is looked up for those with operations only."""
        before, active_vms = self._tracker.guests, self._active_vms()
        rows = self.absent.among(rows)
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
            await self.absent.look(self._active_vms)
            await self.runs.read()
            self.details.want(vm_id for vm_id in self._active_vms() if self._awaits_agent(vm_id))
            if monotonic() >= self._swept + self._idle:
                self._swept = monotonic()
                self.details.sweep(every=self._idle)
                if monotonic() >= self._rights_read + ROUND_SECONDS:
                    await self.read_rights()

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
        nodes = self.awaited.nodes().items()
        free = {node: since for node, since in nodes if not self._visits.busy(node)}
        await self._visits.make({node: self._poll_node(node, since) for node, since in free.items()})

    async def _poll_node(self, node: str, since: int) -> None:
        known = {task.upid: task for task in await self._api.tasks(node, since=since, limit=OWN)}
        running = [task for task in self.awaited.running() if task.node == node]
        found = [(task, known.get(task.upid) or await self._single(task)) for task in running]
        over = [replace(now, told=task.told) for task, now in found if not now.runs]
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
                ending = await self._ending(guest, task)
                self.report(self._tracker.learn(guest.id, monotonic(), ending, status="stopped"))
        self.awaited.end(task)

    # How runs ended

    def _defer(self, guest: Guest) -> bool:
        """Whether a container's being off must wait: only the end of its shutdown shows whether it was killed."""
        off = guest.kind == LXC and power_state(guest) is PowerState.OFF
        return off and self.awaited.shutdown_of(guest.id) is not None

    async def _ending(self, guest: Guest, task: Task | None = None) -> Ended:
        """How it went off: by its shutdown or stop that has just ended well, by the shutdown that is under way, or by
        whatever else is found. Before a stop something else may have ended it."""
        config, user = self._tracker.details(guest.id).config, self._api.user
        shutdown = task or self.awaited.shutdown_of(guest.id)
        try:
            if shutdown and shutdown.kind in SHUTDOWNS:
                ended = await history.of_shutdown(self._api, shutdown, config, ours=shutdown.user == user)
                if task or ended != Ended():
                    return ended
            ended = await history.of_guest(
                self._api, guest, config, self.trusts, user, witnessed=task is None and self._witnessed(guest)
            )
        except CommandFailed:
            ended = Ended()
        return Ended(OffCause.HOST) if task and task.kind in STOPS and ended == Ended() else ended

    def _witnessed(self, guest: Guest) -> bool:
        """Whether it was seen to run until now, by somebody who sees everybody's tasks."""
        known = self._tracker.guests.get(guest.id)
        ran = known is not None and power_state(known) is not PowerState.OFF
        return ran and self.rights.has("Sys.Audit", f"/nodes/{guest.node}")

    def trusts(self, task: Task) -> bool:
        """Whether a task is of a guest's last run: one that we follow is. Otherwise the starts of others must be seen,
        which would show that it is older."""
        followed = any(own.upid == task.upid for own in self.awaited.running())
        return followed or self.rights.has("Sys.Audit", f"/nodes/{task.node}")

    async def _recall(self, rows: Sequence[Guest]) -> None:
        """After a start of the provider: find the shutdowns of operations that are still under way."""
        self.unrecalled = self._active_vms()
        found = defaultdict[str, set[str]](set)
        for guest in rows:
            if guest.id in self.unrecalled:
                found[guest.node].add(guest.id)
        await self._visits.make({f"tasks of {node}": self._recall_at(node, vm_ids) for node, vm_ids in found.items()})

    async def _recall_at(self, node: str, vm_ids: set[str]) -> None:
        for task in await self._api.tasks(node, since=0, limit=OWN):
            if task.runs and task.kind in SHUTDOWNS and task.vm_id in vm_ids:
                self.awaited.follow(task)
        self.unrecalled -= vm_ids


def status_of(current: Mapping[str, Any]) -> str:
    """The status as cluster/resources has it, from an answer of status/current."""
    return str(current.get("qmpstatus") or current["status"])
