"""One active operation per VM: start, join, pre-empt, decide, watch, resume."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog

from common.durations import MAX_TIMEOUT
from providers.core.adapter import GuestCredentials
from providers.core.admission import Admission
from providers.core.clock import TOLERANCE, Boot
from providers.core.deadline import timeout, until_extended
from providers.core.errors import (
    InvalidRequest,
    JournalFailed,
    OperationActive,
    OperationEnded,
    OperationNotFound,
    Violation,
    VMRefused,
)
from providers.core.extension import Extension, extended
from providers.core.inventory import is_off
from providers.core.model import Asked, Decision, Delivery, Kind, Operation, Request, State
from providers.core.names import calls
from providers.core.procedures import carry_out, close_overtaken
from providers.core.run import Context, Run

log = structlog.get_logger()
NOBODY = Asked()

SUPERSEDES: Mapping[Kind, Mapping[Kind, Decision]] = {
    Kind.POWER_OFF: {
        Kind.SHUTDOWN: Decision.PREEMPT,
        Kind.REBOOT: Decision.PREEMPT,
        Kind.POWER_ON: Decision.CANCEL,
    },
    Kind.POWER_ON: {Kind.SHUTDOWN: Decision.CALL_OFF, Kind.REBOOT: Decision.CALL_OFF},
}
"""What a new operation tells the one that is active; a pair that is not here is refused."""


class Operations:
    """Every operation of one provider."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._journal = context.journal
        self._runs: dict[str, Run] = {}
        self._on_vm: dict[str, list[Run]] = {}
        self._by_request: dict[str, Run] = {}
        self._left_alone: dict[str, str] = {}
        """The runs of VMs whose guests were asked and not forced: they may still go down."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._admission = Admission(context.adapter.lanes, context.settings.max_waiting)
        self.on_end: list[Callable[[Operation], None]] = []

    async def resume(self) -> None:
        """Go on with every operation that a previous process left, oldest first."""
        overtaken = await self._journal.overtaken()
        for operation in await self._journal.active():
            log.info("resuming", operation=operation.id, vm=operation.request.vm_name, state=operation.state)
            run = self._register(resumed(operation, self._context.clock.boot))
            run.resume()
            self._spawn(self._close_overtaken(run) if operation.id in overtaken else self._live(run))
        for operation in await self._journal.still_running(self._context.clock() - MAX_TIMEOUT):
            self._note_left_alone(operation)
        self._context.clock.on_step.append(self._move)

    async def stop(self) -> None:
        """Leave every operation where it is; the journal has it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _move(self, by: timedelta) -> None:
        for run in self._runs.values():
            run.move(by)

    async def start(self, request: Request) -> Operation:
        """Begin an operation, or join the one that this request_id began before.

        Raises:
            OperationActive: another one is active and is not superseded by this kind.
            HypervisorBusy: too much waits for the hypervisor.
            InvalidRequest: the request_id began an operation of another kind or VM.
            JournalFailed: it could not be written down, so it was not begun.
        """
        async with self._starting:
            if known := await self.join(request.request_id, request.kind, request.vm_id):
                return known
            self._require_free(request)
            self._admission.require_room(request.kind)
            for ending in self._on_vm.get(request.vm_id, []):
                self._note_left_alone(ending.operation)
            vm, default = self._context.inventory.vms.get(request.vm_id), self._context.settings.default_timeout
            operation = Operation(
                id=uuid.uuid4().hex,
                request=request,
                create_time=self._context.clock(),
                force_after=request.force_after,
                run_id=vm.run_id if vm else "",
                ran=vm is not None and not is_off(vm),
                asked_before=vm is not None and self._left_alone.get(request.vm_id) == vm.run_id,
                asked_run=self._left_alone.get(request.vm_id, ""),
                was_saved=vm is not None and vm.saved,
                supersedes=tuple(run.operation.id for run in self._active_runs(request.vm_id)),
                boot=self._context.clock.boot,
                **timeout(request, vm, default),
            )
            run = self._register(operation)
            self._admission.note(run)
        self._spawn(self._begin(run))  # whether or not the caller hangs up
        await self._begun(run)
        return run.shown

    async def _begin(self, run: Run) -> None:
        try:
            await self._journal.save(run.operation)
        except JournalFailed as error:
            run.not_begun = error
            self._forget(run)
            return
        run.begin()
        self._context.inventory.touch(run.vm_id)
        await self._live(run, fresh=True)

    async def get(self, operation_id: str) -> Operation:
        """One operation, active or ended.

        Raises:
            OperationNotFound
        """
        if run := self._run_on_disk(operation_id):
            return run.shown
        if operation := await self._journal.get(operation_id):
            return operation
        raise OperationNotFound(f"There is no operation {operation_id!r}; name one that ListOperations shows.")

    async def watch(self, operation_id: str) -> AsyncIterator[Operation]:
        """The operation now and after each change; ends with its verdict.

        Raises:
            OperationNotFound
        """
        if run := self._run_on_disk(operation_id):
            async for operation in run.changes():
                yield operation
        else:
            yield await self.get(operation_id)

    def active_on(self, vm_id: str) -> str:
        """The id of the operation that is active on this VM, or ""; one that is not yet on disk may never be."""
        return next((run.operation.id for run in self._active_runs(vm_id) if run.begun), "")

    def active(self) -> list[Operation]:
        return [run.operation for run in self._runs.values() if not run.operation.state.final]

    async def extend(self, operation_id: str, extension: Extension, asked: Asked = NOBODY) -> Operation:
        """Give the guest more time (or less). Who `asked` is noted in the step. A hypervisor that would cut the power
        before is waited for, until it has taken back what it was told.

        Raises:
            OperationNotFound, OperationEnded
            InvalidRequest: the new moment is not within the next 24 h.
            CommandFailed: the hypervisor may cut the power before the new moment all the same.
        """
        run = await self._run(operation_id)

        def changes(operation: Operation) -> Mapping[str, Any]:
            _require_undecided(operation)
            _require_revocable(run)
            return extended(operation, extension, self._context.clock())

        if not _says(run.shown, changes(run.shown)):  # a caller that was not answered asks again
            await run.decide(f"extended: {extension}{asked}", changes)
        await until_extended(run)
        return run.shown

    async def force(self, operation_id: str, asked: Asked = NOBODY) -> Operation:
        """Power off hard, now.

        Raises:
            OperationNotFound, OperationEnded
        """
        run = await self._run(operation_id)

        def changes(operation: Operation) -> Mapping[str, Any]:
            if operation.state is not State.SAVING or operation.decision:
                _require_undecided(operation)
            return {"decision": Decision.FORCE}

        await run.decide(f"told to power off hard{asked}", changes)
        return run.shown

    async def cancel(self, operation_id: str, asked: Asked = NOBODY) -> Operation:
        """Give the operation up; returns it when it has ended.

        Raises:
            OperationNotFound, OperationEnded
        """
        run = await self._run(operation_id)

        def changes(operation: Operation) -> Mapping[str, Any]:
            if not operation.is_probing or operation.decision:
                _require_undecided(operation)
            _require_revocable(run)
            return {"decision": Decision.CANCEL}

        await run.decide(f"told to give up{asked}", changes)
        await run.until(lambda: run.shown.state.final)
        return run.shown

    def _run_on_disk(self, operation_id: str) -> Run | None:
        """That of an operation which has begun and may be told of."""
        run = self._runs.get(operation_id)
        return run if run is not None and run.begun else None

    async def _run(self, operation_id: str) -> Run:
        if run := self._run_on_disk(operation_id):
            return run
        operation = await self.get(operation_id)
        raise OperationEnded(f"Operation {operation_id} has ended: {operation.state}; nothing is left to decide.")

    async def join(
        self, request_id: str, kind: Kind, vm: str, credentials: GuestCredentials | None = None
    ) -> Operation | None:
        """The operation that this request_id began, or None. `vm` is an id, a name or an alias.

        Raises:
            InvalidRequest: it began an operation of another kind or VM.
            JournalFailed: it is just failing to begin.
        """
        if not request_id:
            return None
        run = self._by_request.get(request_id)
        known = run.shown if run else await self._journal.find(request_id)
        if known is None:
            return None
        if known.request.kind is not kind or not calls(vm, known.request.vm_id, self._names(known.request)):
            raise InvalidRequest(Violation("request_id", f"began operation {known.id}, which is another one"))
        if run := self._runs.get(known.id):
            run.credentials = credentials or run.credentials
            await self._begun(run)
            return run.shown
        return known

    def _names(self, request: Request) -> tuple[str, ...]:
        """What the VM of a request may be called beside its id, also after it is gone."""
        vm = self._context.inventory.vms.get(request.vm_id)
        return (request.vm_name, *(vm.aliases if vm else ()))

    async def _begun(self, run: Run) -> None:
        """Wait until the operation is on disk.

        Raises:
            JournalFailed: it could not be written, so it was not begun.
        """
        await run.until(lambda: run.begun or run.not_begun is not None)
        if run.not_begun is not None:
            raise run.not_begun

    def _active_runs(self, vm_id: str) -> list[Run]:
        """Those on this VM that have no verdict, newest first; one that has may be here a moment longer."""
        return [run for run in reversed(self._on_vm.get(vm_id, [])) if not run.operation.state.final]

    def _active_run(self, vm_id: str) -> Run | None:
        return next(iter(self._active_runs(vm_id)), None)

    def _require_free(self, request: Request) -> None:
        run = self._active_run(request.vm_id)
        if run is None or superseding(request.kind, run.operation):
            return
        active = run.operation
        raise OperationActive(
            f"Operation {active.id} ({active.request.kind}, {active.state}) is active on {request.vm_name}; "
            f"{_advice(run)}.",
            {"operation_id": active.id},
        )

    def _register(self, operation: Operation) -> Run:
        run = Run(operation, self._context)
        self._runs[operation.id] = run
        self._on_vm.setdefault(run.vm_id, []).append(run)
        if request_id := operation.request.request_id:
            self._by_request[request_id] = run
        return run

    def _forget(self, run: Run) -> None:
        run.close()
        self._runs.pop(run.operation.id, None)
        self._by_request.pop(run.operation.request.request_id, None)
        runs = self._on_vm[run.vm_id]
        runs.remove(run)
        if not runs:
            del self._on_vm[run.vm_id]
        self._context.inventory.touch(run.vm_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _live(self, run: Run, *, fresh: bool = False) -> None:
        """The whole life of an operation: after those it supersedes, and up to its verdict."""
        try:
            with self._context.inventory.observed(run.observe, run.vm_id):
                before = await self._supersede(run)
                await carry_out(run, before, fresh=fresh)
            run.close()
            self._note_left_alone(run.operation)
            await run.on_disk()
        finally:
            self._forget(run)
        for listener in self.on_end:
            listener(run.operation)

    def _note_left_alone(self, operation: Operation) -> None:
        if operation.may_run and (operation.asked_before or operation.asked):
            self._left_alone[operation.request.vm_id] = operation.run_id

    async def _close_overtaken(self, run: Run) -> None:
        """A later operation on its VM has ended: this one had ended before, but its end was not written down."""
        await close_overtaken(run)
        run.close()
        await run.on_disk()
        self._forget(run)

    async def _supersede(self, run: Run) -> list[Operation]:
        """Tell the operations that were active before what has come, and let them end first; those that it supersedes,
        as they ended, oldest first."""
        kind, runs = run.operation.request.kind, self._on_vm[run.vm_id]
        before = runs[: runs.index(run)]
        for each in before:
            decision = superseding(kind, each.operation)
            if decision and not each.operation.state.final and each.operation.decision is not decision:
                await each.record(f"{kind} {run.operation.id} came", decision=decision)
        for each in before:
            await each.ended()
        known = {each.operation.id: each.operation for each in before}
        earlier = list[Operation]()
        for key in reversed(run.operation.supersedes):
            with suppress(JournalFailed):
                if key not in known and (operation := await self._journal.get(key)):
                    earlier.append(by_clock(operation, self._context.clock.boot))
        return [*earlier, *known.values()]


def resumed(operation: Operation, boot: Boot) -> Operation:
    """As it goes on in this process: its times by this boot's clock, and with no call under way."""
    sent = (
        each.model_copy(update={"delivery": Delivery.UNKNOWN}) if each.delivery is Delivery.SENDING else each
        for each in operation.sent
    )
    return by_clock(operation.model_copy(update={"sent": tuple(sent)}), boot)


def by_clock(operation: Operation, boot: Boot) -> Operation:
    """One from the journal, with its times as this boot's clock counts them: within a boot they move with the wall
    clock, across boots nothing else counts than the wall clock."""
    if operation.boot is None or operation.boot.id != boot.id:
        return operation.model_copy(update={"boot": boot})
    step = boot.began - operation.boot.began
    return operation.moved(step, boot) if abs(step) >= TOLERANCE else operation


def superseding(kind: Kind, active: Operation) -> Decision | None:
    """What a new operation of this kind tells the one that is active; None: it does not supersede it."""
    lingers = active.request.kind is Kind.POWER_ON and (active.state is State.WAITING_FOR_GUEST or active.is_probing)
    if lingers and kind is not Kind.POWER_ON:
        return Decision.CANCEL  # the VM is on: it is watched in case it goes down after all, or asked if it is ready
    return SUPERSEDES.get(kind, {}).get(active.request.kind)


def _require_undecided(operation: Operation) -> None:
    """
    Raises:
        OperationEnded: nothing is left to decide.
    """
    if why := _past_deciding(operation):
        raise OperationEnded(f"Operation {operation.id} {why}.")


def _past_deciding(operation: Operation) -> str:
    """Why nothing is left to decide about it; empty: something is."""
    if operation.state.final:
        return f"has ended: {operation.state}; nothing is left to decide"
    if operation.is_probing and not operation.decision:
        return "only asks whether its VM is ready: wait for it, or cancel it"
    if operation.request.kind not in (Kind.SHUTDOWN, Kind.REBOOT):
        return f"is a {operation.request.kind}: it does not wait"
    if operation.state in (State.FORCING, State.SAVING) or operation.decision or operation.went_down:
        return f"is past deciding: {operation.state}"
    return ""


def _advice(run: Run) -> str:
    """What one can do about an operation that is in the way of another one."""
    if run.operation.is_probing:
        return "wait for it, or cancel it"
    if run.operation.request.kind is Kind.POWER_ON:
        return "wait for it; only a PowerOff supersedes it"
    if run.in_state(State.SAVING) and not run.decided:
        return "wait for it, or force it"
    if _past_deciding(run.operation):
        return "wait for it"
    return "wait for it, or force it" if _is_irrevocable(run) else "wait for it, or extend, force or cancel it"


def _is_irrevocable(run: Run) -> bool:
    return run.vm is not None and bool(run.vm.always_forced) and run.operation.asked is not None


def _says(operation: Operation, changes: Mapping[str, Any]) -> bool:
    """Whether it is so already."""
    return all(getattr(operation, name) == value for name, value in changes.items())


def _require_revocable(run: Run) -> None:
    """An always-forced VM that was asked goes down at its deadline: nothing can be changed about that any more.

    Raises:
        VMRefused
    """
    if run.vm and _is_irrevocable(run):
        raise VMRefused(
            f"{run.vm.name}: {run.vm.always_forced} It has been asked, which cannot be taken back or changed."
        )
