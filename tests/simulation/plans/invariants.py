"""What must hold of every run of a plan. Each yields a line for what was broken.

What really happened is told by the hypervisors' facts; the engine's record is held against it.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain

from plans.frozen import SETTLE, FrozenTier, Target
from plans.history import History
from plans.model import AtDeadline, SaveFallback
from plans.run import SOON
from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import Reason
from providers.core.model import Operation, Outcome, State
from tests.simulation.hypervisor import IS_READY, Behaviour, Fact
from tests.simulation.plans.play import Played, since

OFF = frozenset({"left", "crashed", "cut", "cut by somebody", "saved"})
ON = frozenset({"started", "started by somebody"})
DONE = {Outcome.FORCED: "cut", Outcome.SAVED: "saving"}
"""What was done to a VM whose time was over."""
MOMENT = 0.1
"""Seconds that a message, a write or an event may take here."""


def violations(played: Played) -> list[str]:
    """Every line of every invariant."""
    if played.history is None:
        return ["the run never began", *played.complaints]
    lines = chain.from_iterable(check(played, played.history) for check in CHECKS)
    return [*played.complaints, *lines]


def it_ends(played: Played, history: History) -> Iterator[str]:
    """In time, or soon after an engine runs again that did not when its budget was over."""
    back = max((to for _, to in played.away), default=0.0)
    if history.closed is None:
        yield "the run has not ended"
    elif not history.aborted and since(history.closed.at) > max(_end(played, history), back) + 6:
        yield f"the run ended at {since(history.closed.at)}, its budget at {_end(played, history)}"


def the_budget_is_kept(played: Played, history: History) -> Iterator[str]:
    """At its end every VM is off, unless its owner or the plan said that it is not to be forced, or it was removed."""
    if history.no_more_tiers:
        return
    end = _end(played, history)
    removed = {fact.vm for fact in played.facts if fact.what == "removed"}
    for tier, target in _targets(history):
        if (
            _runs_at(played, target, end)
            and not _may_be_kept(played, history, tier, target)
            and target.key not in removed
        ):
            yield f"{target.key} of {tier.name} runs at the end of the budget, {end}"


def tiers_wait_for_those_before_them(played: Played, history: History) -> Iterator[str]:
    """Until all of their VMs are off, or will not go off any more, or their time is over."""
    for tier in history.start.tiers:
        began = history.begun.get(tier.name)
        if began is None:
            continue
        at = since(began.at)
        for earlier in (each for each in history.start.tiers if each.name in tier.after):
            before = history.begun.get(earlier.name)
            if at >= since(history.deadline) or (before and at >= since(history.over_by(earlier))):
                continue
            for target in earlier.targets:
                ended = history.ended.get(target.key)
                if ended is None or since(ended.at) > at:
                    yield f"{tier.name} began at {at} before {target.key} of {earlier.name} had ended"
                elif ended.off and _runs_at(played, target, at):
                    yield f"{tier.name} began at {at} while {target.key} of {earlier.name} ran"


def nothing_is_asked_before_its_tier_begins(played: Played, history: History) -> Iterator[str]:
    begins = {
        target.key: since(history.begun[tier.name].at) if tier.name in history.begun else float("inf")
        for tier, target in _targets(history)
    }
    theirs = {f"{asked.provider}/{asked.request.vm}" for asked in played.asked if not _ours(history, asked.request)}
    for asked in played.asked:
        key = f"{asked.provider}/{asked.request.vm}"
        if _ours(history, asked.request) and asked.time < begins.get(key, float("inf")):
            yield f"{key} was asked at {asked.time}, before its tier began"
    for fact in played.facts:
        mine = fact.what in {"asked", "cut", "hook", "saving"} and fact.vm in begins and not _by_somebody(played, fact)
        if mine and fact.time < begins[fact.vm] and fact.vm not in theirs:
            yield f"{fact.vm} {fact.what} at {fact.time}, before its tier began"


def what_was_forecast_is_given(played: Played, history: History) -> Iterator[str]:
    """A tier that begins no later than forecast gets no less; and it begins no later, but for the time that no engine
    ran. So nobody lacks time that was not forecast to lack it."""
    start = history.start
    away = sum(to - begin for begin, to in played.away)
    for name, slot in start.forecast.slots.items():
        if (began := history.begun.get(name)) is None or _was_short(history, began.at):
            continue
        late = since(began.at) - since(start.at + slot.begins)
        if late <= 0 and began.gets < slot.gets:
            yield f"{name} gets {began.gets}, was forecast {slot.gets}, and is not late"
        if late > away + MOMENT * len(start.tiers) and since(began.at) < since(start.deadline):
            yield f"{name} began {late} s late; no engine ran for {away} s"
        stage = next(tier.stage for tier in start.tiers if tier.name == name)
        if start.forecast.slack >= timedelta() and not away and began.gets < stage.need - _seconds(MOMENT * 7):
            yield f"there was slack, and {name} gets {began.gets} of {stage.need}"


def nobody_is_forced_before_the_time_that_the_forecast_named(played: Played, history: History) -> Iterator[str]:
    """Neither before that moment, nor with less time than it named, whichever comes first: a tier that begins early has
    its time all the same, and one that begins late, as no engine ran, has until that moment."""
    slots = history.start.forecast.slots
    verdicts = _verdicts(played)
    for tier, target in _targets(history):
        began, slot = history.begun.get(tier.name), slots.get(tier.name)
        operation = verdicts.get((target.key, history.request_id(tier.name, target)))
        if began is None or slot is None or operation is None or not target.runs:
            continue
        if history.shortened:
            yield from _done_too_soon(played, history, tier, target, operation)
            continue
        least = min(tier.minimum, target.own, slot.gets - SETTLE)
        named = max(timedelta(), min(target.need, slot.gets) - SETTLE - target.save_time, least)
        earliest = min(since(began.at + named), since(history.start.at + slot.begins + named))
        verdict = operation.verdict
        if verdict and verdict.outcome in DONE and verdict.reason is Reason.TIMEOUT:
            done = DONE[verdict.outcome]
            first = next((fact.time for fact in played.facts if fact.vm == target.key and fact.what == done), None)
            if first is not None and first < earliest - MOMENT * len(history.start.tiers):
                yield f"{target.key}: {done} at {first}, before {earliest}"


def a_provider_knows_of_a_shorter_time(played: Played, history: History) -> Iterator[str]:
    """Soon after a run was shortened each operation under way has its new moment, where nothing else happens."""
    short, verdicts = history.shortened, _verdicts(played)
    if short is None or history.aborted or any(act.what != "shorten" for act in played.scenario.acts):
        return
    for tier, target in _targets(history):
        operation = verdicts.get((target.key, history.request_id(tier.name, target)))
        if operation is None or operation.force_after is None or operation.verdict is None:
            continue
        least = max(history.forced_by(tier, target), short.at + SOON) + _seconds(MOMENT)
        if operation.verdict.end_time > short.at + _seconds(MOMENT) and operation.force_after > least:
            yield f"{target.key} has until {since(operation.force_after)}, of a run that was shortened until {least}"


def saving_has_its_time(played: Played, history: History) -> Iterator[str]:
    """What is kept for saving a VM's memory is left of the tier's time when its own is over, unless its guest has no
    more than the minimum, or no VM of the tier ran. It is asked for where the tier or its owner says so, and nowhere
    else."""
    tiers = {(target.key, history.request_id(tier.name, target)): (tier, target) for tier, target in _targets(history)}
    for asked in played.asked:
        found = tiers.get((f"{asked.provider}/{asked.request.vm}", asked.request.request_id))
        if found is None or not isinstance(asked.request, pb.ShutdownRequest):
            continue
        tier, target = found
        if (asked.request.escalation == pb.ESCALATION_SAVE) is not _is_saved(tier, target):
            yield f"{target.key} is asked with {asked.request.escalation}, in a tier with {tier.at_deadline}"
        began = history.begun.get(tier.name)
        if began is None or not _is_saved(tier, target) or not tier.stage.need:
            continue
        over = since(asked.request.force_after.ToDatetime(UTC))
        least = since(began.at + min(tier.minimum, target.own))
        if over > max(least, since(began.at + began.gets - SETTLE - target.save_time)) + MOMENT:
            yield f"{target.key} has until {over}, which leaves no {target.save_time} for saving its memory"


def what_cannot_be_saved_is_left_alone(played: Played, history: History) -> Iterator[str]:
    """Unless it is said to be forced then."""
    for tier, target in _targets(history):
        if not _is_saved(tier, target) or _falls_back(tier, target):
            continue
        yield from (f"{target.key} was cut at {fact.time}" for fact in played.facts if _is_cut(fact, target))


def _done_too_soon(
    played: Played, history: History, tier: FrozenTier, target: Target, operation: Operation
) -> Iterator[str]:
    """What a run that was shortened has forced, or saved, has had what is left of its time."""
    by, verdict = since(history.forced_by(tier, target)), operation.verdict
    if verdict and verdict.outcome in DONE and verdict.reason is Reason.TIMEOUT:
        done = DONE[verdict.outcome]
        first = next((fact.time for fact in played.facts if fact.vm == target.key and fact.what == done), None)
        if first is not None and first < by - MOMENT:
            yield f"{target.key}: {done} at {first}, and had until {by}"


def each_step_is_taken_once(played: Played, history: History) -> Iterator[str]:
    """Each request_id began one operation, of one VM, with the same moment however often it was sent; each has one
    verdict, which is what the record says."""
    sent: dict[tuple[str, str, str], set[int]] = {}
    for asked in played.asked:
        if isinstance(asked.request, pb.ShutdownRequest) and _ours(history, asked.request):
            key = (asked.provider, asked.request.vm, asked.request.request_id)
            sent.setdefault(key, set()).add(asked.request.force_after.ToNanoseconds())
    yield from (f"{key} was sent with several moments" for key, moments in sent.items() if len(moments) > 1)
    for name, operations in played.operations.items():
        begun = Counter(
            (operation.request.kind, operation.request.vm_id)
            for operation in operations
            if operation.request.request_id.startswith(history.start.run)
        )
        yield from (f"{name}: {step} was begun {count} times" for step, count in begun.items() if count > 1)
        ours = (each for each in operations if each.request.request_id.startswith(history.start.run))
        under_way = (each for each in ours if not each.state.final and each.state is not State.AWAITING_DECISION)
        yield from (f"{name}: {each.id} has no verdict" for each in under_way)
    verdicts = _verdicts(played)
    for tier, target in _targets(history):
        ended = history.ended.get(target.key)
        operation = verdicts.get((target.key, history.request_id(tier.name, target)))
        if ended and operation and operation.id == ended.operation and ended.outcome != "OUT_OF_TIME":
            told = operation.verdict.outcome if operation.verdict and operation.verdict.outcome else operation.state
            if told != ended.outcome:
                yield f"{target.key}: the record says {ended.outcome}, the operation {told}"


def hooks_run_once(played: Played, history: History) -> Iterator[str]:
    ran = Counter((fact.vm, fact.detail) for fact in played.facts if fact.what == "hook" and fact.detail != IS_READY)
    yield from (f"{vm}: {hook} ran {count} times" for (vm, hook), count in ran.items() if count > 1)


def the_record_is_true(played: Played, history: History) -> Iterator[str]:
    """A VM that is said to be off was off at that moment."""
    for _, target in _targets(history):
        ended = history.ended.get(target.key)
        if ended and ended.off and _runs_at(played, target, since(ended.at)):
            yield f"{target.key} ran at {since(ended.at)}, when it was said to be off"
    for tier in history.start.tiers:
        if tier.name in history.begun:
            left = [target.key for target in tier.targets if target.key not in history.ended]
            yield from (f"{key} has no end" for key in left)


def nothing_begins_after_an_abort_or_a_stop(played: Played, history: History) -> Iterator[str]:
    closed = [since(event.at) for event in (history.aborted, history.stopped) if event]
    for name, began in history.begun.items():
        if closed and since(began.at) > min(closed) + MOMENT:
            yield f"{name} began at {since(began.at)}, after the run was closed at {min(closed)}"
    first = dict[str, float]()
    for asked in played.asked:
        if isinstance(asked.request, pb.ShutdownRequest) and _ours(history, asked.request):
            first.setdefault(f"{asked.provider}/{asked.request.vm}", asked.time)
    late = since(history.aborted.at) + MOMENT if history.aborted else float("inf")
    yield from (f"{key} was first asked at {time}, after the abort" for key, time in first.items() if time > late)


def an_aborted_run_brings_up_what_it_stopped(played: Played, history: History) -> Iterator[str]:
    """And that alone."""
    started = {fact.vm for fact in played.facts if fact.what == "started"}
    plan = history.start.spec.bring_up
    stopped = {key for key, ended in history.ended.items() if ended.stopped}
    if not history.aborted or plan is None:
        yield from (f"{vm} was started" for vm in started)
        return
    yield from (f"{vm} was started, and not stopped by this run" for vm in started - stopped)
    removed = {fact.vm for fact in played.facts if fact.what == "removed"}
    if plan.ready.on_timeout == "Continue":
        off = [key for key in stopped - removed if not played.on[key] and not _went_off_later(played, history, key)]
        yield from (f"{key} was stopped by this run, and is off" for key in off)


CHECKS = (
    it_ends,
    the_budget_is_kept,
    tiers_wait_for_those_before_them,
    nothing_is_asked_before_its_tier_begins,
    what_was_forecast_is_given,
    nobody_is_forced_before_the_time_that_the_forecast_named,
    a_provider_knows_of_a_shorter_time,
    saving_has_its_time,
    what_cannot_be_saved_is_left_alone,
    each_step_is_taken_once,
    hooks_run_once,
    the_record_is_true,
    nothing_begins_after_an_abort_or_a_stop,
    an_aborted_run_brings_up_what_it_stopped,
)


def _end(played: Played, history: History) -> float:
    """When all has to be over. Providers know of a time that became shorter only by the engine: while none ran, nobody
    could be told."""
    short = history.shortened
    late = sum(to - max(begin, since(short.at)) for begin, to in played.away if to > since(short.at)) if short else 0
    return since(history.ends) + late


def _was_short(history: History, at: datetime) -> bool:
    """Whether the run had been shortened by then, so that the forecast did not count any more."""
    return history.shortened is not None and history.shortened.at <= at


def _targets(history: History) -> Iterator[tuple[FrozenTier, Target]]:
    for tier in history.start.tiers:
        for target in tier.targets:
            yield tier, target


def _ours(history: History, request: object) -> bool:
    return str(getattr(request, "request_id", "")).startswith(history.start.run)


def _may_be_kept(played: Played, history: History, tier: FrozenTier, target: Target) -> bool:
    """Whether it is not forced by what was said: its owner's NEVER or ASK, a shutdown with NEVER that somebody else has
    begun, or the tier's Stop; or it cannot be saved, or is being saved when all time is over, and is not forced."""
    theirs = any(act.what == "shut down by somebody" and act.vm == target.key for act in played.scenario.acts)
    if _is_saved(tier, target):
        by_plan = tier.at_deadline is AtDeadline.SAVE
        kept = not _falls_back(tier, target) and _behaviour(played, target).saves is None
        return kept or (
            not (by_plan and _falls_back(tier, target)) and (theirs or _is_being_saved(played, history, target))
        )
    if tier.at_deadline is AtDeadline.RESPECT:
        return theirs or target.request.get("escalation") in {"ESCALATION_NEVER", "ESCALATION_ASK"}
    return tier.at_deadline is AtDeadline.STOP


