"""What every operation's end is called, and the sentence that people read: the only place that makes verdicts."""

from datetime import timedelta

from providers.core import deadline as deadlines
from providers.core.adapter import Escalation, OffCause, PowerState, Reason
from providers.core.clock import monotonic
from providers.core.model import Decision, Delivery, Outcome, State, Verdict
from providers.core.run import Run

HEARD = (Delivery.ACCEPTED, Delivery.SENDING)
"""A call that is under way when its guest goes off was heard: an agent answers when its guest is gone, or never."""

OFF_AGAIN = {
    OffCause.GUEST: (Outcome.OUT_OF_BAND, "the guest shut itself down"),
    OffCause.HOST: (Outcome.OUT_OF_BAND, "somebody else cut its power"),
    OffCause.CRASHED: (Outcome.CRASHED, "the guest or its hypervisor process died"),
    None: (Outcome.UNKNOWN, "how it went off cannot be known"),
}
"""What became of a VM that went off once a PowerOn had it on."""


def judge(run: Run) -> Verdict:
    """How a VM that is off went down. The hypervisor's record comes first, what we did second; where both say too
    little it is not guessed.

        who ended it, by the hypervisor    and we                       outcome
        it did not run                                                  ALREADY_OFF
        the guest                          asked it (perhaps), now      GRACEFUL
                                           or by an earlier operation
                                           had not asked                OUT_OF_BAND
        a crash                                                         CRASHED
        the host                           were not forcing             OUT_OF_BAND
                                           cut its power                FORCED
                                           did not: it was off then     OUT_OF_BAND
                                           cannot tell whether we did   UNKNOWN
        it does not say                    cut its power                FORCED
                                           did not, or cannot tell      UNKNOWN
    """
    if run.was_off_already:
        return already_off(run)
    off, reason, deadline = run.last_seen_off, run.operation.force_reason, deadlines.of(run)
    cause, forcing = off.off_cause if off else None, run.in_state(State.FORCING)
    if cause is OffCause.CRASHED or run.crashed:
        return _verdict(run, Outcome.CRASHED, "The guest or its hypervisor process died.")
    if cut := deadline.cut():
        told = f"Powered off hard by the hypervisor, as it was told, reason {reason or cut}."
        return _verdict(run, Outcome.FORCED, told, reason or cut)
    if cause is OffCause.GUEST or deadline.left():
        return _left(run)
    if forcing and run.cut:
        failure = f" Its memory could not be saved: {run.operation.save_failure}" if run.operation.save_failure else ""
        message = because(run, f"Powered off hard, reason {reason}.")
        return _verdict(run, Outcome.FORCED, f"{message}{failure}", reason)
    return _not_ours(run, cause)


def _not_ours(run: Run, cause: OffCause | None) -> Verdict:
    if cause is None:
        return _unknown(run, "It was started again since" if run.runs_anew else "It is off")
    if run.cut is None:
        return _unknown(run, "Its power was cut, by vmpower or by somebody else")
    when = "before it was asked" if run.operation.asked is None else "while we waited"
    return _verdict(run, Outcome.OUT_OF_BAND, f"Somebody else cut its power {when}.")


def _left(run: Run) -> Verdict:
    if run.operation.asked is None and _asked_before(run):
        return _verdict(run, Outcome.GRACEFUL, "The guest shut itself down, asked by an earlier operation.")
    if run.operation.asked is None and (run.in_doubt or run.operation.was_saved):
        message = "The guest shut itself down; whether it had been asked cannot be known."
        return _verdict(run, Outcome.UNKNOWN, message)
    if run.operation.asked is None:
        return _verdict(run, Outcome.OUT_OF_BAND, "It went off before it was asked.")
    perhaps = "" if any(sent.delivery in HEARD for sent in run.operation.sent) else "perhaps "
    earlier = "an earlier operation, then by " if _asked_before(run) else ""
    return _verdict(run, Outcome.GRACEFUL, f"The guest shut itself down, {perhaps}asked by {earlier}{_signals(run)}.")


