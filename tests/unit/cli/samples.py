"""VMs and operations to speak of."""

from datetime import UTC, datetime, timedelta
from typing import Any

from protos.power.v1 import power_pb2 as pb

BEGAN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def vm(name: str = "web", **fields: Any) -> pb.VM:
    given: dict[str, Any] = {
        "id": f"id-{name}",
        "power_state": pb.POWER_STATE_ON,
        "forecast": pb.Forecast(graceful=True, signals=[pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI]),
    }
    return pb.VM(name=name, **(given | fields))


def deaf() -> pb.VM:
    problem = pb.Problem(reason=pb.REASON_TOOLS_UNAVAILABLE, message="Neither agent nor ACPI.")
    return vm("deaf", forecast=pb.Forecast(problems=[problem]))


def running(name: str = "web", **fields: Any) -> pb.Operation:
    """A shutdown that waits for its guest."""
    given: dict[str, Any] = {
        "id": f"op-{name}",
        "kind": pb.OPERATION_KIND_SHUTDOWN,
        "state": pb.OPERATION_STATE_WAITING_FOR_GUEST,
        "steps": [step("asking the guest by GUEST_AGENT")],
    }
    operation = pb.Operation(vm=f"id-{name}", vm_name=name, **(given | fields))
    operation.create_time.FromDatetime(BEGAN)
    return operation


def ended(
    name: str = "web",
    outcome: "pb.Outcome.ValueType" = pb.OUTCOME_GRACEFUL,
    *,
    seconds: float = 4.2,
    message: str = "The guest shut itself down.",
    verdict: dict[str, Any] | None = None,
    **fields: Any,
) -> pb.Operation:
    """The same, later."""
    operation = running(name, **({"state": pb.OPERATION_STATE_SUCCEEDED} | fields))
    operation.verdict.MergeFrom(pb.Verdict(outcome=outcome, message=message, **(verdict or {})))
    operation.verdict.start_time.FromDatetime(BEGAN)
    operation.verdict.end_time.FromDatetime(BEGAN + timedelta(seconds=seconds))
    return operation


def step(message: str, after: float = 0, count: int = 1, last: float = 0) -> pb.OperationStep:
    """`after`, and `last` where it was done more than once, in seconds since BEGAN."""
    made = pb.OperationStep(state=pb.OPERATION_STATE_WAITING_FOR_GUEST, message=message, count=count)
    made.time.FromDatetime(BEGAN + timedelta(seconds=after))
    if count > 1:
        made.last_time.FromDatetime(BEGAN + timedelta(seconds=last))
    return made
