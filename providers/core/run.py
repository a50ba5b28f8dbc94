"""One operation from its first record to its last: the record, the VM, and the events that wake the procedure.

The procedures (`shutdown.py`, `power.py`, `hooks.py`) read and wait through this; `operations.py` owns it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from common.backoff import Backoff
from providers.core.adapter import VM, Adapter, Escalation, GuestCredentials, PowerState
from providers.core.clock import Clock, monotonic, system_clock
from providers.core.errors import HypervisorUnavailable, JournalFailed
from providers.core.inventory import FIRST_RETRY, LAST_RETRY, Inventory, is_off
from providers.core.journal import Journal
from providers.core.lanes import urgent
from providers.core.model import Decision, Operation, State, Step
from providers.core.settings import Settings
from providers.core.waiting import Waiting

LAST_LOOK = 5.0
"""Seconds in which the hypervisor is to tell of a VM before its end is told; an outage must not hold up an answer."""
FRESH = 1.0
"""Seconds for which what was just read needs no second look."""
PROMPT = 5.0
"""Seconds after a request in which the first look shows the run of the VM that the request is about: its start, and the
end of the run before, may be told late."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Context:
    """What every operation of a provider works with."""

    adapter: Adapter
    inventory: Inventory
    journal: Journal
    settings: Settings
    clock: Clock = field(default_factory=system_clock)


