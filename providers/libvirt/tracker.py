"""The state of all domains, kept from libvirt's events: an event becomes changes, or marks a VM to be read again.

Nothing here calls libvirt. Going off needs no call: the event carries the cause. What libvirt sends no event for is
found by comparing with all domains, read at once, now and then.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import libvirt

from providers.core.adapter import VM, Change, Changed, Listed, Removed, Signal
from providers.core.errors import UnknownNativeState
from providers.libvirt.states import COMING, CRASHES, MOVED, NOTHING, STOP_REASONS, Agent, Domain, Heard, to_vm


class Tracker:
    """All domains of one connection, after all events so far. `elsewhere`: the ids of those that were migrated from
    here, or whose migration to here had begun, as was heard before: libvirtd forgets that when it is restarted.

    Events and reads have connections of their own, and events bear no time: one may come after a read that shows what
    followed it. It is told all the same, in its order, and what followed it is told next.
    """

    def __init__(self, elsewhere: Iterable[str] = ()) -> None:
        self._domains: dict[str, Domain] = {}
        self._heard = {vm_id: Heard(elsewhere=True) for vm_id in elsewhere}
        self._held: dict[str, set[Signal]] = {}
        """The signals that a VM refused because something held it, or would refuse."""
        self._stale: dict[str, int] = {}
        self._reading: dict[str, int] = {}
        self._count = itertools.count(1)
        self._touched = set[str]()
        """What events have told of since the last refresh began."""
        self._overdue = set[str]()
        """What was found to run here no longer, with no event yet that says how it ended."""
        self._unmarked = set[str]()
        self._marked = set[str]()
        """The VMs whose present run was given a mark, or will not take one."""
        self._ends = defaultdict[str, asyncio.Event](asyncio.Event)

    def vm(self, domain: Domain) -> VM:
        """A domain that was just read, completed by what only events report."""
        heard = self._heard.get(domain.id, NOTHING)
        return to_vm(domain, replace(heard, agent_busy=Signal.GUEST_AGENT in self._held.get(domain.id, ())))

    def elsewhere(self, vm_id: str) -> str:
        """Why nothing is to be done to it here: it was migrated from here, or is coming; empty: it is here."""
        if not self._heard.get(vm_id, NOTHING).elsewhere:
            return ""
        known = self._domains.get(vm_id)
        return COMING if known and known.runs else MOVED

    def left(self, vm_id: str) -> bool:
        """Whether its guest was heard to shut down by itself in its present run, or in its last one."""
        return bool(self._heard.get(vm_id, NOTHING).shutdown == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST)

    async def ended(self, vm_id: str) -> None:
        """Wait for the STOPPED event of a domain that was just found off: it has the cause. No event is to come if the
        domain was not known to run."""
        if (known := self._domains.get(vm_id)) and known.runs:
            await self._ends[vm_id].wait()

    def listed(self, domains: Iterable[Domain]) -> Listed:
        """Begin with all domains."""
        for domain in domains:
            self._note(domain)
        return Listed(tuple(self.vm(domain) for domain in self._domains.values()))

    # Events

    def lifecycle(self, vm_id: str, event: int, detail: int) -> list[Change]:
        """A VIR_DOMAIN_EVENT_ID_LIFECYCLE event.

        Raises:
            UnknownNativeState
        """
        known = self._domains.get(vm_id)
        match event:
            case libvirt.VIR_DOMAIN_EVENT_SHUTDOWN:
                self._hear(vm_id, shutdown=detail)
                return []
            case libvirt.VIR_DOMAIN_EVENT_STOPPED if known:
                return self._stopped(known, detail)
            case libvirt.VIR_DOMAIN_EVENT_UNDEFINED if known:
                return self._undefined(known, detail)
            case libvirt.VIR_DOMAIN_EVENT_STARTED if detail != libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP:
                self._begin_run(vm_id, incoming=detail == libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED)
            case libvirt.VIR_DOMAIN_EVENT_RESUMED:
                self._hear(vm_id, shutdown=None)  # a guest that had shut down and is reset, for it was to reboot
            case libvirt.VIR_DOMAIN_EVENT_CRASHED:
                self._hear(vm_id, panic=True)
        return self._reread(vm_id)

    def agent(self, vm_id: str, connected: bool) -> list[Change]:
        """A VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE event."""
        if connected:
            self._hear(vm_id, agent=True)
        if self._pending(vm_id):
            return self._reread(vm_id)
        known = self._domains.get(vm_id)
        if known is None or not known.runs:
            return []  # its STARTED event is still to come, and it is read then
        return self._changed(replace(known, agent=Agent.CONNECTED if connected else Agent.DISCONNECTED))

    def job(self, vm_id: str, ended: bool) -> list[Change]:
        """A job on it goes on, or has ended, as events tell of migrations and what works like them."""
        if self.may_have_job(vm_id) == ended:
            self.hold(vm_id, Signal.ACPI)
        return []

    # Reading one

    def hold(self, vm_id: str, signal: Signal) -> None:
        """Something holds the VM, so that it refuses this signal; until a reading shows that nothing does any more."""
        self._held.setdefault(vm_id, set()).add(signal)
        self._reread(vm_id)

    def may_have_job(self, vm_id: str) -> bool:
        """Whether it is to be asked what job it has."""
        return Signal.ACPI in self._held.get(vm_id, ())

    def recheck(self) -> list[Change]:
        """Look at the VMs that are held, for libvirt tells of no job that fails or is cancelled, and of no agent's; and
        at those that were found ended: it tells of no end that it finds when it starts again."""
        held, changes = self._held, list[Change]()
        self._held = {vm_id: {Signal.ACPI} for vm_id, signals in held.items() if Signal.ACPI in signals}
        for vm_id in held:
            if vm_id in self._held and not self._pending(vm_id):
                self._reread(vm_id)
            elif (known := self._domains.get(vm_id)) and Signal.GUEST_AGENT in held[vm_id]:
                changes += self._changed(known)
        for vm_id in self._overdue:
            if not self._pending(vm_id):
                self._reread(vm_id)
        return changes

    def take_stale(self) -> dict[str, int]:
        """The VMs to be read now, each with the number to pass to `read` with the answer."""
        stale, self._stale = self._stale, {}
        self._reading |= stale
        return stale

    def read(self, vm_id: str, number: int, domain: Domain | None) -> list[Change]:
        """The answer for a VM of `take_stale`; None: it does not exist. Ignored if an event came after the request.

        That it no longer runs here is believed the second time: the event that tells how it ended may be on its way.
        """
        if self._reading.get(vm_id) != number:
            return []
        del self._reading[vm_id]
        known = self._domains.get(vm_id)
        if known and known.runs and not (domain and domain.runs) and vm_id not in self._overdue:
            self._overdue.add(vm_id)
            return []
        if domain is None:
            return self._removed(vm_id)
        if not domain.job:
            self._held.get(vm_id, set()).discard(Signal.ACPI)
        return self._changed(domain)

    # Marks

    def take_unmarked(self) -> set[str]:
        """The VMs to be marked now."""
        unmarked, self._unmarked = self._unmarked, set()
        self._marked |= unmarked
        return unmarked

    def marked(self, vm_id: str, run: str) -> list[Change]:
        """It has got its mark, and its run is this; empty: something held it, and it is tried when it is next read."""
        known, marking = self._domains.get(vm_id), vm_id in self._marked
        if not run:
            self._marked.discard(vm_id)
        if self._pending(vm_id):
            return self._reread(vm_id)
        return self._changed(replace(known, run=run)) if run and marking and known and known.runs else []

    # Reading all

    def begin_refresh(self) -> Mapping[str, Domain]:
        """The domains as they are known, to be passed to what reads them all; then comes `refreshed`."""
        self._touched = set()
        return dict(self._domains)

    def refreshed(self, domains: Iterable[Domain]) -> list[Change]:
        """All domains, read since `begin_refresh`; what events told meanwhile is newer.

        What no longer runs here is believed the second time, as where one is read.
        """
        found = {domain.id: domain for domain in domains}
        running = {domain.id for domain in found.values() if domain.runs}
        gone = self._domains.keys() - found.keys()
        ended = {known.id for known in self._domains.values() if known.runs} - running
        early = ended - self._overdue
        self._overdue |= early - self._touched
        changes = list[Change]()
        for vm_id in (gone | found.keys()) - self._touched - early:
            if self._pending(vm_id):
                continue
            known, domain = self._domains.get(vm_id), found.get(vm_id)
            if domain is None:
                changes += self._removed(vm_id)
            elif known is None or (domain := replace(domain, addresses=known.addresses, job=known.job)) != known:
                changes += self._changed(domain)
            elif domain.runs and not domain.run:
                self._note(domain)
        return changes

    # Inside

    def _begin_run(self, vm_id: str, incoming: bool) -> None:
        self._heard[vm_id] = Heard(elsewhere=incoming or self.elsewhere(vm_id) != "")
        self._marked.discard(vm_id)

    def _stopped(self, known: Domain, detail: int) -> list[Change]:
        if detail not in STOP_REASONS:
            message = f"libvirt reports {known.name} stopped with detail {detail}; vmpower's makers must add it."
            raise UnknownNativeState(message)
        self._hear(known.id, crash=detail in CRASHES)
        agent = known.agent if known.agent is Agent.ABSENT else Agent.DISCONNECTED
        off = replace(
            known,
            state=libvirt.VIR_DOMAIN_SHUTOFF,
            reason=STOP_REASONS[detail],
            agent=agent,
            run="",
            job="",
            copying=(),
        )
        if detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED and known.persistent:
            self._note(off)
            return self._reread(known.id)  # the event is the same for a managed save and a save to a file
        changes = self._changed(off)
        return changes if known.persistent else [*changes, *self._removed(known.id)]

    def _undefined(self, known: Domain, detail: int) -> list[Change]:
        if detail == libvirt.VIR_DOMAIN_EVENT_UNDEFINED_RENAMED:
            return []  # DEFINED follows, with the new name
        if self._pending(known.id):
            return self._reread(known.id)
        return self._changed(replace(known, persistent=False)) if known.runs else self._removed(known.id)

    def _hear(self, vm_id: str, **changes: object) -> None:
        self._heard[vm_id] = replace(self._heard.get(vm_id, NOTHING), **changes)  # type: ignore[arg-type]

    def _note(self, domain: Domain) -> None:
        """It is so."""
        self._domains[domain.id] = domain
        self._overdue.discard(domain.id)
        if domain.agent is Agent.CONNECTED:
            self._hear(domain.id, agent=True)
        if domain.moved:
            self._hear(domain.id, elsewhere=True)
        elif domain.is_here:
            self._hear(domain.id, elsewhere=False)
        if domain.unmarked and domain.id not in self._marked:
            self._unmarked.add(domain.id)
        if not domain.runs:
            self._held.pop(domain.id, None)
            self._tell_end(domain.id)

    def _changed(self, domain: Domain) -> list[Change]:
        self._overtake(domain.id)
        self._note(domain)
        return [Changed(self.vm(domain))]

    def _removed(self, vm_id: str) -> list[Change]:
        self._overtake(vm_id)
        for known in (self._domains, self._heard, self._held):
            known.pop(vm_id, None)
        self._marked.discard(vm_id)
        self._overdue.discard(vm_id)
        self._tell_end(vm_id)
        return [Removed(vm_id)]

    def _tell_end(self, vm_id: str) -> None:
        if end := self._ends.pop(vm_id, None):
            end.set()

    def _reread(self, vm_id: str) -> list[Change]:
        self._overtake(vm_id)
        self._stale[vm_id] = next(self._count)
        return []

    def _pending(self, vm_id: str) -> bool:
        return vm_id in self._stale or vm_id in self._reading

    def _overtake(self, vm_id: str) -> None:
        self._touched.add(vm_id)
        self._stale.pop(vm_id, None)
        self._reading.pop(vm_id, None)
