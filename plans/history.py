"""What has become of a run: how it started, and each event since. The record that is written down and told.

An event is a fact, with the moment at which it became one. The same events make the same history, so that a run that
is taken up again knows what it knew.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal

import structlog
from pydantic import AwareDatetime, Field

from plans.frozen import SELF, SETTLE, FrozenTier, Record, Target, scheduled
from plans.model import PlanSpec
from plans.schedule import ZERO, Schedule, behind, portion, share

SAVED = "SAVED"
"""The outcome of a VM whose memory is on disk."""

log = structlog.get_logger()


class Start(Record):
    """What a run has decided before it does anything. `ends` is the moment at which its budget is over; `ahead` is by
    how much each provider's clock was ahead of ours.

    `reason` is why, in a person's words; `trigger` is what began it, "" if a person did. An `emergency` takes over a
    run that is none. `left_out` is what it began without, in words; "": nothing. Where a controller carries it out,
    `namespace` is the plan's, and `resource` and `uid` are of the PowerRun that asked for it, if one did."""

    event: Literal["started"] = "started"
    run: str
    plan: str
    spec: PlanSpec
    tiers: tuple[FrozenTier, ...]
    at: AwareDatetime
    ends: AwareDatetime
    ahead: Mapping[str, timedelta] = {}
    trigger: str = ""
    left_out: str = ""
    reason: str = ""
    emergency: bool = False
    namespace: str = ""
    resource: str = ""
    uid: str = ""

    @property
    def called(self) -> str:
        """What people call the run."""
        return self.resource or self.run

    @property
    def why(self) -> str:
        """What providers are told, of at most 256 characters."""
        why = self.reason or self.trigger
        return (f"plan {self.plan}: {why}" if why else f"plan {self.plan}")[:256]

    @property
    def deadline(self) -> datetime:
        """The end of what the tiers share. What is left then is dealt with in the reserve, which takes SETTLE at least:
        also what is forced at the last moment is to be off in time."""
        return self.ends - self.reserve

    @property
    def reserve(self) -> timedelta:
        """The time from the tiers' deadline to the end."""
        return max(self.spec.budget.reserve, SETTLE)

    @cached_property
    def forecast(self) -> Schedule:
        """How the tiers share the time, by what is known at the start."""
        return share(scheduled(self.tiers), self.deadline - self.at)


class TierBegan(Record):
    """A tier's VMs are asked from now on, and have `gets` until the tier's time is over."""

    event: Literal["tier began"] = "tier began"
    tier: str
    at: AwareDatetime
    gets: timedelta


class VMEnded(Record):
    """What became of a VM. `outcome` is the verdict's or, without a verdict: GONE, REFUSED, NOT_ASKED, OUT_OF_TIME.
    `off`: it was verified to be off; `stopped`: this run has, or may have, brought it down."""

    event: Literal["vm ended"] = "vm ended"
    tier: str
    vm: str
    at: AwareDatetime
    outcome: str
    reason: str = ""
    operation: str = ""
    message: str = ""
    off: bool = False
    stopped: bool = False


class TierOver(Record):
    """All VMs of a tier have ended, or its time is over: those behind it may begin."""

    event: Literal["tier over"] = "tier over"
    tier: str
    at: AwareDatetime


class Aborted(Record):
    """No further tier begins: what has not asked its guest is cancelled, what has asked runs on."""

    event: Literal["aborted"] = "aborted"
    at: AwareDatetime


class Stopped(Record):
    """A VM of a tier with `atDeadline: Stop` is not off, and no further tier begins."""

    event: Literal["stopped"] = "stopped"
    tier: str
    at: AwareDatetime


class Shortened(Record):
    """Less time is left than was thought: the budget is over at `ends`. `why` is told to providers too."""

    event: Literal["shortened"] = "shortened"
    at: AwareDatetime
    ends: AwareDatetime
    why: str


class BroughtDown(Record):
    """Nothing more is brought down."""

    event: Literal["brought down"] = "brought down"
    at: AwareDatetime


class BringUpBegan(Record):
    """A run that is over was asked to start what it has stopped."""

    event: Literal["bring-up began"] = "bring-up began"
    at: AwareDatetime


