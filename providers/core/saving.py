"""Saving a VM's memory instead of cutting its power (ESCALATION_SAVE): once for every hypervisor.

That it begins is written down first. A restarted provider looks at the VM: one that is saved is told so, and one that
still runs is saved again, or the save that is under way is joined, within the same time limit.
"""

import asyncio
from datetime import datetime

from common.durations import to_text
from providers.core import verdict as verdicts
from providers.core.adapter import Reason
from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound, VmpowerError
from providers.core.model import State, Verdict
from providers.core.power import ATTEMPTS, EVENT_DELAY, look_again
from providers.core.run import Run

PAUSE = 1.0
"""Seconds until a VM that was held, or did not do as its hypervisor said, is saved again."""


async def save(run: Run, due: Reason) -> Verdict | None:
    """Save its memory; the verdict, or None: look at it again. Then it is off, power is to be cut all the same, or
    `save_failure` tells why it cannot be saved."""
    if _was_saved(run):
        return verdicts.saved(run, due)
    if run.operation.save_failure:
        return None
    if problem := next(iter(run.vm.save_problems if run.vm else ()), None):
        await run.record(f"its memory cannot be saved: {problem.message}", save_failure=problem.message)
        return None
    if not run.in_state(State.SAVING):
        changes = {"state": State.SAVING, "force_reason": due, "save_start": run.now()}
        await run.record(f"saving its memory, reason {due}", **changes)
    work = run.spawn(_save(run))
    ended = await run.until(lambda: work.done() or run.told_to_force, lambda: _limit(run))
    if run.told_to_force:
        work.cancel()
        return None
    if ended and work.exception() is None:
        return verdicts.saved(run, due) if _was_saved(run) else None
    work.cancel()
    error = work.exception() if ended else None
    why = error.message if isinstance(error, VmpowerError) else f"{type(error).__name__}: {error}"
    if not ended:
        limit = to_text(run.settings.save_timeout)
        why = f"The hypervisor did not save it within {limit}; it may still do so, and its operator looks into it."
    run.saved = None  # it may end late
    await run.record(f"its memory was not saved: {why}", save_failure=why)
    return None


def _limit(run: Run) -> datetime:
    """Until when it may take."""
    start = run.operation.save_start
    return (start if start is not None else run.now()) + run.settings.save_timeout


async def _save(run: Run) -> None:
    """Return when it is saved, or runs no more, or anew, or is not here; tried again while something holds it, and a
    few times otherwise.

    Raises:
        CommandFailed: the hypervisor refuses, or does not do as it says.
    """
    failed = 0
    while not (_is_over(run) or run.gone):
        vm = run.vm
        try:
            await run.through_outages(lambda: _told(run))
            await _verify(run)
        except Locked:
            await run.look()
        except (CommandFailed, VMNotFound):
            await run.look()
            failed += 1
            passes = run.vm is not None and any(problem.passing for problem in run.vm.problems)
            if failed >= ATTEMPTS and not (passes or run.gone or _is_over(run)):
                raise
        await run.within(PAUSE, lambda: run.vm is not vm or _is_over(run))  # noqa: B023 - awaited before the next round


async def _told(run: Run) -> None:
    """One call. What an outage swallowed may have been done."""
    if run.saved is None:
        await look_again(run)
        if _is_over(run):
            return
    try:
        run.saved = await run.adapter.save(run.vm_id) or run.saved
    except (HypervisorUnavailable, asyncio.CancelledError):
        run.saved = None
        raise


async def _verify(run: Run) -> None:
    """The hypervisor says it is done: its event follows within moments, or else we look.

    Raises:
        CommandFailed: it still runs.
    """
    if await run.within(EVENT_DELAY, lambda: _is_over(run)):
        return
    await run.look()
    if not _is_over(run):
        run.saved = None  # if it is saved now, the hypervisor may have done as we said, late, or somebody else
        raise CommandFailed("The hypervisor says that it saved it, but the VM's state did not change.")


def _is_over(run: Run) -> bool:
    return run.off or _was_saved(run)


def _was_saved(run: Run) -> bool:
    """Whether it is saved, or was and has been resumed since."""
    return run.is_saved or run.seen_saved or bool(run.saved and run.runs_anew)