class Run(Waiting):
    """The life of one operation, from its first record to its last.

    What has happened is changed in memory at once and then written down (`record`): it is true even if the disk is
    full. What somebody decides is written down first (`decide`): it is a promise, and holds only then.
    """

    def __init__(self, operation: Operation, context: Context) -> None:
        super().__init__(context.clock)
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
        self.went_off: VM | None = None
        """The VM at the moment when its run was first known to be over, so that a quick restart is not overlooked."""
        self.cut: bool | None = False
        """Whether we have cut its power; None: an answer that would tell was lost, or the process that asked for it."""
        self.saved: bool | None = False
        """The same of saving its memory."""
        self.seen_saved = False
        """Whether it was seen saved since that began, so that a quick resume is not overlooked."""
        self.in_doubt = False
        """Whether an earlier process may have asked the guest without a record of it."""
        self.crashed = False
        """Whether its guest was seen to crash."""
        self.found_off = False
        """Whether the first look at the VM, made as soon as the operation was accepted, found it off."""
        self.unseen = False
        """Whether the last look at the VM had no answer, so that what is known of it may be out of date."""
        self.seen_on: float | None = None
        """When a look last showed it running, in seconds of `monotonic`; None: this process has not seen that."""
        self.held_up = False
        """Whether the hypervisor was unavailable to this operation."""
        self.closed = False
        """Whether nothing more will happen here."""
        self.deciding = 0
        """How many decisions are being written down: nothing final is done meanwhile."""
        self._handed: Operation | None = operation
        self._created = monotonic()
        self._read_as: VM | None = None
        """The VM as the last look showed it; what was told since may be older."""
        self._looked: float | None = None
        self._end_read = False
        """Whether a look has shown that its run is over, or had no answer that would deny it."""
        self._clock = context.clock
        self._journal = context.journal

    @property
    def vm_id(self) -> str:
        return self.operation.request.vm_id

    @property
    def vm(self) -> VM | None:
        """The VM as it is now; None: it is not here, which says nothing of its power."""
        return self.inventory.vms.get(self.vm_id)

    @property
    def off(self) -> bool:
        """Whether the VM has gone off since this run began, or is off."""
        return self.went_off is not None or is_off(self.vm)

    @property
    def shows_no_run(self) -> bool:
        """Whether it is off, or not here, as it was last told."""
        return self.vm is None or is_off(self.vm)

    @property
    def is_saved(self) -> bool:
        """Whether its memory is on disk and it runs nowhere, as it was last seen."""
        return self.vm is not None and self.vm.saved

    @property
    def was_off_already(self) -> bool:
        """Whether it is off, and was so when the operation was accepted: as it was known then and was never seen to run
        since, or as the first look at it showed, for what was known of it may have been out of date."""
        return self.off and (not self.operation.ran or (self.found_off and self.in_state(State.PENDING)))

    @property
    def gone(self) -> bool:
        """Whether the VM is not here, or where nothing can be done or known about it: it was moved to another host."""
        vm = self.vm
        if self.off or (vm and vm.power_state is not PowerState.UNKNOWN):
            return False
        return vm is None or any(not problem.passing for problem in vm.problems)

    @property
    def journal_failure(self) -> str:
        """Why nothing can be written down now; empty: it can."""
        return self._journal.failure

    @property
    def force_after(self) -> datetime:
        assert self.operation.force_after is not None  # noqa: S101 - set when the grace period begins
        return self.operation.force_after

    @property
    def decided(self) -> bool:
        """Whether a caller ended the waiting: forced, cancelled, pre-empted or called off."""
        return self.operation.decision is not None

    @property
    def given_up(self) -> bool:
        """Whether there is nothing left to wait for: cancelled, or called off before the guest was asked. A save that
        is under way is brought to its end."""
        decision, saving = self.operation.decision, self.in_state(State.SAVING)
        called_off = decision is Decision.CALL_OFF and self.operation.asked is None
        return decision is Decision.CANCEL or (called_off and not saving)

    @property
    def told_to_force(self) -> bool:
        """Whether the power is to be cut now: by a ForceOperation, or by a PowerOff of the same VM."""
        return self.operation.decision in (Decision.FORCE, Decision.PREEMPT)

    def observe(self, _vm_id: str, vm: VM | None) -> None:
        """Take in a change of the VM."""
        if vm and vm.run_id and not self.operation.run_id and not self.off and not self.operation.state.final:
            self.change("", run_id=vm.run_id)  # some hypervisors tell it only a moment after a start
        self._note_that_it_ran(vm)
        self.seen_saved = self.seen_saved or bool(vm and vm.saved and self.in_state(State.SAVING))
        self.crashed = self.crashed or bool(vm and vm.crashed and not self._is_over(vm))
        if self.went_off is None and vm and self._is_over(vm):
            self.went_off = vm if is_off(vm) else VM(vm.id, vm.name, PowerState.OFF)
        self.wake()

    def _note_that_it_ran(self, vm: VM | None) -> None:
        if vm and vm.power_state not in (PowerState.OFF, PowerState.UNKNOWN) and not self.operation.ran:
            self.change("", ran=True)

    def _is_over(self, vm: VM) -> bool:
        """Whether the run of the VM that this operation is about has ended: it is off, or runs anew."""
        mine = self.operation.run_id
        return is_off(vm) or bool(mine and vm.run_id and vm.run_id != mine)

    @property
    def runs_anew(self) -> bool:
        """Whether the VM has been started again since it went off, or is another one's run."""
        return self.went_off is not None and not is_off(self.vm)

    @property
    def of_no_known_run(self) -> bool:
        """Whether the VM runs, and it is not told which run that is, though it was told of the one that this is about:
        so is one that was started a moment ago."""
        unknown = self.vm is not None and not (self.vm.run_id or self.vm.saved)
        return bool(self.operation.run_id and unknown and not self.off)

    def of_this_run(self, seen_off: bool) -> None:
        """Note which run of the VM this is about, if nothing has been done to it yet. `seen_off`: the run that was
        remembered was heard to end since this was asked for, which counts if the look was long in coming; else it had
        ended before, though that was not told."""
        vm = self._read_as or self.vm
        if vm and vm.run_id and vm.run_id != self.operation.run_id:
            self.change("", run_id=vm.run_id)
            if not seen_off or monotonic() - self._created < PROMPT:
                self._forget_end()

    def of_next_run(self) -> None:
        """From now on it is about the run that it starts."""
        self.went_off, self._end_read = None, False
        self.change("", run_id="")

    @property
    def last_seen_off(self) -> VM | None:
        """The VM as it was when it was off."""
        return self.went_off or self.vm

    def resume(self) -> None:
        """It was begun by an earlier process, which may have done more than it wrote down if its disk was full."""
        operation = self.operation
        in_time = operation.force_after is not None and self.now() < operation.force_after
        self.in_doubt = not (in_time and operation.asked)
        request, saves = operation.request, operation.escalation is Escalation.SAVE
        forces = operation.escalation is Escalation.FORCE or (saves and request.save_fallback is Escalation.FORCE)
        if self.in_state(State.FORCING) or self.told_to_force or (forces and self.in_doubt):
            self.cut = None
        if self.in_state(State.SAVING) or (saves and self.in_doubt):
            self.saved = None
        self.begin()

    def move(self, by: timedelta) -> None:
        """The wall clock was set: the operation's times move with it, and are told again. 0: timers are late."""
        if by and not self.operation.state.final:
            self.operation = self.operation.moved(by, self._clock.boot)
            self.spawn(self.save())
        self.wake()

    async def record(self, message: str = "", **changes: Any) -> bool:
        """Change the operation, write it to the journal and tell its watchers; False: it could not be written yet."""
        self.change(message, **changes)
        return await self.save()

    @property
    def unsaved(self) -> bool:
        """Whether there are changes that were not yet handed to the journal."""
        return self.operation is not self._handed

    async def save(self) -> bool:
        """Write down what was changed in memory, and tell the watchers.

        False: it could not be written, and is written as soon as that is possible. Until then the shutdown goes on,
        for the VM's owner is better served so; but nobody is told what a kill could undo.
        """
        if not self.unsaved:
            return self.shown is self.operation
        changed = self._handed = self.operation
        written = await self._journal.keep(changed, partial(self._show, changed))
        if not written:
            log.error("operation not journaled", operation=changed.id, error=self._journal.failure)
        return written

    async def on_disk(self) -> None:
        """Wait until all that has happened is on disk."""
        await self.save()
        await self.until(lambda: self.shown is self.operation)

    async def decide(self, message: str, changes: Callable[[Operation], Mapping[str, Any]]) -> None:
        """Have a decision take effect once it is on disk. `changes` are those that it makes, or raises why it cannot.

        Raises:
            JournalFailed: it could not be written down, so it does not count.
        """
        self.deciding += 1
        try:
            while True:
                before = self.operation
                decided = self._changed(before, message, changes(before))
                await self._journal.save(decided)
                if self.operation is before:  # otherwise what has happened meanwhile was written after it
                    break
        except JournalFailed:
            self._handed = None  # what was written of it, if anything, is written over
            self.spawn(self.save())
            raise
        finally:
            self.deciding -= 1
            self.wake()
        self.operation = self._handed = decided
        self._show(decided)
        self._log(message)

    def begin(self) -> None:
        """Its first record is on disk."""
        self.begun = True
        self.wake()

    def change(self, message: str, **changes: Any) -> None:
        """Change the operation in memory; a message becomes a step."""
        self.operation = self._changed(self.operation, message, changes)
        if message:
            self._log(message)

    def _changed(self, operation: Operation, message: str, changes: Mapping[str, Any]) -> Operation:
        state = changes.get("state", operation.state)
        if message:
            changes = {**changes, "steps": operation.with_step(Step(time=self.now(), state=state, message=message))}
        return operation.model_copy(update=changes)

    def _log(self, message: str) -> None:
        operation, request = self.operation, self.operation.request
        log.info(message, operation=operation.id, vm=request.vm_name, kind=request.kind, state=operation.state)

    def _show(self, written: Operation) -> None:
        self.shown = written
        self.wake()

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
            self.held_up = self.held_up or not self.inventory.connected.is_set()
            await self.inventory.reconnected()
            vm = self.vm
            try:
                return await call()
            except HypervisorUnavailable as error:
                self.held_up = True
                log.warning("hypervisor unavailable", operation=self.operation.id, error=error.message)
            await self.within(backoff.next(), lambda: self.vm is not vm)  # noqa: B023 - awaited before the next round

    async def look(self) -> None:
        """Read the VM from the hypervisor, for as long as that is unavailable."""
        await self.through_outages(self._read)

    async def _read(self) -> None:
        vm = self._read_as = await self.inventory.refresh(self.vm_id)
        self.unseen, self._looked = False, monotonic()
        self._note_that_it_ran(vm)  # which may have been told before this listened
        if vm and vm.power_state is PowerState.ON:
            self.seen_on = self._looked
        if vm and not is_off(vm) and vm.run_id and vm.run_id == self.operation.run_id:
            self._forget_end()
            self.crashed = vm.crashed
        self._end_read = self.off

    def _forget_end(self) -> None:
        """What was told of an end was about an earlier run."""
        self.went_off, self.crashed, self._end_read = None, False, False

    async def surely_off(self) -> bool:
        """Whether its run is over, and not only told to be: an event may come later than a look that shows what came
        after it. Where no look succeeds in time, what was told is believed."""
        if self.off and self.adapter.tells_late and not self._end_read:
            await self._look_soon()
            self._end_read = self.off
        return self.off

    async def runs_no_more(self) -> bool:
        """Whether a VM that was on is off by now, or not here any more, and not only told to be: an earlier end may be
        told late."""
        if self.shows_no_run:
            await self._look_soon()
        return self.shows_no_run

    async def look_last(self) -> bool:
        """Look at a VM that is to be left as it is, so that nothing is said of it from memory; False: that was done
        just now. Where no answer comes in time it is `unseen`."""
        if self._looked is not None and monotonic() - self._looked < FRESH:
            return False
        self.unseen, self._looked = not await self._look_soon(), monotonic()
        return True

    async def _look_soon(self) -> bool:
        """Look within `LAST_LOOK`, whether or not the hypervisor is followed again by now; False: no answer came."""
        with urgent():
            look = self.spawn(self._read_persistently())
        await self.within(LAST_LOOK, look.done)
        answered = look.done() and look.exception() is None
        look.cancel()
        return answered

    async def _read_persistently(self) -> None:
        backoff = Backoff(FIRST_RETRY, LAST_RETRY)
        while True:
            with suppress(HypervisorUnavailable):
                return await self._read()
            await asyncio.sleep(backoff.next())

    async def look_first(self, *, fresh: bool) -> None:
        """Look at the VM before anything is done to it, unless that is decided already, or nothing is to be done. What
        this finds off just after the operation was accepted (`fresh`) was off before, unless the look had to wait for
        the hypervisor."""
        was_off = self.off
        await self.look_unless(lambda: self.given_up or (self.decided and self.vm is not None))
        self.found_off = fresh and not was_off and is_off(self._read_as) and not self.held_up

    async def look_unless(self, condition: Callable[[], bool]) -> None:
        """The same, given up when the condition holds: it takes as long as the hypervisor is unavailable."""
        look = self.spawn(self.look())
        await self.until(lambda: look.done() or condition())
        if look.done():
            look.result()
        look.cancel()

    def close(self) -> None:
        """Stop what was spawned, and release those that wait in `ended`."""
        self.closed = True
        self.wake()
        self.cancel_tasks()

    async def ended(self) -> None:
        """Wait until nothing more will happen here."""
        await self.until(lambda: self.closed)

    def in_state(self, *states: State) -> bool:
        return self.operation.state in states