def _asked_before(run: Run) -> bool:
    """Whether an earlier operation had asked this very run of the VM, which may obey late. Where runs are not told
    apart it may have been another run."""
    asked = run.operation.asked_run
    return bool(asked) and asked == run.operation.run_id


def _signals(run: Run) -> str:
    """What the guest was asked by, in order."""
    return ", then ".join(dict.fromkeys(sent.signal for sent in run.operation.sent if not sent.refused))


def _unknown(run: Run, known: str) -> Verdict:
    """The outcome cannot be known; what is known is said."""
    sent = run.operation.asked
    if sent is None:
        asked = "it was asked by an earlier operation" if _asked_before(run) else "it had not been asked"
    else:
        perhaps = "" if sent.accepted else "perhaps "
        seconds = (run.now() - sent.time).total_seconds()
        asked = f"it was {perhaps}asked by {_signals(run)}, the last time {seconds:.0f} s ago"
    return _verdict(run, Outcome.UNKNOWN, f"{known}; how it went off cannot be known: {asked}.")


def gone(run: Run) -> Verdict:
    """The VM is not here any more, which says nothing of whether it runs."""
    why = " ".join(problem.message for problem in run.vm.problems) if run.vm else "It is not in the inventory any more."
    return _verdict(run, Outcome.UNKNOWN, f"{why} Whether it runs cannot be known here, and nothing was done to it.")


def overtaken(run: Run) -> Verdict:
    """Another operation came after this one's end, which was not written down."""
    message = (
        "It had ended when a later operation on this VM began, but its end was not written down; it is not resumed."
    )
    return _verdict(run, Outcome.UNKNOWN, message)


def already_off(run: Run) -> Verdict:
    when = " when it was first looked at" if run.found_off else ""
    return _verdict(run, Outcome.ALREADY_OFF, f"It was off already{when}.")


def off_by_superseded(run: Run, down: Verdict) -> Verdict:
    """It went off under the operation that this PowerOff superseded, which may have cut the power for it."""
    if down.reason is Reason.PREEMPTED:
        return _verdict(run, Outcome.FORCED, "Powered off hard, as asked.", Reason.REQUESTED)
    verdict = _verdict(run, down.outcome, f"It went off before that: {down.message}", down.reason)
    return verdict.model_copy(update={"signal": down.signal})


def saved(run: Run, due: Reason | None = None) -> Verdict:
    """Its memory is saved, and it runs nowhere."""
    resumes = "A PowerOn resumes it."
    match run.saved:
        case True:
            why = f", reason {due}" if due else ""
            message = because(run, f"Its memory was saved and it was stopped{why}.")
        case None:
            message = "Its memory is saved, by vmpower or by somebody else."
        case _ if run.in_state(State.PENDING):
            message = "Its memory was saved already."
        case _:
            message = "Somebody else saved its memory while we waited."
    return _verdict(run, Outcome.SAVED, f"{message.removesuffix('.')}. {resumes}", due)


def hook_failed(run: Run) -> Verdict:
    """The VM runs on, as the hook's failure policy says."""
    return _left_as_it_is(run, "A hook failed and says to abort.", Reason.HOOK_FAILED)


def not_forced(run: Run, due: Reason) -> Verdict:
    """Force was due for this reason, and the escalation is NEVER."""
    why = "a PowerOn called it off" if run.operation.decision is Decision.CALL_OFF else "as asked"
    message = because(run, f"Not powered off hard, {why}.")
    if failure := run.operation.save_failure:
        message = f"Its memory could not be saved: {failure} {message}"
    return _left_as_it_is(run, message, due)


def given_up(run: Run) -> Verdict:
    """The shutdown was cancelled or called off, and the guest runs, as far as is known."""
    return _left_as_it_is(run, deadlines.of(run).given_up())


