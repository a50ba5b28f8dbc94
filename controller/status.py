"""The status of a VM, computed from what was observed and done. Pure.

While an operation is under way its power state and forecast stay as they were when it began, so that one
shutdown is three writes: it began, its force_after is known, it ended (and one more at each decision
that is waited for: that may take long, so the power state is told as it is).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from client.errors import ProviderError
from client.power import SHUTDOWNS, has_ended
from client.times import moment
from controller.fields import word
from controller.models import VirtualMachine
from controller.reconcile import (
    Attempt,
    Held,
    serves,
)
from controller.source import Rejected
from controller.status_models import (
    Binding,
    Condition,
    HookStatus,
    LastPowerOff,
    OperationStatus,
    Statement,
    VirtualMachineStatus,
    conditions,
    is_true,
)
from controller.vm_conditions import (
    Observation,
    doing,
    graceful,
    is_acted_upon,
    power_without_vm,
    power_word,
    statements,
)
from protos.power.v1 import power_pb2 as pb

POWER_OFF_OUTCOMES = {
    pb.OUTCOME_GRACEFUL,
    pb.OUTCOME_FORCED,
    pb.OUTCOME_CRASHED,
    pb.OUTCOME_OUT_OF_BAND,
    pb.OUTCOME_STILL_RUNNING,
    pb.OUTCOME_UNKNOWN,
    pb.OUTCOME_SAVED,
}
"""How an operation that was to bring a VM down can end, the attempt in vain too; not that it was off already."""
DOWN_BY = {
    pb.OUTCOME_GRACEFUL: pb.POWER_STATE_OFF,
    pb.OUTCOME_FORCED: pb.POWER_STATE_OFF,
    pb.OUTCOME_CRASHED: pb.POWER_STATE_OFF,
    pb.OUTCOME_OUT_OF_BAND: pb.POWER_STATE_OFF,
    pb.OUTCOME_ALREADY_OFF: pb.POWER_STATE_OFF,
    pb.OUTCOME_SAVED: pb.POWER_STATE_SUSPENDED,
}
"""How a VM is after an operation that left it down, or found it so."""
DOWN = frozenset(DOWN_BY.values())
MOMENT = timedelta(seconds=1)
"""How long a PENDING operation is not yet written: most leave that state within milliseconds."""
DRIFT = timedelta(seconds=5)
"""By how much the wall clock may differ from one that does not step; by more, it has been set."""


def as_it_begins(resource: VirtualMachine, vm: pb.VM, now: datetime) -> VirtualMachineStatus:
    """The status with the VM's power and forecast as they are when an operation begins."""
    said = {"GracefulShutdownReady": graceful(resource, Observation(now, vm))}
    known = conditions(resource.status.conditions, said, now, resource.metadata.generation)
    return _update(resource.status, power_state=power_word(vm), conditions=known)


def started(
    resource: VirtualMachine, operation: pb.Operation, attempt: Attempt, timeout: timedelta | None
) -> VirtualMachineStatus:
    """The status once the provider has taken on an attempt."""
    record = OperationStatus(
        id=operation.id,
        kind=operation.kind,
        state=pb.OPERATION_STATE_PENDING,
        start_time=moment(operation.create_time),
        timeout=timeout,
        generation=attempt.generation,
        attempt=attempt.number,
        reason=operation.reason,
    )
    return _update(resource.status, operation=record)


def recognised(resource: VirtualMachine, operation: pb.Operation) -> VirtualMachineStatus:
    """The status once an operation is ours by its request_id: a controller was killed before it wrote that."""
    meta, record = resource.metadata, resource.status.operation
    attempt = Attempt.of(meta.uid, operation.request_id)
    if attempt is None or (record and (record.id == operation.id or record.start_time > moment(operation.create_time))):
        return resource.status
    wrote = resource.spec.lifecycle.graceful_shutdown_timeout
    timeout = wrote if attempt.generation == meta.generation else _timeout(operation)
    return started(resource, operation, attempt, timeout)


