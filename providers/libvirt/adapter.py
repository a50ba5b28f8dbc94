"""The libvirt adapter: the nine methods, over connections that do not wait for each other."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial

import libvirt

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Changed,
    Grace,
    GuestCredentials,
    GuestProcess,
    Listed,
    Signal,
    none_active,
)
from providers.core.errors import CommandFailed, HypervisorError, Locked, Unsupported, VMNotFound
from providers.libvirt import domains, guest_exec, snapshots
from providers.libvirt.config import LibvirtSettings
from providers.libvirt.moved import MovedVMs
from providers.libvirt.session import Session
from providers.libvirt.states import SHUTDOWN_FLAGS, Domain, Host, without_credentials
from providers.libvirt.tracker import Tracker
from providers.libvirt.watch import changes, subscribed

EVENT_SECONDS = 1.0
"""How long the event of a VM that went off may come after its state says so."""


class LibvirtAdapter:
    """One libvirt URI. Must be made inside a running event loop; connects at the first call.

    `version` is empty until then, and a moment into the first watch "libvirt 9.0.0 / QEMU 7.2.22".

    Five connections, none with more than the five calls at once that libvirtd reads, all together less than
    its twenty workers (max_client_requests and max_workers in libvirtd.conf): quick calls; ACPI, which waits 30 s
    for a job that holds the domain; power, which takes as long as QEMU takes to die; programs and snapshots, which
    hang with a hanging guest agent; shutdowns by the agent, which return when the guest is gone. A watch has a sixth,
    for libvirt lets a connection subscribe only once.
    """

    type = "libvirt"
    signals = tuple(SHUTDOWN_FLAGS)

    def __init__(self, settings: LibvirtSettings) -> None:
        self.endpoint = without_credentials(settings.uri)
        self.version = ""
        self._uri = settings.uri
        self._quick = Session(self._uri, "quick", 3)
        self._pressing = Session(self._uri, "pressing", 2)
        self._power = Session(self._uri, "power", 5)
        self._agent = Session(self._uri, "agent", 3)
        self._asking = Session(self._uri, "asking", 5)
        self._known_host: Host | None = None
        self._moved = MovedVMs(settings.state_dir / "libvirt.moved")
        self._tracker = Tracker(self._moved.ids)

    async def get(self, vm_id: str) -> VM:
        """Read one VM; five quick calls. Of one that has just gone off, wait a moment for the event that says how."""
        try:
            domain = await self._read(vm_id)
        except VMNotFound:
            await self._ended(vm_id)
            raise
        if not domain.runs:
            await self._ended(vm_id)
        return self._tracker.vm(domain)

    async def list(self) -> Sequence[VM]:
        return [self._tracker.vm(domain) for domain in await self._read_all()]

    async def power_on(self, vm_id: str) -> None:
        """Start a VM that is off, from its managed save image if it has one; resume or wake one that is not."""
        self._require_here(vm_id)
        await self._power.call(domains.power_on, vm_id)

    async def power_off(self, vm_id: str) -> bool:
        """Cut the power; a managed save image is discarded."""
        self._require_here(vm_id)
        return await self._power.call(domains.power_off, vm_id) and not self._tracker.left(vm_id)

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        """Ask the guest: one flag a signal. By the agent, this returns when it has refused or the guest is gone.

        libvirt's own agent shutdown holds one of libvirtd's workers for as long as the guest takes. While
        as many as may be are held, further guests are asked by the agent's own command, so that none waits.

        Drivers other than QEMU's know no flags and have one way of their own, offered as ACPI.
        """
        if signal not in SHUTDOWN_FLAGS:
            raise CommandFailed(f"libvirt has no signal {signal}; the caller names another.")
        flag = SHUTDOWN_FLAGS[signal] if (await self._host()).qemu else libvirt.VIR_DOMAIN_SHUTDOWN_DEFAULT
        self._require_here(vm_id)
        try:
            if signal is Signal.GUEST_AGENT and self._asking.full:
                await self._agent.call(guest_exec.shut_down, vm_id)
            else:
                session = self._asking if signal is Signal.GUEST_AGENT else self._pressing
                await session.call(domains.ask, vm_id, flag)
        except Locked:
            self._tracker.hold(vm_id, signal)
            raise

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        """Start a program by the guest agent, as the guest's administrator; credentials are not asked for."""
        if not (await self._host()).qemu:
            raise Unsupported("Only QEMU's guests have an agent that runs programs; the caller leaves it out.")
        pid = await self._agent.call(guest_exec.start, vm_id, command)
        return GuestProcess(str(pid), partial(self._agent.call, guest_exec.status, vm_id, pid))

    async def snapshot(self, vm_id: str, name: str, description: str, include_memory: bool) -> None:
        await self._agent.call(snapshots.take, vm_id, name, description, include_memory)

    async def watch(self, _: ActiveVMs = none_active, /) -> AsyncGenerator[Change, None]:
        """Follow the lifecycle and agent events of all VMs, over a connection of its own."""
        events, naming = Session(self._uri, "events", 1), None
        try:
            async with subscribed(events) as inbox:
                self._known_host, self._tracker = None, Tracker(self._moved.ids)
                tracker = self._tracker
                listed = tracker.listed(await self._read_all())
                await self._note_moved(vm.id for vm in listed.vms)
                yield listed
                naming = asyncio.create_task(self._name_hypervisor(await self._host()))
                async with aclosing(changes(inbox, tracker, self._read, self._read_all, self._mark)) as following:
                    async for change in following:
                        if not isinstance(change, Listed):
                            await self._note_moved([change.vm.id if isinstance(change, Changed) else change.vm_id])
                        yield change
        finally:
            if naming:
                naming.cancel()
            await events.close()

    async def close(self) -> None:
        sessions = (self._quick, self._pressing, self._power, self._agent, self._asking)
        await asyncio.gather(*(session.close() for session in sessions))

    async def _host(self) -> Host:
        if self._known_host is None:
            self._known_host = await self._quick.call(domains.host)
            self.version = self._known_host.library
        return self._known_host

    async def _name_hypervisor(self, host: Host) -> None:
        with suppress(HypervisorError):  # if the connection is lost, the watch says so
            self.version = f"{host.library} / {await self._quick.call(domains.hypervisor)}"

    async def _read(self, vm_id: str) -> Domain:
        job = self._tracker.may_have_job(vm_id)
        session = self._agent if job else self._quick  # to ask for its job may take as long as the job
        return await session.call(domains.read, await self._host(), vm_id, job)

    async def _read_all(self, known: Mapping[str, Domain] = domains.NONE_KNOWN) -> Sequence[Domain]:
        return await self._quick.call(domains.read_all, await self._host(), known)

    async def _mark(self, vm_id: str) -> str:
        return await self._agent.call(domains.mark_run, vm_id)  # which waits for jobs that go on

    async def _ended(self, vm_id: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(EVENT_SECONDS):
                await self._tracker.ended(vm_id)

    async def _note_moved(self, vm_ids: Iterable[str]) -> None:
        """What was heard of these VMs is on disk before it is told."""
        await self._moved.note({vm_id: bool(self._tracker.elsewhere(vm_id)) for vm_id in vm_ids})

    def _require_here(self, vm_id: str) -> None:
        if why := self._tracker.elsewhere(vm_id):
            raise CommandFailed(why)
