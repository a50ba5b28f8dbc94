"""What is handed to a hypervisor that finishes a shutdown by itself (Proxmox VE), and how it is taken back.

Such a hypervisor is told the guest's time with the request; it waits and, with FORCE, cuts the power at the end, also
if this process is gone by then. Whoever changes that time, or calls the shutdown off, must take it back first: from
then on the deadline is kept here, as everywhere else.
"""

from datetime import datetime, timedelta
from typing import Any

from providers.core.adapter import Escalation, Grace, Reason, supports
from providers.core.errors import HypervisorUnavailable, VmpowerError
from providers.core.model import Decision, Operation, Sent, State
from providers.core.run import Run

MARGIN = timedelta(seconds=15)
"""How long after force_after such a hypervisor may take before we cut the power ourselves. Proxmox VE gives QEMU 10 s
to heed SIGTERM before it sends SIGKILL (qemu-server, `_do_vm_stop`)."""
AT_ONCE = timedelta(seconds=1)


def own_time(run: Run) -> dict[str, Any]:
    """The operation's changed fields, if nobody named a time: the VM has been read again since the request, and the
    hypervisor's own time for it may be known only now."""
    grace = run.vm.grace if run.vm else None
    if grace is None or _by_somebody(run.operation):
        return {}
    return {"timeout": grace, "request": run.operation.request.model_copy(update={"timeout": grace})}


def waits(run: Run) -> bool:
    """Whether the hypervisor waits for the guest by itself, so that nothing more is sent meanwhile."""
    return supports(run.adapter, "withdraw")


def grace(run: Run, sent: Sent) -> Grace:
    """What the hypervisor is told with a signal when it is delivered."""
    force_after = run.force_after
    left = max(force_after - run.now(), timedelta(0))
    taken_back = not any(now.handed_over for now in run.operation.sent if now.time == sent.time)
    escalation = _escalation(run)
    if waits(run) and taken_back and escalation is Escalation.FORCE:
        escalation = Escalation.NEVER
    return Grace(force_after, escalation, left if _named(run) else None)


def moment(run: Run) -> datetime | None:
    """When the hypervisor would cut the power if a signal were sent now; None: not by itself."""
    finishes = run.vm is not None and run.vm.finishes
    return run.force_after if finishes and _escalation(run) is Escalation.FORCE else None


def deadline(run: Run) -> datetime:
    """When we do as the escalation says: at force_after, and later only where the hypervisor does so before."""
    return run.force_after + (MARGIN if _handed(run) else timedelta(0))


def outdated(run: Run) -> bool:
    """Whether the hypervisor would cut the power at a moment that does not hold any more."""
    handed = _handed(run)
    called_off = run.operation.decision in (Decision.CANCEL, Decision.CALL_OFF)
    return handed is not None and (called_off or handed.handed_over != run.force_after)


async def take_back(run: Run) -> None:
    """Tell the hypervisor not to cut the power. If it will not listen, that is said, and it may still do so."""
    if (handed := _handed(run)) is None:
        return
    work = run.spawn(run.through_outages(lambda: run.adapter.withdraw(run.vm_id)))
    await run.until(lambda: work.done() or run.off or _told_to_force(run), _useful_until(run, handed))
    if work.done():
        await _note(run, handed, work.exception())
    elif not run.off and not _told_to_force(run):
        await _note(run, handed, HypervisorUnavailable("it does not answer"))
    work.cancel()


def given_up(run: Run) -> str:
    """What is left of a shutdown that was given up."""
    if (sent := run.accepted) and sent.kept and sent.handed_over:
        moment = f"{sent.handed_over:%H:%M:%S} UTC"
        return f"The shutdown was given up, but the hypervisor may still cut the power at {moment}."
    return "The shutdown was given up; nothing will force the VM off."


def cut(run: Run) -> Reason | None:
    """Why the hypervisor cut the power of a VM that is off, as it had been told to; None: it did not."""
    off, sent = run.last_seen_off, run.accepted
    if off is None or off.forced:
        return off.forced if off else None
    if sent is None or sent.handed_over is None or off.off_cause:
        return None
    if off.off_after is None:  # nobody tells: then what always forces has forced, if its time had come
        late = bool(off.always_forced) and run.now() >= sent.handed_over
    else:
        late = off.off_after >= sent.handed_over - sent.time
    return Reason.TIMEOUT if late else None


async def tell_cut(run: Run) -> None:
    """A step that says so, if the hypervisor cut the power of a VM that is off."""
    if (reason := cut(run)) and not run.in_state(State.FORCING):
        message = f"the hypervisor has powered it off hard, reason {reason}"
        await run.record(message, state=State.FORCING, force_reason=reason)


async def _note(run: Run, handed: Sent, error: BaseException | None) -> None:
    if error is None:
        changed = run.operation.sent_but(handed, handed_over=None)
        await run.record("the hypervisor will not cut the power by itself any more", sent=changed)
        return
    why = error.message if isinstance(error, VmpowerError) else f"{type(error).__name__}: {error}"
    message = f"the hypervisor may still cut the power at {handed.handed_over:%H:%M:%S} UTC: {why}"
    await run.record(message, sent=run.operation.sent_but(handed, kept=True))


def _useful_until(run: Run, handed: Sent) -> datetime:
    """A hypervisor that is away is told again and again, until it has cut the power or we are to do so."""
    moment = handed.handed_over or run.force_after
    return moment + MARGIN if moment == run.force_after else min(moment + MARGIN, run.force_after)


def _told_to_force(run: Run) -> bool:
    return run.operation.decision in (Decision.FORCE, Decision.PREEMPT)


def _handed(run: Run) -> Sent | None:
    sent = run.accepted
    return sent if sent and sent.handed_over and not sent.kept else None


def _escalation(run: Run) -> Escalation:
    called_off = run.operation.decision is Decision.CALL_OFF
    return Escalation.NEVER if called_off else run.operation.request.escalation


def _named(run: Run) -> bool:
    """Whether anybody named a time, or the one that the hypervisor would take has begun already."""
    start = run.operation.grace_start
    return _by_somebody(run.operation) or start is None or run.now() - start >= AT_ONCE


def _by_somebody(operation: Operation) -> bool:
    request = operation.request
    return request.timeout_named or request.force_after is not None or operation.timeout != request.timeout
