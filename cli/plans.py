"""Plans and their runs as people and programs see them: a tree of tiers with their VMs, or plain data."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, assert_never

from rich.text import Text
from rich.tree import Tree

from cli import render
from cli.errors import ExitCode, worst
from cli.proto_text import span
from common.durations import to_text
from common.text import clean
from plans.freeze import Frozen
from plans.frozen import OTHERS, SELF, FrozenTier, Target
from plans.history import (
    Aborted,
    BringUpBegan,
    BringUpStopped,
    BroughtDown,
    Closed,
    Event,
    History,
    Inherited,
    Released,
    Shortened,
    Start,
    Stopped,
    TakenOver,
    TierBegan,
    TierOver,
    VMEnded,
    VMUp,
)
from plans.schedule import ZERO

_COLOURS = {"FORCED": "yellow", "OUT_OF_BAND": "yellow", "SAVED": "yellow", "GRACEFUL": "green", "ALREADY_OFF": "green"}
_NOT_BY_ITSELF = frozenset({"FORCED", "CRASHED", "OUT_OF_BAND", "SAVED"})
_IN_WORDS = {OTHERS: "running VMs that no tier names", SELF: "what vmpower runs on"}


def forecast_tree(start: Start, frozen: Frozen) -> Tree:
    """What the plan would do now."""
    schedule = start.forecast
    root = Tree(Text(clean(f"{start.plan}: {_fit(start)}"), style="bold"))
    deadline = max(start.at, start.deadline)
    tiers, rest = span(deadline - start.at), span(start.ends - deadline)
    root.add(Text(f"{tiers} for the tiers, {rest} for what is left over"))
    for tier in _in_order(start):
        critical = ("; critical", "bold") if tier.name in schedule.critical else ""
        branch = root.add(Text.assemble(clean(f"{tier.name}{_place(tier)}: {_slot(start, tier)}"), critical))
        for target in tier.targets:
            branch.add(Text(clean(f"{target.title}: {_prospect(start, tier, target, frozen)}")))
    return root


def forecast_data(start: Start, frozen: Frozen) -> dict[str, Any]:
    """The same for programs; lengths of time as Go writes them."""
    schedule = start.forecast
    return {
        "plan": start.plan,
        "slack": to_text(schedule.slack),
        "short": to_text(schedule.short),
        "critical": list(schedule.critical),
        "tiers": [
            {
                "name": tier.name,
                "after": list(tier.after),
                **({name: to_text(value) for name, value in _times(start, tier).items()}),
                "vms": [
                    {
                        "vm": target.title,
                        "id": target.vm,
                        "needs": to_text(target.own),
                        "has": to_text(_time(start, tier, target)),
                        "graceful": frozen.vms[target.key].forecast.graceful,
                        **_saving_data(frozen, tier, target),
                    }
                    for target in tier.targets
                ],
            }
            for tier in _in_order(start)
        ],
    }


def report_tree(history: History) -> Tree:
    """What a run has done."""
    start = history.start
    root = Tree(Text(clean(f"{start.run}: {_state(history)}"), style="bold"))
    if start.trigger:
        root.add(Text(clean(f"begun by a trigger: {start.trigger}")))
    if start.left_out:
        root.add(Text(clean(f"without what kept the whole plan from beginning: {start.left_out}")))
    if short := history.shortened:
        root.add(Text(clean(f"shortened after {span(short.at - start.at)}: {short.why}")))
    for tier in _in_order(start):
        branch = root.add(
            Text.assemble(clean(f"{tier.name}{_place(tier)}: {_course(history, tier)}"), _critical(history, tier))
        )
        for target in tier.targets:
            line = Text(clean(f"{target.title}: {_became(history, tier, target)}"))
            for word, colour in _COLOURS.items():
                line.highlight_words([word], colour)
            branch.add(line)
    return root


def report_data(history: History) -> dict[str, Any]:
    """The record, for programs."""
    start = history.start.model_dump(mode="json", by_alias=True)
    return {"start": start, "events": [event.model_dump(mode="json", by_alias=True) for event in history.events]}


def line(history: History, event: Event) -> str:
    """An event as it happens."""
    match event:
        case VMEnded() | VMUp() | Inherited():
            text = f"{_title(history, event.vm)}: {_of_vm(event)}"
        case TierBegan() | TierOver() | Stopped() | BringUpStopped():
            text = f"tier {event.tier} {_of_tier(history, event)}"
        case BroughtDown():
            text = "nothing more is brought down"
        case BringUpBegan():
            text = "what it stopped comes up again"
        case TakenOver():
            text = f"run {event.by} takes it over"
        case Released():
            text = "its VMs are released"
        case Shortened():
            text = f"less time is left, its budget is over at {_clock(event.ends)}: {event.why}"
        case Aborted():
            text = "the run is aborted: no further tier begins"
        case Closed():
            text = f"the run is over{f': {event.message}' if event.message else ''}"
        case _:
            assert_never(event)
    return text


def _of_vm(event: VMEnded | VMUp | Inherited) -> str:
    match event:
        case VMEnded():
            return _sentence(event)
        case VMUp():
            return _up(event)
        case Inherited():
            return "an earlier run had stopped it; it comes up with this one"


def _of_tier(history: History, event: TierBegan | TierOver | Stopped | BringUpStopped) -> str:
    match event:
        case TierBegan():
            return f"began; it has {span(event.gets)}, until {_clock(event.at + event.gets)}"
        case TierOver():
            late = [each.title for each in history.late(_tier(history, event.tier))]
            return "is over" + (f"; not off: {', '.join(late)}" if late else "; all are off")
        case Stopped():
            return "has Stop and is not off: no further tier begins"
        case BringUpStopped():
            return "has Stop and was not ready in time: nothing more comes up"


def exit_code(history: History) -> ExitCode:
    """As for a shutdown of each VM: WANTED if all went off by themselves."""
    codes = [_code(history.ended.get(target.key)) for tier in history.start.tiers for target in tier.targets]
    return worst(codes)


def lacks_time(start: Start) -> bool:
    """Whether a VM would get less than it needs."""
    return start.forecast.slack < ZERO


def _code(ended: VMEnded | None) -> ExitCode:
    if ended is None:
        return ExitCode.FAILED
    if ended.outcome in {"UNKNOWN", "GONE"}:
        return ExitCode.UNKNOWN
    if not ended.off:
        return ExitCode.FAILED
    return ExitCode.FORCED if ended.outcome in _NOT_BY_ITSELF else ExitCode.WANTED


def _fit(start: Start) -> str:
    schedule = start.forecast
    if schedule.short:
        return f"it does not fit, by {span(schedule.short)}"
    if schedule.slack < ZERO:
        return f"it fits because tiers give back {span(-schedule.slack)}"
    return f"it fits, with {span(schedule.slack)} to spare"


def _in_order(start: Start) -> Iterator[FrozenTier]:
    """The tiers as they can be run, our own VM's last."""
    by_name = {tier.name: tier for tier in start.tiers}
    yield from (by_name[name] for name in start.forecast.slots)
    if SELF in by_name:
        yield by_name[SELF]


