"""The shutdown procedure, once for every hypervisor: the only place that waits and escalates.

Run the hooks; ask the guest, best signal first; wait until it is off; at force_after do as the escalation says; tell
truthfully how it ended. Each step is journaled before it is taken, so that a restarted provider enters at the top,
finds what was done already, and goes on with the same force_after.
"""

from datetime import datetime
from enum import Enum, auto

from providers.core import deadline as deadlines
from providers.core import hooks
from providers.core import verdict as verdicts
from providers.core.adapter import VM, Escalation, PowerState, Reason, Signal
from providers.core.deadline import Local as Deadline
from providers.core.errors import HypervisorUnavailable, Locked, VMNotFound, VmpowerError
from providers.core.lanes import urgent
from providers.core.model import Decision, Delivery, Sent, State, TimeoutOrigin, Verdict
from providers.core.power import force
from providers.core.run import Run
from providers.core.saving import save
from providers.core.signals import Send, Wait, deaf_reason, next_step, obstacle, reason_at_deadline

PAUSE = 1.0
"""Seconds until a guest is asked again that was held by something that does not show."""


class Guest(Enum):
    """What has become of a guest that is waited for, where force is not due."""

    OFF = auto()
    GONE = auto()
    """The VM is not here any more, so that nothing more can be known."""
    LEFT_ALONE = auto()
    """The shutdown was given up; the guest runs."""
    STILL_RUNNING = auto()
    """Something was sent, has changed or was due: look again."""


async def shut_down(run: Run) -> Verdict:
    """Bring the VM down the way its owner wants."""
    if run.was_off_already or (run.gone and not run.decided):
        return verdicts.already_off(run) if run.off else verdicts.gone(run)
    if run.is_saved and run.in_state(State.PENDING) and _escalation(run) is Escalation.SAVE:
        return verdicts.saved(run)
    if not await hooks.run_all(run):
        return verdicts.hook_failed(run)
    if not run.given_up:
        _begin_grace(run)
    deadline = deadlines.of(run)
    while isinstance(due := await _wait_for_guest(run, deadline), Reason):
        _note_obstacle(run, due)
        if verdict := await _escalate(run, due):
            return verdict
    if due is Guest.OFF:
        await _note_cut(run, deadline)
        return verdicts.judge(run)
    return verdicts.given_up(run) if due is Guest.LEFT_ALONE else verdicts.gone(run)


async def _escalate(run: Run, due: Reason) -> Verdict | None:
    """Do as the escalation says; None: then look at the guest again."""
    match _escalation(run):
        case Escalation.FORCE:
            return await force(run, due)
        case Escalation.NEVER:
            return verdicts.not_forced(run, due)
        case Escalation.ASK:
            await _hold(run, due)
        case Escalation.SAVE:
            return await save(run, due)
    return None


def _begin_grace(run: Run) -> None:
    """The grace period starts when the hooks have ended. The VM has been read again since the request, and the
    hypervisor's own timeout for it may be known only now.

    It is written down with what comes next: mostly that the guest is asked, which saves a write.
    """
    if run.operation.grace_start is not None:
        return
    if not run.operation.timeout_origin.named:
        promised = run.operation.timeout_origin is TimeoutOrigin.DEFAULT  # maybe by a process with another default
        default = run.operation.timeout if promised else run.settings.default_timeout
        run.change("", **deadlines.timeout(run.operation.request, run.vm, default))
    operation, now = run.operation, run.now()
    force_after = operation.force_after or now + operation.timeout
    message = f"the guest has until {force_after.isoformat(timespec='seconds')}"
    run.change(message, state=State.WAITING_FOR_GUEST, grace_start=now, force_after=force_after)


async def _wait_for_guest(run: Run, deadline: Deadline) -> Guest | Reason:
    """Ask and wait until the VM is off, the shutdown is given up, or force is due for a reason: the VM has just been
    looked at then, and no decision that would change that is being written down."""
    while True:
        due = await _round(run, deadline)
        if due is Guest.STILL_RUNNING:
            continue
        if not isinstance(due, Reason) or await _may_be_done(run):
            return due


