"""All guests as they are known now: rows of cluster/resources, and what was learned elsewhere since."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from providers.core.adapter import VM, Change, Changed, Listed, PowerState, Removed
from providers.proxmox.guests import Guest, Noticed
from providers.proxmox.history import Ending
from providers.proxmox.states import power_state, to_vm

STALE = 12.0
"""Seconds for which cluster/resources may still show what was before: a node's pvestatd tells the others every 10."""


@dataclass(frozen=True, slots=True)
class _Since:
    """A guest's row when its node itself told otherwise, and when that was."""

    row: Guest
    at: float

    def before(self, row: Guest, now: float) -> bool:
        """Whether the row shows a run that began later: too young for the one that was known, which lasted longer."""
        return row.status == self.row.status and row.uptime <= now - self.at and self.row.uptime >= STALE


class Picture:
    """Takes in what comes, and says what has changed by it. Times are those of a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.guests: dict[str, Guest] = {}
        self.presses = False
        """Whether we may press power buttons by ourselves."""
        self._noticed: dict[str, Noticed] = {}
        self._told: dict[str, VM] = {}
        self._since: dict[str, _Since] = {}

    def noticed(self, vm_id: str) -> Noticed:
        """What is known of a guest beside its row."""
        return self._noticed.get(vm_id, Noticed())

    def vm(self, vm_id: str) -> VM | None:
        """The VM, or None if there is none."""
        guest = self.guests.get(vm_id)
        return self._vm(guest) if guest else None

    def _vm(self, guest: Guest) -> VM:
        return to_vm(guest, self.noticed(guest.id), presses=self.presses)

    def listed(self) -> Listed:
        """All of it."""
        self._told = {vm_id: self._vm(guest) for vm_id, guest in self.guests.items()}
        return Listed(tuple(self._told.values()))

    def current(self, rows: Iterable[Guest], now: float) -> list[Guest]:
        """The rows, with what is known better in those that are out of date."""
        return [self._current(row, now) for row in rows]

    def apply(self, guests: Iterable[Guest], endings: Mapping[str, Ending]) -> list[Change]:
        """Everything there is, and how those ended that have gone off; what is not among it is gone."""
        fresh = {guest.id: guest for guest in guests}
        gone = self.guests.keys() - fresh.keys()
        for vm_id in gone:
            self._forget(vm_id)
        self.guests = fresh
        for vm_id, ending in endings.items():
            self._end(vm_id, ending)
        return [Removed(vm_id) for vm_id in gone] + [news for vm_id in fresh for news in self._news(vm_id)]

    def went_off(self, guests: Iterable[Guest]) -> Sequence[Guest]:
        """Those that are off now and were not, as far as was known."""
        return [guest for guest in guests if _off(guest) and not _off(self.guests.get(guest.id))]

    def learn(self, vm_id: str, now: float, ending: Ending | None = None, **row: Any) -> list[Change]:
        """Its node has told this of it (`status`, `lock`); and how it ended, if it has gone off by that."""
        guest = self.guests.get(vm_id)
        if guest is None:
            return []
        self.guests[vm_id] = replace(guest, **row)
        if self.guests[vm_id].status != guest.status:
            self.guests[vm_id] = replace(self.guests[vm_id], uptime=0)  # unless it was paused: then soon told
            self._since[vm_id] = _Since(guest, now)
            if ending:
                self._end(vm_id, ending)
        return self._news(vm_id)

    def notice(self, vm_id: str, **what: Any) -> list[Change]:
        """This was noticed of it."""
        self._noticed[vm_id] = replace(self.noticed(vm_id), **what)
        return self._news(vm_id)

    def _current(self, row: Guest, now: float) -> Guest:
        """The row, unless it is an old one: as long as it shows what it did before its node told otherwise."""
        known, since = self.guests.get(row.id), self._since.get(row.id)
        if known and power_state(row) is PowerState.UNKNOWN:  # then Proxmox VE has forgotten its name, too
            return replace(row, name=known.name, template=known.template, uptime=known.uptime)
        if known is None or since is None:
            return row
        if now - since.at < STALE and row.status in (known.status, since.row.status) and not since.before(row, now):
            return replace(row, status=known.status, uptime=known.uptime)
        del self._since[row.id]
        return row

    def _news(self, vm_id: str) -> list[Change]:
        guest = self.guests.get(vm_id)
        if guest is None:
            return []
        if power_state(guest) not in (PowerState.OFF, PowerState.UNKNOWN):
            self._noticed[vm_id] = replace(self.noticed(vm_id), cause=None, forced=None, off_after=None)
        vm = self._vm(guest)
        if vm == self._told.get(vm_id):
            return []
        self._told[vm_id] = vm
        return [Changed(vm)]

    def _end(self, vm_id: str, ending: Ending) -> None:
        self._noticed[vm_id] = replace(
            self.noticed(vm_id), cause=ending.cause, forced=ending.forced, off_after=ending.off_after
        )

    def _forget(self, vm_id: str) -> None:
        for known in (self._noticed, self._told, self._since):
            known.pop(vm_id, None)


def _off(guest: Guest | None) -> bool:
    return guest is not None and power_state(guest) is PowerState.OFF