def _place(tier: FrozenTier) -> str:
    words = f", {_IN_WORDS[tier.name]}" if tier.name in _IN_WORDS else ""
    return words + (f", after {', '.join(tier.after)}" if tier.after and tier.name != SELF else "")


def _times(start: Start, tier: FrozenTier) -> Mapping[str, timedelta]:
    slot = start.forecast.slots.get(tier.name)
    if slot is None:
        return {}
    return {"begins": slot.begins, "needs": slot.need, "has": slot.gets, "ends": slot.ends}


def _slot(start: Start, tier: FrozenTier) -> str:
    slot = start.forecast.slots.get(tier.name)
    if slot is None:
        return "in the reserve, when all others are off"
    if not tier.targets:
        return "no VM now"
    has = span(slot.gets) if slot.gets == slot.need else f"{span(slot.gets)} of the {span(slot.need)} that it needs"
    spare = slot.ends - slot.begins - slot.gets
    return f"begins after {span(slot.begins)}, has {has}" + (f", {span(spare)} to spare" if spare else "")


def _time(start: Start, tier: FrozenTier, target: Target) -> timedelta:
    slot = start.forecast.slots.get(tier.name)
    return tier.time(target, target.need if slot is None else min(target.need, slot.gets))


def _prospect(start: Start, tier: FrozenTier, target: Target, frozen: Frozen) -> str:
    vm = frozen.vms[target.key]
    if not target.runs:
        return render.forecast(vm)
    time, need = _time(start, tier, target), target.own
    of = f" of the {span(need)} that it needs" if time < need else ""
    return f"{render.forecast(vm)}, has {span(time)}{of}{_saving(frozen, tier, target)}"