async def _round(run: Run, deadline: Deadline) -> Guest | Reason:
    """What is due now, if anything; else send or sleep once."""
    if await run.surely_off():
        return Guest.OFF
    if deadline.outdated and not run.told_to_force:
        await deadline.take_back()
        return Guest.STILL_RUNNING
    if run.given_up:
        return Guest.LEFT_ALONE
    if run.vm is None or run.gone:
        return await _look_for(run)
    return _due(run, run.vm, deadline) or await _ask(run, run.vm, deadline)


def _due(run: Run, vm: VM, deadline: Deadline) -> Reason | None:
    """Why force is due; None: it is not."""
    operation = run.operation
    if run.told_to_force:
        return Reason.PREEMPTED if operation.decision is Decision.PREEMPT else Reason.REQUESTED
    if run.in_state(State.AWAITING_DECISION, State.FORCING, State.SAVING) and operation.force_reason:
        return operation.force_reason
    if run.now() >= deadline.moment:
        return reason_at_deadline(vm, operation)
    if run.crashed and not vm.signals and not any(problem.passing for problem in vm.problems):
        return Reason.COMMAND_FAILED  # it stands still; one that was reset is heard again, or will be
    may_have_heard = run.in_doubt or operation.force_reason is not None
    return None if may_have_heard else deaf_reason(vm, operation)


async def _ask(run: Run, vm: VM, deadline: Deadline) -> Guest:
    """Send what is due, or sleep until something changes or is due."""
    operation, now = run.operation, run.now()
    asked = deadline.asks_once and run.operation.asked and run.operation.asked.delivery is not Delivery.UNKNOWN
    step = Wait(None) if run.decided or asked else next_step(vm, operation, now)
    if isinstance(step, Send):
        await _send(run, step.signal, deadline)
        return Guest.STILL_RUNNING
    if run.unsaved:
        await run.save()
        return Guest.STILL_RUNNING
    due = step.until

    def until() -> datetime:
        return min(due, deadline.moment) if due else deadline.moment

    await run.until(lambda: run.off or run.vm is not vm or run.operation is not operation, until)
    return Guest.STILL_RUNNING


async def _may_be_done(run: Run) -> bool:
    """Whether what is due may be done. Nothing is done for a state that was only remembered: the VM may be off by now,
    which is looked for for as long as the hypervisor is unavailable, unless a decision comes meanwhile. A decision that
    is being written down comes first."""
    operation = run.operation
    with urgent():
        await run.look_unless(lambda: run.operation is not operation)
    await run.until(lambda: not run.deciding)
    if run.operation is not operation or run.off or run.gone:
        return False
    vm = run.vm
    if vm and vm.power_state is PowerState.UNKNOWN:  # neither on nor off: that passes
        await run.until(lambda: run.vm is not vm or run.operation is not operation)
        return False
    return True


async def _look_for(run: Run) -> Guest:
    """The VM was left out of a list, or its hypervisor says that it was moved: ask for it itself."""
    operation = run.operation
    await run.look_unless(lambda: run.operation is not operation)
    return Guest.GONE if run.gone and run.operation is operation else Guest.STILL_RUNNING


async def _send(run: Run, signal: Signal, deadline: Deadline) -> None:
    """Write down that the guest is asked, then ask. The answer may be long in coming (an agent answers when
    its guest is gone, or never), so the procedure does not wait for it; a refusal is noted whenever it comes."""
    operation = run.operation
    sent = Sent(number=operation.next_number, time=run.now(), signal=signal, handed_over=deadline.handover())
    again = "again " if any(each.signal is signal for each in operation.sent if not each.accepted) else ""
    await run.record(f"asking the guest {again}by {signal}", sent=(*operation.sent, sent))
    run.spawn(_deliver(run, sent, deadline))


