"""Model -> proto. Enum values have the same short names on both sides; the proto adds its prefix.

Guests and hypervisors say what they like: what the contract cannot carry is brought into its bounds here. What still
cannot be told hurts its own record alone, which is served with what can be told and with why the rest is not.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from common.text import encodable
from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import VM, Diagnosis, Escalation, Problem, Signal, exit_code
from providers.core.errors import Code, HypervisorError, HypervisorUnavailable
from providers.core.model import HookResult, Kind, Operation, Verdict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime.min.replace(tzinfo=UTC) - EPOCH, datetime.max.replace(tzinfo=UTC) - EPOCH
"""The moments that a Timestamp can be, since EPOCH: the years 1 to 9999."""
LONGEST = timedelta(seconds=315_576_000_000)
"""What a Duration can be: 10,000 years (google/protobuf/duration.proto)."""
UNREADABLE = "UNREADABLE_RECORD"
"""The reason of an operation's error where a part of its record cannot be told."""

M = TypeVar("M", bound=Message)
log = structlog.get_logger()


@cache
def enum(wrapper: Any, value: StrEnum | None) -> Any:
    """The proto's number for a short name; 0 for None."""
    return wrapper.Value(wrapper.Name(0).removesuffix("UNSPECIFIED") + value) if value else 0


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    since = max(FIRST, min(time - EPOCH, LAST))  # quicker than FromDatetime, of which an operation would need a dozen
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def duration(length: timedelta) -> Duration:
    """A length of time, which is never less than nothing: a clock that stepped back may have measured that."""
    message = Duration()
    message.FromTimedelta(max(timedelta(0), min(length, LONGEST)))
    return message


def signals(values: tuple[Signal, ...]) -> list[Any]:
    return [enum(pb.Signal, signal) for signal in values]


def vm(value: VM, active_operation: str) -> pb.VM:
    """A VM with its forecast. What cannot be told of it becomes a problem in words."""
    told, untold = _told(pb.VM, _VM, value)
    told.active_operation = active_operation
    if untold:
        log.error("a part of a VM cannot be told", vm=value.id, fields=untold)
        told.forecast.graceful = False
        told.forecast.problems.add(message=_why(untold))
    return told


def _forecast(value: VM) -> pb.Forecast:
    problems = [_problem(problem) for problem in value.problems]
    if value.refused:
        problems.append(pb.Problem(message=encodable(value.refused)))
    unsaved = [_problem(problem) for problem in value.save_problems]
    graceful, heard = value.graceful, signals(value.signals)
    return pb.Forecast(graceful=graceful, signals=heard, problems=problems, save_problems=unsaved)


def _problem(value: Problem) -> pb.Problem:
    causes = [enum(pb.Cause, cause) for cause in value.causes]
    return pb.Problem(reason=enum(pb.Reason, value.reason), message=encodable(value.message), causes=causes)


def connection_error(failure: HypervisorError | None) -> pb.ConnectionError | None:
    """Why the hypervisor does not answer."""
    if failure is None:
        return None
    problem = failure.problem if isinstance(failure, HypervisorUnavailable) else None
    return pb.ConnectionError(problem=enum(pb.ConnectionProblem, problem), message=encodable(failure.message))


def diagnosis(value: Diagnosis) -> dict[str, Any]:
    """The fields of a provider's information that say it."""
    missing = [
        pb.MissingPrivilege(
            privilege=encodable(each.privilege),
            place=encodable(each.place),
            purpose=each.purpose,
            required=each.required,
        )
        for each in value.missing
    ]
    ahead = Duration()
    if value.clock_ahead is not None:
        ahead.FromTimedelta(value.clock_ahead)
    return {
        "missing_privileges": missing,
        "hypervisor_clock_ahead": ahead if value.clock_ahead is not None else None,
    }


def operation(value: Operation) -> pb.Operation:
    """An operation as its callers see it; nothing secret is in there. What cannot be told of it becomes its error."""
    told, untold = _told(pb.Operation, _OPERATION, value)
    if untold:
        log.error("a part of an operation cannot be told", operation=value.id, fields=untold)
        code, reason = told.error.code or Code.INTERNAL, told.error.reason or UNREADABLE
        message = f"{told.error.message} {_why(untold)}".strip()
        told.error.CopyFrom(pb.OperationError(code=code, reason=reason, message=message))
    return told


