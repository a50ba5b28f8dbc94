"""What the UPSes of a site say, and how far a plan is to be carried out for it. Pure: no clock, no connection.

    power fails -> NAMED, some tiers -> ALL -> NO_RETURN

A stage is entered when what is still supplied is less than the site needs (`minimumSupplies`), as upsmon counts it.
Only power that is back, and stays, leads out again; nothing does from NO_RETURN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from common.durations import to_text
from plans.model import Below, Nut

ON_LINE, ON_BATTERY, LOW, FORCED, CALIBRATING = "OL", "OB", "LB", "FSD", "CAL"
"""The words of `ups.status` that count here (RFC 9271, section 5.1). All others are ignored."""
LEAST: Final = timedelta(seconds=30)
"""That a run has in any case: what a UPS says of its battery is an estimate, and some say 0 as soon as it is low."""


NOTHING_SAID: Final = Below(charge=1)
"""Where a plan has no `below`: an empty battery that does not say LB."""


class Stage(IntEnum):
    """How far a plan is to be carried out."""

    NONE = 0
    NAMED = 1
    """The tiers that `onBattery` names. It ends when the power is back."""
    ALL = 2
    """All tiers. It ends when the power is back."""
    NO_RETURN = 3
    """All tiers; the UPS is about to cut the power, also if the line is back meanwhile."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a UPS says: the words of its status, percent of charge, and how long its battery lasts."""

    words: frozenset[str]
    charge: float | None = None
    runtime: timedelta | None = None

    @property
    def on_battery(self) -> bool | None:
        """None: the status does not say. A battery that is being calibrated is used by intent, and not for long."""
        if ON_BATTERY in self.words or (LOW in self.words and ON_LINE not in self.words):
            return CALIBRATING not in self.words
        return False if ON_LINE in self.words else None

    @property
    def is_low(self) -> bool:
        """Low, and in use: upsmon's own condition."""
        return LOW in self.words and self.on_battery is True


@dataclass(frozen=True, slots=True)
class Supply:
    """What is known of one UPS. `reading` is the last that could be read, at `read`; `empty` and `charge` are the more
    hopeful of its last two on battery, as some say 0 while they switch over: when it is empty, and percent; None: there
    are no two that say so. `on_battery` and `lost` are since when; `forced`: it has said FSD, which stays, as the
    primary cuts its power whatever comes."""

    reading: Reading | None = None
    read: datetime | None = None
    empty: datetime | None = None
    charge: float | None = None
    on_battery: datetime | None = None
    lost: datetime | None = None
    forced: bool = False

    @property
    def on_line(self) -> bool:
        """It is known to be, now."""
        return self.lost is None and self.reading is not None and self.on_battery is None and not self.forced

    def runtime(self, now: datetime) -> timedelta | None:
        """How long its battery lasts from now; None: it is not in use, or does not say."""
        return None if self.empty is None else self.empty - now


@dataclass(frozen=True, slots=True)
class State:
    """A site: its UPSes by name, the stage that it is in and why, and since when the power has been back."""

    supplies: Mapping[str, Supply] = field(default_factory=dict)
    stage: Stage = Stage.NONE
    why: str = ""
    back: datetime | None = None


def step(nut: Nut, state: State, ups: str, reading: Reading | None, now: datetime) -> State:
    """The state after a UPS was read, or could not be (None)."""
    supplies = {**state.supplies, ups: _seen(state.supplies.get(ups, Supply()), reading, now)}
    stage, why = _reached(nut, supplies, now)
    back = (state.back or now) if _supplied(nut, supplies) else None
    if stage > state.stage:
        return State(supplies, stage, why, back)
    if state.stage < Stage.NO_RETURN and back is not None and now - back >= nut.back_on_line:
        return State(supplies, back=back)
    return replace(state, supplies=supplies, back=back)


def has_power(nut: Nut, state: State) -> bool | None:
    """Whether the site is known to have its power. None: it is not, and no UPS was on battery when heard last."""
    if state.stage is not Stage.NONE:
        return False
    if _supplied(nut, state.supplies):
        return True
    return False if any(supply.on_battery or supply.forced for supply in state.supplies.values()) else None


def ends(nut: Nut, state: State, now: datetime, total: timedelta) -> datetime:
    """When a run that begins now has to be over: after `total`, or when the site is left without supply, less the
    margin. LEAST is given in any case."""
    lasts = _lasts(nut, state, now)
    return now + (total if lasts is None else min(total, max(LEAST, lasts - nut.margin)))


