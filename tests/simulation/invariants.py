"""What must hold after every simulation, whatever went wrong in it: functions from a history to its breaches."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from providers.core.adapter import Escalation, Reason, Signal
from providers.core.model import MOST_STEPS, Kind, Operation, Outcome, State
from providers.core.run import LAST_LOOK
from providers.core.signals import LONGEST_PAUSE
from tests.simulation.hypervisor import OFF, Fact
from tests.simulation.play import KINDS, QUIET, SETTLED, Answer, History
from tests.simulation.provider import EPOCH

SAVED = ("saved", "suspended by somebody")
DOWN = (*OFF, *SAVED)
"""What a VM runs no more after."""
BY_US = ("cut", "saving")
"""What is done to a guest whose time is over."""
MOST_SENT = 8
REQUESTS_AND_KILLS = (*KINDS, "Extend", "Force", "Cancel", "kill", "kill at step")
LONGEST = 200.0
"""Seconds that an attempt of a controller may take, which begins one after the other for as long as it plays."""
SLOW = (
    "be late",
    "slow disk",
    "fill the disk",
    "restart the daemon",
    "lose answers",
    "lose requests",
    "calls are late",
)
"""Harm under which the first look of an operation may come long after it was accepted."""
LOSSES = ("lose answers", "lose requests", "lose signals")
NOT_KNOWN = re.compile(r"Whether it runs is not known: it was (not seen|last seen running at (?P<time>[\dT:+-]+))")
TICK = 1.5
"""Seconds: a clock that was set is noticed within one, and a call takes its time."""


def no_bugs(history: History) -> Iterator[str]:
    """Nothing raised that nobody expected."""
    yield from (f"a bug: {line}" for line in history.complaints)


def every_accepted_operation_ends(history: History) -> Iterator[str]:
    for answer in _accepted(history):
        known = history.known.get(answer.operation.id) if answer.operation else None
        if known is None:
            yield f"the accepted {answer.act.what} {answer.act['request_id']} is forgotten"
        elif known.state is State.AWAITING_DECISION or _began(history, known) > SETTLED + QUIET - LONGEST:
            continue
        elif not known.state.final or known.verdict is None:
            yield f"{_name(known)} never ended: {known.state}"


def one_verdict(history: History) -> Iterator[str]:
    """What was told of an end is never told otherwise, and is what is on disk."""
    verdicts: defaultdict[str, set[str]] = defaultdict(set)
    told = [operation for _, operation in history.told]
    answered = [answer.operation for answer in history.answers if answer.operation]
    for operation in (*told, *answered, *history.known.values()):
        if operation.state.final and operation.verdict:
            verdicts[operation.id].add(f"{operation.state} {operation.verdict.outcome} {operation.verdict.message}")
    yield from (f"{key} has {len(said)} ends: {sorted(said)}" for key, said in verdicts.items() if len(said) > 1)


def the_same_request_is_the_same_operation(history: History) -> Iterator[str]:
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for operation in history.known.values():
        ids[operation.request.request_id].add(operation.id)
    yield from (f"{request} began {len(found)} operations" for request, found in ids.items() if len(found) > 1)


def hooks_run_at_most_once(history: History) -> Iterator[str]:
    if history.declared:
        return  # whose hooks bear the same name in each attempt
    runs = Counter(fact.detail for fact in history.facts if fact.what == "hook")
    yield from (f"the hook {hook} ran {count} times" for hook, count in runs.items() if count > 1)


def one_active_operation(history: History) -> Iterator[str]:
    """Of those that ask and wait, one at a time: the next begins when the one before has ended or was told to."""
    for vm in {operation.request.vm_id for operation in history.known.values()}:
        asking = [each for each in _of(history, vm) if each.request.kind in (Kind.SHUTDOWN, Kind.REBOOT)]
        for before, after in pairwise(asking):
            if before.verdict and _began(history, after) < _judged(history, before) - TICK and not before.decision:
                yield f"{_name(after)} began while {_name(before)} was active"


def nothing_is_cut_early(history: History) -> Iterator[str]:
    """A cut by us is what somebody asked for, or comes when the guest's time is over, or it could not hear."""
    for cut in (fact for fact in history.facts if fact.what in BY_US):
        if not _allowing(history, cut):
            yield f"{cut.vm}: {cut.what} at {cut.time:.1f} s, and nothing allows that"


