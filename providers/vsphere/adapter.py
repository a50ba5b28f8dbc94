"""The vSphere adapter: the nine methods, in one session with vCenter."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from pyVmomi import vim

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Grace,
    GuestCredentials,
    GuestProcess,
    Listed,
    Signal,
    none_active,
)
from providers.core.errors import CommandFailed, Locked
from providers.shared.errors import not_found
from providers.shared.login import read_login
from providers.vsphere import collector, guest_exec
from providers.vsphere.batch_reads import BatchReads
from providers.vsphere.config import VsphereSettings
from providers.vsphere.errors import translate
from providers.vsphere.guest_exec import Guest
from providers.vsphere.properties import Update
from providers.vsphere.session import CallClass, Session, SessionLost
from providers.vsphere.task_waits import TaskWaits
from providers.vsphere.tracker import Tracker
from providers.vsphere.watch import Feed, open_feed

ON, OFF = "poweredOn", "poweredOff"


class VsphereAdapter:
    """One vCenter or ESXi host; logs in at the first call. `version` is empty until the first watch."""

    type = "vsphere"
    signals: tuple[Signal, ...] = (Signal.VMWARE_TOOLS,)

    def __init__(self, settings: VsphereSettings) -> None:
        self.endpoint = settings.url
        self.version = ""
        self._settings = settings
        self._session = Session(settings)
        self._reads = BatchReads(self._read)
        self._tracker = Tracker()
        self._task_waits = TaskWaits()

    async def get(self, vm_id: str) -> VM:
        """Read one VM; one call, for all that are read at the same time."""
        read = await self._reads.read(await self._moid(vm_id))
        vm = self._tracker.vm(read) if read else None
        if vm is None:
            raise not_found(vm_id)
        return vm

    async def list(self) -> Sequence[VM]:
        """Read all VMs, as a watch does first."""
        async with aclosing(self.watch()) as changes:
            listed = await anext(changes)
        return listed.vms if isinstance(listed, Listed) else ()

    async def power_on(self, vm_id: str) -> None:
        """Start a VM that is off, or resume one that is suspended."""
        await self._do(vm_id, lambda vm: vm.PowerOn(None), ON)

    async def power_off(self, vm_id: str) -> bool:
        """Cut its power; of a suspended VM, discard the memory."""
        return await self._do(vm_id, lambda vm: vm.PowerOff(), OFF)

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        """Ask the guest's VMware Tools; one call."""
        if signal is not Signal.VMWARE_TOOLS:
            raise CommandFailed(f"vSphere has no signal {signal}; the caller leaves it out.")
        moid = await self._moid(vm_id)
        try:
            await self._session.call(CallClass.ASK, lambda link: link.vm(moid).ShutdownGuest())
        except Locked as error:
            busy: Any = error.__cause__  # TaskInProgress
            self._tracker.lock(moid, str(busy.task._moId))
            raise
        except CommandFailed as error:
            if not _is_already(error, OFF):
                raise

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        """Start a program, as the request's user or else the one in --guest-credentials-dir."""
        properties = self._tracker.properties(await self._moid(vm_id))
        if properties is None:
            raise not_found(vm_id)
        guest = Guest(properties, credentials or self._guest_login())
        pid, output_file = await self._session.call(CallClass.PROGRAM, guest_exec.start, guest, command)
        return GuestProcess(str(pid), partial(guest_exec.poll, self._session, guest, pid, output_file))

    async def snapshot(self, vm_id: str, name: str, description: str, include_memory: bool) -> None:
        """Take a snapshot; without memory, of file systems brought to rest if the guest has tools."""
        await self._do(vm_id, lambda vm: vm.CreateSnapshot(name, description, include_memory, not include_memory))

    async def watch(self, _: ActiveVMs = none_active, /) -> AsyncGenerator[Change, None]:
        """Follow everything in scope. When the session has expired, log in and list anew."""
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

    async def close(self) -> None:
        """Log out; calls that hang are left to the process's end."""
        await self._session.close()

    async def _listed(self, feed: Feed) -> Listed:
        """Begin anew. A task that was waited for before, and that vCenter does not list now, is forgotten."""
        before, tracker = self._task_waits.waiting(), Tracker()
        tracker.apply(await feed.next())
        self._tracker = tracker
        self._task_waits.fail_forgotten(before, tracker.tasks)
        self._task_waits.update(tracker.tasks)
        return tracker.listed()

    async def _changes(self, feed: Feed) -> Sequence[Change]:
        tracker = self._tracker
        changes = tracker.apply(await feed.next())
        for moid in tracker.take_missing():
            changes += tracker.settle_missing(moid, await self._reads.read(moid))
        self._task_waits.update(tracker.tasks)
        return changes

    async def _read(self, moids: Sequence[str]) -> Mapping[str, Update]:
        return await self._session.call(CallClass.READ, collector.read, moids)

    async def _moid(self, vm_id: str) -> str:
        """The VM's id within vCenter; one call for a VM that the watch has not told of, none for others."""
        moid = self._tracker.moid(vm_id) or await self._session.call(CallClass.READ, collector.find, vm_id)
        if not moid:
            raise not_found(vm_id)
        return moid

    async def _do(self, vm_id: str, begin: Callable[[Any], Awaitable[Any]], wanted: str = "") -> bool:
        """Begin a task on a VM, and wait until it has ended. False: it was as `wanted` already, which is no error."""
        moid = await self._moid(vm_id)
        try:
            task = await self._session.call(CallClass.POWER, lambda link: begin(link.vm(moid)))
            ended = await self._task_waits.until_ended(str(task._moId), self._tracker.tasks)
            if ended.error:
                raise translate(ended.error) from ended.error
        except CommandFailed as error:
            if not _is_already(error, wanted):
                raise
            return False
        return True

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


def _is_already(error: CommandFailed, state: str) -> bool:
    """Whether a fault, of a call or of a task, only says that the VM is in this power state."""
    fault = error.__cause__
    return isinstance(fault, vim.fault.InvalidPowerState) and fault.existingState == state