def _seen(supply: Supply, reading: Reading | None, now: datetime) -> Supply:
    if reading is None or (reading.on_battery is None and FORCED not in reading.words):
        return replace(supply, lost=supply.lost or now)
    if reading.on_battery is None:
        since = supply.on_battery
    else:
        since = (supply.on_battery or now) if reading.on_battery else None
    empty, charge = _hopeful(supply, reading, now) if since and supply.on_battery else (None, None)
    return Supply(reading, now, empty, charge, since, None, supply.forced or FORCED in reading.words)


def _hopeful(supply: Supply, reading: Reading, now: datetime) -> tuple[datetime | None, float | None]:
    """When it is empty and its charge, by the last two readings."""
    before, at = supply.reading, supply.read
    if before is None or at is None:
        return None, None
    empty = charge = None
    if before.runtime is not None and reading.runtime is not None:
        empty = max(at + before.runtime, now + reading.runtime)
    if before.charge is not None and reading.charge is not None:
        charge = max(before.charge, reading.charge)
    return empty, charge


def _reached(nut: Nut, supplies: Mapping[str, Supply], now: datetime) -> tuple[Stage, str]:
    """The highest stage for which too little is still supplied, and the reasons of those UPSes that are in it."""
    each = {ups.name: _stage(nut, supplies.get(ups.name, Supply()), now) for ups in nut.ups if ups.power_value}
    for stage in reversed(Stage):
        left = sum(ups.power_value for ups in nut.ups if ups.power_value and each[ups.name][0] < stage)
        if stage and left < nut.minimum_supplies:
            return stage, "; ".join(f"{name} {why}" for name, (own, why) in each.items() if own >= stage)
    return Stage.NONE, ""


def _stage(nut: Nut, supply: Supply, now: datetime) -> tuple[Stage, str]:
    """How far one UPS alone would lead, and why."""
    if supply.forced:
        return Stage.NO_RETURN, "says FSD"
    if supply.on_battery is None or supply.reading is None:
        return Stage.NONE, ""
    if supply.reading.is_low:
        return Stage.NO_RETURN, "says LB"
    if too_little := _too_little(nut, supply, now):
        return Stage.ALL, too_little
    if nut.on_battery and now - supply.on_battery >= nut.on_battery.after:
        return Stage.NAMED, f"has been on battery for {to_text(nut.on_battery.after)}"
    return Stage.NONE, ""


def _too_little(nut: Nut, supply: Supply, now: datetime) -> str:
    """Why a battery that is in use cannot be relied on any more; "" if it can."""
    if supply.lost and now - supply.lost >= nut.lost_contact:
        return f"was on battery and has not been heard for {to_text(nut.lost_contact)}"
    least, runtime = nut.below or NOTHING_SAID, supply.runtime(now)
    if least.runtime is not None and runtime is not None and runtime < least.runtime:
        return f"lasts less than {to_text(least.runtime)}"
    if least.charge is not None and supply.charge is not None and supply.charge < least.charge:
        return f"has {supply.charge:g} % of its charge, less than {least.charge} %"
    return ""


def _supplied(nut: Nut, supplies: Mapping[str, Supply]) -> bool:
    """Whether enough is known to be on line."""
    on_line = (ups.power_value for ups in nut.ups if supplies.get(ups.name, Supply()).on_line)
    return sum(on_line) >= nut.minimum_supplies


def _lasts(nut: Nut, state: State, now: datetime) -> timedelta | None:
    """How long it is until too little is supplied, as the batteries in use run out one after the other; None: no UPS
    says so. One that cannot be relied on any more, and does not say how long it lasts, supplies nothing."""
    supplies = [(state.supplies.get(ups.name, Supply()), ups.power_value) for ups in nut.ups]
    told = [(supply.runtime(now), value) for supply, value in supplies if _may_last(nut, supply, now)]
    left = sum(value for _, value in told)
    in_turn = sorted((runtime, value) for runtime, value in told if runtime is not None)
    for runtime, value in in_turn:
        left -= value
        if left < nut.minimum_supplies:
            return runtime
    return None


def _may_last(nut: Nut, supply: Supply, now: datetime) -> bool:
    return supply.runtime(now) is not None or _stage(nut, supply, now)[0] < Stage.ALL
