"""Which procedure serves which kind of operation, and what its end means for the operation."""

from collections.abc import Sequence
from contextlib import nullcontext

import structlog

from providers.core import verdict as verdicts
from providers.core.adapter import Reason
from providers.core.errors import Code, VmpowerError
from providers.core.lanes import urgent
from providers.core.model import Decision, Failure, Kind, Operation, Outcome, State, Verdict
from providers.core.power import EVENT_DELAY, is_on, power_off, power_on, start
from providers.core.run import Run
from providers.core.shutdown import shut_down

log = structlog.get_logger()


async def reboot(run: Run) -> Verdict:
    """Shut down, then start; the verdict tells how the VM went down."""
    down = run.operation.went_down or await shut_down(run)
    if down.outcome is Outcome.STILL_RUNNING or run.gone:
        return down
    if run.operation.went_down is None:
        await run.record("down", went_down=down)
    if run.operation.decision is Decision.PREEMPT:
        return down
    if is_on(run):
        # That the run which went down had begun may be told only now. Who gave it up waits for no hypervisor.
        await run.look_unless(lambda: run.given_up)
    if not is_on(run):
        run.of_next_run()
        await start(run)
    return verdicts.started_again(run, down)


async def _serve(run: Run, before: Sequence[Operation]) -> Verdict:
    match run.operation.request.kind:
        case Kind.POWER_ON:
            return await power_on(run, before)
        case Kind.POWER_OFF:
            return await power_off(run, before)
        case Kind.SHUTDOWN:
            return await shut_down(run)
        case Kind.REBOOT:
            return await reboot(run)


LEAVES_IT = (Outcome.STILL_RUNNING, Outcome.UNKNOWN)
"""With these a VM that is not off is left as it is. It may have gone off untold, so it is looked at before that is
said, and the procedure, entered again, goes by what was found."""
WENT_DOWN = (Outcome.GRACEFUL, Outcome.FORCED, Outcome.CRASHED, Outcome.OUT_OF_BAND, Outcome.ALREADY_OFF, Outcome.SAVED)


async def carry_out(run: Run, before: Sequence[Operation] = (), *, fresh: bool = False) -> None:
    """Run the procedure of an operation's kind, and record how it ended. `before`: those that it has superseded;
    `fresh`: it was begun by this process."""
    failure = None
    try:
        seen_off = run.went_off is not None
        with urgent() if run.operation.request.kind is Kind.POWER_OFF else nullcontext():
            await run.look_first(fresh=fresh)
        if fresh:
            run.of_this_run(seen_off)
        verdict = await _serve(run, before)
        refused = verdict.outcome in LEAVES_IT and verdict.reason is Reason.COMMAND_FAILED
        if refused and await run.within(EVENT_DELAY, lambda: run.off):  # it died as it was asked, which is told later
            verdict = await _serve(run, before)
        while verdict.outcome in LEAVES_IT and not run.off and await run.look_last():
            verdict = await _serve(run, before)
    except VmpowerError as error:
        failure = Failure(code=error.code, reason=error.reason, message=error.message)
        verdict = await _unchanged(run, error.message)
    except Exception as error:
        log.exception("a bug in vmpower", operation=run.operation.id)
        failure = Failure(code=Code.INTERNAL, reason="INTERNAL", message=f"{type(error).__name__}: {error}")
        verdict = await _unchanged(run, "vmpower failed; see its log.")
    state = _final_state(run, verdict, failure)
    if state is State.FAILED:
        failure = failure or Failure(code=Code.FAILED_PRECONDITION, reason=verdict.outcome, message=verdict.message)
    await run.record(verdict.message, state=state, verdict=verdict, failure=failure)


async def _unchanged(run: Run, message: str) -> Verdict:
    await run.look_last()
    return verdicts.unchanged(run, message)


async def close_overtaken(run: Run) -> None:
    """Record the end of an operation that had ended before, which was not written down."""
    verdict = verdicts.overtaken(run)
    failure = Failure(code=Code.ABORTED, reason="OVERTAKEN", message=verdict.message)
    await run.record(verdict.message, state=State.FAILED, verdict=verdict, failure=failure)


def _final_state(run: Run, verdict: Verdict, failure: Failure | None) -> State:
    operation, kind = run.operation, run.operation.request.kind
    if failure is not None or verdict.reason is Reason.HOOK_FAILED:
        return State.FAILED
    if kind is Kind.REBOOT and operation.decision is Decision.PREEMPT:
        return State.CANCELLED  # it is off, which is not what this one was to bring about
    off = verdict.outcome in WENT_DOWN or (verdict.outcome is Outcome.UNKNOWN and run.off)
    if operation.decision in (Decision.CANCEL, Decision.CALL_OFF) and (kind is Kind.POWER_ON or not off):
        return State.CANCELLED
    unmet = verdict.outcome is Outcome.STILL_RUNNING or (verdict.outcome is Outcome.UNKNOWN and not off)
    if kind is Kind.POWER_ON:
        unmet = verdict.outcome not in (Outcome.STARTED, Outcome.ALREADY_ON)
    return State.FAILED if unmet else State.SUCCEEDED
