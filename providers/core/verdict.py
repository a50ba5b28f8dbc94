"""What every operation's end is called, and the sentence that people read: the only place that makes verdicts."""

from providers.core import deadline as deadlines
from providers.core.adapter import OffCause, Reason
from providers.core.model import Outcome, State, Verdict
from providers.core.run import Run


def judge(run: Run) -> Verdict:
    """How a VM that is off went down: by the hypervisor's record first, by what we did second."""
    cause = run.last_seen_off.off_cause if run.last_seen_off else None
    reason, accepted = run.operation.force_reason, run.accepted
    forcing = run.in_state(State.FORCING)
    if cause is OffCause.CRASHED:
        return _verdict(run, Outcome.CRASHED, "The guest or its hypervisor process died.")
    if (cut := deadlines.of(run).cut()) and reason in (None, cut):
        return _verdict(run, Outcome.FORCED, f"Powered off hard by the hypervisor, as it was told, reason {cut}.", cut)
    if forcing and cause is not OffCause.GUEST:
        return _verdict(run, Outcome.FORCED, because(run, f"Powered off hard, reason {reason}."), reason)
    if cause is OffCause.HOST:
        return _verdict(run, Outcome.OUT_OF_BAND, "Somebody else cut its power while we waited.")
    if accepted is None:
        return _verdict(run, Outcome.OUT_OF_BAND, "It went off before it was asked.")
    return _verdict(run, Outcome.GRACEFUL, f"The guest shut itself down, asked by {accepted.signal}.")


def already_off(run: Run) -> Verdict:
    return _verdict(run, Outcome.ALREADY_OFF, "It was off already.")


def cut_by_preempted(run: Run) -> Verdict:
    """The operation that this PowerOff pre-empted has cut the power for it."""
    return _verdict(run, Outcome.FORCED, "Powered off hard, as asked.", Reason.REQUESTED)


def hook_failed(run: Run) -> Verdict:
    """The VM runs on, as the hook's failure policy says."""
    return _verdict(run, Outcome.STILL_RUNNING, "A hook failed and says to abort.", Reason.HOOK_FAILED)


def not_forced(run: Run, due: Reason) -> Verdict:
    """Force was due for this reason, and the escalation is NEVER."""
    return _verdict(run, Outcome.STILL_RUNNING, because(run, "Not powered off hard, as asked."), due)


def given_up(run: Run) -> Verdict:
    """The shutdown was cancelled or called off, and the guest runs."""
    return _verdict(run, Outcome.STILL_RUNNING, deadlines.of(run).given_up())


def already_on(run: Run) -> Verdict:
    return _verdict(run, Outcome.ALREADY_ON, "It was on already.")


def started(run: Run) -> Verdict:
    return _verdict(run, Outcome.STARTED, "Started.")


def started_again(run: Run, down: Verdict) -> Verdict:
    """A reboot: how the VM went down, and that it was started."""
    return down.model_copy(update={"end_time": run.now(), "message": f"{down.message} Started again."})


def unchanged(run: Run, message: str) -> Verdict:
    """The operation did nothing to the VM, or could not; then also why force was due."""
    if run.off:
        return _verdict(run, Outcome.ALREADY_OFF, message)
    due = run.operation.force_reason
    return _verdict(run, Outcome.STILL_RUNNING, because(run, message), None if due is Reason.REQUESTED else due)


def because(run: Run, message: str) -> str:
    """The message, with what stood in the way when force was due, if anything did."""
    obstacle = run.operation.obstacle
    return f"{message.removesuffix('.')}: {obstacle}" if obstacle else message


def _verdict(run: Run, outcome: Outcome, message: str, reason: Reason | None = None) -> Verdict:
    by_signal = outcome is Outcome.GRACEFUL and run.accepted
    return Verdict(
        outcome=outcome,
        reason=reason,
        signal=run.accepted.signal if by_signal and run.accepted else None,
        start_time=run.operation.create_time,
        end_time=run.now(),
        hooks=run.operation.hooks,
        message=message,
    )
