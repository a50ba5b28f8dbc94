"""One operation from its first record to its last: the record, the VM, and the events that wake the procedure.

The procedures (`shutdown.py`, `power.py`, `hooks.py`) read and wait through this; `operations.py` owns it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from common.backoff import Backoff
from providers.core.adapter import VM, Adapter, GuestCredentials, PowerState
from providers.core.clock import Clock, system_clock
from providers.core.errors import HypervisorUnavailable, JournalFailed
from providers.core.inventory import FIRST_RETRY, LAST_RETRY, Inventory, is_off
from providers.core.journal import Journal
from providers.core.model import Decision, Operation, Sent, State, Step
from providers.core.settings import Settings

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Context:
    """What every operation of a provider works with."""

    adapter: Adapter
    inventory: Inventory
    journal: Journal
    settings: Settings
    clock: Clock = system_clock


class Run:
    """The life of one operation, from its first record to its last."""

    def __init__(self, operation: Operation, context: Context) -> None:
        self.operation = operation
        self.shown = operation
        """The operation as it is on disk, which is what callers see: they must not act on what a kill could undo."""
        self.begun = False
        """Whether it was on disk at all."""
        self.not_begun: JournalFailed | None = None
        """Why it never will be."""
        self.credentials: GuestCredentials | None = operation.request.credentials
        self.adapter = context.adapter
        self.inventory = context.inventory
        self.settings = context.settings
        self.now = context.clock
        self.went_off: VM | None = None
        """The VM at the moment it was first seen off, so that a quick restart is not overlooked."""
        self.closed = False
        """Whether nothing more will happen here."""
        self._journal = context.journal
        self._wakers: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def vm_id(self) -> str:
        return self.operation.request.vm_id

    @property
    def vm(self) -> VM | None:
        """The VM as it is now; None if it is gone."""
        return self.inventory.vms.get(self.vm_id)

    @property
    def off(self) -> bool:
        """Whether the VM has gone off since this run began, or is off."""
        return self.went_off is not None or is_off(self.vm)

    @property
    def force_after(self) -> datetime:
        assert self.operation.force_after is not None  # noqa: S101 - set when the grace period begins
        return self.operation.force_after

    @property
    def decided(self) -> bool:
        """Whether a caller ended the waiting: forced, cancelled, pre-empted or called off."""
        return self.operation.decision is not None

    @property
    def told_to_force(self) -> bool:
        """Whether the power is to be cut now: by a ForceOperation, or by a PowerOff of the same VM."""
        return self.operation.decision in (Decision.FORCE, Decision.PREEMPT)

    @property
    def accepted(self) -> Sent | None:
        """The last signal that was not refused."""
        return next((sent for sent in reversed(self.operation.sent) if not sent.refused), None)

    def observe(self, _vm_id: str, vm: VM | None) -> None:
        if self.went_off is None and is_off(vm):
            self.went_off = vm or VM(self.vm_id, self.operation.request.vm_name, PowerState.OFF)
        self.wake()

    @property
    def last_seen_off(self) -> VM | None:
        """The VM as it was when it was off."""
        return self.went_off or self.vm

    def wake(self) -> None:
        """Let each `until` evaluate its condition again."""
        for waker in self._wakers:
            _set(waker)

    async def until(self, condition: Callable[[], bool], deadline: datetime | None = None) -> bool:
        """Wait, by events only, until the condition holds (True) or the deadline has passed (False)."""
        while not condition():
            left = None if deadline is None else (deadline - self.now()).total_seconds()
            if left is not None and left <= 0:
                return False
            await self._woken(left)
        return True

    async def _woken(self, seconds: float | None) -> None:
        """Wait for `wake`, at most so long; a future costs a fraction of an Event and a timeout."""
        loop = asyncio.get_running_loop()
        waker = loop.create_future()
        self._wakers.add(waker)
        timer = None if seconds is None else loop.call_later(seconds, _set, waker)
        try:
            await waker
        finally:
            self._wakers.discard(waker)
            if timer:
                timer.cancel()

    async def record(self, message: str = "", **changes: Any) -> None:
        """Change the operation, write it to the journal and tell its watchers."""
        self.change(message, **changes)
        await self.save()

    async def save(self) -> bool:
        """Write down what was changed in memory, and tell the watchers; False if nothing was.

        A journal that fails in the middle of an operation is logged and does not stop it: the VM's owner
        is better served by a shutdown that ends than by one that is abandoned.
        """
        changed = self.operation
        if changed is self.shown:
            return False
        try:
            await self._journal.save(changed)
        except JournalFailed:
            log.exception("operation not journaled", operation=changed.id)
        finally:  # also if the caller hung up meanwhile: the change stands
            self.shown = changed
            self.wake()
        return True

    def begin(self) -> None:
        """Its first record is on disk."""
        self.begun = True
        self.wake()

    def change(self, message: str, **changes: Any) -> None:
        """Change the operation in memory; a message becomes a step."""
        state = changes.get("state", self.operation.state)
        if message:
            step = Step(time=self.now(), state=state, message=message)
            changes["steps"] = (*self.operation.steps, step)
        self.operation = self.operation.model_copy(update=changes)
        if message:
            request = self.operation.request
            log.info(message, operation=self.operation.id, vm=request.vm_name, kind=request.kind, state=state)

    async def changes(self) -> AsyncIterator[Operation]:
        """The operation now and after each change, up to its final state."""
        seen: Operation | None = None
        while seen is None or not seen.state.final:
            await self.until(lambda: self.shown is not seen)  # noqa: B023 - awaited before the next round
            seen = self.shown
            yield seen

    async def through_outages(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns, asked again for as long as the hypervisor is unavailable, and as soon as it tells of
        the VM, whose host may be all that was away."""
        backoff = Backoff(FIRST_RETRY, LAST_RETRY)
        while True:
            await self.inventory.connected.wait()
            vm = self.vm
            try:
                return await call()
            except HypervisorUnavailable as error:
                log.warning("hypervisor unavailable", operation=self.operation.id, error=error.message)
            again = self.now() + timedelta(seconds=backoff.next())
            await self.until(lambda: self.vm is not vm, again)  # noqa: B023 - awaited before the next round

    async def look(self) -> None:
        await self.through_outages(lambda: self.inventory.refresh(self.vm_id))

    async def look_unless(self, condition: Callable[[], bool]) -> None:
        """The same, given up when the condition holds: it takes as long as the hypervisor is unavailable."""
        look = self.spawn(self.look())
        await self.until(lambda: look.done() or condition())
        if look.done():
            look.result()
        look.cancel()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something beside the procedure; it ends with the run at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # read here, so that asyncio does not warn of one that is of no interest
        self.wake()

    def close(self) -> None:
        """Stop what was spawned, and release those that wait in `ended`."""
        self.closed = True
        self.wake()
        for task in tuple(self._tasks):
            task.cancel()

    async def ended(self) -> None:
        """Wait until nothing more will happen here."""
        await self.until(lambda: self.closed)

    def in_state(self, *states: State) -> bool:
        return self.operation.state in states


def _set(waker: asyncio.Future[None]) -> None:
    if not waker.done():
        waker.set_result(None)
