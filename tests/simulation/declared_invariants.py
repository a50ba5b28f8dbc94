"""What must hold where a controller sees to what owners declare: functions from a history to its breaches."""

from collections.abc import Iterator
from itertools import pairwise

from client.power import ENDED
from controller.enums import DesiredPower, Escalation, SaveFallback
from controller.models import VirtualMachine
from controller.reconcile import Attempt
from protos.power.v1 import power_pb2 as pb
from providers.core.model import Kind, Operation, Outcome, State
from tests.simulation.invariants import SAVED, TICK, _began, _ended, _name, _of
from tests.simulation.play import History

FIRST_PAUSE = {State.FAILED: 30.0, State.SUCCEEDED: 1.0}
"""Seconds from the end of an attempt to the next one; doubled with each."""
LONGEST_PAUSE = {State.FAILED: 3600.0, State.SUCCEEDED: 300.0}


def a_status_is_true(history: History) -> Iterator[str]:
    """In the end it tells the VM's power as it is, and how the last attempt ended."""
    for vm, resource in history.declared.items():
        truth, told = _power(history, vm), resource.status.power_state
        if told != truth:
            yield f"the status of {vm} says {told}, but it is {truth}"
        record = resource.status.operation
        known = history.known.get(record.id) if record else None
        if record and known and known.state.final and record.state not in ENDED:
            yield f"the status of {vm} says that {_name(known)} goes on, but it has ended"


def the_last_verdict_is_told(history: History) -> Iterator[str]:
    """In the end the status tells how the last attempt to bring the VM down ended, whoever made it, and whatever was
    killed or lost."""
    for vm, resource in history.declared.items():
        ours = {each.id for _, each in _attempts(history, vm, resource)}
        attempts = [each for each in _of(history, vm) if each.id in ours or _ended_since_bound(resource, each)]
        ended = [each for each in attempts if _tells_of_a_power_off(each)]
        told = resource.status.last_power_off
        if ended and (told is None or told.operation != ended[-1].id):
            yield f"the status of {vm} does not tell how {_name(ended[-1])} ended"


def what_is_declared_comes_true(history: History) -> Iterator[str]:
    """Unless it may not be forced, and the guest does not go by itself, or somebody has called it off by hand; nothing
    more is written then."""
    for vm, resource in history.declared.items():
        wanted_on = resource.wanted is DesiredPower.ON
        if history.final_power[vm] is not wanted_on:
            left = _may_stay_on(history, vm, resource) or _was_called_off(history, vm, resource)
            if not (left or _was_suspended_by_somebody(history, vm)):
                yield f"{vm} is {'on' if history.final_power[vm] else 'off'}, but {resource.wanted} is declared"
        elif history.writes_when_settled and len(history.declared) == 1:
            yield f"{history.writes_when_settled} writes of the status while nothing was to be done"


def an_attempt_keeps_its_pause(history: History) -> Iterator[str]:
    """Whatever the clocks say: the next attempt of one spec comes after the pause that follows the last one's end."""
    if any(act.what == "set the controller's clock" for act in history.scenario.acts):
        return  # which is all that the next process has to go by
    for vm, resource in history.declared.items():
        for before, after in pairwise(_attempts(history, vm, resource)):
            (first, earlier), (second, later) = before, after
            ended = _ended(history, earlier)
            if first.generation != second.generation or ended is None or earlier.state not in FIRST_PAUSE:
                continue
            pause = min(FIRST_PAUSE[earlier.state] * 2 ** (first.number - 1), LONGEST_PAUSE[earlier.state])
            if (came := _began(history, later)) < ended + pause - TICK:
                yield f"{vm}: attempt {second.number} came {came - ended:.1f} s after the last one had {earlier.state}"


def hooks_run_once_an_attempt(history: History) -> Iterator[str]:
    for vm in history.declared:
        hooks = [hook for each in _of(history, vm) if each.request.kind is Kind.SHUTDOWN for hook in each.request.hooks]
        ran = sum(fact.what == "hook" and fact.vm == vm for fact in history.facts)
        if ran > len(hooks):
            yield f"hooks of {vm} ran {ran} times in attempts with {len(hooks)}"


DECLARED_INVARIANTS = (
    a_status_is_true,
    the_last_verdict_is_told,
    what_is_declared_comes_true,
    an_attempt_keeps_its_pause,
    hooks_run_once_an_attempt,
)


def _power(history: History, vm: str) -> str:
    if vm in history.final_saved:
        return "Suspended"
    return "On" if history.final_power[vm] else "Off"


def _may_stay_on(history: History, vm: str, resource: VirtualMachine) -> bool:
    lifecycle, behaviour = resource.spec.lifecycle, history.scenario.behaviours[int(vm.removeprefix("vm-"))]
    never = lifecycle.escalation in (Escalation.NEVER, Escalation.ASK)
    unsaved = lifecycle.escalation is Escalation.SAVE and lifecycle.save_fallback is not SaveFallback.FORCE
    kept = never or (unsaved and behaviour.saves is None)
    return resource.wanted is DesiredPower.OFF_GRACEFUL and kept


def _ended_since_bound(resource: VirtualMachine, operation: Operation) -> bool:
    bound, verdict = resource.status.vm, operation.verdict
    return bound is not None and verdict is not None and bound.since < verdict.end_time


def _tells_of_a_power_off(operation: Operation) -> bool:
    verdict = operation.verdict
    if operation.request.kind is Kind.POWER_ON or verdict is None:
        return False
    return verdict.outcome is not Outcome.ALREADY_OFF


def _was_suspended_by_somebody(history: History, vm: str) -> bool:
    """Whether that is how it is: `On` leaves it so, for it is not vmpower that suspended it."""
    suspended = [fact.what for fact in history.facts if fact.vm == vm and fact.what in SAVED]
    return vm in history.final_saved and suspended[-1] == "suspended by somebody"


def _was_called_off(history: History, vm: str, resource: VirtualMachine) -> bool:
    """Whether the last attempt for the present spec was: that is somebody's decision, until the spec is changed."""
    record = resource.status.operation
    if record is None or record.generation != resource.metadata.generation:
        return False
    by_hand = any(not Attempt.of(resource.metadata.uid, each.request.request_id) for each in _of(history, vm))
    return by_hand and record.state == pb.OPERATION_STATE_CANCELLED


def _attempts(history: History, vm: str, resource: VirtualMachine) -> list[tuple[Attempt, Operation]]:
    """The controller's, in the order in which they began."""
    found = [(Attempt.of(resource.metadata.uid, each.request.request_id), each) for each in _of(history, vm)]
    return [(attempt, operation) for attempt, operation in found if attempt]
