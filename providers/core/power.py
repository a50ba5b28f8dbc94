"""Hard power: on, off, and making sure of it. What the hypervisor will not do raises CommandFailed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from common.backoff import Backoff
from providers.core import hooks
from providers.core import verdict as verdicts
from providers.core.adapter import PowerState, Reason
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.core.lanes import urgent
from providers.core.model import Kind, Operation, Outcome, State, Verdict
from providers.core.run import Run

OFF = (Outcome.GRACEFUL, Outcome.FORCED, Outcome.CRASHED, Outcome.OUT_OF_BAND, Outcome.UNKNOWN)
"""How a VM can go off while an operation is active."""
ATTEMPTS = 3
"""How often a refused power command is tried: a hypervisor may be busy with the VM for a moment."""
FIRST_PAUSE, LAST_PAUSE = 1.0, 2.0
"""Seconds between tries."""
RUN_TOLD = 5.0
"""Seconds that a hypervisor may take to tell which run of a VM it is that has just begun."""
EVENT_DELAY = 1.0
"""Seconds that the hypervisor's event may come after its command returned, before we read the state instead."""


async def power_off(run: Run, before: Sequence[Operation]) -> Verdict:
    """PowerOff: cut the power without asking. `before`: the operations that it has superseded, oldest first."""
    if run.off and (down := _went_off_in(before)):
        return verdicts.off_by_superseded(run, down)
    if run.was_off_already:
        return verdicts.already_off(run)
    return verdicts.gone(run) if run.gone else await force(run, Reason.REQUESTED)


def _went_off_in(before: Sequence[Operation]) -> Verdict | None:
    """How the VM went off under the last of these; None: it did not, or was told to start since."""
    last = next((each for each in reversed(before) if each.starting or _saw_it_off(each)), None)
    return last.verdict if last and not last.starting else None


def _saw_it_off(operation: Operation) -> bool:
    down = operation.verdict
    if down is None or down.outcome not in OFF:
        return False
    did_nothing = operation.request.kind is Kind.POWER_ON and down.reason is Reason.PREEMPTED
    return not did_nothing


async def power_on(run: Run, before: Sequence[Operation]) -> Verdict:
    """PowerOn: start it, then run the post-start hooks. A guest that was asked to go down by an operation in `before`,
    and may still do so, is watched meanwhile, and started when it does."""
    asked = next((each for each in before if each.asked), None)
    if not run.in_state(State.RUNNING_HOOKS):  # else that was done before a restart, and is not done twice
        if run.decided:
            return verdicts.preempted(run)
        stays_on = is_on(run) and (run.operation.starting or asked is None or not await _goes_down(run, asked))
        if not stays_on and run.gone:
            return verdicts.gone(run)
        if not stays_on:
            await start(run)
    await (hooks.run_all(run) if run.operation.starting else hooks.ask_only(run))
    if await run.runs_no_more():
        return verdicts.runs_no_more(run)
    if run.operation.starting:
        return verdicts.started(run)
    return verdicts.already_on(run, asked is not None or run.operation.asked_before)


async def _goes_down(run: Run, asked: Operation) -> bool:
    """Whether a guest goes down that was asked to, and then left alone; it is given as long again for that."""
    if asked.force_after is None or (run.vm and run.vm.run_id != asked.run_id):
        return False
    end = asked.force_after + asked.timeout
    if run.in_state(State.PENDING):
        message = "it runs, but was asked to go down; if it does so by"
        await run.record(f"{message} {end.isoformat(timespec='seconds')}, it is started", state=State.WAITING_FOR_GUEST)
    if not await run.within((end - run.now()).total_seconds(), lambda: not is_on(run) or run.decided):
        await run.look_unless(lambda: run.decided)  # that it went down may be told late, and nobody looks after this
    return not run.decided and not is_on(run)


async def force(run: Run, reason: Reason) -> Verdict:
    """Cut the power, verify that it is off, and tell how it went."""
    if not run.in_state(State.FORCING):
        saved = "; its memory, which is saved, is discarded" if run.is_saved else ""
        await run.record(f"powering off hard, reason {reason}{saved}", state=State.FORCING, force_reason=reason)
    if not await run.surely_off():
        with urgent():
            await _persist(run, lambda: _cut(run), lambda: run.off)
    return verdicts.judge(run)


async def _cut(run: Run) -> None:
    if run.cut is None:
        await look_again(run)
        if run.runs_anew:
            return  # of one that is off the adapter can still tell whether we have cut it
    try:
        run.cut = await run.adapter.power_off(run.vm_id) or run.cut
    except (HypervisorUnavailable, asyncio.CancelledError):
        run.cut = None  # it may have been done
        raise


async def look_again(run: Run) -> None:
    """An earlier call may have been lost or done, and somebody may have started the VM anew since.

    Raises:
        CommandFailed: the hypervisor does not tell which run of it this is.
    """
    await run.inventory.refresh(run.vm_id)
    if not await run.within(RUN_TOLD, lambda: not run.of_no_known_run):
        raise CommandFailed("The hypervisor does not tell whether the VM was started again; nothing is done for now.")


async def start(run: Run) -> None:
    """Power on and verify."""
    await run.record("powering on", starting=True)
    await _persist(run, lambda: run.adapter.power_on(run.vm_id), lambda: is_on(run))


def is_on(run: Run) -> bool:
    return run.vm is not None and run.vm.power_state is PowerState.ON


async def _persist(run: Run, command: Callable[[], Awaitable[object]], reached: Callable[[], bool]) -> None:
    backoff = Backoff(FIRST_PAUSE, LAST_PAUSE)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await run.through_outages(lambda: _bounded(run, command))
            return await _verify(run, reached)
        except (CommandFailed, VMNotFound):
            await run.look()
            if reached():
                return None
            if attempt == ATTEMPTS:
                raise
        await asyncio.sleep(backoff.next())
    return None


async def _bounded(run: Run, command: Callable[[], Awaitable[object]]) -> None:
    seconds = run.settings.power_timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            await command()
    except TimeoutError as error:
        message = f"The hypervisor did not switch the power within {seconds:g} s; its operator looks into it."
        raise CommandFailed(message) from error


async def _verify(run: Run, reached: Callable[[], bool]) -> None:
    """The hypervisor says it is done: its event follows within moments, or else we look."""
    if not await run.within(EVENT_DELAY, reached):
        await run.look()
        if not reached():
            run.cut = None  # if it goes off now, the hypervisor may have done as we said, late, or somebody else
            raise CommandFailed("The hypervisor says it switched the power, but the VM's state did not change.")
