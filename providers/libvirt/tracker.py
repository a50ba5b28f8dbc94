"""The state of all domains, kept from libvirt's events: an event becomes changes, or marks a VM to be read again.

Nothing here calls libvirt. Going off needs no call: the event carries the cause.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import libvirt

from providers.core.adapter import VM, Change, Changed, Listed, PowerState, Removed
from providers.core.errors import UnknownNativeState
from providers.libvirt.states import NATIVE_STATES, STOP_REASONS, Agent, Domain, to_vm


class Tracker:
    """All domains of one connection, after all events so far."""

    def __init__(self) -> None:
        self._domains: dict[str, Domain] = {}
        self._asked_by_host: set[str] = set()
        self._stale: dict[str, int] = {}
        self._reading: dict[str, int] = {}
        self._count = itertools.count(1)

    def vm(self, domain: Domain) -> VM:
        """A domain that was just read, completed by what only events report."""
        return to_vm(domain, domain.id in self._asked_by_host)

    def listed(self, domains: Iterable[Domain]) -> Listed:
        """Begin with all domains."""
        self._domains = {domain.id: domain for domain in domains}
        return Listed(tuple(self.vm(domain) for domain in self._domains.values()))

    def lifecycle(self, vm_id: str, event: int, detail: int) -> list[Change]:
        """A VIR_DOMAIN_EVENT_ID_LIFECYCLE event.

        Raises:
            UnknownNativeState
        """
        known = self._domains.get(vm_id)
        match event:
            case libvirt.VIR_DOMAIN_EVENT_SHUTDOWN:
                return self._going_down(vm_id, detail)
            case libvirt.VIR_DOMAIN_EVENT_STOPPED if known:
                return self._stopped(known, detail)
            case libvirt.VIR_DOMAIN_EVENT_UNDEFINED if known:
                return self._undefined(known, detail)
            case libvirt.VIR_DOMAIN_EVENT_STARTED:
                self._asked_by_host.discard(vm_id)
        return self._reread(vm_id)

    def agent(self, vm_id: str, connected: bool) -> list[Change]:
        """A VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE event."""
        if self._pending(vm_id):
            return self._reread(vm_id)
        known = self._domains.get(vm_id)
        if known is None or not _runs(known):
            return []  # its STARTED event is still to come, and it is read then
        return self._changed(replace(known, agent=Agent.CONNECTED if connected else Agent.DISCONNECTED))

    def take_stale(self) -> dict[str, int]:
        """The VMs to be read now, each with the number to pass to `read` with the answer."""
        stale, self._stale = self._stale, {}
        self._reading |= stale
        return stale

    def read(self, vm_id: str, number: int, domain: Domain | None) -> list[Change]:
        """The answer for a VM of `take_stale`; None: it does not exist. Ignored if an event came after the request."""
        if self._reading.get(vm_id) != number:
            return []
        del self._reading[vm_id]
        if domain is not None:
            return self._changed(domain)
        known = self._domains.get(vm_id)
        # A running domain that vanished: its STOPPED event, which has the cause, is still to come.
        return [] if known is not None and _runs(known) else self._removed(vm_id)

    def _going_down(self, vm_id: str, detail: int) -> list[Change]:
        if detail == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST:
            self._asked_by_host.add(vm_id)
        else:
            self._asked_by_host.discard(vm_id)
        return []

    def _stopped(self, known: Domain, detail: int) -> list[Change]:
        if detail not in STOP_REASONS:
            message = f"libvirt reports {known.name} stopped with detail {detail}; vmpower's makers must add it."
            raise UnknownNativeState(message)
        agent = known.agent if known.agent is Agent.ABSENT else Agent.DISCONNECTED
        reason = STOP_REASONS[detail]
        off = replace(known, state=libvirt.VIR_DOMAIN_SHUTOFF, reason=reason, agent=agent)
        if detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED and known.persistent:
            self._domains[known.id] = off
            return self._reread(known.id)  # the event is the same for a managed save and a save to a file
        changes = self._changed(off)
        return changes if known.persistent else [*changes, *self._removed(known.id)]

    def _undefined(self, known: Domain, detail: int) -> list[Change]:
        if detail == libvirt.VIR_DOMAIN_EVENT_UNDEFINED_RENAMED:
            return []  # DEFINED follows, with the new name
        if self._pending(known.id):
            return self._reread(known.id)
        return self._changed(replace(known, persistent=False)) if _runs(known) else self._removed(known.id)

    def _changed(self, domain: Domain) -> list[Change]:
        self._overtake(domain.id)
        self._domains[domain.id] = domain
        return [Changed(self.vm(domain))]

    def _removed(self, vm_id: str) -> list[Change]:
        self._overtake(vm_id)
        self._domains.pop(vm_id, None)
        self._asked_by_host.discard(vm_id)
        return [Removed(vm_id)]

    def _reread(self, vm_id: str) -> list[Change]:
        self._overtake(vm_id)
        self._stale[vm_id] = next(self._count)
        return []

    def _pending(self, vm_id: str) -> bool:
        return vm_id in self._stale or vm_id in self._reading

    def _overtake(self, vm_id: str) -> None:
        self._stale.pop(vm_id, None)
        self._reading.pop(vm_id, None)


def _runs(domain: Domain) -> bool:
    return NATIVE_STATES.get(domain.state) is not PowerState.OFF