def missed(resource: VirtualMachine, newest: Sequence[pb.Operation]) -> list[pb.Operation]:
    """Of the operations on its VM, newest first, those that have ended and that the status does not tell of yet, oldest
    first. What others asked for counts if it ended after the resource was bound to the VM."""
    return [each for each in reversed(newest) if has_ended(each) and _is_news(resource, each)]


def accounts_for(ended: pb.Operation, vm: pb.VM) -> bool:
    """Whether the VM is as this operation left it, and no other one came in its way."""
    if ended.state == pb.OPERATION_STATE_CANCELLED or ended.verdict.reason == pb.REASON_PREEMPTED:
        return False
    left = DOWN_BY.get(ended.verdict.outcome)
    return vm.power_state not in DOWN if left is None else vm.power_state == left


def _is_news(resource: VirtualMachine, operation: pb.Operation) -> bool:
    record, last = resource.status.operation, resource.status.last_power_off
    if record is not None and record.id == operation.id:
        return not record.ended
    attempt, began = Attempt.of(resource.metadata.uid, operation.request_id), moment(operation.create_time)
    is_later = record is None or record.start_time < began
    if last is None:
        return attempt is not None or (record is not None and is_later) or _ended_since_bound(resource, operation)
    if attempt is not None and record is not None and last.operation == record.id:  # whatever the clocks said
        return (attempt.generation, attempt.number) > (record.generation, record.attempt)
    return last.start_time < began and (is_later or operation.verdict.outcome in POWER_OFF_OUTCOMES)


def _ended_since_bound(resource: VirtualMachine, operation: pb.Operation) -> bool:
    bound = resource.status.vm
    return bound is not None and bound.since < moment(operation.verdict.end_time)


def heard(status: VirtualMachineStatus, operation: pb.Operation, now: datetime) -> VirtualMachineStatus:
    """The status after news of an operation, ours or not."""
    if record := status.record_of(operation.id):
        ended = moment(operation.verdict.end_time) if operation.HasField("verdict") else now
        change = {
            "state": operation.state,
            "force_after": force_after(operation),
            "end_time": record.end_time or (ended if has_ended(operation) else None),
            "observed_end_time": record.observed_end_time or (now if has_ended(operation) else None),
            "message": operation.error.message,
        }
        status = _update(status, operation=record.model_copy(update=change))
    if operation.verdict.outcome in POWER_OFF_OUTCOMES and not _lost_at_start(operation):
        told, known = _last_power_off(operation), status.last_power_off
        return _update(status, last_power_off=told.model_copy(update={"resumed": _resumed(known, told)}))
    return status


def _resumed(known: LastPowerOff | None, told: LastPowerOff) -> bool | None:
    """Whether a VM whose memory was saved runs again, for all that is known once `told` is heard, after `known`."""
    if known is not None and known.operation == told.operation:
        return known.resumed
    left_as_it_was = told.outcome in ("STILL_RUNNING", "UNKNOWN")  # whatever its reason: it ended no run of the VM
    return False if known is not None and known.left_saved and left_as_it_was else None


def bound(status: VirtualMachineStatus, binding: Binding) -> VirtualMachineStatus:
    """The status of a resource that is bound to a VM; of another VM than before nothing is known yet."""
    before = status.vm
    if before and before.first_attempt != binding.first_attempt:
        status = _update(status, operation=None, last_power_off=None)
    return _update(status, vm=binding, id=binding.id)


def adopted(resource: VirtualMachine, operation: pb.Operation) -> VirtualMachineStatus:
    """The status of a resource whose VM has an operation that a resource which is gone had asked for: it is this one's
    now, and is no attempt of its own."""
    bound_to = resource.status.vm
    before = (bound_to.first_attempt if bound_to else 1) - 1
    attempt = Attempt(resource.metadata.uid, resource.metadata.generation, before)
    return started(resource, operation, attempt, _timeout(operation))


