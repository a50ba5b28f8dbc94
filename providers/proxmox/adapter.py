"""The Proxmox VE adapter: the nine methods, on one cluster."""

import asyncio
import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Escalation,
    Grace,
    GuestCredentials,
    GuestExit,
    GuestProcess,
    PowerState,
    Signal,
    none_active,
)
from providers.core.errors import CommandFailed, Locked, Unsupported, VMNotFound, VmpowerError
from providers.proxmox.api import Api
from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.errors import task_error
from providers.proxmox.guest_exec import exit_of
from providers.proxmox.guests import LXC, Guest
from providers.proxmox.poller import Poller
from providers.proxmox.session import Session, Unanswered
from providers.proxmox.states import HIBERNATED, power_state, require_known
from providers.proxmox.tasks import HA, SHUTDOWNS, Task, gave_up, is_already
from providers.proxmox.tracker import Tracker
from providers.shared.errors import not_found

T = TypeVar("T")
RECENT = 5
ALREADY = {PowerState.ON: "already", PowerState.OFF: "not"}
"""metadata["running"] of the error by which a container's call fails at once if it is on, or off, already; of QEMU's
guests the task fails (pve-container, `PVE::API2::LXC::Status`)."""


class ProxmoxAdapter:
    """One cluster. Must be made inside a running event loop; logs in at the first call.

    A shutdown is one call: Proxmox VE asks the guest, waits and, with FORCE, cuts the power by itself.
    """

    type = "proxmox"
    signals: tuple[Signal, ...] = (Signal.GUEST_AGENT, Signal.ACPI, Signal.INIT)
    margin = timedelta(seconds=15)
    """Proxmox VE gives QEMU 10 s to heed SIGTERM before it sends SIGKILL (qemu-server, `_do_vm_stop`)."""

    def __init__(self, settings: ProxmoxSettings) -> None:
        self.endpoint = ",".join(settings.url)
        self.version = ""
        self._session = Session(settings)
        self._api = Api(self._session)
        self._tracker = Tracker()
        self._poller = Poller(self._api, self._tracker, settings)
        self._asking = defaultdict[str, asyncio.Lock](asyncio.Lock)
        """Held while a shutdown is being requested: `withdraw` waits until its task is known."""
        self._unsure = set[str]()
        """Guests whose last shutdown request had no answer, so that its task may run."""

    async def get(self, vm_id: str) -> VM:
        """Ask the guest's own node: by a ping of its agent if it has one; an answer also shows that the guest runs."""
        self._poller.wake()
        await self._at(vm_id, self._look)
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
        """Cut its power, and end our shutdown of it if one is under way."""
        return await self._switch(vm_id, _stopping, PowerState.OFF)

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        """Let Proxmox VE shut it down; returns when its task has ended, which for HA's guests is at once."""
        vm = self._tracker.vm(vm_id)
        if vm and signal not in vm.signals:
            raise CommandFailed(f"{signal} does not reach {vm.name} now; the caller sends what its forecast shows.")
        if vm and signal is Signal.ACPI and Signal.GUEST_AGENT in vm.signals:  # Proxmox VE would ask the agent
            await self._at(vm_id, self._api.press)
            return
        async with self._asking[vm_id]:
            task = await self._at(vm_id, lambda guest: self._shut_down(guest, _shutdown(grace)))
            end = self._poller.follow(task)
        ended = await end
        if ended.succeeded or (ended.kind in SHUTDOWNS and gave_up(ended.status)):
            return
        error = await self._failure(ended)
        if isinstance(error, Locked):
            await self._poller.refresh()
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
        self._tracker.may_press = await self._api.may_press()
        async with aclosing(self._poller.changes(active_vms)) as polls:
            async for changes in polls:
                for change in changes:
                    yield change

    async def close(self) -> None:
        """Close the connections, and end the calls that are under way."""
        await self._session.close()

    # Inside

    async def _look(self, guest: Guest) -> None:
        require_known(guest)
        awake = power_state(guest) is PowerState.ON and not guest.lock
        config = self._tracker.details(guest.id).config
        if config is None:
            await self._poller.details.read(guest)  # which pings its agent, too
            answers = bool(self._tracker.details(guest.id).answers)
        else:
            answers = awake and config.agent and await self._answers(guest)
        if awake and answers:
            return
        current = await self._api.status(guest)
        status, lock = str(current.get("qmpstatus") or current["status"]), str(current.get("lock") or "")
        require_known(replace(guest, status=status))
        await self._poller.learn(guest, status, lock)

    async def _answers(self, guest: Guest) -> bool:
        """Whether its agent answers a ping; False as well if it may not be asked."""
        try:
            answers = await self._api.ping(guest)
        except CommandFailed:
            return False
        self._poller.report(self._tracker.update_details(guest.id, answers=answers, ping_error=""))
        return answers

    async def _shut_down(self, guest: Guest, params: Mapping[str, Any]) -> Task:
        """Begin a shutdown, unless the last attempt did so although its answer was lost."""
        if guest.id in self._unsure and (task := await self._running_shutdown(guest)):
            self._unsure.discard(guest.id)
            return task
        try:
            task = await self._api.act(guest, "shutdown", params)
        except Unanswered:
            self._unsure.add(guest.id)
            raise
        self._unsure.discard(guest.id)
        return task

    async def _running_shutdown(self, guest: Guest) -> Task | None:
        tasks = await self._api.tasks(guest.node, vmid=guest.id, limit=RECENT)
        return next((task for task in tasks if task.runs and task.kind in SHUTDOWNS), None)

    async def _switch(
        self, vm_id: str, how: Callable[[Guest], tuple[str, Mapping[str, Any]]], wanted: PowerState
    ) -> bool:
        """Whether this has switched it; False: it was as wanted."""
        try:
            task = await self._at(vm_id, lambda guest: self._api.act(guest, *how(guest)))
        except CommandFailed as error:
            if error.metadata.get("running") == ALREADY[wanted]:
                return False
            raise
        switched = await self._done(task)
        if (await self._find(vm_id)).managed:
            await self._poller.reached(vm_id, wanted)
        return switched

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
                raise
            return await call(moved)

    async def _find(self, vm_id: str) -> Guest:
        if vm_id not in self._tracker.guests:
            await self._poller.refresh()
        guest = self._tracker.guests.get(vm_id)
        if guest is None:
            raise not_found(vm_id)
        return guest


def _shutdown(grace: Grace) -> dict[str, Any]:
    """Parameters of a shutdown: whole seconds, rounded up, as the guest must not get less; none if none are named."""
    params: dict[str, Any] = {}
    if grace.timeout is not None:
        params["timeout"] = max(1, math.ceil(grace.timeout.total_seconds()))
    if grace.escalation is Escalation.FORCE:
        params["forceStop"] = 1
    return params


def _starting(guest: Guest) -> tuple[str, Mapping[str, Any]]:
    held = power_state(guest) in (PowerState.PAUSED, PowerState.SUSPENDED) and guest.lock != HIBERNATED
    return ("resume" if held else "start"), {}


def _stopping(guest: Guest) -> tuple[str, Mapping[str, Any]]:
    if guest.lock == HIBERNATED:
        raise CommandFailed(
            f"{guest.name} is hibernated, and Proxmox VE discards saved memory only by hand; its owner starts it first."
        )
    return "stop", {} if guest.managed else {"overrule-shutdown": 1}