def verdicts_are_true(history: History) -> Iterator[str]:
    """Equal to what really happened, or not known."""
    for operation in history.known.values():
        verdict = operation.verdict
        if verdict and (false := _untrue(history, operation, verdict.outcome)):
            yield f"{_name(operation)} says {verdict.outcome} ({verdict.message}), but {false}"


def last_seen_is_true(history: History) -> Iterator[str]:
    """Where it is not known whether a VM runs, the hypervisor had not answered; and it ran when it was last seen."""
    for operation in history.known.values() if not _clock_was_set(history) else ():
        said = NOT_KNOWN.search(operation.verdict.message) if operation.verdict else None
        if said is None:
            continue
        if not any(act.what in (*LOSSES, "restart the daemon", "be late") for act in history.scenario.acts):
            yield f"{_name(operation)} does not know whether it runs, though the hypervisor answered"
        seen = _seconds(history, datetime.fromisoformat(said["time"])) if said["time"] else None
        if seen is not None and not _was_on(history, operation, seen):
            yield f"{_name(operation)} says that it was seen running at {seen} s, but it was off"


def a_cancel_is_answered_soon(history: History) -> Iterator[str]:
    """Whatever the hypervisor does; a disk that writes nothing holds it up."""
    if _told_late(history):
        return
    for answer in history.answers:
        took = answer.time - answer.sent
        if answer.act.what == "Cancel" and took > LAST_LOOK + TICK:
            yield f"a cancel was answered after {took:.1f} s"


def success_is_what_was_asked_for(history: History) -> Iterator[str]:
    """An operation that SUCCEEDED has left the VM as it was to leave it, or known so at least."""
    for operation in history.known.values():
        if operation.state is not State.SUCCEEDED or operation.request.kind is not Kind.REBOOT:
            continue
        since = _act(history, operation)
        power = [fact.what for fact in history.facts if fact.vm == operation.request.vm_id and fact.time >= since]
        if not any(what.startswith("started") for what in power) and any(what in OFF for what in power):
            yield f"{_name(operation)} SUCCEEDED, and the VM was not started again"


def unknown_has_a_cause(history: History) -> Iterator[str]:
    """Where nothing went wrong, everything is known."""
    harmless = all(act.what in (*KINDS, "Extend", "Force", "Cancel", "declare") for act in history.scenario.acts)
    if harmless and not history.killed:
        for operation in history.known.values():
            if operation.verdict and operation.verdict.outcome is Outcome.UNKNOWN:
                yield f"{_name(operation)} is not known, though nothing went wrong"


def what_was_answered_holds(history: History) -> Iterator[str]:
    for answer in history.answers:
        operation = answer.operation
        if operation is None:
            continue
        known = history.known.get(operation.id)
        if known is None:
            yield f"{answer.act.what} was answered with an operation that is forgotten"
        elif answer.act.what == "Cancel" and operation.state is State.CANCELLED and not _may_still_cut(operation):
            yield from _cut_after(history, known, answer, "a cancel")
        elif answer.act.what == "Extend" and _is_early(history, known, answer):
            yield f"{_name(known)} was extended, and forced before its new time"


def the_last_wish_comes_true(history: History) -> Iterator[str]:
    """Unless somebody else, or the guest itself, changed it afterwards."""
    for vm, on in history.final_power.items() if not _clock_was_set(history) else ():
        last = max(_of(history, vm), key=lambda each: _began(history, each), default=None)
        if last is None or last.state is not State.SUCCEEDED or last.verdict is None:
            continue
        if last.verdict.outcome is Outcome.UNKNOWN:
            continue
        end = _judged(history, last)
        touched = {"started by somebody", "cut by somebody", "crashed", "left"}
        later = [fact for fact in history.facts if fact.vm == vm and fact.what in touched and fact.time >= end - TICK]
        wanted = last.request.kind in (Kind.POWER_ON, Kind.REBOOT)
        lied = any(act.what in ("lie", "remove") for act in history.scenario.acts)
        if on is not wanted and not later and not lied and not _another_run(history, last):
            yield f"{vm} is {'on' if on else 'off'}, but the last wish was {_name(last)}"


