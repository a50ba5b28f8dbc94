"""The status of a PowerRun, which is its record for people and programs, computed from the run's history. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from common.durations import to_text
from controller.fields import Model, Sentence
from controller.status_models import Condition
from plans.frozen import FrozenTier, Target
from plans.history import History
from plans.members import Violation

Phase = Literal["Pending", "Refused", "Running", "Aborting", "Held", "BringingUp", "Released", "Lost"]
ENDED: frozenset[Phase] = frozenset({"Refused", "Released", "Lost"})
"""Nothing happens any more."""


class Refusal(Model):
    """What is wrong, and the field of the plan or the run that it is in."""

    field: str
    message: Sentence


class RunVM(Model):
    """A VM of a tier. `outcome` is its verdict's or, without a verdict, GONE, REFUSED, NOT_ASKED or OUT_OF_TIME; `up`:
    it was started again, and was ready."""

    vm: str
    id: str
    outcome: str = ""
    reason: str = ""
    operation: str = ""
    off: bool = False
    ended_at: datetime | None = None
    message: Sentence = ""
    up: bool | None = None


class RunTier(Model):
    """A tier: when it began, until when it had time, and when it was over."""

    name: str
    began_at: datetime | None = None
    until: datetime | None = None
    over_at: datetime | None = None
    vms: tuple[RunVM, ...] = ()


class PowerRunStatus(Model):
    """What has become of a run. `run` is the name of its record; `ends` the moment at which its budget is over; `slack`
    is how much of it was to spare at the start, as durations are written; `record` is run_record.py's."""

    phase: Phase = "Pending"
    run: str = ""
    message: Sentence = ""
    refusals: tuple[Refusal, ...] = ()
    aborted: bool = False
    began_at: datetime | None = None
    ends: datetime | None = None
    over_at: datetime | None = None
    slack: str = ""
    tiers: tuple[RunTier, ...] = ()
    record: str = ""
    conditions: tuple[Condition, ...] = ()


def refused(message: str, violations: Iterable[Violation] = ()) -> PowerRunStatus:
    """Of a run that does not begin."""
    refusals = tuple(Refusal(field=each.field, message=each.message) for each in violations)
    return PowerRunStatus(phase="Refused", message=message, refusals=refusals)


def run_status(history: History) -> PowerRunStatus:
    """Of a run as it stands."""
    start = history.start
    return PowerRunStatus(
        phase=phase(history),
        run=start.run,
        message=_message(history),
        aborted=history.aborted is not None,
        began_at=start.at,
        ends=history.ends,
        over_at=history.brought_down.at if history.brought_down else None,
        slack=to_text(start.forecast.slack),
        tiers=tuple(_tier(history, tier) for tier in start.tiers),
    )


def _message(history: History) -> str:
    if (stopped := history.bring_up_stopped) and not history.released:
        return f"Tier {stopped.tier} has Stop and was not ready in time: bring the run up again, or release it."
    return history.closed.message if history.closed else ""


def phase(history: History) -> Phase:
    """Where a run stands."""
    if history.released:
        return "Released"
    if history.bring_up_began:
        return "BringingUp"
    if history.closed:
        return "Held"
    return "Aborting" if history.aborted else "Running"


def _tier(history: History, tier: FrozenTier) -> RunTier:
    began, over = history.begun.get(tier.name), history.over.get(tier.name)
    return RunTier(
        name=tier.name,
        began_at=began.at if began else None,
        until=history.over_by(tier) if began else None,
        over_at=over.at if over else None,
        vms=tuple(_vm(history, target) for target in tier.targets),
    )


def _vm(history: History, target: Target) -> RunVM:
    ended, up = history.ended.get(target.key), history.up.get(target.key)
    known = RunVM(vm=target.title, id=target.vm, up=up.ready if up else None)
    if ended is None:
        return known
    change = {
        "outcome": ended.outcome,
        "reason": ended.reason,
        "operation": ended.operation,
        "off": ended.off,
        "ended_at": ended.at,
        "message": ended.message,
    }
    return known.model_copy(update=change)
