"""Resources, VMs and operations for tests, with what matters to a test named by it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from controller.enums import Kind, PowerState, State
from controller.models import Provider, VirtualMachine
from controller.provider_api import VM, Forecast, Operation, Verdict
from controller.status_models import OperationStatus

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
GRACEFUL = Forecast(graceful=True, signals=("GUEST_AGENT", "ACPI"))


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def machine(
    power: str | None = "OffGraceful", *, name: str = "web", generation: int = 1, spec: Any = None, **lifecycle: Any
) -> VirtualMachine:
    written = {"providerRef": {"name": "local"}, "lifecycle": lifecycle, **(spec or {})}
    if power:
        written["powerState"] = power
    meta = {"name": name, "uid": f"uid-{name}", "generation": generation}
    document = {
        "apiVersion": "infra.virtrigaud.io/v1beta1",
        "kind": "VirtualMachine",
        "metadata": meta,
        "spec": written,
    }
    return VirtualMachine.model_validate(document)


def with_status(resource: VirtualMachine, **status: Any) -> VirtualMachine:
    return resource.model_copy(update={"status": resource.status.model_copy(update=status)})


def provider(name: str = "local", endpoint: str = "unix:///run/p.sock") -> Provider:
    return Provider.model_validate(
        {
            "apiVersion": "infra.virtrigaud.io/v1beta1",
            "kind": "Provider",
            "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1},
            "spec": {"type": "sim", "runtime": {"endpoint": endpoint}},
        }
    )


def vm(power: PowerState = PowerState.ON, *, name: str = "web", active: str = "", forecast: Forecast = GRACEFUL) -> VM:
    return VM(id=f"id-{name}", name=name, power_state=power, forecast=forecast, active_operation=active)


def operation(kind: Kind = Kind.SHUTDOWN, state: State = State.WAITING_FOR_GUEST, **fields: Any) -> Operation:
    known: dict[str, Any] = {"id": "op-1", "vm": "id-web", "escalation": "FORCE", "create_time": NOW} | fields
    return Operation(kind=kind, state=state, **known)


def record(kind: Kind = Kind.SHUTDOWN, state: State = State.WAITING_FOR_GUEST, **fields: Any) -> OperationStatus:
    known: dict[str, Any] = {"id": "op-1", "generation": 1, "attempt": 1, "start_time": NOW} | fields
    if state.final:
        known.setdefault("end_time", NOW)
    return OperationStatus(kind=kind, state=state, **known)


def verdict(outcome: str = "GRACEFUL", took: float = 5, **fields: Any) -> Verdict:
    return Verdict(outcome=outcome, start_time=NOW, end_time=NOW + seconds(took), **fields)
