"""The Proxmox VE adapter: the nine methods, on one cluster."""

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Diagnosis,
    Ended,
    Escalation,
    Grace,
    GuestCredentials,
    GuestExit,
    GuestProcess,
    MissingPrivilege,
    OffCause,
    PowerState,
    Signal,
    none_active,
)
from providers.core.clock import monotonic
from providers.core.errors import (
    CommandFailed,
    HypervisorUnavailable,
    Locked,
    Unsupported,
    VMNotFound,
    VmpowerError,
)
from providers.core.lanes import Lanes
from providers.proxmox.absent import is_forbidden
from providers.proxmox.api import Api
from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.errors import task_error
from providers.proxmox.guest_exec import exit_of
from providers.proxmox.guests import LXC, QEMU, Guest, Rights, addresses
from providers.proxmox.history import ended_by, stopped_by
from providers.proxmox.poller import Poller, status_of
from providers.proxmox.privileges import missing
from providers.proxmox.session import Session, Unanswered
from providers.proxmox.states import HIBERNATED, SAVING, power_state, require_known
from providers.proxmox.tasks import HA, SHUTDOWNS, Task, gave_up, is_already
from providers.proxmox.tracker import Tracker
from providers.shared.errors import not_found

T = TypeVar("T")
Deadline = tuple[datetime, bool]
"""When a guest's time is over, and whether Proxmox VE then cuts its power."""
RECENT = 5
FRESH = 2.0
"""Seconds for which a guest is believed to be as it was."""
ASKED_SECONDS = 0.5
"""How long the agent of a guest that was asked to go down is waited for: it goes first, and a ping takes 3 s then."""
TO_DISK = {"todisk": 1}
NEVER = float("-inf")
ALREADY = {PowerState.ON: "already", PowerState.OFF: "not"}
"""metadata["running"] of the error by which a container's call fails at once if it is on, or off, already; of QEMU's
guests the task fails (pve-container, `PVE::API2::LXC::Status`)."""