def _saving(frozen: Frozen, tier: FrozenTier, target: Target) -> str:
    """What becomes of its memory when its time is over."""
    if not tier.saves(target):
        return ""
    if problems := frozen.save_problems(tier, target):
        what = "is forced then" if tier.forces_unsaved(target) else "is left running then"
        return f"; {what}, as it cannot be saved: {' '.join(problems)}"
    return "; is saved then"


def _saving_data(frozen: Frozen, tier: FrozenTier, target: Target) -> dict[str, Any]:
    if not tier.saves(target):
        return {}
    problems, forces = list(frozen.save_problems(tier, target)), tier.forces_unsaved(target)
    return {"saveTime": to_text(target.save_time), "saveProblems": problems, "forcedIfUnsaved": forces}


def _state(history: History) -> str:
    began, end, why = history.start.at, history.closed or history.brought_down, _left(history)
    done = "done" if history.closed else ""
    words = "aborted" if history.aborted else "stopped" if history.stopped else "left" if why else done
    if end is None:
        until = f"its budget is over at {_clock(history.ends)}"
        if words:
            return f"began at {_clock(began)}, {words}, still under way, {until}"
        return f"began at {_clock(began)}, under way, {until}; {_fit(history.start)}"
    spare = history.ends - end.at
    budget = f"{span(spare)} before its budget was over" if spare >= ZERO else "after its budget was over"
    return f"{words or 'down'} after {span(end.at - began)}, {budget}" + (f": {why}" if why else "")


def _left(history: History) -> str:
    """Why a run did not come to its end; empty: it did, or may still."""
    return history.closed.message if history.closed else ""


def _is_over(history: History) -> bool:
    """Whether nothing more is brought down."""
    return history.brought_down is not None or history.closed is not None


def _critical(history: History, tier: FrozenTier) -> tuple[str, str]:
    """What is told of a tier that is still to end, where all later ones depend on it."""
    ahead = tier.name not in history.over and not _is_over(history) and not history.no_more_tiers
    return ("; critical" if ahead and tier.name in history.start.forecast.critical else "", "bold")


def _course(history: History, tier: FrozenTier) -> str:
    began, over = history.begun.get(tier.name), history.over.get(tier.name)
    if began is None and not _is_over(history) and not history.no_more_tiers:
        return _slot(history.start, tier)
    if began is None:
        return "did not begin"
    after = f"began after {span(began.at - history.start.at)}, had {span(began.gets)}"
    if over is None:
        return after if _is_over(history) else f"{after}, under way"
    return f"{after}, took {span(over.at - began.at)}"


def _became(history: History, tier: FrozenTier, target: Target) -> str:
    ended, up = history.ended.get(target.key), history.up.get(target.key)
    if ended is None:
        asked = "what became of it is not known" if _is_over(history) else "under way"
        return (asked if tier.name in history.begun else "was not asked") + (f". {_up(up)}" if up else "")
    took = span(ended.at - history.begun[tier.name].at)
    comes_up = history.bring_up_began is not None and history.has_stopped(target)
    then = f" {_up(up)}" if up else " Not up again yet." if comes_up else ""
    return f"{_sentence(ended)} ({took}){then}"


def _sentence(ended: VMEnded) -> str:
    return f"{ended.outcome}{f' ({ended.reason})' if ended.reason else ''}. {ended.message}".strip()


def _up(up: VMUp) -> str:
    return "Up again." if up.ready else f"Not up again: {up.message}"


def _tier(history: History, name: str) -> FrozenTier:
    return next(tier for tier in history.start.tiers if tier.name == name)


def _title(history: History, key: str) -> str:
    return next(target.title for tier in history.start.tiers for target in tier.targets if target.key == key)


def _clock(moment: datetime) -> str:
    """In the reader's own time zone."""
    return f"{moment.astimezone():%H:%M:%S}"
