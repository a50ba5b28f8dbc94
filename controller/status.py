"""The status of a VM, computed from what was observed and done. Pure.

While an operation is under way its power state and forecast stay as they were when it began, so that one
shutdown is three writes: it began, its force_after is known, it ended (and one more at each decision
that is waited for).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from client.errors import ProviderError
from client.power import SHUTDOWNS, has_ended
from client.times import moment
from controller.annotations import PAUSED, mistakes
from controller.binding import Obstacle
from controller.enums import DesiredPower, Escalation
from controller.fields import word
from controller.models import VirtualMachine
from controller.reconcile import (
    SERVED_BY,
    Action,
    Attempt,
    Held,
    Hold,
    Wait,
    is_as_wanted,
    power_is_known,
    serves,
    unheard,
)
from controller.source import Rejected
from controller.status_models import (
    Binding,
    Condition,
    HookStatus,
    LastPowerOff,
    OperationStatus,
    VirtualMachineStatus,
    condition,
    is_true,
)
from protos.power.v1 import power_pb2 as pb

PHASES = {
    pb.OPERATION_KIND_POWER_ON: "PoweringOn",
    pb.OPERATION_KIND_POWER_OFF: "PoweringOff",
    pb.OPERATION_KIND_SHUTDOWN: "ShuttingDown",
    pb.OPERATION_KIND_REBOOT: "Rebooting",
}
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
MOMENT = timedelta(seconds=1)
"""How long a PENDING operation is not yet written: most leave that state within milliseconds."""
LEFT_ALONE = f'{PAUSED}: "true" is set: nothing is begun, and what is under way goes on; remove it to go on.'
HELD = "Run {run} of a plan holds the VM: nothing else is done to it until the run brings it up or releases it."
DRIFT = timedelta(seconds=5)
"""By how much the wall clock may differ from one that does not step; by more, it has been set."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a status is computed from. `trouble` is why the provider cannot be asked, `error` why it refused, `obstacle`
    why the VM is not this resource's; `hypervisor_problem` is why what is known of the VM may be old; `unread`: the VM
    is known from before the end of its operation."""

    now: datetime
    vm: pb.VM | None = None
    operation: pb.Operation | None = None
    action: Action | None = None
    error: ProviderError | None = None
    trouble: ProviderError | None = None
    obstacle: Obstacle | None = None
    hypervisor_problem: str = ""
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A condition without its time."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


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
    old, active = resource.status, _active(seen)
    power = _power(seen.vm) if seen.vm else "Unknown" if seen.obstacle else _power_without_vm(resource)
    if (active or seen.trouble) and old.power_state != "Unknown":
        power = old.power_state
    generation = resource.metadata.generation
    acted = _acted_upon(resource, seen)
    ready = _ready(resource, seen, active)
    if not acted and old.observed_generation != generation and ready.status == "True":
        ready = Statement("Unknown", "Pending", "The present spec is not acted upon yet.")
    statements = {
        "Ready": ready,
        "GracefulShutdownReady": _graceful(resource, seen, old),
        "ProviderReachable": _reachable(seen),
        "HypervisorReachable": _hypervisor(seen),
        "Bound": _bound(resource, seen),
        "Paused": _paused(resource),
        "AnnotationsValid": _annotations(resource),
    }
    return _update(
        old,
        id=seen.vm.id if seen.vm else old.id,
        phase=_phase(active, power),
        power_state=power,
        held_by=_held_by(old, seen),
        last_power_off=_last_as_seen(old.last_power_off, seen),
        observed_generation=generation if acted else old.observed_generation,
        conditions=conditions(old.conditions, statements, seen.now, generation),
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
    known = seen.vm if not (_active(seen) or seen.trouble or seen.hypervisor_problem or seen.unread) else None
    if known is None or known.power_state not in (pb.POWER_STATE_ON, pb.POWER_STATE_OFF):
        return last
    return last.model_copy(update={"resumed": True})


def _acted_upon(resource: VirtualMachine, seen: Observation) -> bool:
    held = isinstance(seen.action, Held)
    hindered = seen.error or seen.trouble or seen.obstacle or resource.metadata.paused or held
    return not hindered and not unheard(seen.action, seen.operation)


def is_news(old: VirtualMachineStatus, new: VirtualMachineStatus) -> bool:
    """Whether `new` says something worth a write after `old`. When an end was learned of is written with the end."""
    return _without_steps(old) != _without_steps(new)


def just_begun(status: VirtualMachineStatus, age: timedelta) -> bool:
    """Whether its operation, which was begun so long ago, is still PENDING after less than MOMENT: its first step, most
    often with the force_after, follows within milliseconds and goes into the same write."""
    record = status.operation
    return record is not None and record.state == pb.OPERATION_STATE_PENDING and age < MOMENT


def conditions(
    old: tuple[Condition, ...], statements: dict[str, Statement | None], now: datetime, generation: int
) -> tuple[Condition, ...]:
    """The conditions with their transition times. A statement of None leaves a condition as it is, or away."""
    known = {condition.type: condition for condition in old}
    for name, said in statements.items():
        before = known.get(name)
        if said is None:
            continue
        since = before.last_transition_time if before and before.status == said.status else now
        known[name] = Condition(
            type=name,
            status=said.status,
            reason=said.reason,
            message=said.message,
            last_transition_time=since,
            observed_generation=generation,
        )
    return tuple(known.values())


def _update(status: VirtualMachineStatus, **change: object) -> VirtualMachineStatus:
    return status.model_copy(update=change)


def _active(seen: Observation) -> pb.Operation | None:
    return seen.operation if seen.operation and not has_ended(seen.operation) else None


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
    return "AwaitingDecision" if active.state == pb.OPERATION_STATE_AWAITING_DECISION else _doing(active)


def _doing(active: pb.Operation) -> str:
    return PHASES.get(active.kind, "Working")


def _power(vm: pb.VM) -> str:
    return word(pb.PowerState, vm.power_state, "Unknown").capitalize()


def _ready(resource: VirtualMachine, seen: Observation, active: pb.Operation | None) -> Statement:
    hindered = _hindered(seen)
    if hindered:
        return hindered
    if isinstance(seen.action, Held):
        return Statement("False", "HeldByPlan", HELD.format(run=seen.action.run))
    if active:
        return _under_way(active)
    if resource.metadata.paused:
        return Statement("Unknown", "LeftAlone", LEFT_ALONE)
    if seen.vm is None:
        return _without_vm(resource, seen)
    return _idle(resource, seen, seen.vm)


def _hindered(seen: Observation) -> Statement | None:
    """Why nothing can be done about the VM."""
    problem = seen.error or seen.obstacle
    if problem:
        return Statement("False", problem.reason, problem.message)
    return Statement("Unknown", seen.trouble.reason, seen.trouble.message) if seen.trouble else None


def _idle(resource: VirtualMachine, seen: Observation, vm: pb.VM) -> Statement:
    """Of a VM without an operation."""
    if seen.hypervisor_problem:
        return Statement("Unknown", "HypervisorUnreachable", seen.hypervisor_problem)
    match resource.wanted:
        case None:
            return Statement("True", "NotManaged", "spec.powerState is not set: power is left as it is")
        case wanted if is_as_wanted(resource, wanted, vm):
            return _as_wanted(vm, wanted)
    return _not_as_wanted(resource, vm, seen.action)


def _under_way(active: pb.Operation) -> Statement:
    if active.state == pb.OPERATION_STATE_AWAITING_DECISION:
        by_hand = f"vmpower force, extend or cancel {active.id}"
        choice = f"{by_hand}, change the spec, or, on Kubernetes, annotate it with vmpower/decision"
        return Statement("False", "AwaitingDecision", f"The guest still runs; decide: {choice}.")
    return Statement("False", _doing(active), f"Operation {active.id} is under way.")


def _as_wanted(vm: pb.VM, wanted: DesiredPower) -> Statement:
    if wanted is not DesiredPower.ON and vm.power_state == pb.POWER_STATE_SUSPENDED:
        return Statement("True", "Saved", "Its memory is saved and it runs nowhere; powerState On resumes it.")
    if vm.power_state == pb.POWER_STATE_PAUSED:
        return Statement(
            "False", "Paused", "The VM is held by its hypervisor; the person or program that paused it resumes it."
        )
    if vm.power_state == pb.POWER_STATE_SUSPENDED:
        return Statement(
            "False",
            "Suspended",
            "The VM is saved by its hypervisor, as hosts do when they shut down; it is resumed there.",
        )
    return Statement("True", _power(vm), "The VM is as the spec wants it.")


def _not_as_wanted(resource: VirtualMachine, vm: pb.VM, action: Action | None) -> Statement:
    if not power_is_known(vm):
        return _power_unknown(vm, "Its provider cannot tell whether it runs: nothing is done.")
    record = resource.status.operation
    why = record.message if record else ""
    match action:
        case Hold():
            return Statement("False", "Cancelled", "The operation was cancelled; change the spec to go on.")
        case Wait(until) if record and record.state == pb.OPERATION_STATE_FAILED:
            return Statement("False", "Failed", f"{why} The next attempt begins at {until:%FT%TZ}.".lstrip())
    return Statement("False", "Pending", "The VM is not yet as the spec wants it.")


def _power_unknown(vm: pb.VM, what: str) -> Statement:
    """`what` that means, and why, in the provider's words."""
    return Statement("Unknown", "PowerUnknown", f"{what} {_problems(vm.forecast)}".rstrip())