class ProxmoxAdapter:
    """One cluster. Must be made inside a running event loop; logs in at the first call.

    A shutdown is one call: Proxmox VE asks the guest, waits and, with FORCE, cuts the power by itself.
    """

    type = "proxmox"
    tells_late = False  # the tracker corrects a row that is older than what was read since
    signals: tuple[Signal, ...] = (Signal.GUEST_AGENT, Signal.ACPI, Signal.INIT)
    margin = timedelta(seconds=15)
    """Proxmox VE gives QEMU 10 s to heed SIGTERM before it sends SIGKILL (qemu-server, `_do_vm_stop`)."""

    def __init__(self, settings: ProxmoxSettings) -> None:
        self.endpoint = ",".join(settings.url)
        self.version = ""
        self._session = Session(settings)
        self.lanes = Lanes(settings.bounds)
        self._api = Api(self._session, self.lanes)
        self._tracker = Tracker()
        self._poller = Poller(self._api, self._tracker, settings)
        self._programs = settings.allow_guest_exec
        self._lacking: tuple[Rights, Mapping[str, Guest], tuple[MissingPrivilege, ...]] | None = None
        """What the account lacks, by the rights and the guests from which that follows."""
        self._asking = defaultdict[str, asyncio.Lock](asyncio.Lock)
        """Held while a shutdown is about to be requested: `withdraw` waits until its task is known."""
        self._unsure = set[str]()
        """Guests whose last shutdown request had no answer, so that its task may run."""
        self._unsure_stops = set[str]()
        """Guests whose last stop had no answer, so that it may have cut their power."""
        self._told = dict[str, tuple[str, Deadline]]()
        """By guest, the last shutdown that we began, and what it was told."""
        self._looked = defaultdict[str, float](lambda: NEVER)
        """When each guest was last asked for by itself."""
        self._hearing = dict[str, asyncio.Task[None]]()
        """The looks at agents that are under way, by guest."""

    async def get(self, vm_id: str) -> VM:
        """Ask the guest's own node, and its agent if it has one.

        Raises:
            HypervisorUnavailable: its node does not answer, or the guest is just between two.
        """
        self._poller.wake()
        try:
            await self._at(vm_id, self._look)
        except CommandFailed as error:
            if not is_forbidden(error):
                raise
            self._poller.absent.forget(vm_id)
        vm = self._tracker.vm(vm_id)
        if vm is None:
            raise not_found(vm_id)
        return vm

    async def list(self) -> Sequence[VM]:
        await self._poller.refresh()
        return self._tracker.listed().vms

    async def power_on(self, vm_id: str) -> None:
        """Start it; resume it if it is paused or sleeps. Of a guest that HA manages, wait until HA has started it."""
        await self._switch(vm_id, _starting, PowerState.ON)

    async def power_off(self, vm_id: str) -> bool:
        """Cut its power, and end our shutdown of it if one is under way. A stop succeeds of QEMU that is gone already,
        so that it is asked before and, by the guest's tasks, after. A stop of ours whose answer was lost counts."""
        await self._at(vm_id, self._look_to_cut)
        await self._end_shutdown(vm_id)
        if power_state(await self._find(vm_id)) is PowerState.OFF:
            return await self._has_stopped(vm_id)
        try:
            task = await self._switch(vm_id, _stopping, PowerState.OFF)
        except Unanswered:
            self._unsure_stops.add(vm_id)
            raise
        if task is None:
            return await self._has_stopped(vm_id)
        if task.kind in HA:
            return self._tracker.details(vm_id).ended == Ended(OffCause.HOST)
        with suppress(HypervisorUnavailable, CommandFailed):  # the power is off, as we know
            return await ended_by(self._api, await self._find(vm_id), task)
        return True

    async def save(self, vm_id: str) -> bool:
        """Hibernate it: its memory goes to its node's storage, from which a start resumes it. Our shutdown of it, whose
        task holds its configuration, is ended first."""
        await self._at(vm_id, self._look_to_cut)
        await self._end_shutdown(vm_id)
        guest = await self._find(vm_id)
        if guest.kind == LXC:
            raise CommandFailed(f"{guest.name} is a container, whose memory Proxmox VE does not save.")
        if guest.lock == SAVING:
            raise Locked(f"The memory of {guest.name} is being saved; it is looked at again when that ends.")
        if power_state(guest) in (PowerState.OFF, PowerState.SUSPENDED):
            return False
        return await self._done(await self._at(vm_id, lambda now: self._api.act(now, "suspend", TO_DISK)))

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        """Let Proxmox VE shut it down; returns when its task has ended, which for HA's guests is at once."""
        async with self._asking[vm_id]:
            await self._require_reach(vm_id, signal)
            vm = self._tracker.vm(vm_id)
            if vm and signal is Signal.ACPI and Signal.GUEST_AGENT in vm.signals:  # Proxmox VE would ask the agent
                await self._at(vm_id, self._api.press)
                return
            task = await self._at(vm_id, lambda guest: self._shut_down(guest, grace))
            end = self._poller.follow(task)
        ended = await end
        if _has_asked(ended):
            return
        error = await self._failure(ended)
        if isinstance(error, Locked):
            await self._poller.refresh()
            if await self._joined(vm_id):
                return
        raise error

    async def withdraw(self, vm_id: str) -> None:
        """End the shutdown's task. The guest was asked already: it may still go down."""
        guest = await self._find(vm_id)
        if guest.managed:
            raise CommandFailed("HA has been told to stop it, which cannot be taken back; it waits for no answer.")
        async with self._asking[vm_id]:
            task = self._poller.awaited.shutdown_of(vm_id) or await self._running_shutdown(guest)
            if task:
                await self._api.abort(task)
                await self._poller.follow(task)

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        """Start a program by the guest agent, as the guest's administrator; credentials are not needed."""
        if (await self._find(vm_id)).kind == LXC:
            raise Unsupported("Proxmox VE runs no programs in containers by its API; the caller leaves it out.")
        pid = await self._at(vm_id, lambda guest: self._api.execute(guest, command))

        async def poll() -> GuestExit | None:
            return exit_of(await self._at(vm_id, lambda guest: self._api.execution(guest, pid)))

        return GuestProcess(str(pid), poll)

    async def guest_addresses(self, vm_id: str) -> Sequence[str]:
        """By one call, to the guest agent; of a container, to its node, in which the container has the say too."""
        return addresses(await self._at(vm_id, self._api.interfaces))

    async def snapshot(self, vm_id: str, name: str, description: str, include_memory: bool) -> None:
        """Take a snapshot; a container has no memory to be kept."""
        params: dict[str, Any] = {"snapname": name, "description": description}
        if include_memory:
            if (await self._find(vm_id)).kind == LXC:
                raise CommandFailed("A container's snapshot cannot keep its memory; the hook's owner leaves it out.")
            params["vmstate"] = 1
        await self._done(await self._at(vm_id, lambda guest: self._api.snapshot(guest, params)))

    async def watch(self, active_vms: ActiveVMs = none_active, /) -> AsyncGenerator[Change, None]:
        """Poll the cluster, often while there are operations."""
        self.version = f"Proxmox VE {await self._api.version()}"
        await self._poller.read_rights()
        async with aclosing(self._poller.changes(active_vms)) as polls:
            async for changes in polls:
                for change in changes:
                    yield change

    def diagnosis(self) -> Diagnosis:
        """From what was read with the rights and by the way: no call."""
        if not self._poller.rights.granted:
            return Diagnosis(clock_ahead=self._session.clock.ahead)
        asked = (self._poller.rights, self._tracker.guests)
        if self._lacking is None or self._lacking[0] is not asked[0] or self._lacking[1] is not asked[1]:
            rights, guests = asked
            before_nine = self.version.removeprefix("Proxmox VE ").startswith(("7.", "8."))
            found = missing(rights, list(guests.values()), programs=self._programs, before_nine=before_nine)
            self._lacking = (*asked, found)
        return Diagnosis(self._lacking[2], self._session.clock.ahead)

    async def close(self) -> None:
        """Close the connections, and end the calls that are under way."""
        for hearing in tuple(self._hearing.values()):
            hearing.cancel()
        await self._session.close()

    # Inside

    async def _look(self, guest: Guest) -> None:
        require_known(guest)
        current, _ = await asyncio.gather(self._api.status(guest), self._hear_in_time(guest))
        require_known(replace(guest, status=status_of(current)))
        await self._poller.learn(guest, current)
        self._looked[guest.id] = monotonic()

    async def _hear_in_time(self, guest: Guest) -> None:
        """An agent that hangs does not hold up what must be done to a guest that has been asked; what is heard of it
        later is reported then."""
        if guest.id not in self._hearing:
            self._hearing[guest.id] = hearing = asyncio.create_task(self._hear(guest))
            hearing.add_done_callback(lambda _: self._hearing.pop(guest.id))
        patience = ASKED_SECONDS if guest.id in self._told else None
        await asyncio.wait({hearing := self._hearing[guest.id]}, timeout=patience)
        if hearing.done():
            hearing.result()

    async def _hear(self, guest: Guest) -> None:
        """Ask what its node does not tell: whether its agent answers, and its configuration if that is old."""
        config = self._tracker.details(guest.id).config
        with suppress(CommandFailed):  # what was known stays
            if config is None or self._poller.details.due(guest.id):
                await self._poller.details.read(guest)
            elif config.agent and power_state(guest) is PowerState.ON and not guest.lock:
                answers = await self._api.ping(guest)
                self._poller.report(self._tracker.update_details(guest.id, answers=answers, ping_error=""))

    async def _look_to_cut(self, guest: Guest) -> None:
        await self._poller.ask(guest, to_cut=True)

    async def _end_shutdown(self, vm_id: str) -> None:
        """End the shutdown that is under way, if there is one and the account may, and look again. The stop would end
        it too, but takes a second for that, and then says the same of a guest that has left by itself meanwhile."""
        guest = await self._find(vm_id)
        if guest.managed or power_state(guest) is PowerState.OFF:
            return
        if task := self._poller.awaited.shutdown_of(vm_id) or await self._running_shutdown(guest, to_cut=True):
            with suppress(CommandFailed):
                await self._api.abort(task, to_cut=True)
                await self._at(vm_id, self._look_to_cut)

    async def _has_stopped(self, vm_id: str) -> bool:
        """Whether a guest that is off was stopped by us all the same, before an answer was lost or this provider was
        started anew."""
        guest, unsure = await self._find(vm_id), vm_id in self._unsure_stops
        self._unsure_stops.discard(vm_id)
        return await stopped_by(self._api, guest, lambda task: unsure or self._poller.trusts(task), self._api.user)

    async def _require_reach(self, vm_id: str, signal: Signal) -> None:
        """Look again if the last look is not fresh: a shutdown of QEMU that is gone already ends as one that went well.

        Raises:
            Locked: something holds it that passes.
            CommandFailed: the signal does not reach its guest.
        """
        if monotonic() - self._looked[vm_id] > FRESH:
            await self.get(vm_id)
        vm = self._tracker.vm(vm_id)
        if vm is None or signal in vm.signals:
            return
        if held := next((problem.message for problem in vm.problems if problem.passing), ""):
            raise Locked(held)
        raise CommandFailed(f"{signal} does not reach {vm.name} now; the caller sends what its forecast shows.")

    async def _shut_down(self, guest: Guest, grace: Grace) -> Task:
        """Begin a shutdown, or go on with the one that runs already: of an attempt whose answer was lost, or of one
        before this provider was started. One that keeps another deadline is ended first."""
        running = self._poller.awaited.shutdown_of(guest.id)
        if running is None and (guest.id in self._unsure or guest.id in self._poller.unrecalled):
            running = await self._running_shutdown(guest)
        self._unsure.discard(guest.id)
        told = self._told.get(guest.id)
        if running and (told is None or told[0] != running.upid or told[1] == _deadline(grace)):
            return running
        if running:
            await self._api.abort(running)
            await self._poller.follow(running)
        try:
            params = _shutdown(grace)
            task = replace(await self._api.act(guest, "shutdown", params), told=params.get("timeout"))
        except Unanswered:
            self._unsure.add(guest.id)
            raise
        self._told[guest.id] = task.upid, _deadline(grace)
        return task

    async def _joined(self, vm_id: str) -> bool:
        """Whether somebody else's shutdown, for which ours has waited in vain, has asked it; waits for its end."""
        guest = await self._find(vm_id)
        other = await self._running_shutdown(guest)
        return other is not None and _has_asked(await self._poller.follow(other))

    async def _running_shutdown(self, guest: Guest, *, to_cut: bool = False) -> Task | None:
        tasks = await self._api.tasks(guest.node, to_cut=to_cut, vmid=guest.id, limit=RECENT)
        return next((task for task in tasks if task.runs and task.kind in SHUTDOWNS), None)

    async def _switch(
        self, vm_id: str, how: Callable[[Guest], tuple[str, Mapping[str, Any]]], wanted: PowerState
    ) -> Task | None:
        """The task that has switched it; None: it was as wanted."""
        try:
            task = await self._at(vm_id, lambda guest: self._api.act(guest, *how(guest)))
        except CommandFailed as error:
            if error.metadata.get("running") == ALREADY[wanted]:
                return None
            raise
        if not await self._done(task):
            return None
        if task.kind in HA:
            await self._poller.reached(vm_id, wanted)
        return task

    async def _done(self, task: Task) -> bool:
        """Wait for a task. False: it failed because the guest is as wanted already, which does no harm."""
        ended = await self._poller.follow(task)
        if not ended.succeeded and not is_already(ended):
            raise await self._failure(ended)
        return ended.succeeded

    async def _failure(self, task: Task) -> VmpowerError:
        """What a task failed with. A task that instructs HA has the reason in its log only."""
        said = [line for line in await self._api.log(task) if "TASK ERROR" not in line] if task.kind in HA else []
        return task_error("; ".join(said) or task.status)

    async def _at(self, vm_id: str, call: Callable[[Guest], Awaitable[T]]) -> T:
        """Do something where the guest is now; it may just have moved."""
        guest = await self._find(vm_id)
        try:
            return await call(guest)
        except VMNotFound:
            await self._poller.refresh()
            moved = self._tracker.guests.get(vm_id)
            if moved is None or moved.node == guest.node:
                raise await self._absent(vm_id) from None
            return await call(moved)

    async def _find(self, vm_id: str) -> Guest:
        if vm_id not in self._tracker.guests:
            await self._poller.refresh()
        guest = self._tracker.guests.get(vm_id)
        if guest is None:
            raise await self._absent(vm_id)
        return guest

    async def _may_see(self, vm_id: str) -> bool:
        """Whether the account may see a guest, wherever that is: its rights are looked at before the guest is."""
        node = min(await self._api.nodes())
        try:
            await self._api.status(Guest(vm_id, QEMU, "", node, ""))
        except CommandFailed as error:
            return not is_forbidden(error)
        except VMNotFound:
            return True
        return True

    async def _absent(self, vm_id: str) -> VmpowerError:
        """What to raise of a guest that is not where it was, nor anywhere else as far as cluster/resources shows."""
        if not vm_id.isdecimal() or await self._poller.absent.is_gone(vm_id) or not await self._may_see(vm_id):
            return not_found(vm_id)
        return HypervisorUnavailable(
            f"Proxmox VE has a guest {vm_id} and does not tell on which node, as while it moves; it is asked again."
        )


