"""The state of all guests: rows of cluster/resources, corrected by what tasks and nodes have reported since."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from providers.core.adapter import VM, Change, Changed, Ended, Listed, PowerState, Removed
from providers.proxmox.guests import Guest, GuestDetails
from providers.proxmox.states import STATES, power_state, to_vm

LOST = "unknown"
"""The status of a guest of which Proxmox VE does not tell how it is."""
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


@dataclass(frozen=True, slots=True)
class Move:
    """A guest that ran on this node, as `run`, and runs on another now: in the same run, if it was migrated there."""

    node: str
    run: str


class Tracker:
    """Applies updates; each returns what it changes. Times are of a monotonic clock, in seconds.

    A row that may be older than what a node or a task has told since is corrected, and so not told, for `STALE`.
    """

    def __init__(self) -> None:
        self.guests: dict[str, Guest] = {}
        self.may_press = False
        """Whether power buttons may be pressed outside of Proxmox VE's tasks."""
        self._details: dict[str, GuestDetails] = {}
        self._reported: dict[str, VM] = {}
        self._since: dict[str, _Since] = {}
        self.moves: dict[str, Move] = {}
        """Guests that have moved since their runs were last identified."""
        self._same_runs: dict[str, dict[str, str]] = {}
        """By guest, what its processes are called that go on with an earlier one's run."""

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
        before, self.guests = self.guests, fresh
        removed = [change for vm_id in before.keys() - fresh.keys() for change in self.remove(vm_id)]
        for vm_id, guest in fresh.items():
            if known := before.get(vm_id):
                self._follow_run(known, guest)
        for vm_id, ending in endings.items():
            self._end(vm_id, ending)
        return removed + [change for vm_id in fresh for change in self._changes(vm_id)]

    def remove(self, vm_id: str) -> list[Change]:
        """Forget a guest that is not here any more."""
        for known in (self.guests, self._details, self._reported, self._since, self.moves, self._same_runs):
            known.pop(vm_id, None)
        return [Removed(vm_id)]

    def lose(self, vm_id: str) -> list[Change]:
        """Note that it is not known how a guest is, until something tells."""
        if guest := self.guests.get(vm_id):
            self.guests[vm_id] = replace(guest, status=LOST)
        return self._changes(vm_id)

    def went_off(self, guests: Iterable[Guest]) -> Sequence[Guest]:
        """Guests that are off and were not by the last state."""
        return [guest for guest in guests if _off(guest) and not _off(self.guests.get(guest.id))]

    def learn(self, vm_id: str, now: float, ending: Ended | None = None, **row: Any) -> list[Change]:
        """Apply a state (`status`, `lock`) that is newer than the row, and how the guest ended if it has gone off."""
        guest = self.guests.get(vm_id)
        if guest is None:
            return []
        self.guests[vm_id] = replace(guest, **row)
        self._follow_run(guest, self.guests[vm_id])
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

    # Runs

    def unidentified(self) -> Sequence[Guest]:
        """Guests that run, and it was not asked yet as what."""
        running = [guest for guest in self.guests.values() if runs(guest)]
        return [guest for guest in running if self._run(guest.id) is None or guest.id in self.moves]

    def identify(self, vm_id: str, pid: int | None, *, migrated: bool = False) -> list[Change]:
        """Note by which process a guest runs; None: its node does not tell. `migrated`: its run began elsewhere."""
        guest = self.guests.get(vm_id)
        if guest is None or not runs(guest):
            return []
        process = f"{guest.node}/{pid}" if pid else ""
        move, same = self.moves.pop(vm_id, None), self._same_runs.setdefault(vm_id, {})
        if move and migrated and process:
            same[process] = move.run
        return self.update_details(vm_id, run=same.get(process, process))

    def _run(self, vm_id: str) -> str | None:
        return self.details(vm_id).run

    def _follow_run(self, before: Guest, now: Guest) -> None:
        """A run ends when its guest is off, and another has begun when its process is younger than before."""
        run, moved = self._run(now.id), now.node != before.node
        if power_state(now) is PowerState.UNKNOWN or run is None:
            return
        if runs(now) and moved and run:
            self.moves.setdefault(now.id, Move(before.node, run))
        elif not runs(now) or moved or now.uptime < before.uptime:
            for known in (self.moves, self._same_runs):
                known.pop(now.id, None)
            self._details[now.id] = replace(self.details(now.id), run=None)

    # Inside

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


def runs(guest: Guest) -> bool:
    """Whether it has a process: a guest that is paused has one, one that is hibernated has none."""
    return STATES[guest.kind].get(guest.status, PowerState.UNKNOWN) not in (PowerState.OFF, PowerState.UNKNOWN)