async def _deliver(run: Run, sent: Sent, deadline: Deadline) -> None:
    try:
        await run.inventory.reconnected()
        if run.decided or run.in_state(State.FORCING, State.SAVING):  # an outage may have held this up until then
            return await _not_sent(run, sent)
        await run.adapter.send_signal(run.vm_id, sent.signal, deadline.grace(sent))
    except VMNotFound:
        await run.look()
    except Locked as error:
        await run.look()
        await _held_up(run, sent, error.message)
    except HypervisorUnavailable as error:
        unknown = f"whether {sent.signal} reached the guest is not known: {error.message}"
        await _note_delivery(run, sent, Delivery.UNKNOWN, unknown)
    except Exception as error:
        why = error.message if isinstance(error, VmpowerError) else f"{type(error).__name__}: {error}"
        await _note_delivery(run, sent, Delivery.REFUSED, f"{sent.signal} was refused: {why}")
    else:
        await _note_delivery(run, sent, Delivery.ACCEPTED)
    return None


async def _note_delivery(run: Run, sent: Sent, delivery: Delivery, message: str = "") -> None:
    """What came to the same is counted, not listed."""
    if run.off or run.operation.state.final:
        return
    same = [each for each in run.operation.sent if (each.signal, each.delivery) == (sent.signal, delivery)]
    if delivery is Delivery.ACCEPTED and not same:
        message = f"{sent.signal} was accepted"
    changed = run.operation.sent_but(sent.number, delivery=delivery, times=1 + sum(each.times for each in same))
    await run.record(message, sent=tuple(each for each in changed if each not in same))


async def _held_up(run: Run, sent: Sent, why: str) -> None:
    """The guest was not asked. Once the VM shows what holds it, the next step is to wait for that to end."""
    vm = run.vm
    if vm and not any(problem.passing for problem in vm.problems):  # it ended just now, or does not show
        await run.within(PAUSE, lambda: run.vm is not vm or run.decided or run.off)
    await _not_sent(run, sent, f"{sent.signal} must wait: {why}")


async def _not_sent(run: Run, sent: Sent, message: str = "") -> None:
    if not run.off and not run.operation.state.final:
        await run.record(message, sent=tuple(each for each in run.operation.sent if each.number != sent.number))


def _escalation(run: Run) -> Escalation:
    """What to do now that force is due; a decision comes before what was requested, but for a save that is under way,
    or was done after all."""
    operation = run.operation
    if run.told_to_force or run.in_state(State.FORCING):
        return Escalation.FORCE
    saving = run.in_state(State.SAVING) and not operation.save_failure
    saved = run.is_saved and operation.request.escalation is Escalation.SAVE
    return Escalation.SAVE if saving or saved else operation.escalation


def _note_obstacle(run: Run, reason: Reason) -> None:
    """What stands in the way now; or stood, where force was due already."""
    kept = run.operation.obstacle if reason is run.operation.force_reason else ""
    run.change("", obstacle=obstacle(run.vm, reason) or kept)


async def _note_cut(run: Run, deadline: Deadline) -> None:
    """A step that says so, if the hypervisor cut the power, as it had been told to."""
    if (reason := deadline.cut()) and not run.in_state(State.FORCING):
        message = f"the hypervisor has powered it off hard, reason {reason}"
        await run.record(message, state=State.FORCING, force_reason=reason)


async def _hold(run: Run, reason: Reason) -> None:
    """ASK: nothing is done until the operation is extended, forced or cancelled, or the VM is off after all."""
    if not run.in_state(State.AWAITING_DECISION):
        message = verdicts.because(run, f"somebody must extend, force or cancel; reason {reason}")
        await run.record(message, state=State.AWAITING_DECISION, force_reason=reason)
    await run.until(lambda: run.off or run.decided or run.gone or not run.in_state(State.AWAITING_DECISION))
