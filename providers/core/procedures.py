"""Which procedure serves which kind of operation, and what its end means for the operation."""

from collections.abc import Awaitable, Callable, Mapping

import structlog

from providers.core import verdict as verdicts
from providers.core.adapter import Reason
from providers.core.errors import Code, VmpowerError
from providers.core.model import Decision, Failure, Kind, Operation, Outcome, State, Verdict
from providers.core.power import is_on, power_off, power_on, start
from providers.core.run import Run
from providers.core.shutdown import shut_down

log = structlog.get_logger()


async def reboot(run: Run) -> Verdict:
    """Shut down, then start; the verdict tells how the VM went down."""
    down = run.operation.went_down or await shut_down(run)
    if down.outcome is Outcome.STILL_RUNNING:
        return down
    await run.record("down", went_down=down)
    if run.operation.decision is Decision.PREEMPT:
        return down
    if not is_on(run):
        await start(run)
    return verdicts.started_again(run, down)


PROCEDURES: Mapping[Kind, Callable[[Run], Awaitable[Verdict]]] = {
    Kind.POWER_ON: power_on,
    Kind.POWER_OFF: power_off,
    Kind.SHUTDOWN: shut_down,
    Kind.REBOOT: reboot,
}

WENT_DOWN = (Outcome.GRACEFUL, Outcome.FORCED, Outcome.CRASHED, Outcome.OUT_OF_BAND, Outcome.ALREADY_OFF)


async def carry_out(run: Run) -> None:
    """Run the procedure of an operation's kind, and record how it ended."""
    kind, failure = run.operation.request.kind, None
    try:
        await run.look_unless(lambda: run.decided and run.vm is not None)
        verdict = await PROCEDURES[kind](run)
    except VmpowerError as error:
        failure = Failure(code=error.code, reason=error.reason, message=error.message)
        verdict = verdicts.unchanged(run, error.message)
    except Exception as error:
        log.exception("a bug in vmpower", operation=run.operation.id)
        failure = Failure(code=Code.INTERNAL, reason="INTERNAL", message=f"{type(error).__name__}: {error}")
        verdict = verdicts.unchanged(run, "vmpower failed; see its log.")
    state = _final_state(run.operation, verdict, failure)
    if state is State.FAILED:
        failure = failure or Failure(code=Code.FAILED_PRECONDITION, reason=verdict.outcome, message=verdict.message)
    await run.record(verdict.message, state=state, verdict=verdict, failure=failure)


def _final_state(operation: Operation, verdict: Verdict, failure: Failure | None) -> State:
    if failure is not None or verdict.reason is Reason.HOOK_FAILED:
        return State.FAILED
    went_down = operation.request.kind is not Kind.POWER_ON and verdict.outcome in WENT_DOWN
    if operation.decision in (Decision.CANCEL, Decision.CALL_OFF) and not went_down:
        return State.CANCELLED
    return State.FAILED if verdict.outcome is Outcome.STILL_RUNNING else State.SUCCEEDED
