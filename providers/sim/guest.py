"""One guest: what it is at any moment follows from what was done to it and the time, and from nothing else.

A guest whose power button is pressed at t records that it will be off at t + shutdown_time, and is off to every
reader after that. So it lives on while no provider runs. All moments are seconds since 1970; all functions here and
in `transitions.py` are pure.
"""

from dataclasses import dataclass, field

from providers.core.adapter import OffCause, PowerState, Signal
from providers.sim.script import GuestScript


@dataclass(frozen=True, slots=True)
class Line:
    """A line on the guest's console; one with a moment to come is not printed yet."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Process:
    """A program that was started in the guest; it ends, or would end, at `exit_at`."""

    pid: int
    command: tuple[str, ...]
    started_at: float
    exit_at: float
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was taken."""

    name: str
    description: str
    include_memory: bool
    taken_at: float


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest as the world keeps it.

    `powered_at`: when its power came on; a guest that restarts by itself keeps it. `started_at`, `ready_at`,
    `agent_at`: when its system last began or begins to boot, is up, its agent answers. `off_at`: when that ended or
    will end; None: nothing will end it. `held`: PAUSED or SUSPENDED since `held_at`, a time that does not count for it.
    `saved_at`: when its memory was, or will be, saved for good; until then it is paused.
    `calls` counts the calls made.
    """

    id: str
    name: str
    script: GuestScript
    started_at: float
    ready_at: float
    agent_at: float
    off_at: float | None = None
    off_cause: OffCause | None = None
    held: PowerState | None = None
    held_at: float = 0.0
    saved_at: float | None = None
    console: tuple[Line, ...] = ()
    processes: tuple[Process, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    calls: dict[str, int] = field(default_factory=dict)
    powered_at: float | None = None


def power_state(guest: Guest, now: float) -> PowerState:
    if is_being_saved(guest, now):
        return PowerState.PAUSED
    if guest.held is not None:
        return guest.held
    return PowerState.OFF if guest.off_at is not None and guest.off_at <= now else PowerState.ON


def is_being_saved(guest: Guest, now: float) -> bool:
    return guest.held is not None and guest.saved_at is not None and guest.saved_at > now


def signals(guest: Guest, now: float) -> tuple[Signal, ...]:
    """The signals that a hypervisor would offer for it at this moment, best first."""
    script = guest.script
    if power_state(guest, now) is not PowerState.ON or script.locked or script.question:
        return ()
    agent = script.agent not in {"none", "down"} and guest.agent_at <= now
    acpi = script.acpi != "none"
    return (Signal.GUEST_AGENT,) * agent + (Signal.ACPI,) * acpi


def next_change(guest: Guest, now: float) -> float | None:
    """The next moment at which a hypervisor will see a difference, if all goes on as it is."""
    moments = (guest.agent_at, guest.off_at) if guest.held is None else (guest.saved_at,)
    return min((at for at in moments if at is not None and at > now), default=None)


def printed(guest: Guest, now: float) -> list[str]:
    """Its console up to this moment; a held guest prints nothing."""
    until = now if guest.held is None else guest.held_at
    return [line.text for line in guest.console if line.at <= until]