def verdict(value: Verdict) -> pb.Verdict:
    return pb.Verdict(
        outcome=enum(pb.Outcome, value.outcome),
        reason=enum(pb.Reason, value.reason),
        signal=enum(pb.Signal, value.signal),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
        hooks=[_hook_result(result) for result in value.hooks],
        message=encodable(value.message),
    )


def _hook_result(result: HookResult) -> pb.HookResult:
    return pb.HookResult(
        name=encodable(result.name),
        state=enum(pb.HookState, result.state),
        exit_code=exit_code(result.exit_code),
        output=encodable(result.output),
        duration=duration(result.duration),
    )


def _steps(value: Operation) -> list[pb.OperationStep]:
    return [
        pb.OperationStep(
            time=timestamp(step.time),
            state=enum(pb.OperationState, step.state),
            message=encodable(step.message),
            count=step.count,
            last_time=timestamp(step.last_time),
        )
        for step in value.steps
    ]


def _error(value: Operation) -> pb.OperationError | None:
    failure = value.failure
    if failure is None:
        return None
    return pb.OperationError(code=failure.code, reason=encodable(failure.reason), message=encodable(failure.message))


def _timeout(value: Operation) -> Duration | None:
    return duration(value.timeout) if value.request.kind in (Kind.SHUTDOWN, Kind.REBOOT) else None


def _save_fallback(value: Operation) -> Any:
    saves = value.request.escalation is Escalation.SAVE
    return enum(pb.Escalation, value.request.save_fallback if saves else None)


def _own_timeout(vm: VM) -> Duration | None:
    return duration(vm.delegation.own_timeout) if vm.delegation and vm.delegation.own_timeout else None


Fields = Mapping[str, Callable[[Any], Any]]
_VM: Fields = {
    "id": lambda vm: encodable(vm.id),
    "name": lambda vm: encodable(vm.name),
    "power_state": lambda vm: enum(pb.PowerState, vm.power_state),
    "forecast": _forecast,
    "node": lambda vm: encodable(vm.node),
    "labels": lambda vm: {encodable(key): encodable(value) for key, value in vm.labels.items()},
    "off_cause": lambda vm: enum(pb.OffCause, vm.off_cause),
    "own_timeout": _own_timeout,
    "system_uuid": lambda vm: encodable(vm.system_uuid),
}
_OPERATION: Fields = {
    "id": lambda op: encodable(op.id),
    "vm": lambda op: encodable(op.request.vm_id),
    "vm_name": lambda op: encodable(op.request.vm_name),
    "kind": lambda op: enum(pb.OperationKind, op.request.kind),
    "state": lambda op: enum(pb.OperationState, op.state),
    "request_id": lambda op: encodable(op.request.request_id),
    "create_time": lambda op: timestamp(op.create_time),
    "force_after": lambda op: timestamp(op.force_after),
    "escalation": lambda op: enum(pb.Escalation, op.request.escalation),
    "save_fallback": _save_fallback,
    "timeout": _timeout,
    "verdict": lambda op: verdict(op.verdict) if op.verdict else None,
    "steps": _steps,
    "error": _error,
    "reason": lambda op: encodable(op.request.asked.reason),
    "requested_by": lambda op: encodable(op.request.asked.requested_by),
    "on_behalf_of": lambda op: encodable(op.request.asked.on_behalf_of),
}


def _told(kind: type[M], fields: Fields, value: object) -> tuple[M, dict[str, str]]:
    """The message, and why those of its fields that cannot be told are left out."""
    try:
        return kind(**{name: convert(value) for name, convert in fields.items()}), {}
    except Exception:  # a record may hold anything: each field is tried by itself below
        told, untold = kind(), dict[str, str]()
    for name, convert in fields.items():
        try:
            told.MergeFrom(kind(**{name: convert(value)}))
        except Exception as error:
            untold[name] = f"{type(error).__name__}: {error}"
    return told, untold


def _why(untold: Mapping[str, str]) -> str:
    return f"Its record cannot be told in full ({', '.join(untold)}); the log of the provider says why."