class VMUp(Record):
    """A VM that this run had stopped was started. `ready`: it gave the signal that the plan waits for; `gone`: it is
    not there any more, and is not waited for."""

    event: Literal["vm up"] = "vm up"
    tier: str
    vm: str
    at: AwareDatetime
    ready: bool
    gone: bool = False
    operation: str = ""
    message: str = ""


class BringUpStopped(Record):
    """A VM of this tier was not ready in time, and its plan says that nothing more comes up then, until that is asked
    for again."""

    event: Literal["bring-up stopped"] = "bring-up stopped"
    tier: str
    at: AwareDatetime


class Closed(Record):
    """The run is over; `message` says why, where it did not come to its end."""

    event: Literal["closed"] = "closed"
    at: AwareDatetime
    message: str = ""


class TakenOver(Record):
    """Another run, an emergency, counts instead: this one does nothing any more, and holds what it has stopped."""

    event: Literal["taken over"] = "taken over"
    at: AwareDatetime
    by: str


class Inherited(Record):
    """An earlier run had stopped this VM, which is off, and has come up but for it: it comes up with this one."""

    event: Literal["inherited"] = "inherited"
    vm: str
    at: AwareDatetime


class Released(Record):
    """The VMs are their owners' again: those that are off too."""

    event: Literal["released"] = "released"
    at: AwareDatetime


Event = Annotated[
    TierBegan
    | VMEnded
    | TierOver
    | Aborted
    | Stopped
    | Shortened
    | BroughtDown
    | BringUpBegan
    | VMUp
    | BringUpStopped
    | Closed
    | TakenOver
    | Inherited
    | Released,
    Field(discriminator="event"),
]


