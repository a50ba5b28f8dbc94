"""The decision: the spec, the observed VM and the active operation become one action. Pure.

`OffGraceful` is a way: a VM that is seen Off satisfies it, and so everything settles. A VM that leaves
the state its spec names is brought back, after a pause that grows with each attempt:

    the last operation of this spec   the next one begins
    none                              at once
    SUCCEEDED (the VM drifted)        1 s after its end was learned of, doubling, at most 5 min
    FAILED (STILL_RUNNING too)        30 s after its end was learned of, doubling, at most 1 h
    CANCELLED                         when the spec is changed: a person's decision stands

The pause is by this controller's clock alone; the provider's may be another.

An operation that another client started is left to its end, unless the spec was changed since or wants the
VM hard off. A paused or suspended VM counts as on: it was paused, or saved when its host shut down, and is not
resumed. One that has not run since a shutdown saved its memory (escalation Save), whoever asked for that, has drifted
like one that is off; and with that escalation a suspended VM is as far down as OffGraceful asks. A VM that is not
there, or whose power is not known, is neither started nor cut, whatever is under way: it may run on another host. A
resource that is annotated vmpower/paused is left alone: what is under way goes on. So is one whose VM a run of a plan
holds: the run brings it down, and up again.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from client.power import has_ended
from controller.enums import DesiredPower, Escalation, SaveFallback
from controller.fields import word
from controller.models import Lifecycle, VirtualMachine
from controller.status_models import OperationStatus, is_true
from protos.power.v1 import power_pb2 as pb

RETRY = {
    pb.OPERATION_STATE_SUCCEEDED: (timedelta(seconds=1), timedelta(minutes=5)),
    pb.OPERATION_STATE_FAILED: (timedelta(seconds=30), timedelta(hours=1)),
}
KNOWN_POWER = {pb.POWER_STATE_ON, pb.POWER_STATE_OFF, pb.POWER_STATE_PAUSED, pb.POWER_STATE_SUSPENDED}
SATISFIED_BY = {
    DesiredPower.ON: {pb.POWER_STATE_ON, pb.POWER_STATE_PAUSED, pb.POWER_STATE_SUSPENDED},
    DesiredPower.OFF: {pb.POWER_STATE_OFF},
    DesiredPower.OFF_GRACEFUL: {pb.POWER_STATE_OFF},
}
DECIDES = {Escalation.NEVER, Escalation.SAVE}
"""What ends the wait for a decision by another attempt."""
SERVED_BY = {
    DesiredPower.ON: {pb.OPERATION_KIND_POWER_ON},
    DesiredPower.OFF: {pb.OPERATION_KIND_POWER_OFF, pb.OPERATION_KIND_SHUTDOWN},
    DesiredPower.OFF_GRACEFUL: {pb.OPERATION_KIND_SHUTDOWN},
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One operation for a resource; the same attempt is the same operation, also after restarts."""

    uid: str
    generation: int
    number: int

    @property
    def request_id(self) -> str:
        """Sent with the request, so that the provider recognises an attempt that it knows."""
        return f"{self.uid}-{self.generation}-{self.number}"

    @classmethod
    def of(cls, uid: str, request_id: str) -> Self | None:
        """The attempt for this resource that bears this request_id; None where another client made it."""
        found = re.fullmatch(re.escape(uid) + r"-(\d+)-(\d+)", request_id, re.ASCII)
        return cls(uid, int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True, slots=True)
class Nothing:
    """The VM is as wanted, or cannot be acted upon."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A person cancelled the operation: the next move is theirs."""


