"""Which signal to send next, and when: pure functions of the VM, the request and what was sent.

A new signal has its number in `power.proto`, its name in `adapter.py` (`Signal`), its place after others and its
repeats here, and is offered and sent by the adapters that know it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from providers.core.adapter import VM, PowerState, Reason, Signal
from providers.core.model import Delivery, Operation, Sent

DEAF = (Reason.PAUSED, Reason.SUSPENDED, Reason.QUESTION_PENDING, Reason.LOCKED)
"""Obstacles that keep a guest from hearing anything, whatever is installed in it."""

LONGEST_PAUSE = 30
"""Seconds between asks whose answers are lost, at the most; the first comes after 1 s."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this now."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to send before this moment; None: nothing at all unless the VM changes."""

    until: datetime | None


def audible(vm: VM, operation: Operation) -> tuple[Signal, ...]:
    """What the guest can hear and the policy allows, in the order to be tried."""
    order = operation.request.signal_order
    return tuple(signal for signal in order if signal in vm.signals) if order else vm.signals


def next_step(vm: VM, operation: Operation, now: datetime) -> Send | Wait:
    """What to do for a guest that still runs."""
    choices = audible(vm, operation)
    heard = [sent for sent in operation.sent if not sent.refused]
    if any(sent.signal is not Signal.ACPI and sent.signal not in choices for sent in heard):
        return Wait(None)  # what heard it has ended: the guest is going down
    again = heard[-1] if heard and _may_be_asked_again(heard[-1], operation) else None
    tried = {sent.signal for sent in operation.sent}
    better = choices[: _rank(choices, heard[-1].signal)] if heard else choices
    for signal in better:
        if signal not in tried:
            return Send(signal)
    if again and again.signal in choices:
        due = again.time + timedelta(seconds=min(1 << min(again.times - 1, 5), LONGEST_PAUSE))
        return Send(again.signal) if now >= due else Wait(due)
    return _follow_up(choices, heard[-1], operation, now) if heard else Wait(None)


def _may_be_asked_again(sent: Sent, operation: Operation) -> bool:
    """Whether it may never have reached the guest, and does no harm if it reaches it twice; to some guests a second
    press of the power button is a cancel, so it is repeated only where the policy repeats it."""
    harmless = sent.signal is not Signal.ACPI or bool(operation.request.resend_interval)
    newest = max(each.number for each in operation.sent if each.signal is sent.signal)
    return sent.delivery is Delivery.UNKNOWN and harmless and sent.number == newest


def _rank(choices: tuple[Signal, ...], signal: Signal) -> int:
    """Its place; one that is offered no more counts as the best, so that nothing is sent in its place."""
    return choices.index(signal) if signal in choices else 0


def _follow_up(choices: tuple[Signal, ...], last: Sent, operation: Operation, now: datetime) -> Send | Wait:
    """A booting guest drops ACPI, so it is repeated; an agent that did nothing is followed by ACPI halfway."""
    if last.signal is Signal.ACPI and last.delivery is Delivery.SENDING:
        return Wait(None)  # its answer is still to come: presses must not pile up while nothing answers
    if last.signal is Signal.ACPI:
        interval = operation.request.resend_interval
        due = last.time + interval if interval else None
    else:
        due = _halfway(operation)
    refused = any(sent.refused for sent in operation.sent if sent.signal is Signal.ACPI)
    if due is None or refused or Signal.ACPI not in choices:
        return Wait(None)
    return Send(Signal.ACPI) if now >= due else Wait(due)


def _halfway(operation: Operation) -> datetime | None:
    if operation.grace_start is None or operation.force_after is None:
        return None
    return operation.grace_start + (operation.force_after - operation.grace_start) / 2


def deaf_reason(vm: VM, operation: Operation) -> Reason | None:
    """Why there is no point in waiting for this guest; None: there is one.

    Only before any signal was accepted: a guest that has been asked is given its time.
    """
    if operation.asked_before or operation.asked:
        return None
    if vm.power_state is PowerState.UNKNOWN or any(problem.passing for problem in vm.problems):
        return None
    if reason := _deaf(vm):
        return reason
    choices = set(audible(vm, operation))
    if choices - {sent.signal for sent in operation.sent}:
        return None
    return Reason.COMMAND_FAILED if operation.sent else _told(vm)


def reason_at_deadline(vm: VM, operation: Operation) -> Reason:
    """Why the grace period ended without the guest going off."""
    if reason := _deaf(vm):
        return reason
    if operation.sent and all(sent.refused for sent in operation.sent):
        return Reason.COMMAND_FAILED
    return Reason.TIMEOUT if operation.sent or audible(vm, operation) else _told(vm)


def obstacle(vm: VM | None, reason: Reason) -> str:
    """What the VM's forecast says of this reason, for people; "" if nothing."""
    return next((problem.message for problem in (vm.problems if vm else ()) if problem.reason is reason), "")


def _deaf(vm: VM) -> Reason | None:
    return next((problem.reason for problem in vm.problems if problem.reason in DEAF), None)


def _told(vm: VM) -> Reason:
    """Why a guest hears nothing at all."""
    return next((problem.reason for problem in vm.problems if problem.reason), Reason.TOOLS_UNAVAILABLE)
