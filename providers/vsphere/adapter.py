"""The vSphere adapter: the nine methods, in one session with vCenter."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import timedelta
from functools import partial
from typing import Any

from pyVmomi import vim

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Changed,
    Diagnosis,
    Grace,
    GuestCredentials,
    GuestProcess,
    Listed,
    MissingPrivilege,
    Signal,
    none_active,
)
from providers.core.errors import CommandFailed, HypervisorError, Locked
from providers.core.lanes import Lane
from providers.shared.errors import not_found
from providers.shared.login import read_login
from providers.vsphere import collector, guest_exec
from providers.vsphere.batch_reads import BatchReads
from providers.vsphere.config import VsphereSettings
from providers.vsphere.errors import translate
from providers.vsphere.events import ended_by
from providers.vsphere.guest_exec import Guest
from providers.vsphere.privileges import missing
from providers.vsphere.properties import Update
from providers.vsphere.refusals import passing
from providers.vsphere.session import Session, SessionLost
from providers.vsphere.task_waits import TaskWaits
from providers.vsphere.tracker import Tracker
from providers.vsphere.watch import Feed, open_feed

ON, OFF, SUSPENDED = "poweredOn", "poweredOff", "suspended"
NEWS_SECONDS = 10
"""How long the watch may lag behind a read. vCenter tells of changes within a second or so."""
EVENTS_SECONDS = 10
"""How long vCenter may look through its events."""
LONGEST_OPERATION = timedelta(hours=25)
"""A day, which is the longest timeout, and something for what follows it."""
MARGIN = timedelta(minutes=5)
"""By how much events may be older than when vCenter was last heard of: a host may tell vCenter late."""


class VsphereAdapter:
    """One vCenter or ESXi host; logs in at the first call. `version` is empty until the first watch."""

    type = "vsphere"
    tells_late = True
    signals: tuple[Signal, ...] = (Signal.VMWARE_TOOLS,)

    def __init__(self, settings: VsphereSettings) -> None:
        self.endpoint = settings.url
        self.version = ""
        self._settings = settings
        self._session = Session(settings)
        self.lanes = self._session.lanes
        self._reads = BatchReads(self._read)
        self._tracker = Tracker()
        self._task_waits = TaskWaits()
        self._active_vms: ActiveVMs = none_active
        self._lacking: tuple[MissingPrivilege, ...] = ()
        self._looking: asyncio.Task[None] | None = None
        """The question what the account lacks."""
        self._heard: float | None = None
        """When vCenter last told what changed, by the loop's clock."""
        self._news = asyncio.Condition()
        self._unanswered = dict[str, str]()
        """VMs that a call of ours was to cut, of which we do not know whether it did, and when their runs began."""

    async def get(self, vm_id: str) -> VM:
        """Read one VM; one call, for all that are read at the same time.

        One that vCenter does not find where it was is looked for in all of its inventory. One that is off is told of
        when the watch knows who ended it, which takes a moment.
        """
        read = await self._find(vm_id)
        if read and self._tracker.is_behind(read):
            await self._told_off(read.moid)
        vm = self._tracker.vm(read) if read else None
        if vm is None:
            raise not_found(vm_id)
        return vm

    async def list(self) -> Sequence[VM]:
        """Read all VMs, as a watch does first."""
        async with aclosing(self.watch(self._active_vms)) as changes:
            listed = await anext(changes)
        return listed.vms if isinstance(listed, Listed) else ()

    async def power_on(self, vm_id: str) -> None:
        """Start a VM that is off, or resume one that is suspended."""
        await self._do(Lane.START, await self._moid(vm_id), lambda vm: vm.PowerOn(None), ON)

    async def power_off(self, vm_id: str) -> bool:
        """Cut its power; of a suspended VM, discard the memory.

        True also where an earlier call of ours did it, whose answer was lost: vCenter names the user of the task.
        """
        moid = await self._moid(vm_id)
        properties = self._tracker.properties(moid)
        run = properties.boot_time if properties else ""
        again = moid in self._unanswered and run in ("", self._unanswered[moid])  # of a VM that is off, none is told
        if not again:
            self._unanswered[moid] = run
        try:
            ours = await self._do(Lane.CUT, moid, lambda vm: vm.PowerOff(), OFF)
        except CommandFailed as error:
            if not isinstance(error, Locked):  # which our own task may hold
                self._unanswered.pop(moid, None)
            raise
        self._unanswered.pop(moid, None)
        return ours or (again and await self._was_cut_by_us(moid))

    async def save(self, vm_id: str) -> bool:
        """Suspend it: its memory goes to its datastore, from which PowerOn resumes it."""
        moid = await self._moid(vm_id)
        try:
            return await self._do(Lane.SAVE, moid, lambda vm: vm.Suspend(), SUSPENDED)
        except CommandFailed as error:
            if not _is_already(error, OFF):
                raise
            return False

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        """Ask the guest's VMware Tools; one call."""
        if signal is not Signal.VMWARE_TOOLS:
            raise CommandFailed(f"vSphere has no signal {signal}; the caller leaves it out.")
        moid = await self._moid(vm_id)
        try:
            await self._session.call(Lane.ASK, lambda link: link.vm(moid).ShutdownGuest(), host=self._host(moid))
        except CommandFailed as error:
            if _is_already(error, OFF):
                return
            tracker = self._tracker
            if (held := passing(error, tracker.properties(moid), tracker.task_under_way(moid))) is None:
                raise
            tracker.hold(moid, *held)
            raise Locked(error.message) from error.__cause__

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        """Start a program, as the request's user or else the one in --guest-credentials-dir."""
        properties = self._tracker.properties(await self._moid(vm_id))
        if properties is None:
            raise not_found(vm_id)
        guest = Guest(properties, credentials or self._guest_login())
        host = properties.host
        pid, output_file = await self._session.call(Lane.PROGRAM, guest_exec.start, guest, command, host=host)
        return GuestProcess(str(pid), partial(guest_exec.poll, self._session, guest, pid, output_file))

    async def snapshot(self, vm_id: str, name: str, description: str, include_memory: bool) -> None:
        """Take a snapshot; without memory, of file systems brought to rest if the guest has tools."""
        moid = await self._moid(vm_id)
        quiesce = not include_memory
        await self._do(Lane.PROGRAM, moid, lambda vm: vm.CreateSnapshot(name, description, include_memory, quiesce))

    async def watch(self, active_vms: ActiveVMs = none_active, /) -> AsyncGenerator[Change, None]:
        """Follow everything in scope. When the session has expired, log in and list anew."""
        self._active_vms = active_vms
        losses = 0
        while losses < 2:  # a second one in a row is no expiry, but an outage
            link = await self._session.link()
            self.version = link.content.about.fullName
            try:
                async with open_feed(self._session, link, self._settings.scope) as feed:
                    yield await self._listed(feed)
                    losses = 0
                    while True:
                        for change in await self._changes(feed):
                            yield change
            except SessionLost as lost:
                losses, last = losses + 1, lost
        raise last

    def diagnosis(self) -> Diagnosis:
        """From what was asked when all VMs were listed, and by the way: no call."""
        return Diagnosis(self._lacking, self._session.clock.ahead)

    async def close(self) -> None:
        """Log out; calls that hang are left to the process's end."""
        if self._looking:
            self._looking.cancel()
        await self._session.close()

    async def _listed(self, feed: Feed) -> Listed:
        """Begin anew. A task that was waited for before, and that vCenter does not list now, is forgotten."""
        before = self._task_waits.waiting()
        tracker = Tracker(scoped=bool(self._settings.scope.strip("/")), ids=self._tracker.ids)
        tracker.apply(await feed.next())
        self._tracker = tracker
        away = LONGEST_OPERATION if self._heard is None else timedelta(seconds=_now() - self._heard) + MARGIN
        await self._explain(self._active_vms(), min(away, LONGEST_OPERATION))
        self._task_waits.fail_forgotten(before, tracker.tasks)
        await self._tell()
        listed = tracker.listed()
        self._look_at_rights(listed)
        return listed

    def _look_at_rights(self, listed: Listed) -> None:
        """Find out what the account lacks, once for each list, beside the watch."""
        names = {moid: vm.name for vm in listed.vms if not vm.refused and (moid := self._tracker.moid(vm.id))}
        if self._looking:
            self._looking.cancel()
        self._looking = asyncio.create_task(self._learn_rights(names))

    async def _learn_rights(self, names: Mapping[str, str]) -> None:
        ask = partial(missing, programs=self._settings.allow_guest_exec)
        with suppress(HypervisorError, TimeoutError):  # what is not told stays unknown
            async with asyncio.timeout(EVENTS_SECONDS):
                self._lacking = await self._session.call(Lane.READ, ask, names)

    async def _changes(self, feed: Feed) -> Sequence[Change]:
        tracker = self._tracker
        changes = tracker.apply(await feed.next())
        for moid in tracker.take_missing():
            changes += tracker.settle_missing(moid, await self._reads.read(moid))
        changed = {change.vm.id: change for change in changes if isinstance(change, Changed)}
        for explained in await self._explain(self._active_vms() & changed.keys(), LONGEST_OPERATION):
            changes[changes.index(changed[explained.vm.id])] = explained
        await self._tell()
        return changes

    async def _tell(self) -> None:
        """Whoever waits for what the watch tells may look."""
        self._heard = _now()
        self._task_waits.update(self._tracker.tasks)
        async with self._news:
            self._news.notify_all()

    async def _told_off(self, moid: str) -> None:
        """Wait, for a moment, until the watch tells that a VM is off, and which tasks have ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(NEWS_SECONDS), self._news:
                await self._news.wait_for(lambda: self._tracker.is_settled(moid))

    async def _explain(self, vm_ids: Iterable[str], since: timedelta) -> Sequence[Changed]:
        """Look for the ends of those of these VMs that are off for an unknown reason among vCenter's events of this
        long: two calls for all of them, and once for each end. What cannot be read, or not soon, stays unknown: the
        watch goes on."""
        moids = self._tracker.unexplained(vm_ids)
        if not moids:
            return []
        events: Mapping[str, Sequence[Any]] = {}
        with suppress(HypervisorError, TimeoutError):
            async with asyncio.timeout(EVENTS_SECONDS):
                events = await self._session.call(Lane.READ, collector.power_events, since)
        ends = {moid: by for moid in moids if (by := ended_by(events.get(moid, ())))}
        return [change for change in self._tracker.explain(moids, ends) if isinstance(change, Changed)]

    async def _read(self, moids: Sequence[str]) -> Mapping[str, Update]:
        return await self._session.call(Lane.READ, collector.read, moids)

    async def _find(self, vm_id: str) -> Update | None:
        """A VM, where it was or wherever vCenter has it; None: vCenter has none."""
        known = self._tracker.moid(vm_id)
        if known and (read := await self._reads.read(known)):
            return read
        found = await self._session.call(Lane.READ, collector.find, vm_id)
        return await self._reads.read(found) if found else None

    async def _moid(self, vm_id: str) -> str:
        """The id within vCenter of a VM that is to be acted on; one call for a VM that the watch has not told of, none
        for others.

        Raises:
            VMNotFound
            CommandFailed: it is out of the provider's scope.
        """
        moid = self._tracker.moid(vm_id) or await self._session.call(Lane.READ, collector.find, vm_id)
        if not moid:
            raise not_found(vm_id)
        if self._tracker.is_outside(moid):
            raise CommandFailed("The VM is out of the provider's scope; whoever looks after it there acts on it.")
        return moid

    async def _do(self, lane: Lane, moid: str, begin: Callable[[Any], Awaitable[Any]], wanted: str = "") -> bool:
        """Begin a task on a VM, and wait until it has ended. False: it was as `wanted` already, which is no error."""
        try:
            task = await self._session.call(lane, lambda link: begin(link.vm(moid)), host=self._host(moid))
            ended = await self._task_waits.until_ended(str(task._moId), self._tracker.tasks)
            if ended.error:
                raise translate(ended.error) from ended.error
        except CommandFailed as error:
            if not _is_already(error, wanted):
                raise
            return False
        return True

    async def _was_cut_by_us(self, moid: str) -> bool:
        await self._told_off(moid)
        properties, link = self._tracker.properties(moid), await self._session.link()
        return properties is not None and properties.cut_by == link.user

    def _host(self, moid: str) -> str:
        properties = self._tracker.properties(moid)
        return properties.host if properties else ""

    def _guest_login(self) -> GuestCredentials:
        folder = self._settings.guest_credentials_dir
        if folder is None:
            raise CommandFailed(
                "A program in a guest needs a login there: the caller sends guest_credentials, or the provider's "
                "operator sets --guest-credentials-dir."
            )
        try:
            return GuestCredentials(*read_login(folder))
        except (OSError, ValueError) as error:
            message = f"The guests' login cannot be read ({error}); the operator mends --guest-credentials-dir."
            raise CommandFailed(message) from error


def _now() -> float:
    """Seconds by the loop's clock."""
    return asyncio.get_running_loop().time()


def _is_already(error: CommandFailed, state: str) -> bool:
    """Whether a fault, of a call or of a task, only says that the VM is in this power state."""
    fault = error.__cause__
    return isinstance(fault, vim.fault.InvalidPowerState) and fault.existingState == state
