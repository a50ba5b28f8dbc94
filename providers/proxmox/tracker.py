"""The state of all guests: rows of cluster/resources, corrected by what tasks and nodes have reported since."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from providers.core.adapter import VM, Change, Changed, Ended, Listed, PowerState, Removed
from providers.proxmox.guests import Guest, GuestDetails
from providers.proxmox.states import power_state, to_vm

STALE = 12.0
"""Seconds for which cluster/resources may show an old state: a node's pvestatd publishes every 10."""


@dataclass(frozen=True, slots=True)
class _Since:
    """The row of a guest at the time `at` (seconds, monotonic) when its node or a task reported another state."""

    row: Guest
    at: float

    def before(self, row: Guest, now: float) -> bool:
        """Whether the row shows a later run: its uptime is too short for the run that was known."""
        return row.status == self.row.status and row.uptime <= now - self.at and self.row.uptime >= STALE


class Tracker:
    """Applies updates; each returns what it changes. Times are of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.guests: dict[str, Guest] = {}
        self.may_press = False
        """Whether power buttons may be pressed outside of Proxmox VE's tasks."""
        self._details: dict[str, GuestDetails] = {}
        self._reported: dict[str, VM] = {}
        self._since: dict[str, _Since] = {}

    def details(self, vm_id: str) -> GuestDetails:
        """A guest's details; empty ones if none are known."""
        return self._details.get(vm_id, GuestDetails())

    def vm(self, vm_id: str) -> VM | None:
        guest = self.guests.get(vm_id)
        return self._vm(guest) if guest else None

    def _vm(self, guest: Guest) -> VM:
        return to_vm(guest, self.details(guest.id), may_press=self.may_press)

    def listed(self) -> Listed:
        self._reported = {vm_id: self._vm(guest) for vm_id, guest in self.guests.items()}
        return Listed(tuple(self._reported.values()))

    def current(self, rows: Iterable[Guest], now: float) -> list[Guest]:
        """The rows; those that are out of date are corrected."""
        return [self._current(row, now) for row in rows]

    def apply(self, guests: Iterable[Guest], endings: Mapping[str, Ended]) -> list[Change]:
        """Apply all rows, and how guests ended that have gone off; a guest without a row is removed."""
        fresh = {guest.id: guest for guest in guests}
        gone = self.guests.keys() - fresh.keys()
        for vm_id in gone:
            for known in (self._details, self._reported, self._since):
                known.pop(vm_id, None)
        self.guests = fresh
        for vm_id, ending in endings.items():
            self._end(vm_id, ending)
        return [Removed(vm_id) for vm_id in gone] + [change for vm_id in fresh for change in self._changes(vm_id)]

    def went_off(self, guests: Iterable[Guest]) -> Sequence[Guest]:
        """Guests that are off and were not by the last state."""
        return [guest for guest in guests if _off(guest) and not _off(self.guests.get(guest.id))]

    def learn(self, vm_id: str, now: float, ending: Ended | None = None, **row: Any) -> list[Change]:
        """Apply a state (`status`, `lock`) that is newer than the row, and how the guest ended if it has gone off."""
        guest = self.guests.get(vm_id)
        if guest is None:
            return []
        self.guests[vm_id] = replace(guest, **row)
        if self.guests[vm_id].status != guest.status:
            # one that was paused has run for longer, as the next row shows
            self.guests[vm_id] = replace(self.guests[vm_id], uptime=0)
            self._since[vm_id] = _Since(guest, now)
            if ending:
                self._end(vm_id, ending)
        return self._changes(vm_id)

    def update_details(self, vm_id: str, **what: Any) -> list[Change]:
        self._details[vm_id] = replace(self.details(vm_id), **what)
        return self._changes(vm_id)

    def _current(self, row: Guest, now: float) -> Guest:
        """The row, corrected as long as it may still be the one before the last `learn`."""
        known, since = self.guests.get(row.id), self._since.get(row.id)
        if known and power_state(row) is PowerState.UNKNOWN:  # then Proxmox VE has forgotten its name, too
            return replace(row, name=known.name, template=known.template, uptime=known.uptime)
        if known is None or since is None:
            return row
        if now - since.at < STALE and row.status in (known.status, since.row.status) and not since.before(row, now):
            return replace(row, status=known.status, uptime=known.uptime)
        del self._since[row.id]
        return row

    def _changes(self, vm_id: str) -> list[Change]:
        guest = self.guests.get(vm_id)
        if guest is None:
            return []
        if power_state(guest) not in (PowerState.OFF, PowerState.UNKNOWN):
            self._details[vm_id] = replace(self.details(vm_id), ended=None)
        vm = self._vm(guest)
        if vm == self._reported.get(vm_id):
            return []
        self._reported[vm_id] = vm
        return [Changed(vm)]

    def _end(self, vm_id: str, ending: Ended) -> None:
        self._details[vm_id] = replace(self.details(vm_id), ended=ending)


def _off(guest: Guest | None) -> bool:
    return guest is not None and power_state(guest) is PowerState.OFF
