"""Pre-stop and post-start hooks: each runs at most once, for at most its own timeout. But the probe of a VM that was
started is asked until it succeeds."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from common.backoff import Backoff
from providers.core import http_hook, tcp_hook
from providers.core.adapter import Signal
from providers.core.clock import monotonic
from providers.core.errors import CommandFailed, GuestLoginRefused, VmpowerError
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
LOGIN_PAUSE = 60.0
"""Seconds before one whose login the guest has refused is: many failures in a row lock an account."""
NO_AGENT = "No agent of the guest that runs programs has answered."


@dataclass(slots=True)
class Attempt:
    """What is known of a hook while it runs, for the moment when it is cut short."""

    exit_code: int = 0
    output: str = ""
    state: HookState = HookState.FAILED
    login_refused: bool = False


async def run_all(run: Run) -> bool:
    """Run the hooks that have not run yet, in order; False if one with ABORT did not succeed.

    A hook that was cut short by a decision, or because the VM went off, aborts nothing.
    """
    await _settle_interrupted(run)
    while run.operation.hooks_left:
        if _aborted(run) or _cut_short(run):
            await _skip(run, run.operation.hooks_left)
        else:
            await _run_next(run)
    return _cut_short(run) or not _aborted(run)


async def ask_only(run: Run) -> None:
    """Of a VM that was on already it is asked whether it is ready, if that was requested; what is for VMs that were
    started is left out."""
    left = run.operation.hooks_left
    if any(hook.repeat for hook in left):
        await _skip(run, [hook for hook in left if not hook.repeat])
        await run_all(run)


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


async def _skip(run: Run, skipped: Sequence[Hook]) -> None:
    if skipped:
        results = [HookResult(name=hook.name, state=HookState.SKIPPED) for hook in skipped]
        await run.record("hooks skipped", hooks=(*run.operation.hooks, *results))


async def _run_next(run: Run) -> None:
    hook = run.operation.hooks_left[0]
    goes_on = run.operation.hook_began if run.operation.hook_started else None  # its time is that before the restart
    began = goes_on or run.now()
    changes = {"state": State.RUNNING_HOOKS, "hook_started": hook.name, "hook_began": began}
    if not await run.record(f"hook {hook.name} started", **changes):
        output = f"It was not begun, as its start could not be written down: {run.journal_failure}"
        return await _finish(run, HookResult(name=hook.name, state=HookState.FAILED, output=output))
    attempt, started = Attempt(), monotonic()
    before = max(timedelta(0), run.now() - began)  # a machine may boot with a clock that is behind
    work = run.spawn(_execute(run, hook, attempt))
    left = (hook.timeout - before).total_seconds()
    ended = await run.within(left, lambda: work.done() or _cut_short(run))
    state = attempt.state if work.done() else HookState.INTERRUPTED if ended else HookState.TIMED_OUT
    work.cancel()
    duration = before + timedelta(seconds=monotonic() - started)
    result = HookResult(
        name=hook.name, state=state, exit_code=attempt.exit_code, output=attempt.output, duration=duration
    )
    return await _finish(run, result)


def _cut_short(run: Run) -> bool:
    return run.decided or (run.off and run.operation.request.kind is not Kind.POWER_ON)


async def _finish(run: Run, result: HookResult) -> None:
    await run.record(f"hook {result.name} {result.state}", hooks=(*run.operation.hooks, result), hook_started="")


async def _execute(run: Run, hook: Hook, attempt: Attempt) -> None:
    """Run one hook to its end: once, or until it succeeds or its VM runs no more."""
    pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        await _try(run, hook, attempt)
        if attempt.state is HookState.SUCCEEDED or not hook.repeat or await run.runs_no_more():
            return
        await asyncio.sleep(LOGIN_PAUSE if attempt.login_refused else pauses.next())


async def _try(run: Run, hook: Hook, attempt: Attempt) -> None:
    """Whatever goes wrong becomes its output."""
    attempt.login_refused = False
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
        attempt.output, attempt.login_refused = error.message, isinstance(error, GuestLoginRefused)
    except Exception as error:  # a hook that breaks must not keep a machine up
        attempt.output = f"{type(error).__name__}: {error}"


async def _exec(run: Run, command: tuple[str, ...], attempt: Attempt) -> None:
    if run.operation.request.kind is Kind.POWER_ON:
        attempt.output = attempt.output or NO_AGENT
        await _agent_answers(run)  # the hook's own timeout bounds this
    process = await run.adapter.guest_exec(run.vm_id, command, run.credentials)
    attempt.output = f"Still running in the guest as process {process.pid}."
    delay = FIRST_POLL
    while (end := await run.through_outages(process.poll)) is None:
        await asyncio.sleep(delay)
        delay = min(delay * 2, LAST_POLL)
    attempt.exit_code, attempt.output = end.exit_code, end.output[-OUTPUT_LIMIT:].decode(errors="replace")
    attempt.state = HookState.FAILED if end.exit_code else HookState.SUCCEEDED


async def _agent_answers(run: Run) -> None:
    """
    Raises:
        CommandFailed: the VM runs no more.
    """
    while not _agent_up(run):
        await run.until(lambda: _agent_up(run) or run.shows_no_run)
        if await run.runs_no_more():
            raise CommandFailed("The VM is off again." if run.vm else "The VM is not here any more.")


def _agent_up(run: Run) -> bool:
    vm = run.vm
    return vm is not None and vm.runs_programs and bool(set(vm.signals) - {Signal.ACPI})