def a_started_guest_stays_up(history: History) -> Iterator[str]:
    """A PowerOn that found the VM on watches a guest that was asked to go down, for as long again as it was given."""
    harms = ("lie", "remove", "fill the disk", "slow disk")
    if _clock_was_set(history) or any(act.what in harms for act in history.scenario.acts):
        return
    for operation in history.known.values():
        kept = operation.request.kind is Kind.POWER_ON and operation.state is State.SUCCEEDED
        asked = [history.known[key] for key in operation.supersedes if key in history.known]
        if (
            not kept
            or not asked
            or operation != max(_of(history, operation.request.vm_id), key=lambda op: op.create_time)
        ):
            continue
        end = _judged(history, operation)
        watched = max(_seconds(history, (each.force_after or EPOCH) + each.timeout) for each in asked)
        for fact in history.facts:
            theirs = fact.vm == operation.request.vm_id and fact.what == "left"
            if theirs and end < fact.time < watched - TICK and not history.final_power[fact.vm]:
                yield f"{fact.vm} went down after {_name(operation)}, and stayed off"


def nobody_waits_unasked(history: History) -> Iterator[str]:
    """Where only providers were killed and calls were lost, each guest that can hear was asked before its time was
    over, whatever came then, if there was time for that after the last loss."""
    harmless = (*KINDS, "Extend", "Cancel", "kill", "kill at step", *LOSSES)
    if any(act.what not in harmless for act in history.scenario.acts):
        return
    losses = [act for act in history.scenario.acts if act.what in LOSSES]
    lost = max((act.at + act["lasts"] for act in losses), default=0.0)
    pause = min(LONGEST_PAUSE, 2 * sum(act["lasts"] for act in losses) + 4.0)
    for operation in history.known.values():
        verdict = operation.verdict
        if not verdict or verdict.reason is not Reason.TIMEOUT or operation.decision:
            continue
        if operation.request.kind is Kind.POWER_OFF:  # it tells how the shutdown ended that it came after
            continue
        vm, began, end = operation.request.vm_id, _act(history, operation), _judged(history, operation)
        asked = [fact for fact in history.facts if fact.vm == vm and fact.what == "asked" and began <= fact.time <= end]
        short = operation.request.timeout and operation.request.timeout.total_seconds() < end - began - 30
        only_agent = not history.scenario.behaviours[int(vm.removeprefix("vm-"))].acpi
        again = only_agent or operation.request.resend_interval
        repeats = again and end > lost + (LONGEST_PAUSE if history.killed else pause) + TICK
        if not asked and repeats and not short:
            yield f"{_name(operation)} waited for its guest without ever asking"


def nobody_is_pressed_who_goes_down(history: History) -> Iterator[str]:
    """An agent that left after it was asked is going down with its guest."""
    if len(history.known) != 1 or any(act.what not in KINDS for act in history.scenario.acts):
        return
    asked, left = dict[str, float](), dict[str, float]()
    for fact in history.facts:
        if fact.what == "asked" and fact.detail == Signal.GUEST_AGENT:
            asked[fact.vm] = fact.time
        elif fact.what == "agent left" and fact.vm in asked:
            left[fact.vm] = fact.time
        elif fact.what in OFF:
            asked.pop(fact.vm, None)
            left.pop(fact.vm, None)
        elif fact.what == "asked" and fact.vm in left and fact.time > left[fact.vm] + TICK:
            yield f"{fact.vm} was pressed at {fact.time:.1f} s, though its agent had left to go down"


def what_was_told_stays_told(history: History) -> Iterator[str]:
    """Each step that a client has seen is in the record for good: what a kill could undo is not told."""
    answered = [answer.operation for answer in history.answers if answer.operation]
    for operation in (*(told for _, told in history.told), *answered):
        known = history.known.get(operation.id)
        if known is None:
            yield f"{_name(operation)} was told of, and is forgotten"
        elif len(known.steps) < MOST_STEPS:
            lost = {step.message for step in operation.steps} - {step.message for step in known.steps}
            yield from (f"{_name(operation)} had told {message!r}, which is not on disk" for message in lost)


def only_its_own_run_is_cut(history: History) -> Iterator[str]:
    """A run that somebody else began is cut only for an operation that came after that, or had not looked before."""
    for cut in (fact for fact in history.facts if fact.what in BY_US):
        theirs = [
            fact.time
            for fact in history.facts
            if (fact.vm, fact.what, fact.detail) == (cut.vm, "started by somebody", cut.detail)
        ]
        for began in theirs:
            known = cut.time - began < _on_its_way(history)
            if not known and not any(_looked(history, each) >= began - TICK for each in _allowing(history, cut)):
                yield f"{cut.vm}: {cut.what} at {cut.time:.1f} s, though somebody had started it anew at {began:.1f} s"