def _is_saved(tier: FrozenTier, target: Target) -> bool:
    """Whether its memory is to be saved where it is late."""
    owner = target.request.get("escalation") == "ESCALATION_SAVE"
    return tier.at_deadline is AtDeadline.SAVE or (tier.at_deadline is AtDeadline.RESPECT and owner)


def _falls_back(tier: FrozenTier, target: Target) -> bool:
    """Whether it is forced where it cannot be saved."""
    if tier.at_deadline is AtDeadline.SAVE:
        return tier.save_fallback is SaveFallback.FORCE
    return target.request.get("saveFallback") == "ESCALATION_FORCE"


def _is_being_saved(played: Played, history: History, target: Target) -> bool:
    """Whether its save had begun when all time was over: several at once wait for one another."""
    ours = [
        operation
        for (key, request_id), operation in _verdicts(played).items()
        if key == target.key and request_id.startswith(history.start.run)
    ]
    saving = [step.time for operation in ours for step in operation.steps if step.state is State.SAVING]
    return any(since(time) <= _end(played, history) for time in saving)


def _behaviour(played: Played, target: Target) -> Behaviour:
    place, number = int(target.provider.removeprefix("p")), int(target.vm.removeprefix("vm-"))
    return played.scenario.behaviours[place][number]


def _is_cut(fact: Fact, target: Target) -> bool:
    return fact.vm == target.key and fact.what == "cut"