def _problems(forecast: pb.Forecast) -> str:
    return " ".join(problem.message for problem in forecast.problems)


def _without_vm(resource: VirtualMachine, seen: Observation) -> Statement:
    if _power_without_vm(resource) == "Off":
        return Statement("True", "Off", "The VM went off and its hypervisor has forgotten it.")
    return Statement("False", "VMNotFound", f"The provider has no VM {resource.vm_name!r}; check spec.vmName.")


def _power_without_vm(resource: VirtualMachine) -> str:
    """A VM without a definition (libvirt: transient) vanishes when it goes off."""
    record, wanted = resource.status.operation, resource.wanted
    kinds = wanted and wanted is not DesiredPower.ON and SERVED_BY[wanted]
    if record and kinds and record.state == pb.OPERATION_STATE_SUCCEEDED and record.kind in kinds:
        return "Off"
    return "Unknown"


def _graceful(resource: VirtualMachine, seen: Observation, old: VirtualMachineStatus) -> Statement | None:
    known = condition(old.conditions, "GracefulShutdownReady") is not None
    if known and (_active(seen) or seen.trouble):
        return None
    if seen.trouble:
        return Statement("Unknown", "NotYetKnown")
    if seen.obstacle:
        return Statement("Unknown", seen.obstacle.reason, "Its VM is not this resource's.")
    if seen.vm is None or seen.vm.power_state == pb.POWER_STATE_OFF or _is_saved_as_wanted(resource, seen.vm):
        return Statement("Unknown", "NotRunning", "There is no guest to ask.")
    if not power_is_known(seen.vm):
        return _power_unknown(seen.vm, "Whether there is a guest to ask cannot be told.")
    return _forecast(seen.vm.forecast, resource.spec.lifecycle.escalation is Escalation.SAVE)