def what_was_saved_stays_so(history: History) -> Iterator[str]:
    """Memory is discarded for a PowerOff, a Force, or a request that forces, and never for one that saves alone."""
    saved = dict[str, float]()
    for fact in history.facts:
        if fact.what in SAVED:
            saved[fact.vm] = fact.time
        elif fact.what == "cut" and fact.vm in saved:
            about = [each for each in _allowing(history, fact) if each.request.escalation is not Escalation.SAVE]
            forced = any(act.what == "Force" and act.vm == fact.vm for _, act in history.sent)
            if not about and not forced and fact.time > saved[fact.vm] + _on_its_way(history):
                yield f"{fact.vm} was saved at {saved[fact.vm]:.1f} s and its memory discarded at {fact.time:.1f} s"
        elif fact.what in DOWN or fact.what.startswith("started"):
            saved.pop(fact.vm, None)


def off_was_seen(history: History) -> Iterator[str]:
    """A Shutdown or PowerOff that SUCCEEDED has seen the VM off."""
    for operation in history.known.values():
        down = operation.request.kind in (Kind.SHUTDOWN, Kind.POWER_OFF) and operation.state is State.SUCCEEDED
        if down and not _was_off(history, operation):
            yield f"{_name(operation)} SUCCEEDED, and {operation.request.vm_id} was never off meanwhile"


def a_forced_end_has_its_reason(history: History) -> Iterator[str]:
    """Why the power was cut is told, whatever restarted."""
    for operation in history.known.values():
        if operation.verdict and operation.verdict.outcome is Outcome.FORCED and operation.verdict.reason is None:
            yield f"{_name(operation)} cut the power, and does not know why"


def a_reboot_goes_down_once(history: History) -> Iterator[str]:
    """The run that it has started itself is neither asked to go down nor cut."""
    if len(history.known) != 1 or any(act.what not in REQUESTS_AND_KILLS for act in history.scenario.acts):
        return
    for operation in history.known.values():
        starts = [fact.time for fact in history.facts if fact.what == "started"]
        if operation.request.kind is Kind.REBOOT and starts:
            later = [fact.what for fact in history.facts if fact.what in ("asked", "cut") and fact.time > starts[0]]
            yield from (f"{_name(operation)} has started it, and then: {what}" for what in later)


def an_asked_guest_left_because_of_it(history: History) -> Iterator[str]:
    """Of the only operation there is: a guest that had accepted its ask did not leave unasked."""
    if len(history.known) != 1:
        return
    for operation in history.known.values():
        asked = [fact.time for fact in history.facts if fact.what == "asked" and "refused" not in fact.detail]
        left = [fact.time for fact in history.facts if fact.what == "left"]
        whats = {fact.what for fact in history.facts if fact.what in OFF}
        verdict = operation.verdict
        if verdict and verdict.outcome is Outcome.OUT_OF_BAND and whats == {"left"} and min(asked) < max(left):
            yield f"{_name(operation)} says OUT_OF_BAND ({verdict.message}), but it had been asked"


def waiting_does_not_grow(history: History) -> Iterator[str]:
    """Repeated presses are counted, not listed."""
    for operation in history.known.values():
        if len(operation.sent) > MOST_SENT:
            yield f"{_name(operation)} lists {len(operation.sent)} signals"


def what_is_overtaken_had_a_successor(history: History) -> Iterator[str]:
    """What is closed and not carried out any more is so because a later operation on its VM was accepted."""
    accepted = {answer.operation.id: answer.time for answer in history.answers if answer.operation}
    for operation in history.known.values():
        if operation.failure is None or operation.failure.reason != "OVERTAKEN":
            continue
        others = [each.id for each in _of(history, operation.request.vm_id) if each.id != operation.id]
        if not any(accepted.get(other, 0.0) > accepted.get(operation.id, 0.0) for other in others):
            yield f"{_name(operation)} was closed as overtaken, and none came after it"


def a_settled_system_makes_no_calls(history: History) -> Iterator[str]:
    tried_again = any(_judged(history, operation) >= SETTLED for operation in history.known.values())
    if history.calls_when_settled and not tried_again:
        yield f"{history.calls_when_settled} calls while nothing was to be done"


