"""What people are told when a status changes: one event for each thing that happened. Pure."""

from collections.abc import Iterator

from controller.source import Event
from controller.status import PHASES
from controller.status_models import Condition, LastPowerOff, ProviderStatus, VirtualMachineStatus
from controller.words import State

AS_ASKED = {"GRACEFUL"}
TOLD_ELSEWHERE = {*PHASES.values(), "Pending", "ProviderUnreachable"}
"""Reasons of which the operation or the provider tells itself, once."""


def events(old: VirtualMachineStatus, new: VirtualMachineStatus) -> Iterator[Event]:
    """What happened between two statuses of one VM."""
    yield from _operation(old, new)
    if new.last_power_off and new.last_power_off != old.last_power_off:
        yield _power_off(new.last_power_off)
    yield from _problem(_ready(old), _ready(new))


def provider_events(old: ProviderStatus, new: ProviderStatus) -> Iterator[Event]:
    """What happened between two statuses of one provider."""
    before, after = _ready(old), _ready(new)
    if after and (before is None or before.status != after.status):
        yield Event(
            "Normal" if after.status == "True" else "Warning", after.reason, after.message or "The provider answers."
        )


def _operation(old: VirtualMachineStatus, new: VirtualMachineStatus) -> Iterator[Event]:
    before, after = old.operation, new.operation
    if after is None or not after.id:
        return
    if before is None or before.id != after.id:
        yield Event("Normal", f"{_camel(after.kind)}Started", f"Operation {after.id} began (attempt {after.attempt}).")
    if after.state is State.SUCCEEDED and (before is None or before.state is not State.SUCCEEDED):
        yield Event("Normal", f"{_camel(after.kind)}Succeeded", f"Operation {after.id} has done it.")


def _power_off(record: LastPowerOff) -> Event:
    message = f"{record.message} It took {record.duration_seconds:.1f} s."
    return Event("Normal" if record.outcome in AS_ASKED else "Warning", _camel(record.outcome), message)


def _problem(before: Condition | None, after: Condition | None) -> Iterator[Event]:
    if after is None or after.status == "True" or after.reason in TOLD_ELSEWHERE:
        return
    if before is None or before.reason != after.reason:
        yield Event("Warning", after.reason, after.message)


def _ready(status: VirtualMachineStatus | ProviderStatus) -> Condition | None:
    return next((condition for condition in status.conditions if condition.type == "Ready"), None)


def _camel(words: str) -> str:
    return words.title().replace("_", "")
