"""The libvirt adapter: the nine methods, over connections that do not wait for each other."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

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
from providers.core.lanes import Bound, Lane, Lanes
from providers.libvirt import domains, guest_exec, snapshots
from providers.libvirt.config import LibvirtSettings
from providers.libvirt.moved import MovedVMs
from providers.libvirt.session import Session, in_time
from providers.libvirt.states import ANOTHER_JOB, SHUTDOWN_FLAGS, Domain, Host, without_credentials
from providers.libvirt.tracker import Tracker
from providers.libvirt.watch import changes, subscribed

P = ParamSpec("P")
T = TypeVar("T")

EVENT_SECONDS = 1.0
"""How long the event of a VM that went off may come after its state says so."""
JOB_SECONDS = 1.0
"""How long the answer to what job a VM has may take, before it is told that it has one: the question waits for the
job's end itself, up to 30 s."""
MARK_SECONDS = 5.0
"""How long a VM that was just started may take until it can be marked: libvirt holds it until its QEMU runs."""
READ_SECONDS, PRESS_SECONDS, AGENT_SECONDS = 30.0, 45.0, 105.0
"""How long calls may take. A press waits 30 s for a job to end, and then for QEMU, which may be frozen; an agent's call
waits as long for another one, then 5 s for the agent, and 60 s for its guest (src/qemu/qemu_agent.c)."""
TERM_SECONDS = 5.0
"""How long a cut may take before libvirt is told to kill QEMU, to which it gives 10 s more to heed SIGTERM: in all the
15 s that it gives one that is not to be killed (src/util/virprocess.c)."""
AGENT, COMMAND, BUTTON = "agent", "command", "button"
"""The ways of asking, each of which waits for itself alone."""