def given_up(status: VirtualMachineStatus, operation: pb.Operation, now: datetime) -> VirtualMachineStatus:
    """The status of a resource that was deleted during its shutdown. No person cancelled that: where the resource comes
    back, the guest is asked again."""
    status = heard(status, operation, now)
    record = status.record_of(operation.id)
    if record is None or record.state != pb.OPERATION_STATE_CANCELLED:
        return status
    change = {"state": pb.OPERATION_STATE_FAILED, "message": "Given up: the resource was deleted."}
    return _update(status, operation=record.model_copy(update=change))


def departed(status: VirtualMachineStatus, now: datetime) -> VirtualMachineStatus:
    """What is left of the status of a resource that is gone: an operation that goes on at its VM is not followed, so
    how the VM is in the end is not known."""
    said = Statement("Unknown", "NotDeclared", "The resource is gone: its VM is left as it is, and is not looked at.")
    known = conditions(status.conditions, {"Ready": said}, now, status.observed_generation)
    goes_on = status.operation is not None and not status.operation.ended
    power = "Unknown" if goes_on else status.power_state
    return _update(status, power_state=power, phase=_phase(None, power), conditions=known)


def unconfirmed(resource: VirtualMachine, error: ProviderError, now: datetime) -> VirtualMachineStatus:
    """The status while nothing could be done yet about the present spec, since its provider does not answer: it is not
    ready by what was true of an older one."""
    old, generation = resource.status, resource.metadata.generation
    if not is_true(old.conditions, "Ready") or old.observed_generation == generation:
        return old
    said = Statement("Unknown", "ProviderUnreachable", f"{error.message} The present spec is not acted upon yet.")
    return _update(old, conditions=conditions(old.conditions, {"Ready": said}, now, generation))


def rejected(change: Rejected, old: tuple[Condition, ...], now: datetime) -> tuple[Condition, ...]:
    """The conditions of a resource whose spec cannot be acted upon."""
    return conditions(old, {"Ready": Statement("False", change.reason, change.message)}, now, change.generation)


def _lost_at_start(operation: pb.Operation) -> bool:
    """A VM that is not there any more when it is to be started: nothing is told of how it went down."""
    return operation.kind == pb.OPERATION_KIND_POWER_ON and operation.verdict.outcome == pb.OUTCOME_UNKNOWN


def end_observed(status: VirtualMachineStatus, ago: timedelta, now: datetime) -> VirtualMachineStatus:
    """The status whose operation was learned to have ended so long ago, by a clock that does not step: where the wall
    clock has been set since, a pause that is counted from there would end at once or an hour late."""
    record, then = status.operation, now - ago
    if record is None or (record.observed_end_time and abs(record.observed_end_time - then) <= DRIFT):
        return status
    return _update(status, operation=record.model_copy(update={"observed_end_time": then}))


def force_after(operation: pb.Operation) -> datetime | None:
    """Aware; None where there is none (yet)."""
    return moment(operation.force_after) if operation.HasField("force_after") else None


def carried_over(
    resource: VirtualMachine, operation: pb.Operation, timeout: timedelta | None = None
) -> VirtualMachineStatus:
    """The status once our operation, begun for an older spec, serves the present one; `timeout` is what it now has."""
    record = resource.status.record_of(operation.id)
    if record is None:
        return resource.status
    generation = resource.metadata.generation if serves(resource, operation) else record.generation
    change = {"generation": generation, "timeout": timeout or record.timeout}
    return _update(resource.status, operation=record.model_copy(update=change))


def lost(status: VirtualMachineStatus, operation: str) -> VirtualMachineStatus:
    """The status once the provider does not know our operation: without an id it is requested again."""
    record = status.record_of(operation)
    return _update(status, operation=record.model_copy(update={"id": ""})) if record else status


