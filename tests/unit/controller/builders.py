"""Resources, VMs and operations for tests, with what matters to a test named by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from client.power import ENDED
from client.times import duration, timestamp
from controller.models import Provider, VirtualMachine
from controller.status_models import Binding, OperationStatus
from protos.power.v1 import power_pb2 as pb

PENDING, RUNNING_HOOKS = pb.OPERATION_STATE_PENDING, pb.OPERATION_STATE_RUNNING_HOOKS
WAITING, AWAITING_DECISION = pb.OPERATION_STATE_WAITING_FOR_GUEST, pb.OPERATION_STATE_AWAITING_DECISION
FORCING, SUCCEEDED = pb.OPERATION_STATE_FORCING, pb.OPERATION_STATE_SUCCEEDED
FAILED, CANCELLED = pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED
POWER_ON, POWER_OFF = pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_POWER_OFF
SHUTDOWN, REBOOT = pb.OPERATION_KIND_SHUTDOWN, pb.OPERATION_KIND_REBOOT
NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def forecast(graceful: bool = False, signals: Any = (), reason: str = "", problems: Any = ()) -> pb.Forecast:
    """`reason` is the first problem's."""
    reasons = [reason or "UNSPECIFIED", *["UNSPECIFIED"] * len(problems)]
    return pb.Forecast(
        graceful=graceful,
        signals=[pb.Signal.Value(f"SIGNAL_{signal}") for signal in signals],
        problems=[
            pb.Problem(reason=pb.Reason.Value(f"REASON_{why}"), message=message)
            for why, message in zip(reasons, problems, strict=False)
        ],
    )


GRACEFUL = forecast(True, ("GUEST_AGENT", "ACPI"))


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def machine(
    power: str | None = "OffGraceful",
    *,
    name: str = "web",
    generation: int = 1,
    spec: Any = None,
    meta: Any = None,
    **lifecycle: Any,
) -> VirtualMachine:
    written = {"providerRef": {"name": "local"}, "lifecycle": lifecycle, **(spec or {})}
    if power:
        written["powerState"] = power
    identity = {"name": name, "uid": f"uid-{name}", "generation": generation, **(meta or {})}
    document = {
        "apiVersion": "infra.virtrigaud.io/v1beta1",
        "kind": "VirtualMachine",
        "metadata": identity,
        "spec": written,
    }
    return VirtualMachine.model_validate(document)


def with_status(resource: VirtualMachine, **status: Any) -> VirtualMachine:
    return resource.model_copy(update={"status": resource.status.model_copy(update=status)})


def provider(
    name: str = "local",
    endpoint: str = "unix:///run/p.sock",
    *,
    namespace: str = "default",
    tls: Any = None,
    access: Any = (),
) -> Provider:
    runtime = {"endpoint": endpoint} | ({"tls": tls} if tls else {})
    return Provider.model_validate(
        {
            "apiVersion": "infra.virtrigaud.io/v1beta1",
            "kind": "Provider",
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1},
            "spec": {"type": "sim", "runtime": runtime, "access": access},
        }
    )


def binding(vm_id: str = "id-web", **fields: Any) -> Binding:
    """To a VM of the sim."""
    known = {"provider": "uid-local", "hypervisor": "sim", "provider_ref": "default/local", "name": "web", "since": NOW}
    return Binding(**(known | {"id": vm_id} | fields))


def vm(
    power: pb.PowerState.ValueType = pb.POWER_STATE_ON,
    *,
    name: str = "web",
    active: str = "",
    forecast: pb.Forecast = GRACEFUL,
) -> pb.VM:
    return pb.VM(id=f"id-{name}", name=name, power_state=power, forecast=forecast, active_operation=active)


def operation(
    kind: pb.OperationKind.ValueType = pb.OPERATION_KIND_SHUTDOWN,
    state: pb.OperationState.ValueType = pb.OPERATION_STATE_WAITING_FOR_GUEST,
    **fields: Any,
) -> pb.Operation:
    known: dict[str, Any] = {"id": "op-1", "vm": "id-web", "escalation": "FORCE", "create_time": NOW} | fields
    return changed(pb.Operation(kind=kind, state=state), **known)


def changed(operation: pb.Operation, **fields: Any) -> pb.Operation:
    """Another one with other fields, which are given as Python has them."""
    known = pb.Operation()
    known.CopyFrom(operation)
    for name, value in fields.items():
        if name == "error":
            known.error.message = value
        elif name == "escalation":
            known.escalation = pb.Escalation.Value(f"ESCALATION_{value}")
        elif isinstance(value, datetime):
            getattr(known, name).CopyFrom(timestamp(value))
        elif isinstance(value, timedelta):
            getattr(known, name).CopyFrom(duration(value))
        elif isinstance(value, pb.Verdict):
            known.verdict.CopyFrom(value)
        else:
            setattr(known, name, value)
    return known


def record(
    kind: pb.OperationKind.ValueType = pb.OPERATION_KIND_SHUTDOWN,
    state: pb.OperationState.ValueType = pb.OPERATION_STATE_WAITING_FOR_GUEST,
    **fields: Any,
) -> OperationStatus:
    known: dict[str, Any] = {"id": "op-1", "generation": 1, "attempt": 1, "start_time": NOW} | fields
    if state in ENDED:
        known.setdefault("end_time", NOW)
        known.setdefault("observed_end_time", NOW)
    return OperationStatus(kind=kind, state=state, **known)


def verdict(
    outcome: str = "GRACEFUL",
    took: float = 5,
    *,
    began: datetime = NOW,
    reason: str = "UNSPECIFIED",
    signal: str = "UNSPECIFIED",
    hooks: Any = (),
    message: str = "",
) -> pb.Verdict:
    return pb.Verdict(
        outcome=pb.Outcome.Value(f"OUTCOME_{outcome}"),
        reason=pb.Reason.Value(f"REASON_{reason}"),
        signal=pb.Signal.Value(f"SIGNAL_{signal}"),
        start_time=timestamp(began),
        end_time=timestamp(began + seconds(took)),
        hooks=hooks,
        message=message,
    )


def hook_result(name: str, state: str, exit_code: int = 0, output: str = "", took: float = 0) -> pb.HookResult:
    return pb.HookResult(
        name=name,
        state=pb.HookState.Value(f"HOOK_STATE_{state}"),
        exit_code=exit_code,
        output=output,
        duration=duration(seconds(took)),
    )