INVARIANTS = (
    a_started_guest_stays_up,
    nobody_waits_unasked,
    nobody_is_pressed_who_goes_down,
    what_was_told_stays_told,
    only_its_own_run_is_cut,
    what_was_saved_stays_so,
    off_was_seen,
    a_forced_end_has_its_reason,
    a_reboot_goes_down_once,
    an_asked_guest_left_because_of_it,
    waiting_does_not_grow,
    no_bugs,
    every_accepted_operation_ends,
    one_verdict,
    the_same_request_is_the_same_operation,
    hooks_run_at_most_once,
    one_active_operation,
    nothing_is_cut_early,
    verdicts_are_true,
    last_seen_is_true,
    a_cancel_is_answered_soon,
    success_is_what_was_asked_for,
    unknown_has_a_cause,
    what_was_answered_holds,
    the_last_wish_comes_true,
    what_is_overtaken_had_a_successor,
    a_settled_system_makes_no_calls,
)


def _accepted(history: History) -> list[Answer]:
    return [answer for answer in history.answers if answer.operation and answer.act.what in KINDS]


def _of(history: History, vm: str) -> list[Operation]:
    """In the order in which they began."""
    found = (operation for operation in history.known.values() if operation.request.vm_id == vm)
    return sorted(found, key=lambda operation: _began(history, operation))


def _name(operation: Operation) -> str:
    return f"{operation.request.kind} {operation.request.request_id} of {operation.request.vm_id}"


def _act(history: History, operation: Operation) -> float:
    """When a client first asked for it."""
    acts = (*history.scenario.acts, *(act for _, act in history.sent))
    asked = [act.at for act in acts if dict(act.how).get("request_id") == operation.request.request_id]
    return min(asked, default=0.0)


def _began(history: History, operation: Operation) -> float:
    """When it was accepted; where the wall clock was set, and its own times with it, when it was first told of."""
    if not _clock_was_set(history):
        return _seconds(history, operation.create_time)
    heard = [answer.time for answer in history.answers if answer.operation and answer.operation.id == operation.id]
    told = [time for time, seen in history.told if seen.id == operation.id]
    return max(_act(history, operation), min((*heard, *told), default=0.0))


def _ended(history: History, operation: Operation) -> float | None:
    """When its end was first told."""
    told = [time for time, seen in history.told if seen.id == operation.id and seen.state.final]
    answered = [
        answer.time
        for answer in history.answers
        if answer.operation and answer.operation.id == operation.id and answer.operation.state.final
    ]
    return min((*told, *answered), default=None)


def _clock_was_set(history: History) -> bool:
    return any(act.what.startswith("set the clock") for act in history.scenario.acts)


def _told_late(history: History) -> bool:
    return any(act.what in ("slow disk", "fill the disk") for act in history.scenario.acts)


def _judged(history: History, operation: Operation) -> float:
    """When its verdict was made, which may be long before it could be told."""
    if operation.verdict is None or _clock_was_set(history):
        return _ended(history, operation) or 0.0
    return _seconds(history, operation.verdict.end_time)


def _seconds(history: History, time: datetime) -> float:
    """A time by the provider's clock, in true seconds."""
    return (time - EPOCH).total_seconds() - history.scenario.clocks[0]


def _allowing(history: History, cut: Fact) -> list[Operation]:
    """The operations that a cut may be for."""
    return [operation for operation in _of(history, cut.vm) if _allows(history, operation, cut)]


def _looked(history: History, operation: Operation) -> float:
    """When it had read its VM at the latest: when it was first told that something was done."""
    told = [time for time, seen in history.told if seen.id == operation.id and seen.state is not State.PENDING]
    return min(told, default=0.0)


def _on_its_way(history: History) -> float:
    """The longest that a power-off may take from the look before it, in seconds: what begins meanwhile is cut, too."""
    slow = any(act.what in ("be late", "slow disk", "fill the disk") for act in history.scenario.acts)
    return 10.0 if slow else TICK