def _left_as_it_is(run: Run, message: str, reason: Reason | None = None) -> Verdict:
    """Nothing more is done to the VM. That it runs is said only where it is known; otherwise, what was last known."""
    if not run.unseen and run.gone:
        return gone(run)
    if not run.unseen and run.is_saved and run.operation.request.escalation is Escalation.SAVE:
        return saved(run, reason)
    told = run.operation.obstacle and run.operation.obstacle in message
    if run.is_saved and not told:
        message = f"{message} Its memory is saved, and it runs nowhere."
    if not run.unseen and run.vm and run.vm.power_state is not PowerState.UNKNOWN:
        return _verdict(run, Outcome.STILL_RUNNING, message, reason)
    seen = "it was not seen since the provider was started"
    if run.seen_on is not None:
        seen_on = run.now() - timedelta(seconds=monotonic() - run.seen_on)
        seen = f"it was last seen running at {seen_on.isoformat(timespec='seconds')}"
    return _verdict(run, Outcome.UNKNOWN, f"{message} Whether it runs is not known: {seen}.", reason)


def runs_no_more(run: Run) -> Verdict:
    """A PowerOn's VM was on, and is off or not here."""
    was = "Started" if run.operation.starting else "It was on already"
    if run.vm is None:
        gone = "is not in the inventory any more. Whether it runs cannot be known here."
        return _verdict(run, Outcome.UNKNOWN, f"{was}, and {gone}")
    outcome, how = OFF_AGAIN[run.vm.off_cause]
    return _verdict(run, outcome, f"{was}, and is off again: {how}.")


def already_on(run: Run, asked: bool) -> Verdict:
    """`asked`: an earlier operation had asked it to go down, which no hypervisor can take back."""
    late = " An earlier operation had asked its guest to go down, which may still obey." if asked else ""
    return _verdict(run, Outcome.ALREADY_ON, f"It was on already.{_hooks_given_up(run)}{late}")


def started(run: Run) -> Verdict:
    return _verdict(run, Outcome.STARTED, f"Started.{_hooks_given_up(run)}")


def _hooks_given_up(run: Run) -> str:
    return " What was to follow was given up." if run.decided and run.operation.hooks else ""


def started_again(run: Run, down: Verdict) -> Verdict:
    """A reboot: how the VM went down, and that it was started."""
    return down.model_copy(update={"end_time": run.now(), "message": f"{down.message} Started again."})


def unchanged(run: Run, message: str) -> Verdict:
    """The operation did nothing to the VM, or could not; then also why force was due."""
    if down := run.operation.went_down:
        return down.model_copy(
            update={"end_time": run.now(), "message": f"{down.message} Not started again: {message}"}
        )
    if run.off:
        return _verdict(run, Outcome.ALREADY_OFF, message)
    due = run.operation.force_reason
    return _left_as_it_is(run, because(run, message), None if due is Reason.REQUESTED else due)


def preempted(run: Run) -> Verdict:
    """A PowerOff came before this PowerOn did anything. How the VM was before that is no success of it."""
    message = "Nothing was done: a PowerOff came before it began."
    if run.off:
        return _verdict(run, Outcome.ALREADY_OFF, message, Reason.PREEMPTED)
    return _left_as_it_is(run, message, Reason.PREEMPTED)


def because(run: Run, message: str) -> str:
    """The message, with what stood in the way when force was due, if anything did."""
    obstacle = run.operation.obstacle
    return f"{message.removesuffix('.')}: {obstacle}" if obstacle else message


def _verdict(run: Run, outcome: Outcome, message: str, reason: Reason | None = None) -> Verdict:
    heard = run.operation.asked if outcome is Outcome.GRACEFUL else None
    return Verdict(
        outcome=outcome,
        reason=reason,
        signal=heard.signal if heard else None,
        start_time=run.operation.create_time,
        end_time=run.now(),
        hooks=run.operation.hooks,
        message=message,
    )