@dataclass(frozen=True, slots=True)
class Held:
    """A run of a plan holds the VM. `id` is an operation that is under way, of which news is heard; empty: none."""

    run: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """The next attempt is not due before `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class _Begin:
    attempt: Attempt


class PowerOn(_Begin):
    """Start the VM."""


class PowerOff(_Begin):
    """Cut its power."""


@dataclass(frozen=True, slots=True)
class StartShutdown(_Begin):
    """Bring it down gracefully. `force_after` is set where an earlier call has settled it."""

    force_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Steer:
    id: str


class Watch(_Steer):
    """The operation `id` is under way."""


@dataclass(frozen=True, slots=True)
class Extend(_Steer):
    """The owner changed the timeout of a running shutdown."""

    timeout: timedelta


class Force(_Steer):
    """The owner wants it off now."""


class Cancel(_Steer):
    """The operation would do what the owner no longer wants."""


Start = PowerOn | PowerOff | StartShutdown
Action = Nothing | Hold | Held | Wait | Watch | Start | Extend | Force | Cancel


def reconcile(
    resource: VirtualMachine,
    vm: pb.VM | None,
    operation: pb.Operation | None,
    now: datetime,
    held_by: str = "",
    *,
    saved_by: str = "",
) -> Action:
    """Decide the next action.

    Args:
        resource: with its status as last written.
        vm: the VM that it is bound to as its provider reports it, None where there is no such VM.
        operation: the last one on this VM that we have heard of, ended or not.
        now: for pauses between attempts; aware.
        held_by: the run of a plan that holds the VM; empty: none.
        saved_by: the operation by which that run has saved the VM's memory; empty: it has not.
    """
    if held_by:
        active = operation.id if operation is not None and not has_ended(operation) else ""
        unheard_of = _unheard_of(resource.status.operation, vm, operation) or active
        return Held(held_by, unheard_of or _unheard_save(resource, vm, saved_by))
    if operation is not None and not has_ended(operation):
        action = Watch(operation.id) if resource.metadata.paused else _steer(resource, operation)
        safe = (vm is not None and power_is_known(vm)) or isinstance(action, Watch | Extend | Cancel)
        return action if safe else Watch(operation.id)
    another = _unheard_of(resource.status.operation, vm, operation)
    if another:
        return Watch(another)
    wanted = resource.wanted
    if vm is None or wanted is None or resource.metadata.paused or not power_is_known(vm):
        return Nothing()
    if is_as_wanted(resource, wanted, vm):
        return Nothing()
    return _begin(resource, wanted, now)


def is_as_wanted(resource: VirtualMachine, wanted: DesiredPower, vm: pb.VM) -> bool:
    """Whether a VM without an operation is in a power state that the spec is satisfied by."""
    if vm.power_state != pb.POWER_STATE_SUSPENDED:
        return vm.power_state in SATISFIED_BY[wanted]
    match wanted:
        case DesiredPower.ON:
            return not _was_saved(resource)
        case DesiredPower.OFF_GRACEFUL:
            return resource.spec.lifecycle.escalation is Escalation.SAVE
    return False


def _was_saved(resource: VirtualMachine) -> bool:
    """Whether the VM's memory was saved by an operation, this resource's, a plan's or a person's, and not resumed."""
    last = resource.status.last_power_off
    return last is not None and last.left_saved


def power_is_known(vm: pb.VM) -> bool:
    """Whether its provider can tell, in a word that this controller knows: nothing else is taken for on or off."""
    return vm.power_state in KNOWN_POWER


def has_drifted(resource: VirtualMachine, vm: pb.VM | None, action: Action) -> bool:
    """Whether the VM left the state that the present spec names, and that it was in, without an operation."""
    ready = is_true(resource.status.conditions, "Ready")
    acted_upon = resource.status.observed_generation == resource.metadata.generation
    leaves = vm is not None and isinstance(action, Wait | PowerOn | PowerOff | StartShutdown)
    return ready and acted_upon and leaves and not resource.metadata.leaving


def serves(resource: VirtualMachine, operation: pb.Operation) -> bool:
    """Whether `operation` brings about what the present spec wants, in the way it wants it."""
    wanted, lifecycle = resource.wanted, resource.spec.lifecycle
    if wanted is None or operation.kind not in SERVED_BY[wanted]:
        return False
    if wanted is not DesiredPower.OFF_GRACEFUL or lifecycle.escalation is None:
        return True
    saves = lifecycle.escalation is Escalation.SAVE
    as_wanted = not saves or _forces_unsaved(operation) == (lifecycle.save_fallback is SaveFallback.FORCE)
    return lifecycle.escalation is _escalation(operation) and as_wanted


def requester(operation: pb.Operation) -> str:
    """The uid of the resource that an operation was asked for; empty where a person or another program asked."""
    found = re.fullmatch(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-\d+-\d+", operation.request_id, re.ASCII)
    return found[1] if found else ""


def unheard(action: Action | None, operation: pb.Operation | None) -> bool:
    """Whether the action is to watch another operation than the last one we know."""
    return isinstance(action, Watch | Held) and bool(action.id) and (operation is None or operation.id != action.id)


def _escalation(operation: pb.Operation) -> Escalation | None:
    return Escalation.__members__.get(word(pb.Escalation, operation.escalation))


def _forces_unsaved(operation: pb.Operation) -> bool:
    """Whether it cuts the power of a VM whose memory cannot be saved."""
    return operation.save_fallback == pb.ESCALATION_FORCE


def _may_do_too_much(lifecycle: Lifecycle, operation: pb.Operation) -> bool:
    """Whether it would force or save a VM that its owner wants so no more. That cannot be taken back from an operation;
    the next one begins without."""
    match lifecycle.escalation:
        case Escalation.NEVER | Escalation.ASK:
            return _escalation(operation) in {Escalation.FORCE, Escalation.SAVE}
        case Escalation.SAVE:
            forces = _forces_unsaved(operation) and lifecycle.save_fallback is not SaveFallback.FORCE
            return _escalation(operation) is Escalation.FORCE or forces
    return False


def _unheard_of(record: OperationStatus | None, vm: pb.VM | None, operation: pb.Operation | None) -> str:
    heard = operation.id if operation else ""
    if record and record.id and record.id != heard and not record.ended:
        return record.id
    return vm.active_operation if vm and vm.active_operation != heard else ""


def _unheard_save(resource: VirtualMachine, vm: pb.VM | None, saved_by: str) -> str:
    """The operation of a run that has saved the VM while no controller ran: `On` resumes it once it is released."""
    last = resource.status.last_power_off
    suspended = vm is not None and vm.power_state == pb.POWER_STATE_SUSPENDED
    known = last is not None and (last.operation == saved_by or last.resumed is False)
    return saved_by if suspended and not known else ""


def _steer(resource: VirtualMachine, operation: pb.Operation) -> Action:
    ours = resource.status.record_of(operation.id)
    may_change = ours or resource.status.observed_generation != resource.metadata.generation
    match resource.wanted, operation.kind:
        case DesiredPower.ON, pb.OPERATION_KIND_SHUTDOWN if may_change:
            return PowerOn(_next_attempt(resource))
        case DesiredPower.OFF, pb.OPERATION_KIND_SHUTDOWN if operation.state != pb.OPERATION_STATE_FORCING:
            return Force(operation.id)
        case DesiredPower.OFF, pb.OPERATION_KIND_POWER_ON | pb.OPERATION_KIND_REBOOT if may_change:
            return PowerOff(_next_attempt(resource))
        case DesiredPower.OFF_GRACEFUL, pb.OPERATION_KIND_POWER_ON if may_change and _may_give_way(operation):
            return StartShutdown(_next_attempt(resource))
        case DesiredPower.OFF_GRACEFUL, pb.OPERATION_KIND_SHUTDOWN if ours:
            return _adjust(resource, ours, operation)
    return Watch(operation.id)


def _may_give_way(start: pb.Operation) -> bool:
    """Whether a Shutdown may come before its end, as it may only ask whether its VM is ready. Where other hooks run the
    provider refuses that."""
    return start.state == pb.OPERATION_STATE_RUNNING_HOOKS


def _adjust(resource: VirtualMachine, record: OperationStatus, operation: pb.Operation) -> Action:
    lifecycle = resource.spec.lifecycle
    escalation, timeout = lifecycle.escalation, lifecycle.graceful_shutdown_timeout
    if operation.state in (pb.OPERATION_STATE_FORCING, pb.OPERATION_STATE_SAVING):
        return Watch(operation.id)
    if operation.state == pb.OPERATION_STATE_AWAITING_DECISION and escalation is Escalation.FORCE:
        return Force(operation.id)
    decided = operation.state == pb.OPERATION_STATE_AWAITING_DECISION and escalation in DECIDES
    if decided or _may_do_too_much(lifecycle, operation):
        return Cancel(operation.id)
    if timeout is not None and timeout != record.timeout:
        return Extend(operation.id, timeout)
    return Watch(operation.id)


def _begin(resource: VirtualMachine, wanted: DesiredPower, now: datetime) -> Action:
    record = resource.status.operation
    mine = record if record and record.generation == resource.metadata.generation else None
    if mine and mine.ended:
        if mine.state == pb.OPERATION_STATE_CANCELLED:
            return Hold()
        due = (mine.observed_end_time or now) + _pause(mine, _first_attempt(resource) - 1)
        if now < due:
            return Wait(due)
    attempt = _next_attempt(resource)
    if wanted is DesiredPower.ON:
        return PowerOn(attempt)
    if wanted is DesiredPower.OFF:
        return PowerOff(attempt)
    return StartShutdown(attempt, mine.force_after if mine and not mine.ended else None)


def _pause(record: OperationStatus, before: int) -> timedelta:
    first, longest = RETRY[record.state]
    return min(first * (1 << max(0, min(record.attempt - before - 1, 20))), longest)


def _first_attempt(resource: VirtualMachine) -> int:
    bound = resource.status.vm
    return bound.first_attempt if bound else 1


def _next_attempt(resource: VirtualMachine) -> Attempt:
    """The attempt after the last one that ended. One that has not ended keeps its number, and so its request_id."""
    meta, record = resource.metadata, resource.status.operation
    if record is None or record.generation != meta.generation:
        return Attempt(meta.uid, meta.generation, _first_attempt(resource))
    return Attempt(meta.uid, meta.generation, record.attempt + record.ended)