def _was_off(history: History, operation: Operation) -> bool:
    """Whether it was off at any moment between the request, or the one that it supersedes, and the verdict."""
    before = [history.known[key] for key in operation.supersedes if key in history.known]
    slow = history.killed or _clock_was_set(history) or any(act.what in SLOW for act in history.scenario.acts)
    began = min(_began(history, each) for each in (operation, *before)) - (TICK if slow else 0.0)
    ended, on = _judged(history, operation) + TICK, True
    for fact in history.facts:
        if fact.vm != operation.request.vm_id or fact.what not in (*DOWN, "started", "started by somebody"):
            continue
        if fact.time > began and not on:
            return True
        if fact.time > ended:
            return False
        on = fact.what not in DOWN
    return not on


def _allows(history: History, operation: Operation, cut: Fact) -> bool:  # noqa: PLR0911 - one case after the other
    asked = _act(history, operation)
    if cut.time < asked:
        return False
    if operation.request.kind is Kind.POWER_OFF:
        return cut.what == "cut"
    if operation.request.kind is Kind.POWER_ON:
        return False
    forced = [time for time, act in history.sent if act.what == "Force" and act.vm == cut.vm]
    if cut.what == "cut" and any(asked <= at <= cut.time for at in forced):
        return True
    if cut.what == "saving" and operation.request.escalation is not Escalation.SAVE:
        return False
    if cut.what == "cut" and not _may_force(operation):
        return False
    return _deaf(history, operation, cut) or cut.time >= asked + _time(history, operation, cut)


def _may_force(operation: Operation) -> bool:
    request = operation.request
    falls_back = request.escalation is Escalation.SAVE and request.save_fallback is Escalation.FORCE
    return request.escalation is Escalation.FORCE or falls_back


def _deaf(history: History, operation: Operation, cut: Fact) -> bool:
    """Whether the guest had no way of hearing anything: no button, and an agent that refused or was gone; or saved."""
    power = [fact.what for fact in history.facts if fact.vm == cut.vm and fact.time < cut.time]
    last = [what for what in power if what in DOWN or what.startswith("started")][-1:]
    if last and last[0] in SAVED:
        return True
    behaviour = history.scenario.behaviours[int(cut.vm.removeprefix("vm-"))]
    began = _act(history, operation)
    accepted = [
        fact
        for fact in history.facts
        if fact.what == "asked" and fact.vm == cut.vm and "refused" not in fact.detail and fact.time >= began
    ]
    return not behaviour.acpi and not accepted


def _time(history: History, operation: Operation, cut: Fact) -> float:
    """The shortest time that the guest was promised until then."""
    assert operation.request.timeout
    shortest = operation.request.timeout.total_seconds()
    for answer in history.answers:
        theirs = answer.operation and answer.operation.id == operation.id
        if answer.act.what == "Extend" and theirs and answer.time <= cut.time:
            shortest = answer.act["timeout"]
    for time, act in history.sent:
        if act.what == "Extend" and act.vm == cut.vm and time <= cut.time:
            shortest = min(shortest, act["timeout"])  # one whose answer was lost may count, too
    return max(shortest - TICK - _lost_count(history), 0.0)


def _lost_count(history: History) -> float:
    """By how many seconds a time may be misjudged: across boots nothing counts but the wall clock, and that was set."""
    if all(act.what != "reboot the provider's machine" for act in history.scenario.acts):
        return 0.0
    return sum(abs(float(act["by"])) for act in history.scenario.acts if act.what.startswith("set the clock"))


