"""The shutdown procedure, once for every hypervisor: the only place that waits, escalates and judges.

Run the hooks; ask the guest, best signal first; wait for its going off; at force_after do as the
escalation says; tell truthfully how it ended. Each step is journaled before it is taken, so that a
restarted provider enters at the top, finds what was done already, and goes on with the same force_after.
"""

from providers.core import deadline, hooks
from providers.core.adapter import Escalation, Reason, Signal
from providers.core.errors import Locked, VMNotFound, VmpowerError
from providers.core.model import Decision, Outcome, Sent, State, Verdict
from providers.core.power import force, is_on, judge, start
from providers.core.run import Run
from providers.core.signals import Send, Wait, deaf_reason, next_step, obstacle, reason_at_deadline


async def shut_down(run: Run) -> Verdict:
    """Bring the VM down the way its owner wants.

    Raises:
        CommandFailed: force was due and the hypervisor would not.
    """
    if run.off and run.in_state(State.PENDING):
        return run.verdict(Outcome.ALREADY_OFF, "It was off already.")
    if not await hooks.run_all(run):
        return run.verdict(Outcome.STILL_RUNNING, "A hook failed and says to abort.", Reason.HOOK_FAILED)
    if not _gives_up(run):
        await _begin_grace(run)
    while reason := await _wait_for_guest(run):
        _note_obstacle(run, reason)
        match _escalation(run):
            case Escalation.FORCE:
                return await force(run, reason)
            case Escalation.NEVER:
                return run.verdict(Outcome.STILL_RUNNING, run.because("Not powered off hard, as asked."), reason)
            case Escalation.ASK:
                await _hold(run, reason)
    if not run.off:
        return run.verdict(Outcome.STILL_RUNNING, deadline.given_up(run))
    await deadline.tell_cut(run)
    return judge(run)


async def reboot(run: Run) -> Verdict:
    """Shut down, then start; the verdict tells how the VM went down.

    Raises:
        CommandFailed: the hypervisor would not force it off, or not start it again.
    """
    down = run.operation.went_down or await shut_down(run)
    if down.outcome is Outcome.STILL_RUNNING:
        return down
    await run.record("down", went_down=down)
    if run.operation.decision is Decision.PREEMPT:
        return down
    if not is_on(run):
        await start(run)
    return down.model_copy(update={"end_time": run.now(), "message": f"{down.message} Started again."})


async def _begin_grace(run: Run) -> None:
    """The grace period starts when the hooks have ended."""
    if run.operation.grace_start is not None:
        return
    run.change("", **deadline.own_time(run))
    operation, now = run.operation, run.now()
    force_after = operation.force_after or now + operation.timeout
    message = f"the guest has until {force_after.isoformat(timespec='seconds')}"
    await run.record(message, state=State.WAITING_FOR_GUEST, grace_start=now, force_after=force_after)


async def _wait_for_guest(run: Run) -> Reason | None:
    """Ask and wait. None: it went off, or the shutdown was given up; otherwise why force is due."""
    while not run.off:
        if run.operation.decision in (Decision.FORCE, Decision.PREEMPT):
            return Reason.PREEMPTED if run.operation.decision is Decision.PREEMPT else Reason.REQUESTED
        if deadline.outdated(run):
            await deadline.take_back(run)
            continue
        if _gives_up(run):
            return None
        if run.in_state(State.AWAITING_DECISION, State.FORCING):
            return run.operation.force_reason
        if reason := await _ask(run):
            return reason
    return None


async def _ask(run: Run) -> Reason | None:
    """One round: send what is due, or sleep until something changes or is due."""
    vm, operation, now = run.vm, run.operation, run.now()
    if vm is None:
        return None
    if now >= deadline.deadline(run):
        return await _look_once_more(run)
    if operation.force_reason is None and (deaf := deaf_reason(vm, operation)):
        return deaf
    waits = run.decided or (deadline.waits(run) and run.accepted)
    step = Wait(None) if waits else next_step(vm, operation, now)
    if isinstance(step, Send):
        await _send(run, step.signal)
        return None
    last = deadline.deadline(run)
    until = min(step.until, last) if step.until else last
    await run.until(lambda: run.off or run.vm is not vm or run.operation is not operation, until)
    return None


async def _look_once_more(run: Run) -> Reason | None:
    """At force_after: why force is due; None if it went off, or somebody decided or extended while we looked,
    which takes as long as the hypervisor is unavailable."""
    operation = run.operation
    await run.look_unless(lambda: run.operation is not operation)
    vm = run.vm
    return None if vm is None or run.off or run.operation is not operation else reason_at_deadline(vm, operation)


async def _send(run: Run, signal: Signal) -> None:
    """Write down that the guest is asked, then ask. The answer may be long in coming (an agent answers when
    its guest is gone, or never), so nobody waits for it; a refusal is noted whenever it comes."""
    sent = Sent(time=run.now(), signal=signal, handed_over=deadline.moment(run))
    await run.record(f"asking the guest by {signal}", sent=(*run.operation.sent, sent))
    run.spawn(_deliver(run, sent))


async def _deliver(run: Run, sent: Sent) -> None:
    async def deliver() -> None:
        if not run.decided and not run.in_state(State.FORCING):  # an outage may have held this up until then
            await run.adapter.send_signal(run.vm_id, sent.signal, deadline.grace(run, sent))

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
    await run.record(f"{sent.signal} was refused: {why}", sent=run.operation.sent_but(sent, refused=True))


async def _held_up(run: Run, sent: Sent, why: str) -> None:
    """Nothing was asked. Once the VM shows what holds it, the next step is to wait for that to end."""
    await run.look()
    if run.off or run.operation.state.final:
        return
    rest = tuple(s for s in run.operation.sent if s.time != sent.time)
    await run.record(f"{sent.signal} must wait: {why}", sent=rest)


def _escalation(run: Run) -> Escalation:
    """What to do now that force is due; what somebody decided meanwhile comes before what was requested."""
    decision = run.operation.decision
    if decision in (Decision.FORCE, Decision.PREEMPT) or run.in_state(State.FORCING):
        return Escalation.FORCE
    return Escalation.NEVER if decision is Decision.CALL_OFF else run.operation.request.escalation


def _note_obstacle(run: Run, reason: Reason) -> None:
    """What stands in the way now; or stood, where force was due already."""
    kept = run.operation.obstacle if reason is run.operation.force_reason else ""
    run.change("", obstacle=obstacle(run.vm, reason) or kept)


async def _hold(run: Run, reason: Reason) -> None:
    """ASK: nothing happens until somebody decides, extends, or the guest goes off after all."""
    if not run.in_state(State.AWAITING_DECISION):
        message = run.because(f"somebody must extend, force or cancel; reason {reason}")
        await run.record(message, state=State.AWAITING_DECISION, force_reason=reason)
    await run.until(lambda: run.off or run.decided or not run.in_state(State.AWAITING_DECISION))


def _gives_up(run: Run) -> bool:
    """Whether there is nothing left to wait for: cancelled, or called off before the guest was asked."""
    decision = run.operation.decision
    return decision is Decision.CANCEL or (decision is Decision.CALL_OFF and run.accepted is None)