def report(resource: VirtualMachine, seen: Observation) -> VirtualMachineStatus:
    """The whole status as of an observation."""
    old, active = resource.status, seen.active
    power = power_word(seen.vm) if seen.vm else "Unknown" if seen.obstacle else power_without_vm(resource)
    under_way = active is not None and active.state != pb.OPERATION_STATE_AWAITING_DECISION
    if (under_way or seen.trouble) and old.power_state != "Unknown":
        power = old.power_state
    generation = resource.metadata.generation
    acted = is_acted_upon(resource, seen)
    return _update(
        old,
        id=seen.vm.id if seen.vm else old.id,
        phase=_phase(active, power),
        power_state=power,
        held_by=_held_by(old, seen),
        last_power_off=_last_as_seen(old.last_power_off, seen),
        observed_generation=generation if acted else old.observed_generation,
        conditions=conditions(old.conditions, statements(resource, seen, acted), seen.now, generation),
    )


def _held_by(old: VirtualMachineStatus, seen: Observation) -> str | None:
    """The run that holds the VM, as last known while its provider cannot be asked."""
    if seen.trouble:
        return old.held_by
    return seen.action.run if isinstance(seen.action, Held) else None


def _last_as_seen(last: LastPowerOff | None, seen: Observation) -> LastPowerOff | None:
    """What was SAVED and is on or off now is so no more: if it is suspended again later, somebody else did that."""
    if last is None or not last.left_saved:
        return last
    known = seen.vm if not (seen.active or seen.trouble or seen.hypervisor_problem or seen.unread) else None
    if known is None or known.power_state not in (pb.POWER_STATE_ON, pb.POWER_STATE_OFF):
        return last
    return last.model_copy(update={"resumed": True})


def is_news(old: VirtualMachineStatus, new: VirtualMachineStatus) -> bool:
    """Whether `new` says something worth a write after `old`. When an end was learned of is written with the end."""
    return _without_steps(old) != _without_steps(new)


def just_begun(status: VirtualMachineStatus, age: timedelta) -> bool:
    """Whether its operation, which was begun so long ago, is still PENDING after less than MOMENT: its first step, most
    often with the force_after, follows within milliseconds and goes into the same write."""
    record = status.operation
    return record is not None and record.state == pb.OPERATION_STATE_PENDING and age < MOMENT


def _update(status: VirtualMachineStatus, **change: object) -> VirtualMachineStatus:
    return status.model_copy(update=change)


def _without_steps(status: VirtualMachineStatus) -> VirtualMachineStatus:
    record = status.operation
    if record is None:
        return status
    stays = record.ended or record.state == pb.OPERATION_STATE_AWAITING_DECISION
    state = record.state if stays else pb.OPERATION_STATE_PENDING
    return _update(status, operation=record.model_copy(update={"state": state, "observed_end_time": None}))


def _phase(active: pb.Operation | None, power: str) -> str:
    if active is None:
        return "Running" if power == "On" else power
    return "AwaitingDecision" if active.state == pb.OPERATION_STATE_AWAITING_DECISION else doing(active)


def _timeout(operation: pb.Operation) -> timedelta | None:
    return operation.timeout.ToTimedelta() if operation.HasField("timeout") else None


def _last_power_off(operation: pb.Operation) -> LastPowerOff:
    verdict = operation.verdict
    began, ended = moment(verdict.start_time), moment(verdict.end_time)
    timeout = _timeout(operation) if operation.kind in SHUTDOWNS else None
    hooks = (
        HookStatus(
            name=hook.name,
            state=word(pb.HookState, hook.state),
            exit_code=hook.exit_code,
            output=hook.output,
            duration_seconds=hook.duration.ToTimedelta().total_seconds(),
        )
        for hook in verdict.hooks
    )
    return LastPowerOff(
        operation=operation.id,
        outcome=word(pb.Outcome, verdict.outcome),
        reason=word(pb.Reason, verdict.reason, ""),
        signal=word(pb.Signal, verdict.signal, ""),
        start_time=began,
        completion_time=ended,
        duration_seconds=(ended - began).total_seconds(),
        timeout_seconds=timeout.total_seconds() if timeout else None,
        hooks=tuple(hooks),
        message=verdict.message,
        requested_by=operation.requested_by,
        on_behalf_of=operation.on_behalf_of,
        request_reason=operation.reason,
    )
