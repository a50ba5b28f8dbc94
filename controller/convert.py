"""Between the contract's messages and what the controller speaks. Never imports gRPC."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from controller.enums import Escalation, Kind, PowerState, State
from controller.models import Hook, Lifecycle
from controller.provider_api import VM, Forecast, GuestCredentials, HookResult, Info, Operation, Verdict
from protos.power.v1 import power_pb2 as pb

E = TypeVar("E", bound=StrEnum)


class _ProtoEnum(Protocol):
    def Name(self, number: Any) -> str: ...  # noqa: N802 - protobuf's name


def short(enum: _ProtoEnum, prefix: str, number: int) -> str:
    """A value's short name; UNSPECIFIED for one that a newer provider may have and we do not know."""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return "UNSPECIFIED"


def _member(words: type[E], name: str) -> E:
    return words.__members__.get(name, words["UNSPECIFIED"])


def _blank(name: str) -> str:
    return "" if name == "UNSPECIFIED" else name


def duration(value: timedelta) -> Duration:
    """A protobuf Duration."""
    message = Duration()
    message.FromTimedelta(value)
    return message


def timestamp(value: datetime) -> Timestamp:
    """A protobuf Timestamp."""
    message = Timestamp()
    message.FromDatetime(value)
    return message


def _moment(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def info(message: pb.GetProviderInfoResponse) -> Info:
    """What a provider says about itself."""
    return Info(
        type=message.type,
        version=message.version,
        signals=tuple(short(pb.Signal, "SIGNAL_", signal) for signal in message.signals),
        guest_exec=message.guest_exec,
        snapshot=message.snapshot,
    )


def credentials(login: GuestCredentials | None) -> pb.GuestCredentials | None:
    """A login for a request."""
    return pb.GuestCredentials(username=login.username, password=login.password) if login else None


def vm(message: pb.VM) -> VM:
    """A VM as reported."""
    state = short(pb.PowerState, "POWER_STATE_", message.power_state)
    return VM(
        id=message.id,
        name=message.name,
        power_state=_member(PowerState, state),
        forecast=_forecast(message.forecast),
        active_operation=message.active_operation,
    )


def _forecast(message: pb.Forecast) -> Forecast:
    reasons = [_blank(short(pb.Reason, "REASON_", problem.reason)) for problem in message.problems]
    return Forecast(
        graceful=message.graceful,
        signals=tuple(short(pb.Signal, "SIGNAL_", signal) for signal in message.signals),
        reason=next(filter(None, reasons), ""),
        problems=tuple(problem.message for problem in message.problems),
    )


def operation(message: pb.Operation) -> Operation:
    """An operation as reported."""
    return Operation(
        id=message.id,
        vm=message.vm,
        kind=_member(Kind, short(pb.OperationKind, "OPERATION_KIND_", message.kind)),
        state=_member(State, short(pb.OperationState, "OPERATION_STATE_", message.state)),
        create_time=_moment(message.create_time),
        request_id=message.request_id,
        force_after=_moment(message.force_after) if message.HasField("force_after") else None,
        escalation=short(pb.Escalation, "ESCALATION_", message.escalation),
        timeout=message.timeout.ToTimedelta() if message.HasField("timeout") else None,
        verdict=_verdict(message.verdict) if message.HasField("verdict") else None,
        error=message.error.message,
    )


def _verdict(message: pb.Verdict) -> Verdict:
    return Verdict(
        outcome=short(pb.Outcome, "OUTCOME_", message.outcome),
        reason=_blank(short(pb.Reason, "REASON_", message.reason)),
        signal=_blank(short(pb.Signal, "SIGNAL_", message.signal)),
        start_time=_moment(message.start_time),
        end_time=_moment(message.end_time),
        hooks=tuple(_hook_result(result) for result in message.hooks),
        message=message.message,
    )


def _hook_result(message: pb.HookResult) -> HookResult:
    return HookResult(
        name=message.name,
        state=short(pb.HookState, "HOOK_STATE_", message.state),
        exit_code=message.exit_code,
        output=message.output,
        duration=message.duration.ToTimedelta(),
    )


def hooks(declared: Sequence[Hook]) -> list[pb.Hook]:
    """Hooks for a request."""
    return [_hook(hook) for hook in declared]


def _hook(hook: Hook) -> pb.Hook:
    policy = pb.FailurePolicy.Value(f"FAILURE_POLICY_{hook.failure_policy.name}")
    message = pb.Hook(name=hook.name, failure_policy=policy)
    if hook.timeout is not None:
        message.timeout.FromTimedelta(hook.timeout)
    if hook.exec:
        message.exec.command.extend(hook.exec.command)
    if hook.http_get:
        target, expect = hook.http_get.target, hook.http_get.expect_status
        message.http_get.CopyFrom(pb.HttpGetHook(url=target, headers=hook.http_get.headers, expect_status=expect))
    if hook.snapshot:
        wanted = hook.snapshot
        message.snapshot.CopyFrom(
            pb.SnapshotHook(name=wanted.name, description=wanted.description, include_memory=wanted.include_memory)
        )
    return message


def shutdown_request(
    vm_id: str,
    lifecycle: Lifecycle,
    request_id: str,
    force_after: datetime | None,
    login: GuestCredentials | None = None,
) -> pb.ShutdownRequest:
    """A Shutdown as the lifecycle wants it; what it leaves out is left to the provider."""
    request = pb.ShutdownRequest(
        vm=vm_id,
        request_id=request_id,
        escalation=_escalation(lifecycle.escalation),
        pre_stop=hooks(lifecycle.pre_stop),
        guest_credentials=credentials(login),
    )
    if lifecycle.graceful_shutdown_timeout is not None:
        request.timeout.FromTimedelta(lifecycle.graceful_shutdown_timeout)
    if force_after is not None:
        request.force_after.FromDatetime(force_after)
    policy = lifecycle.signal_policy
    request.signal_policy.order.extend(pb.Signal.Value(f"SIGNAL_{signal.name}") for signal in policy.order)
    if policy.resend_interval is not None:
        request.signal_policy.resend_interval.FromTimedelta(policy.resend_interval)
    return request


def _escalation(wanted: Escalation | None) -> pb.Escalation.ValueType:
    return pb.Escalation.Value(f"ESCALATION_{wanted.name if wanted else 'UNSPECIFIED'}")