class LibvirtAdapter:
    """One libvirt URI. Must be made inside a running event loop; connects at the first call.

    `version` is empty until then, and a moment into the first watch "libvirt 9.0.0 / QEMU 7.2.22".

    A connection for each lane and each way of asking, none with more than the five calls at once that libvirtd reads,
    all together no more than its twenty workers (max_client_requests and max_workers in libvirtd.conf): reads; ACPI,
    which waits 30 s for a job that holds the domain; shutdowns by the agent, which return when the guest is gone, and
    the agent's own command, which hangs as long as the agent does; programs and snapshots, which hang with it;
    cutting, which takes as long as QEMU takes to die; starting; saving, which takes as long as the disk takes to write
    all memory; and what waits for jobs. A watch has one more, for
    libvirt lets a connection subscribe only once.
    """

    type = "libvirt"
    tells_late = True
    signals = tuple(SHUTDOWN_FLAGS)

    def __init__(self, settings: LibvirtSettings) -> None:
        self.endpoint = without_credentials(settings.uri)
        self.version = ""
        self._uri = settings.uri
        asks = settings.max_asks
        ways = (AGENT, COMMAND, BUTTON)
        self.lanes = Lanes({**settings.bounds, Lane.ASK: Bound(asks * len(ways), asks)})
        self._reads = Session(self._uri, "reads", settings.max_reads)
        self._asks = {way: Session(self._uri, way, asks) for way in ways}
        self._programs = Session(self._uri, "programs", settings.max_programs)
        self._cuts = Session(self._uri, "cuts", settings.max_cuts)
        self._kills = Session(self._uri, "kills", settings.max_cuts)
        self._starts = Session(self._uri, "starts", settings.max_starts)
        self._saves = Session(self._uri, "saves", settings.max_saves)
        self._jobs = Session(self._uri, "jobs", 1)
        self._known_host: Host | None = None
        self._moved = MovedVMs(settings.state_dir / "libvirt.moved")
        self._tracker = Tracker(self._moved.ids)

    async def get(self, vm_id: str) -> VM:
        """Read one VM; five quick calls. Of one that has just gone off, wait a moment for the event that says how; one
        that was just started is given its mark, for what is about to be done to it may be meant for its last run."""
        try:
            async with in_time(READ_SECONDS):
                domain = await self._read_soon(vm_id)
        except VMNotFound:
            await self._ended(vm_id)
            raise
        if not domain.runs:
            await self._ended(vm_id)
        return self._tracker.vm(await self._with_run(domain) if domain.unmarked else domain)

    async def list(self) -> Sequence[VM]:
        return [self._tracker.vm(domain) for domain in await self._read_all()]

    async def power_on(self, vm_id: str) -> None:
        """Start a VM that is off, from its managed save image if it has one; resume or wake one that is not."""
        self._require_here(vm_id)
        async with self.lanes.place(Lane.START):
            await self._starts.call(domains.power_on, vm_id)

    async def power_off(self, vm_id: str) -> bool:
        """Cut the power; a managed save image is discarded.

        A QEMU that is frozen with a call of ours heeds no SIGTERM, and libvirt then waits 30 s for that call, so that
        it is killed beside that: measured, it is off after 27 s, and after 57 s otherwise.
        """
        self._require_here(vm_id)
        async with self.lanes.place(Lane.CUT):
            cutting = asyncio.create_task(self._cuts.call(domains.power_off, vm_id))
            try:
                await asyncio.wait({cutting}, timeout=TERM_SECONDS)
                killed = not cutting.done() and await self._kills.call(domains.kill, vm_id)
                ours = killed or await cutting  # which may have been what ended it, and answers late
            finally:
                cutting.cancel()
            return ours and not self._tracker.left(vm_id)

    async def save(self, vm_id: str) -> bool:
        """Save its memory as libvirt's managed save, from which the next start resumes it."""
        self._require_here(vm_id)
        async with self.lanes.place(Lane.SAVE):
            return await self._saves.call(domains.save, vm_id)

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
            if signal is not Signal.GUEST_AGENT:
                await self._ask(BUTTON, PRESS_SECONDS, domains.ask, vm_id, flag)
            elif self.lanes.full(Lane.ASK, AGENT) or self._asks[AGENT].full:  # of calls that were given up and hang on
                await self._ask(COMMAND, AGENT_SECONDS, guest_exec.shut_down, vm_id)
            else:
                await self._ask(AGENT, AGENT_SECONDS, domains.ask, vm_id, flag)
        except Locked:
            self._tracker.hold(vm_id, signal)
            raise

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        """Start a program by the guest agent, as the guest's administrator; credentials are not asked for."""
        if not (await self._host()).qemu:
            raise Unsupported("Only QEMU's guests have an agent that runs programs; the caller leaves it out.")
        pid = await self._in_guest(guest_exec.start, vm_id, command)
        return GuestProcess(str(pid), partial(self._in_guest, guest_exec.status, vm_id, pid))

    async def guest_addresses(self, vm_id: str) -> Sequence[str]:
        """By the guest agent: in a bridged network nobody but the guest knows them."""
        if not (await self._host()).qemu:
            return ()
        return await self._in_guest(domains.agent_addresses, vm_id)

    async def snapshot(self, vm_id: str, name: str, description: str, include_memory: bool) -> None:
        async with self.lanes.place(Lane.PROGRAM):
            await self._programs.call(snapshots.take, vm_id, name, description, include_memory)

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
        cutting = (self._cuts, self._kills)
        sessions = (*self._asks.values(), *cutting, self._reads, self._programs, self._starts, self._saves, self._jobs)
        await asyncio.gather(*(session.close() for session in sessions))

    async def _host(self) -> Host:
        if self._known_host is None:
            self._known_host = await self._reads.call(domains.host)
            self.version = self._known_host.library
        return self._known_host

    async def _name_hypervisor(self, host: Host) -> None:
        with suppress(HypervisorError):  # if the connection is lost, the watch says so
            self.version = f"{host.library} / {await self._reads.call(domains.hypervisor)}"

    async def _read(self, vm_id: str) -> Domain:
        """With its job, if it may have one."""
        if self._tracker.may_have_job(vm_id):
            return await self._jobs.call(domains.read, await self._host(), vm_id, True)
        async with self.lanes.place(Lane.READ):
            return await self._reads.call(domains.read, await self._host(), vm_id)

    async def _read_soon(self, vm_id: str) -> Domain:
        """The same, also of a VM whose job does not end: what is due is not held up by it."""
        if not self._tracker.may_have_job(vm_id):
            return await self._read(vm_id)
        try:
            async with asyncio.timeout(JOB_SECONDS):
                return await self._read(vm_id)
        except TimeoutError:
            async with self.lanes.place(Lane.READ):
                found = await self._reads.call(domains.read, await self._host(), vm_id)
            return replace(found, job=ANOTHER_JOB if found.runs else "")

    async def _ask(
        self, way: str, seconds: float, call: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self.lanes.place(Lane.ASK, way), in_time(seconds):
            return await self._asks[way].call(call, *args, **kwargs)

    async def _in_guest(self, call: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self.lanes.place(Lane.PROGRAM), in_time(AGENT_SECONDS):
            return await self._programs.call(call, *args, **kwargs)

    async def _read_all(self, known: Mapping[str, Domain] = domains.NONE_KNOWN) -> Sequence[Domain]:
        return await self._reads.call(domains.read_all, await self._host(), known)

    async def _mark(self, vm_id: str) -> str:
        return await self._jobs.call(domains.mark_run, vm_id)  # which waits for jobs that go on

    async def _with_run(self, domain: Domain) -> Domain:
        """With its run, unless libvirt refuses the mark, or has not answered in time: it waits for the start's end."""
        with suppress(TimeoutError, HypervisorError):
            async with asyncio.timeout(MARK_SECONDS):
                return replace(domain, run=await self._mark(domain.id))
        return domain

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
