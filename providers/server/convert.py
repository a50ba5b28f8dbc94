"""Model -> proto. Enum values have the same short names on both sides; the proto adds its prefix."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import VM, Signal
from providers.core.model import HookResult, Kind, Operation, Verdict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


def enum(wrapper: Any, value: StrEnum | None) -> Any:
    """The proto's number for a short name; 0 for None."""
    return wrapper.Value(wrapper.Name(0).removesuffix("UNSPECIFIED") + value) if value else 0


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    since = time - EPOCH  # quicker than FromDatetime, of which an operation would need a dozen
    return Timestamp(seconds=since // SECOND, nanos=since % SECOND // MICROSECOND * 1000)


def duration(length: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(length)
    return message


def signals(values: tuple[Signal, ...]) -> list[Any]:
    return [enum(pb.Signal, signal) for signal in values]


def vm(value: VM, active_operation: str) -> pb.VM:
    """A VM with its forecast. What is off, or refuses operations, has no graceful shutdown before it."""
    problems = [pb.Problem(reason=enum(pb.Reason, p.reason), message=p.message) for p in value.problems]
    if value.refused:
        problems.append(pb.Problem(message=value.refused))
    graceful = bool(value.signals) and not value.refused and not any(p.reason for p in value.problems)
    return pb.VM(
        id=value.id,
        name=value.name,
        power_state=enum(pb.PowerState, value.power_state),
        forecast=pb.Forecast(graceful=graceful, signals=signals(value.signals), problems=problems),
        active_operation=active_operation,
        node=value.node,
        labels=dict(value.labels),
    )


def operation(value: Operation) -> pb.Operation:
    """An operation as its callers see it; nothing secret is in there."""
    failure = value.failure
    return pb.Operation(
        id=value.id,
        vm=value.request.vm_id,
        vm_name=value.request.vm_name,
        kind=enum(pb.OperationKind, value.request.kind),
        state=enum(pb.OperationState, value.state),
        request_id=value.request.request_id,
        create_time=timestamp(value.create_time),
        force_after=timestamp(value.force_after),
        escalation=enum(pb.Escalation, value.request.escalation),
        timeout=duration(value.timeout) if value.request.kind in (Kind.SHUTDOWN, Kind.REBOOT) else None,
        verdict=verdict(value.verdict) if value.verdict else None,
        steps=[
            pb.OperationStep(
                time=timestamp(step.time),
                state=enum(pb.OperationState, step.state),
                message=step.message,
                count=step.count,
                last_time=timestamp(step.last_time),
            )
            for step in value.steps
        ],
        error=pb.OperationError(code=failure.code, reason=failure.reason, message=failure.message) if failure else None,
    )


def verdict(value: Verdict) -> pb.Verdict:
    return pb.Verdict(
        outcome=enum(pb.Outcome, value.outcome),
        reason=enum(pb.Reason, value.reason),
        signal=enum(pb.Signal, value.signal),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
        hooks=[_hook_result(result) for result in value.hooks],
        message=value.message,
    )


def _hook_result(result: HookResult) -> pb.HookResult:
    return pb.HookResult(
        name=result.name,
        state=enum(pb.HookState, result.state),
        exit_code=result.exit_code,
        output=result.output,
        duration=duration(result.duration),
    )