def _untrue(history: History, operation: Operation, outcome: Outcome) -> str:  # noqa: PLR0911 - one case after the other
    """Why the outcome is not what happened; empty: it is."""
    facts = [fact for fact in history.facts if fact.vm == operation.request.vm_id]
    before = [history.known[key] for key in operation.supersedes if key in history.known]
    began = min(_act(history, each) for each in (operation, *before))
    ended = _ended(history, operation)
    if ended is None:  # it was written down, and its process was killed before it could tell anybody
        ended = math.inf
    offs = [fact for fact in facts if fact.what in OFF and began <= fact.time <= ended]
    if outcome is not Outcome.FORCED:  # how the run ended that was believed to go on when this was accepted
        untold = [fact for fact in facts if fact.what in OFF and began - _untold(history) <= fact.time < began]
        offs = untold[-1:] + offs
    whats = {fact.what for fact in offs}
    match outcome:
        case Outcome.GRACEFUL:
            left = [fact.time for fact in offs if fact.what == "left"]
            asked = [fact.time for fact in facts if fact.what == "asked" and "refused" not in fact.detail]
            if not left:
                return f"it did not shut itself down: {sorted(whats)}"
            return "" if any(time <= max(left) for time in asked) else "it was never asked"
        case Outcome.FORCED:
            return "" if "cut" in whats else f"we did not cut it: {sorted(whats)}"
        case Outcome.SAVED:
            return "" if _was_saved(history, operation, began, ended) else f"it was not saved: {sorted(whats)}"
        case Outcome.CRASHED:
            return "" if "crashed" in whats else f"it did not crash: {sorted(whats)}"
        case Outcome.OUT_OF_BAND:
            return "" if whats & {"left", "cut by somebody"} else f"nobody else switched it off: {sorted(whats)}"
        case Outcome.ALREADY_OFF if operation.request.kind is not Kind.POWER_ON:
            looked = _began(history, operation) + TICK + _untold(history)
            later = [fact.what for fact in offs if fact.time > looked]
            return f"it went off later: {later}" if later else ""
        case Outcome.STILL_RUNNING if operation.verdict and "is saved" in operation.verdict.message:
            return "" if _was_saved(history, operation, began, ended) else "it was not suspended"
        case Outcome.STILL_RUNNING if not (_clock_was_set(history) and _told_late(history)):
            return "" if _was_on(history, operation, _judged(history, operation)) else "it was off"
    return ""


def _was_saved(history: History, operation: Operation, began: float, ended: float) -> bool:
    """Whether its memory was saved at any moment from the request to the verdict."""
    saved = False
    for fact in history.facts:
        if fact.vm != operation.request.vm_id or fact.what not in (*DOWN, "started", "started by somebody"):
            continue
        if saved and fact.time >= began - _untold(history):
            return True
        if fact.time > ended:
            return False
        saved = fact.what in SAVED
    return saved


def _untold(history: History) -> float:
    """The longest that an event is on its way, in seconds: what happened before a request is not known until then."""
    acts = {act.what for act in history.scenario.acts}
    return 10.0 if "events are late" in acts else 2.0 if "be late" in acts else 0.0


def _was_on(history: History, operation: Operation, time: float) -> bool:
    """Whether it ran at this moment, or about then."""
    state, about = True, False
    for fact in history.facts:
        if fact.vm != operation.request.vm_id or fact.what not in (*DOWN, "started", "started by somebody"):
            continue
        if fact.time > time + TICK:
            break
        about = about or abs(fact.time - time) <= 2 * TICK
        state = fact.what not in DOWN
    return state or about


def _may_still_cut(operation: Operation) -> bool:
    """Whether it was told that the hypervisor keeps its deadline: it gave nothing back."""
    return bool(operation.verdict and "the hypervisor may still cut the power" in operation.verdict.message)


def _cut_after(history: History, operation: Operation, answer: Answer, promise: str) -> Iterator[str]:
    later = [each for each in _of(history, operation.request.vm_id) if each.id != operation.id]
    for fact in history.facts:
        ours = fact.what in BY_US and fact.vm == operation.request.vm_id and fact.time > answer.time
        if ours and not any(_allows(history, each, fact) for each in later):
            yield f"{_name(operation)}: {fact.what} at {fact.time:.1f} s after {promise} was answered"


def _is_early(history: History, operation: Operation, answer: Answer) -> bool:
    if answer.operation is None or answer.operation.state is not State.WAITING_FOR_GUEST:
        return False
    if operation.verdict and operation.verdict.reason is Reason.COMMAND_FAILED:  # no time helps who cannot be asked
        return False
    if any(act.what == "Force" for _, act in history.sent):
        return False
    extensions = [each for each in history.answers if each.act.what == "Extend" and each.act.vm == answer.act.vm]
    if len(extensions) > 1:
        return False
    cuts = [fact.time for fact in history.facts if fact.what in BY_US and fact.vm == operation.request.vm_id]
    others = [each for each in _of(history, operation.request.vm_id) if each.id != operation.id]
    due = _act(history, operation) + answer.act["timeout"] - TICK
    return not others and any(answer.sent < cut < due for cut in cuts)


def _another_run(history: History, operation: Operation) -> bool:
    """Whether somebody started or stopped it while the operation was under way."""
    began = _act(history, operation)
    return any(
        fact.time >= began and fact.vm == operation.request.vm_id and "somebody" in fact.what for fact in history.facts
    )