def _shutdown(grace: Grace) -> dict[str, Any]:
    """Parameters of a shutdown: whole seconds, rounded up, as the guest must not get less; none if none are named."""
    params: dict[str, Any] = {}
    if grace.timeout is not None:
        params["timeout"] = max(1, math.ceil(grace.timeout.total_seconds()))
    if grace.escalation is Escalation.FORCE:
        params["forceStop"] = 1
    return params


def _deadline(grace: Grace) -> Deadline:
    return grace.force_after, grace.escalation is Escalation.FORCE


def _has_asked(ended: Task) -> bool:
    """Whether a task that has ended had asked its guest; one that has told HA counts as well."""
    return ended.succeeded or (ended.kind in SHUTDOWNS and gave_up(ended.status))


def _starting(guest: Guest) -> tuple[str, Mapping[str, Any]]:
    held = power_state(guest) in (PowerState.PAUSED, PowerState.SUSPENDED) and guest.lock != HIBERNATED
    return ("resume" if held else "start"), {}


def _stopping(guest: Guest) -> tuple[str, Mapping[str, Any]]:
    if guest.lock == HIBERNATED:
        raise CommandFailed(
            f"{guest.name} is hibernated, and Proxmox VE discards saved memory only by hand; its owner starts it first."
        )
    return "stop", {} if guest.managed else {"overrule-shutdown": 1}
