"""The status of a VM, computed from what was observed and done. Pure.

While an operation is under way its power state and forecast stay as they were when it began, so that one
shutdown is three writes: it began, its force_after is known, it ended (and one more at each decision
that is waited for).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from client.errors import ProviderError
from controller.enums import DesiredPower, Kind, PowerState, State
from controller.models import VirtualMachine
from controller.provider_api import VM, Forecast, Operation, Verdict
from controller.reconcile import SATISFIED_BY, SERVED_BY, Action, Attempt, Hold, Wait, serves, unheard
from controller.status_models import Condition, HookStatus, LastPowerOff, OperationStatus, VirtualMachineStatus

PHASES = {
    Kind.POWER_ON: "PoweringOn",
    Kind.POWER_OFF: "PoweringOff",
    Kind.SHUTDOWN: "ShuttingDown",
    Kind.REBOOT: "Rebooting",
    Kind.UNSPECIFIED: "Working",
}
NO_POWER_OFF = {"ALREADY_OFF", "ALREADY_ON", "STARTED", "UNSPECIFIED"}
"""Outcomes of operations that did not bring the VM down."""
MOMENT = timedelta(seconds=1)
"""How long a PENDING operation is not yet written: most leave that state within milliseconds."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a status is computed from. `trouble` is why the provider cannot be asked, `error` why it refused."""

    now: datetime
    vm: VM | None = None
    operation: Operation | None = None
    action: Action | None = None
    error: ProviderError | None = None
    trouble: ProviderError | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A condition without its time."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def started(
    resource: VirtualMachine, operation: Operation, attempt: Attempt, timeout: timedelta | None
) -> VirtualMachineStatus:
    """The status once the provider has taken on an attempt."""
    record = OperationStatus(
        id=operation.id,
        kind=operation.kind,
        state=State.PENDING,
        start_time=operation.create_time,
        timeout=timeout,
        generation=attempt.generation,
        attempt=attempt.number,
    )
    return _update(resource.status, operation=record)


def recognised(resource: VirtualMachine, operation: Operation) -> VirtualMachineStatus:
    """The status once an operation is ours by its request_id: a controller was killed before it wrote that."""
    meta, record = resource.metadata, resource.status.operation
    attempt = Attempt.of(meta.uid, operation.request_id)
    if attempt is None or (record and (record.id == operation.id or record.start_time > operation.create_time)):
        return resource.status
    wrote = resource.spec.lifecycle.graceful_shutdown_timeout
    return started(resource, operation, attempt, wrote if attempt.generation == meta.generation else operation.timeout)


def heard(status: VirtualMachineStatus, operation: Operation, now: datetime) -> VirtualMachineStatus:
    """The status after news of an operation, ours or not."""
    record, verdict = status.operation, operation.verdict
    if record is not None and record.id == operation.id:
        ended = (verdict.end_time if verdict else now) if operation.state.final else None
        change = {
            "state": operation.state,
            "force_after": operation.force_after,
            "end_time": record.end_time or ended,
            "message": operation.error,
        }
        status = _update(status, operation=record.model_copy(update=change))
    if verdict is None or verdict.outcome in NO_POWER_OFF:
        return status
    return _update(status, last_power_off=_last_power_off(operation, verdict))


def carried_over(
    resource: VirtualMachine, operation: Operation, timeout: timedelta | None = None
) -> VirtualMachineStatus:
    """The status once our operation, begun for an older spec, serves the present one; `timeout` is what it now has."""
    record = resource.status.operation
    if record is None or record.id != operation.id:
        return resource.status
    generation = resource.metadata.generation if serves(resource, operation) else record.generation
    change = {"generation": generation, "timeout": timeout or record.timeout}
    return _update(resource.status, operation=record.model_copy(update=change))


def lost(status: VirtualMachineStatus, operation: str) -> VirtualMachineStatus:
    """The status once the provider does not know our operation: without an id it is requested again."""
    record = status.operation
    if record is None or record.id != operation:
        return status
    return _update(status, operation=record.model_copy(update={"id": ""}))


def report(resource: VirtualMachine, seen: Observation) -> VirtualMachineStatus:
    """The whole status as of now."""
    old, active = resource.status, _active(seen)
    power = seen.vm.power_state.value if seen.vm else _power_without_vm(resource, seen)
    if (active or seen.trouble) and old.power_state != PowerState.UNSPECIFIED.value:
        power = old.power_state
    acted = seen.error is None and seen.trouble is None and not unheard(seen.action, seen.operation)
    statements = {
        "Ready": _ready(resource, seen, active),
        "GracefulShutdownReady": _graceful(seen, old),
        "ProviderReachable": _reachable(seen),
    }
    return _update(
        old,
        id=seen.vm.id if seen.vm else old.id,
        phase=_phase(active, power),
        power_state=power,
        observed_generation=resource.metadata.generation if acted else old.observed_generation,
        conditions=conditions(old.conditions, statements, seen.now, resource.metadata.generation),
    )


def is_news(old: VirtualMachineStatus, new: VirtualMachineStatus) -> bool:
    """Whether `new` says something worth a write after `old`."""
    return _without_steps(old) != _without_steps(new)


def just_begun(status: VirtualMachineStatus, now: datetime) -> bool:
    """Whether its operation began less than MOMENT ago and is still PENDING: its first step, most often with the
    force_after, follows within milliseconds and goes into the same write."""
    record = status.operation
    return record is not None and record.state is State.PENDING and now - record.start_time < MOMENT


