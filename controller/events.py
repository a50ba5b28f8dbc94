"""The events that follow from a change of status. Pure."""

from collections.abc import Iterator

from controller.fields import word
from controller.models import VirtualMachine
from controller.source import Event
from controller.status_models import Condition, LastPowerOff, ProviderStatus, VirtualMachineStatus, condition
from controller.vm_conditions import PHASES
from protos.power.v1 import power_pb2 as pb

WENT_DOWN = {
    "GRACEFUL": ("Normal", "GracefulShutdown"),
    "FORCED": ("Warning", "ForcedOff"),
    "CRASHED": ("Warning", "Crashed"),
    "OUT_OF_BAND": ("Warning", "OutOfBand"),
    "STILL_RUNNING": ("Warning", "StillRunning"),
    "UNKNOWN": ("Warning", "PowerOffUnknown"),
    "SAVED": ("Normal", "MemorySaved"),
}
"""The event for each way of going down; an outcome that is new to us is a warning of its own name."""
BY = {
    pb.OFF_CAUSE_GUEST: ", shut down by its guest,",
    pb.OFF_CAUSE_HOST: ", stopped at its hypervisor,",
}
"""Who ended the run of a VM that is off."""
FINE = {"SUCCEEDED", "SKIPPED"}
"""States of a hook that cause no event."""
TOLD_ELSEWHERE = {
    *PHASES.values(),
    "Working",
    "Pending",
    "ProviderUnreachable",
    "HypervisorUnreachable",
    "HeldByPlan",
}
"""Reasons of Ready that cause no event of their own: the operation or the provider has one, or the run."""


def events(old: VirtualMachineStatus, new: VirtualMachineStatus) -> Iterator[Event]:
    yield from _operation(old, new)
    if new.last_power_off and _verdict(new.last_power_off) != _verdict(old.last_power_off):
        yield from _power_off(new.last_power_off, new.record_of(new.last_power_off.operation) is not None)
    yield from _problem(condition(old.conditions, "Ready"), condition(new.conditions, "Ready"))
    yield from _forecast(
        condition(old.conditions, "GracefulShutdownReady"), condition(new.conditions, "GracefulShutdownReady")
    )
    yield from _mistake(condition(old.conditions, "AnnotationsValid"), condition(new.conditions, "AnnotationsValid"))


def _verdict(last: LastPowerOff | None) -> LastPowerOff | None:
    """How it went down, without what came later."""
    return last.model_copy(update={"resumed": None}) if last else None


def provider_events(old: ProviderStatus, new: ProviderStatus) -> Iterator[Event]:
    before, after = condition(old.conditions, "Ready"), condition(new.conditions, "Ready")
    if after and (before is None or (before.status, before.reason) != (after.status, after.reason)):
        yield Event(
            "Normal" if after.status == "True" else "Warning", after.reason, after.message or "The provider answers."
        )


def drift(resource: VirtualMachine, vm: pb.VM) -> Event:
    """A VM left the state that its spec names without an operation, and is brought back."""
    power = word(pb.PowerState, vm.power_state, "Unknown").capitalize()
    crashed = vm.power_state == pb.POWER_STATE_OFF and vm.off_cause == pb.OFF_CAUSE_CRASHED
    what = "The VM crashed" if crashed else f"The VM is {power}{BY.get(vm.off_cause, '')}"
    wanted = f"although the spec wants {resource.wanted}; it is brought back." if resource.wanted else ""
    return Event("Warning", "Crashed" if crashed else "Drifted", f"{what} {wanted}")


def ended_operation(written: VirtualMachineStatus, known: VirtualMachineStatus, successor: str) -> list[Event]:
    """What is to be told of an operation that ended, if another one takes its place before that was written down."""
    record = known.operation
    return list(_operation(written, known)) if record and record.id and record.id != successor and record.ended else []


def _operation(old: VirtualMachineStatus, new: VirtualMachineStatus) -> Iterator[Event]:
    before, after = old.operation, new.operation
    if after is None or not after.id:
        return
    unknown = before is None or before.id != after.id
    # Of a quick operation the end may be the first that is written; its event says enough.
    if unknown and not after.ended:
        kind = _camel(word(pb.OperationKind, after.kind))
        why = f" Reason: {after.reason}" if after.reason else ""
        yield Event("Normal", f"{kind}Started", f"Operation {after.id} began (attempt {after.attempt}).{why}")
    ended = after.state == pb.OPERATION_STATE_SUCCEEDED and (unknown or before is None or before.state != after.state)
    if ended and after.kind == pb.OPERATION_KIND_POWER_ON:  # the others tell how the VM went down
        yield Event("Normal", "PowerOnSucceeded", f"Operation {after.id} has done it.")


def _power_off(record: LastPowerOff, ours: bool) -> Iterator[Event]:
    for hook in record.hooks:
        if hook.state not in FINE:
            code = f", exit code {hook.exit_code}" if hook.exit_code else ""
            said = f": {hook.output.strip()}" if hook.output.strip() else ""
            yield Event("Warning", "HookFailed", f"Hook {hook.name}: {hook.state}{code}{said}")
    level, reason = WENT_DOWN.get(record.outcome, ("Warning", _camel(record.outcome)))
    message = f"{record.message} It took {record.duration_seconds:.1f} s.{_asked(record, ours)}"
    yield Event("Normal" if level == "Normal" else "Warning", reason, message)


def _asked(record: LastPowerOff, ours: bool) -> str:
    """Who asked, where that was not this resource, and why."""
    whom = f" on behalf of {record.on_behalf_of}" if record.on_behalf_of else ""
    by = f" Asked for by {record.requested_by}{whom}." if record.requested_by and not ours else ""
    return f"{by} Reason: {record.request_reason}" if record.request_reason else by


def _problem(before: Condition | None, after: Condition | None) -> Iterator[Event]:
    if after is None or after.status == "True" or after.reason in TOLD_ELSEWHERE:
        return
    if before is None or before.reason != after.reason:
        yield Event("Warning", after.reason, after.message)


def _forecast(before: Condition | None, after: Condition | None) -> Iterator[Event]:
    if after and after.status == "False" and (before is None or before.status != "False"):
        yield Event("Warning", "GracefulShutdownNotReady", f"{after.reason}: {after.message}")


def _mistake(before: Condition | None, after: Condition | None) -> Iterator[Event]:
    if after and after.status == "False" and (before is None or before.message != after.message):
        yield Event("Warning", after.reason, after.message)


def _camel(words: str) -> str:
    return words.title().replace("_", "")
