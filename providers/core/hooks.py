"""Pre-stop and post-start hooks: each runs at most once, for at most its own timeout. But the probe of a VM that was
started is asked until it succeeds."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from common.backoff import Backoff
from providers.core import http_hook, tcp_hook
from providers.core.adapter import Signal
from providers.core.clock import monotonic
from providers.core.errors import VmpowerError
from providers.core.model import (
    ExecHook,
    FailurePolicy,
    Hook,
    HookResult,
    HookState,
    HttpGetHook,
    Kind,
    SnapshotHook,
    State,
    TcpHook,
)
from providers.core.run import Run

OUTPUT_LIMIT = 4096
"""Bytes of output that are kept, from its end: where a program says what went wrong."""
FIRST_POLL = 0.05
"""Seconds until a guest program is first asked after. No hypervisor has an event for its end."""
LAST_POLL = 1.0
"""Seconds between looks at a long-running guest program."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 5.0
"""Seconds before a probe that has failed is asked again."""


@dataclass(slots=True)
class Attempt:
    """What is known of a hook while it runs, for the moment when it is cut short."""

    exit_code: int = 0
    output: str = ""
    state: HookState = HookState.FAILED


async def run_all(run: Run) -> bool:
    """Run the hooks that have not run yet, in order; False if one with ABORT did not succeed.

    A hook that was cut short by a decision, or because the VM went off, aborts nothing.
    """
    await _settle_interrupted(run)
    while run.operation.hooks_left:
        if _aborted(run) or _cut_short(run):
            await _skip_rest(run)
        else:
            await _run_next(run)
    return _cut_short(run) or not _aborted(run)


def _aborted(run: Run) -> bool:
    pairs = zip(run.operation.request.hooks, run.operation.hooks, strict=False)
    failed = (HookState.FAILED, HookState.TIMED_OUT, HookState.INTERRUPTED)
    return any(hook.failure_policy is FailurePolicy.ABORT and result.state in failed for hook, result in pairs)


async def _settle_interrupted(run: Run) -> None:
    """A hook that was begun before a restart: whether it finished is not known, and it is not run again, unless it is
    one that is repeated."""
    if (name := run.operation.hook_started) and not run.operation.hooks_left[0].repeat:
        output = "The provider restarted while this hook ran; it is not run a second time."
        await _finish(run, HookResult(name=name, state=HookState.INTERRUPTED, output=output))


async def _skip_rest(run: Run) -> None:
    skipped = [HookResult(name=hook.name, state=HookState.SKIPPED) for hook in run.operation.hooks_left]
    await run.record("hooks skipped", hooks=(*run.operation.hooks, *skipped))


async def _run_next(run: Run) -> None:
    hook = run.operation.hooks_left[0]
    if not await run.record(f"hook {hook.name} started", state=State.RUNNING_HOOKS, hook_started=hook.name):
        output = f"It was not begun, as its start could not be written down: {run.journal_failure}"
        return await _finish(run, HookResult(name=hook.name, state=HookState.FAILED, output=output))
    attempt, started = Attempt(), monotonic()
    work = run.spawn(_execute(run, hook, attempt))
    ended = await run.within(hook.timeout.total_seconds(), lambda: work.done() or _cut_short(run))
    state = attempt.state if work.done() else HookState.INTERRUPTED if ended else HookState.TIMED_OUT
    work.cancel()
    duration = timedelta(seconds=monotonic() - started)
    result = HookResult(
        name=hook.name, state=state, exit_code=attempt.exit_code, output=attempt.output, duration=duration
    )
    return await _finish(run, result)


def _cut_short(run: Run) -> bool:
    return run.decided or (run.off and run.operation.request.kind is not Kind.POWER_ON)


async def _finish(run: Run, result: HookResult) -> None:
    await run.record(f"hook {result.name} {result.state}", hooks=(*run.operation.hooks, result), hook_started="")


async def _execute(run: Run, hook: Hook, attempt: Attempt) -> None:
    """Run one hook to its end: once, or until it succeeds."""
    pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        await _try(run, hook, attempt)
        if attempt.state is HookState.SUCCEEDED or not hook.repeat:
            return
        await asyncio.sleep(pauses.next())


async def _try(run: Run, hook: Hook, attempt: Attempt) -> None:
    """Whatever goes wrong becomes its output."""
    try:
        match hook.handler:
            case ExecHook(command=command):
                await _exec(run, command, attempt)
            case HttpGetHook() as handler:
                attempt.exit_code = await http_hook.get(run, handler)
                expected = (handler.expect_status,) if handler.expect_status else range(200, 300)
                attempt.state = HookState.SUCCEEDED if attempt.exit_code in expected else HookState.FAILED
            case TcpHook() as handler:
                await tcp_hook.connect(run, handler)
                attempt.output, attempt.state = "", HookState.SUCCEEDED
            case SnapshotHook(name=name, description=description, include_memory=include_memory):
                name = name or f"vmpower-{run.operation.id}"
                await run.adapter.snapshot(run.vm_id, name, description, include_memory)
                attempt.state = HookState.SUCCEEDED
    except VmpowerError as error:
        attempt.output = error.message
    except Exception as error:  # a hook that breaks must not keep a machine up
        attempt.output = f"{type(error).__name__}: {error}"


async def _exec(run: Run, command: tuple[str, ...], attempt: Attempt) -> None:
    if run.operation.request.kind is Kind.POWER_ON:
        await run.until(lambda: _agent_up(run))  # the hook's own timeout bounds this
    process = await run.adapter.guest_exec(run.vm_id, command, run.credentials)
    attempt.output = f"Still running in the guest as process {process.pid}."
    delay = FIRST_POLL
    while (end := await run.through_outages(process.poll)) is None:
        await asyncio.sleep(delay)
        delay = min(delay * 2, LAST_POLL)
    attempt.exit_code, attempt.output = end.exit_code, end.output[-OUTPUT_LIMIT:].decode(errors="replace")
    attempt.state = HookState.FAILED if end.exit_code else HookState.SUCCEEDED


def _agent_up(run: Run) -> bool:
    vm = run.vm
    return vm is not None and vm.runs_programs and bool(set(vm.signals) - {Signal.ACPI})