def conditions(
    old: tuple[Condition, ...], statements: dict[str, Statement | None], now: datetime, generation: int
) -> tuple[Condition, ...]:
    """The conditions with their transition times. A statement of None leaves a condition as it is."""
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


def _active(seen: Observation) -> Operation | None:
    return seen.operation if seen.operation and not seen.operation.state.final else None


def _without_steps(status: VirtualMachineStatus) -> VirtualMachineStatus:
    record = status.operation
    if record is None or record.state.final or record.state is State.AWAITING_DECISION:
        return status
    return _update(status, operation=record.model_copy(update={"state": State.PENDING}))


def _phase(active: Operation | None, power: str) -> str:
    if active is None:
        return "Running" if power == PowerState.ON.value else power
    return "AwaitingDecision" if active.state is State.AWAITING_DECISION else PHASES[active.kind]


def _ready(resource: VirtualMachine, seen: Observation, active: Operation | None) -> Statement:
    problem = seen.error or seen.trouble
    if problem:
        return Statement("False" if seen.error else "Unknown", problem.reason, problem.message)
    if active:
        return _under_way(active)
    if seen.vm is None:
        return _without_vm(resource, seen)
    match resource.wanted:
        case None:
            return Statement("True", "NotManaged", "spec.powerState is not set: power is left as it is")
        case wanted if seen.vm.power_state in SATISFIED_BY[wanted]:
            return _as_wanted(seen.vm)
    return _not_as_wanted(resource, seen.vm, seen.action)


def _under_way(active: Operation) -> Statement:
    if active.state is State.AWAITING_DECISION:
        choice = f"vmpower force, extend or cancel {active.id}, change the spec, or annotate it with vmpower/decision"
        return Statement("False", "AwaitingDecision", f"The guest still runs; decide: {choice}.")
    return Statement("False", PHASES[active.kind], f"Operation {active.id} is under way.")


def _as_wanted(vm: VM) -> Statement:
    if vm.power_state is PowerState.PAUSED:
        return Statement("False", "Paused", "Somebody holds the VM; whoever paused it resumes it.")
    return Statement("True", vm.power_state.value, "The VM is as the spec wants it.")


def _not_as_wanted(resource: VirtualMachine, vm: VM, action: Action | None) -> Statement:
    if vm.power_state is PowerState.UNSPECIFIED:
        return Statement("Unknown", "PowerUnknown", "Its provider cannot tell whether it runs: nothing is done.")
    record = resource.status.operation
    why = record.message if record else ""
    match action:
        case Hold():
            return Statement("False", "Cancelled", "The operation was cancelled; change the spec to go on.")
        case Wait(until) if record and record.state is State.FAILED:
            return Statement("False", "Failed", f"{why} The next attempt begins at {until:%FT%TZ}.".lstrip())
    return Statement("False", "Pending", "The VM is not yet as the spec wants it.")


def _without_vm(resource: VirtualMachine, seen: Observation) -> Statement:
    if _power_without_vm(resource, seen) == PowerState.OFF.value:
        return Statement("True", "Off", "The VM went off and its hypervisor has forgotten it.")
    return Statement("False", "VMNotFound", f"The provider has no VM {resource.vm_name!r}; check spec.vmName.")


def _power_without_vm(resource: VirtualMachine, seen: Observation) -> str:
    """A VM without a definition (libvirt: transient) vanishes when it goes off."""
    record, wanted = resource.status.operation, resource.wanted
    kinds = wanted and wanted is not DesiredPower.ON and SERVED_BY[wanted]
    if record and kinds and record.state is State.SUCCEEDED and record.kind in kinds:
        return PowerState.OFF.value
    return PowerState.UNSPECIFIED.value


def _graceful(seen: Observation, old: VirtualMachineStatus) -> Statement | None:
    known = any(condition.type == "GracefulShutdownReady" for condition in old.conditions)
    if known and (_active(seen) or seen.trouble):
        return None
    if seen.trouble:
        return Statement("Unknown", "NotYetKnown")
    if seen.vm is None or seen.vm.power_state is PowerState.OFF:
        return Statement("Unknown", "NotRunning", "There is no guest to ask.")
    return _forecast(seen.vm.forecast)


def _forecast(forecast: Forecast) -> Statement:
    problems = " ".join(forecast.problems)
    if forecast.graceful:
        signals = f"The guest would be asked by {', '.join(forecast.signals)}."
        return Statement("True", "Graceful", f"{signals} {problems}".rstrip())
    return Statement("False", forecast.reason or "NotGraceful", problems)


def _reachable(seen: Observation) -> Statement:
    if seen.trouble:
        return Statement("False", seen.trouble.reason, seen.trouble.message)
    return Statement("True", "Connected")


def _last_power_off(operation: Operation, verdict: Verdict) -> LastPowerOff:
    timeout = operation.timeout if operation.kind in {Kind.SHUTDOWN, Kind.REBOOT} else None
    hooks = (
        HookStatus(
            name=hook.name,
            state=hook.state,
            exit_code=hook.exit_code,
            output=hook.output,
            duration_seconds=hook.duration.total_seconds(),
        )
        for hook in verdict.hooks
    )
    return LastPowerOff(
        operation=operation.id,
        outcome=verdict.outcome,
        reason=verdict.reason,
        signal=verdict.signal,
        start_time=verdict.start_time,
        completion_time=verdict.end_time,
        duration_seconds=(verdict.end_time - verdict.start_time).total_seconds(),
        timeout_seconds=timeout.total_seconds() if timeout else None,
        hooks=tuple(hooks),
        message=verdict.message,
    )