class History:
    """A run as it stands."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self._tiers = {tier.name: tier for tier in start.tiers}
        self.events: list[Event] = []
        self.begun: dict[str, TierBegan] = {}
        self._left: dict[str, timedelta] = {}
        """What was left for all tiers when each of these began."""
        self.ended: dict[str, VMEnded] = {}
        """By the key of the VM."""
        self.inherited: dict[str, Inherited] = {}
        self.over: dict[str, TierOver] = {}
        self.up: dict[str, VMUp] = {}
        self.aborted: Aborted | None = None
        self.stopped: Stopped | None = None
        self.shortened: Shortened | None = None
        self.brought_down: BroughtDown | None = None
        self.bring_up_began: BringUpBegan | None = None
        self.bring_up_stopped: BringUpStopped | None = None
        self._bring_ups = 0
        self.closed: Closed | None = None
        self.taken_over: TakenOver | None = None
        self.released: Released | None = None
        self.listeners: list[Callable[[Event], None]] = []

    def note(self, event: Event) -> None:
        """Something has become a fact."""
        match event:
            case TierBegan():
                self.begun[event.tier] = event
                self._left[event.tier] = self.deadline - event.at
            case VMEnded():
                self.ended[event.vm] = event
            case TierOver():
                self.over[event.tier] = event
            case VMUp():
                self.up[event.vm] = event
            case BringUpBegan():
                self._note_bring_up(event)
            case BringUpStopped():
                self.bring_up_began, self.bring_up_stopped = None, event
            case TakenOver():
                self.bring_up_began, self.taken_over = None, event
            case Shortened():
                self.shortened = event
            case Inherited():
                self.inherited[event.vm] = event
            case _:
                self._note_stage(event)
        self.events.append(event)
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:  # who only looks on must not end the run
                log.exception("a bug in vmpower: a listener of a run failed")

    def _note_stage(self, event: Aborted | Stopped | BroughtDown | Closed | Released) -> None:
        match event:
            case Aborted():
                self.aborted = event
            case Stopped():
                self.stopped = event
            case BroughtDown():
                self.brought_down = event
            case Closed():
                self.closed = event
            case Released():
                self.released = event

    def _note_bring_up(self, event: BringUpBegan) -> None:
        """What was not ready before is started once more."""
        self.bring_up_began, self.bring_up_stopped, self.taken_over = event, None, None
        self._bring_ups += 1
        self.up = {vm: up for vm, up in self.up.items() if up.ready}

    @property
    def no_more_tiers(self) -> bool:
        """Whether no further tier may begin."""
        return self.aborted is not None or self.stopped is not None

    @property
    def ends(self) -> datetime:
        """When the budget is over, as far as is known by now."""
        return min(self.start.ends, self.shortened.ends) if self.shortened else self.start.ends

    @property
    def deadline(self) -> datetime:
        """The end of what the tiers share, as far as is known by now."""
        return self.ends - self.start.reserve

    def gets(self, tier: FrozenTier, began: datetime) -> timedelta:
        """How long a tier has that began then: what those behind it leave. Our own VM, and what could not begin before
        the tiers' time was over, has what is left in the reserve."""
        late = tier.name == SELF or began >= self.deadline
        left = (self.ends if late else self.deadline) - began
        return portion(tier.stage, left, ZERO if late else self._behind[tier.name])

    @cached_property
    def _behind(self) -> Mapping[str, timedelta]:
        return behind(scheduled(self.start.tiers))

    def is_off(self, target: Target) -> bool:
        """Whether a VM was verified to be off."""
        ended = self.ended.get(target.key)
        return ended is not None and ended.off

    def has_stopped(self, target: Target) -> bool:
        """Whether a VM comes up with this run, which has, or may have, brought it down, or has inherited it."""
        ended = self.ended.get(target.key)
        return target.key in self.inherited or (ended is not None and ended.stopped)

    def late(self, tier: FrozenTier) -> list[Target]:
        """The VMs of a tier that are not off. Those that were off before have no time, and are not waited for."""
        return [target for target in tier.targets if target.runs and not self.is_off(target)]

    def holds(self, target: Target) -> bool:
        """Whether nothing but this run may act upon a VM: until the run is over, and what is off then (or may be) until
        it was brought up or is released."""
        if self.released or target.key in self.up:
            return False
        return self.closed is None or self.is_off(target) or self.has_stopped(target)

    def over_by(self, tier: FrozenTier) -> datetime:
        """When the time of a tier that has begun is over: as it was given, or sooner if less is left since."""
        began = self.begun[tier.name]
        return began.at + (min(began.gets, self.gets(tier, began.at)) if self.shortened else began.gets)

    def saved_by(self, target: Target) -> str:
        """The operation by which this run has saved a VM's memory, until it is up again; empty: it has not."""
        ended = self.ended.get(target.key)
        saved = ended is not None and ended.stopped and ended.outcome == SAVED and target.key not in self.up
        return ended.operation if ended and saved else ""

    def force_after(self, tier: str, target: Target) -> datetime:
        """The moment until which a VM of a tier that has begun is promised time: its own, as far as the tier has it."""
        began, of = self.begun[tier], self._tiers[tier]
        return began.at + of.time(target, _gets(of, target, began.gets, self._left[tier]))

    def forced_by(self, tier: FrozenTier, target: Target) -> datetime:
        """The same as far as is known by now: sooner if less is left than was promised, and never later."""
        began = self.begun[tier.name].at
        return began + tier.time(target, _gets(tier, target, self.over_by(tier) - began, self.deadline - began))

    def request_id(self, tier: str, target: Target, step: str = "") -> str:
        """The same for the same step of a run, whoever takes it and however often: it is taken once. Names of any
        length make an id that the contract takes."""
        said = "\0".join((tier, target.key, step)).encode()
        return f"{self.start.run}/{hashlib.sha256(said).hexdigest()[:32]}"

    def up_request_id(self, tier: str, target: Target) -> str:
        """That of a VM's start, another one for each time that the run is asked to come up: the VM may have gone down
        since it was started."""
        return self.request_id(tier, target, "up" if self._bring_ups < 2 else f"up {self._bring_ups}")


def _gets(tier: FrozenTier, target: Target, gets: timedelta, left: timedelta) -> timedelta:
    """How long a VM has of what its tier gets. A tier whose VMs were all off at the start takes no time; one that has
    been started since has its own, as far as so much is left for all tiers."""
    return gets if tier.stage.need else max(gets, min(target.need, left))