def _is_saved_as_wanted(resource: VirtualMachine, vm: pb.VM) -> bool:
    graceful = resource.wanted is DesiredPower.OFF_GRACEFUL and vm.power_state == pb.POWER_STATE_SUSPENDED
    return graceful and is_as_wanted(resource, DesiredPower.OFF_GRACEFUL, vm)


def _forecast(forecast: pb.Forecast, saves: bool) -> Statement:
    """`saves`: its memory is to be saved at the deadline, so that what keeps it from that is told, too."""
    unsaved = " ".join(problem.message for problem in forecast.save_problems) if saves else ""
    problems = f"{_problems(forecast)} {unsaved}".strip()
    if forecast.graceful:
        signals = ", ".join(word(pb.Signal, signal) for signal in forecast.signals)
        return Statement("True", "Graceful", f"The guest would be asked by {signals}. {problems}".rstrip())
    reasons = (word(pb.Reason, problem.reason, "") for problem in forecast.problems)
    return Statement("False", next(filter(None, reasons), "NotGraceful"), problems)


def _reachable(seen: Observation) -> Statement:
    if seen.trouble and seen.trouble.reason != "HypervisorUnreachable":
        return Statement("False", seen.trouble.reason, seen.trouble.message)
    return Statement("True", "Connected")


def _hypervisor(seen: Observation) -> Statement:
    trouble = seen.trouble
    if trouble and trouble.reason != "HypervisorUnreachable":
        return Statement("Unknown", trouble.reason, "Its provider cannot be asked.")
    problem = trouble.message if trouble else seen.hypervisor_problem
    return Statement("False", "HypervisorUnreachable", problem) if problem else Statement("True", "Connected")


def _bound(resource: VirtualMachine, seen: Observation) -> Statement:
    problem, binding = seen.obstacle or seen.error, resource.status.vm
    if problem and (seen.obstacle or binding is None):
        return Statement("False", problem.reason, problem.message)
    if binding is not None:
        return Statement("True", "Bound", f"VM {binding.id} of {binding.hypervisor}")
    return Statement("Unknown", "NotYetFound", "Its spec has led to no VM yet.")


def _paused(resource: VirtualMachine) -> Statement | None:
    if resource.metadata.paused:
        return Statement("True", "Annotated", LEFT_ALONE)
    return Statement("False", "NotAnnotated") if condition(resource.status.conditions, "Paused") else None


def _annotations(resource: VirtualMachine) -> Statement | None:
    found = " ".join(mistakes(resource.metadata.annotations))
    if found:
        return Statement("False", "InvalidAnnotation", found)
    return Statement("True", "Valid") if condition(resource.status.conditions, "AnnotationsValid") else None


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
