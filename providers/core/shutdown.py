"""The shutdown procedure, once for every hypervisor: the only place that waits and escalates.

Run the hooks; ask the guest, best signal first; wait until it is off; at force_after do as the escalation says; tell
truthfully how it ended. Each step is journaled before it is taken, so that a restarted provider enters at the top,
finds what was done already, and goes on with the same force_after.
"""

from enum import Enum, auto

from providers.core import deadline as deadlines
from providers.core import hooks
from providers.core import verdict as verdicts
from providers.core.adapter import Escalation, Reason, Signal
from providers.core.deadline import Local as Deadline
from providers.core.errors import Locked, VMNotFound, VmpowerError
from providers.core.model import Decision, Sent, State, TimeoutOrigin, Verdict
from providers.core.power import force
from providers.core.run import Run
from providers.core.signals import Send, Wait, deaf_reason, next_step, obstacle, reason_at_deadline


class Guest(Enum):
    """What has become of a guest that is waited for, where force is not due."""

    OFF = auto()
    LEFT_ALONE = auto()
    """The shutdown was given up; the guest runs."""
    STILL_RUNNING = auto()
    """Something was sent, has changed or was due: look again."""


async def shut_down(run: Run) -> Verdict:
    """Bring the VM down the way its owner wants."""
    if run.off and run.in_state(State.PENDING):
        return verdicts.already_off(run)
    if not await hooks.run_all(run):
        return verdicts.hook_failed(run)
    if not _gives_up(run):
        _begin_grace(run)
    deadline = deadlines.of(run)
    while isinstance(due := await _wait_for_guest(run, deadline), Reason):
        _note_obstacle(run, due)
        match _escalation(run):
            case Escalation.FORCE:
                return await force(run, due)
            case Escalation.NEVER:
                return verdicts.not_forced(run, due)
            case Escalation.ASK:
                await _hold(run, due)
    if due is Guest.LEFT_ALONE:
        return verdicts.given_up(run)
    await _note_cut(run, deadline)
    return verdicts.judge(run)


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
    """Ask and wait until the VM is off, the shutdown is given up, or force is due for a reason."""
    while not run.off:
        if run.told_to_force:
            return Reason.PREEMPTED if run.operation.decision is Decision.PREEMPT else Reason.REQUESTED
        if deadline.outdated:
            await deadline.take_back()
            continue
        if _gives_up(run):
            return Guest.LEFT_ALONE
        if run.in_state(State.AWAITING_DECISION, State.FORCING) and run.operation.force_reason:
            return run.operation.force_reason
        if isinstance(due := await _ask(run, deadline), Reason):
            return due
    return Guest.OFF


async def _ask(run: Run, deadline: Deadline) -> Guest | Reason:
    """One round: send what is due, or sleep until something changes or is due."""
    vm, operation, now = run.vm, run.operation, run.now()
    if vm is None:
        return Guest.OFF
    if now >= deadline.moment:
        return await _look_once_more(run)
    if operation.force_reason is None and (deaf := deaf_reason(vm, operation)):
        return Guest.STILL_RUNNING if await run.save() else deaf  # a decision may have come meanwhile
    waits = run.decided or (deadline.asks_once and run.accepted)
    step = Wait(None) if waits else next_step(vm, operation, now)
    if isinstance(step, Send):
        await _send(run, step.signal, deadline)
        return Guest.STILL_RUNNING
    if await run.save():
        return Guest.STILL_RUNNING
    until = min(step.until, deadline.moment) if step.until else deadline.moment
    await run.until(lambda: run.off or run.vm is not vm or run.operation is not operation, until)
    return Guest.STILL_RUNNING


async def _look_once_more(run: Run) -> Guest | Reason:
    """Before force: the VM may be off by now. The look takes as long as the hypervisor is unavailable, and is given up
    when the operation is decided about or extended meanwhile."""
    operation = run.operation
    await run.look_unless(lambda: run.operation is not operation)
    vm = run.vm
    if vm is None or run.off or run.operation is not operation:
        return Guest.STILL_RUNNING
    return reason_at_deadline(vm, operation)


async def _send(run: Run, signal: Signal, deadline: Deadline) -> None:
    """Write down that the guest is asked, then ask. The answer may be long in coming (an agent answers when
    its guest is gone, or never), so the procedure does not wait for it; a refusal is noted whenever it comes."""
    operation = run.operation
    sent = Sent(number=operation.next_number, time=run.now(), signal=signal, handed_over=deadline.handover())
    await run.record(f"asking the guest by {signal}", sent=(*operation.sent, sent))
    run.spawn(_deliver(run, sent, deadline))


async def _deliver(run: Run, sent: Sent, deadline: Deadline) -> None:
    async def deliver() -> None:
        if not run.decided and not run.in_state(State.FORCING):  # an outage may have held this up until then
            await run.adapter.send_signal(run.vm_id, sent.signal, deadline.grace(sent))

    try:
        await run.through_outages(deliver)
    except VMNotFound:
        await run.look()
    except Locked as error:
        await _held_up(run, sent, error.message)
    except VmpowerError as error:
        await _refused(run, sent, error.message)
    except Exception as error:
        await _refused(run, sent, f"{type(error).__name__}: {error}")


async def _refused(run: Run, sent: Sent, why: str) -> None:
    if run.off or run.operation.state.final:
        return
    await run.record(f"{sent.signal} was refused: {why}", sent=run.operation.sent_but(sent.number, refused=True))


async def _held_up(run: Run, sent: Sent, why: str) -> None:
    """The guest was not asked. Once the VM shows what holds it, the next step is to wait for that to end."""
    await run.look()
    if run.off or run.operation.state.final:
        return
    rest = tuple(each for each in run.operation.sent if each.number != sent.number)
    await run.record(f"{sent.signal} must wait: {why}", sent=rest)


def _escalation(run: Run) -> Escalation:
    """What to do now that force is due; a decision comes before what was requested."""
    return Escalation.FORCE if run.told_to_force or run.in_state(State.FORCING) else run.operation.escalation


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
    await run.until(lambda: run.off or run.decided or not run.in_state(State.AWAITING_DECISION))


def _gives_up(run: Run) -> bool:
    """Whether there is nothing left to wait for: cancelled, or called off before the guest was asked."""
    decision = run.operation.decision
    return decision is Decision.CANCEL or (decision is Decision.CALL_OFF and run.accepted is None)