def _runs_at(played: Played, target: Target, time: float) -> bool:
    """By what really happened."""
    on = target.key not in played.scenario.off
    for fact in played.facts:
        if fact.time > time:
            break
        if fact.vm == target.key:
            on = True if fact.what in ON else False if fact.what in OFF else on
    return on


def _by_somebody(played: Played, fact: Fact) -> bool:
    """Whether somebody may have had it done at its provider."""
    return any(act.what == "shut down by somebody" and act.vm == fact.vm for act in played.scenario.acts)


def _went_off_later(played: Played, history: History, key: str) -> bool:
    """Whether it went off after its PowerOn had ended: somebody cut it, or a guest that had been asked, and whose
    shutdown was called off too late, obeyed in the end."""
    up = history.up.get(key)
    operations = chain.from_iterable(played.operations.values())
    ends = (each.verdict.end_time for each in operations if up and each.id == up.operation and each.verdict)
    told = next(ends, up.at if up else None)
    return told is not None and any(
        fact.vm == key and fact.what in OFF and fact.time > since(told) for fact in played.facts
    )


def _verdicts(played: Played) -> dict[tuple[str, str], Operation]:
    """The operations by VM and request_id."""
    return {
        (f"{name}/{operation.request.vm_id}", operation.request.request_id): operation
        for name, operations in played.operations.items()
        for operation in operations
    }


def _seconds(count: float) -> timedelta:
    return timedelta(seconds=count)
