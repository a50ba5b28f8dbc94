"""The run of a plan: its tiers go down in their order, within one time, and whatever happens is written down.

The engine is one coroutine for each tier and one for each VM of a tier that has begun. It may be killed at any moment:
taken up again it goes through the same steps, with the same moments and the same request_ids, so that each provider
does each of them once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Set
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from client.errors import ProviderError
from client.power import has_ended
from client.times import moment
from client.words import short
from plans.bring_up import BringUp
from plans.calls import Calls
from plans.clock import Clock, Deadlines
from plans.frozen import SELF, SETTLE, FrozenTier, Target
from plans.history import (
    Aborted,
    BringUpBegan,
    BroughtDown,
    Closed,
    Event,
    History,
    Inherited,
    Released,
    Shortened,
    Stopped,
    TakenOver,
    TierBegan,
    TierOver,
    VMEnded,
)
from plans.journal import Journal, JournalError
from plans.look import runs_again
from plans.model import AtDeadline
from plans.schedule import ZERO
from protos.power.v1 import power_pb2 as pb

NOT_ASKED_YET = frozenset({pb.OPERATION_STATE_PENDING, pb.OPERATION_STATE_RUNNING_HOOKS})
OURS = frozenset({pb.OUTCOME_GRACEFUL, pb.OUTCOME_FORCED, pb.OUTCOME_CRASHED, pb.OUTCOME_UNKNOWN, pb.OUTCOME_SAVED})
"""How a VM ends that this run has brought down, or may have."""
LEAST_SHORTER = timedelta(seconds=1)
"""By which a run is shortened at least: what a UPS says of its battery comes each few seconds, and is never exact."""
SOON = timedelta(seconds=1)
"""From now until the earliest moment that a provider is told, as it takes none that has passed."""
LATEST = timedelta(seconds=16)
"""From now until the moment that is told at last, where those before it had passed on the way: more than the 10 s that
our clients wait for an answer."""
LONGEST_WRITE = 2.0
"""Seconds that an event waits for the disk."""
LAST_LOOK = 5.0
"""Seconds for what is still to be learnt when the budget is over."""

log = structlog.get_logger()


async def _comes_up(_: Target) -> bool:
    return False


class Run:
    """One run of a plan, from where its history stands."""

    def __init__(
        self,
        history: History,
        journal: Journal,
        calls: Calls,
        clock: Clock,
        stays_off: Callable[[Target], Awaitable[bool]] = _comes_up,
    ) -> None:
        """`stays_off`: whether a VM's owner wants it off by now, or another run, so that it is not brought up."""
        self.history, self._start, self._stays_off = history, history.start, stays_off
        self._journal, self._calls, self._clock = journal, calls, clock
        self._deadlines, self._shorter = Deadlines(clock), asyncio.Event()
        self._over = {tier.name: asyncio.Event() for tier in self._start.tiers}
        self._ended = {target.key: asyncio.Event() for tier in self._start.tiers for target in tier.targets}
        self._no_more_tiers = asyncio.Event()
        self._under_way: dict[str, tuple[Target, pb.Operation]] = {}
        """The operations of this run that have not ended, by their VM's key."""
        self.earlier: Set[str] = frozenset()
        """Runs that this one counts instead of: what they have begun has no more time than this one gives."""
        history.listeners.append(self._noted)
        for event in history.events:
            self._noted(event)

    async def carry_out(self) -> None:
        """Bring down what the plan says, within its time; then, if it was aborted, bring up what this run stopped."""
        if self.history.brought_down is None:
            await self._bring_down()
            await self._note(BroughtDown(at=self._clock()))
        if self.history.aborted and self.history.closed is None:
            await self.bring_up()
        if self.history.closed is None:
            await self._note(Closed(at=self._clock()))

    async def bring_up(self, *, anew: bool = False) -> None:
        """Start what this run has stopped, as the plan says; each VM once. `anew`: once more what was not ready when it
        was done before."""
        await self.promise_bring_up(anew=anew)
        await BringUp(self.history, self._calls, self._clock, self._note, self._stays_off).carry_out()

    async def promise_bring_up(self, *, anew: bool = False) -> None:
        """Write down that what was stopped is to come up: whoever takes the run up goes on with that."""
        if self._start.spec.bring_up and (anew or self.history.bring_up_began is None):
            await self._note(BringUpBegan(at=self._clock()))

    async def runs_again(self) -> bool:
        """Whether a VM of this run, which is over, runs (plans/look.py)."""
        return await runs_again(self.history, self._calls)

    async def leave(self, by: str) -> None:
        """End a run that is not carried out any more, as another one counts; what was begun goes on."""
        await self.end(f"Taken over by run {by}.")
        await self._note(TakenOver(at=self._clock(), by=by))

    async def end(self, why: str) -> None:
        """The same where no other one counts instead. What it has stopped can come up then."""
        if self.history.brought_down is None:
            await self._look_at_the_rest()
            await self._note(BroughtDown(at=self._clock()))
        if self.history.closed is None:
            await self._note(Closed(at=self._clock(), message=why))

    async def inherit(self, target: Target) -> None:
        """A VM of this run that an earlier one had stopped, and has come up without, comes up with this one."""
        if not self.history.has_stopped(target):
            await self._note(Inherited(vm=target.key, at=self._clock()))

    async def release(self) -> None:
        """Give the VMs back to their owners, those that are off too."""
        if self.history.released is None:
            await self._note(Released(at=self._clock()))

    async def abort(self) -> None:
        """Begin no further tier, cancel what has not asked its guest yet, and let run on what has."""
        if self.history.aborted or self.history.brought_down:
            return
        await self._note(Aborted(at=self._clock()))
        await asyncio.gather(*(self._call_off(target, now) for target, now in list(self._under_way.values())))

    async def shorten(self, left: timedelta, why: str) -> None:
        """Less is left than was thought: the budget is over after `left`, if that is sooner by LEAST_SHORTER.
        Operations under way get new moments, which count at their providers also if this engine is gone."""
        ends = self._clock() + left
        if self.history.brought_down is None and ends + LEAST_SHORTER <= self.history.ends:
            await self._note(Shortened(at=self._clock(), ends=ends, why=why))

    # The tiers

    async def _bring_down(self) -> None:
        """All tiers, until all their VMs have ended or the budget is over."""
        with suppress(TimeoutError):
            async with self._deadlines.limit(lambda: self.history.ends), asyncio.TaskGroup() as group:
                for tier in self._start.tiers:
                    group.create_task(self._bring_tier_down(tier, group))
        await self._look_at_the_rest()

    async def _look_at_the_rest(self) -> None:
        """Note what has become of the VMs that were asked, and of which no end is known."""
        left = [
            self._look_once_more(tier, target)
            for tier in self._start.tiers
            for target in tier.targets
            if tier.name in self.history.begun and target.key not in self.history.ended
        ]
        await asyncio.gather(*left)

    async def _bring_tier_down(self, tier: FrozenTier, group: asyncio.TaskGroup) -> None:
        """Wait for its turn, ask its VMs, and end when all are off or its time is over. VMs that are late are followed
        all the same, until the budget is over."""
        if tier.name not in self.history.begun and not await self._turn(tier):
            return
        if tier.name not in self.history.begun:
            await self._begin(tier)
        downs = [
            group.create_task(self._bring_vm_down(tier, target))
            for target in tier.targets
            if target.key not in self.history.ended
        ]
        if downs:
            with suppress(TimeoutError):
                async with self._deadlines.limit(lambda: self.history.over_by(tier)):
                    await asyncio.wait(downs)
        if tier.name not in self.history.over:
            if tier.at_deadline is AtDeadline.STOP and self.history.late(tier):
                await self._note(Stopped(tier=tier.name, at=self._clock()))
            await self._note(TierOver(tier=tier.name, at=self._clock()))

    async def _turn(self, tier: FrozenTier) -> bool:
        """Wait until those before it are over, or the tiers' time is; whether it may begin then. Our own VM waits for
        those that are late too."""
        before: list[asyncio.Event] = [self._over[name] for name in tier.after]
        if tier.name == SELF:
            before += [
                self._ended[target.key] for each in self._start.tiers if each is not tier for target in each.targets
            ]
        deadline = self._deadlines.sleep_until(lambda: self.history.deadline)
        await _first_of(_all(before), self._no_more_tiers.wait(), deadline)
        return not self._no_more_tiers.is_set() and self._clock() < self.history.ends

    async def _begin(self, tier: FrozenTier) -> None:
        """Write down that it begins, and how long it has."""
        now = self._clock()
        await self._note(TierBegan(tier=tier.name, at=now, gets=self.history.gets(tier, now)))

    # One VM

    async def _bring_vm_down(self, tier: FrozenTier, target: Target) -> None:
        """Ask it and follow that to its verdict. With Force, also instead of Save, what is not off at the end has its
        power cut."""
        try:
            ended = await self._within_its_time(tier, target)
        except Exception as error:
            log.exception("a bug in vmpower: a VM could not be brought down", vm=target.title)
            ended = self._without_verdict(tier, target, "REFUSED", f"{type(error).__name__}: {error}")
        await self._note(ended)

    async def _within_its_time(self, tier: FrozenTier, target: Target) -> VMEnded:
        if not tier.cuts:
            return await self._shut_down(tier, target)
        ended: VMEnded | None = None

        def end() -> datetime:
            return max(self.history.deadline, self.history.over_by(tier) - SETTLE)

        with suppress(TimeoutError):
            async with self._deadlines.limit(end):
                ended = await self._shut_down(tier, target)
        if ended and (ended.off or ended.outcome == "GONE"):
            return ended
        await self._deadlines.sleep_until(end)
        if self.history.aborted:
            return ended or await self._shut_down(tier, target)
        return await self._cut(tier, target)

    async def _shut_down(self, tier: FrozenTier, target: Target) -> VMEnded:
        """Its Shutdown, from the request to the verdict. Once aborted, none is begun."""
        began, force_after = self.history.begun[tier.name], self.history.force_after(tier.name, target)
        request = tier.request(target, force_after - began.at)
        request.request_id = self.history.request_id(tier.name, target)
        request.reason = request.reason or self._start.why
        request.force_after.FromDatetime(force_after + self._start.ahead.get(target.provider, ZERO))
        return await self._carried_out(tier, target, request)

    async def _cut(self, tier: FrozenTier, target: Target) -> VMEnded:
        """A PowerOff, which pre-empts whatever else is active on the VM."""
        request_id = self.history.request_id(tier.name, target, "cut")
        request = pb.PowerOffRequest(vm=target.vm, request_id=request_id, reason=self._start.why)
        return await self._carried_out(tier, target, request)

    async def _carried_out(
        self, tier: FrozenTier, target: Target, request: pb.ShutdownRequest | pb.PowerOffRequest
    ) -> VMEnded:
        timed, hastened = isinstance(request, pb.ShutdownRequest), list[asyncio.Task[None]]()

        async def in_the_way(now: pb.Operation) -> None:
            if timed and not hastened and now.request_id.rpartition("/")[0] in self.earlier:
                until = moment(now.force_after) - self._start.ahead.get(target.provider, ZERO)
                hastened.append(asyncio.ensure_future(self._bring_forward(tier, target, now.id, until)))

        try:
            operation = await self._calls.begin(target, request, lambda: self.history.aborted is not None, in_the_way)
            if operation is None:
                return self._without_verdict(tier, target, "NOT_ASKED", "The run was aborted before.")
            await self._follow(tier, target, operation, timed=timed)
        except ProviderError as error:
            never_runs = error.reason == "VM_REFUSED" and not target.runs  # a template, with the tags of its clones
            outcome = "GONE" if error.reason == "VM_NOT_FOUND" else "ALREADY_OFF" if never_runs else "REFUSED"
            return self._without_verdict(tier, target, outcome, error.message, off=never_runs)
        finally:
            for task in hastened:
                task.cancel()
        return _ended(tier, target, self._under_way.pop(target.key)[1], self._clock)

    async def _look_once_more(self, tier: FrozenTier, target: Target) -> None:
        """Note what has become of a VM when the budget is over; its operation may have ended while no engine ran."""
        request_id, ended = self.history.request_id(tier.name, target), None
        with suppress(TimeoutError, ProviderError):
            async with asyncio.timeout(LAST_LOOK):
                found = await self._calls.find(target, request_id)
                if found:
                    self._under_way[target.key] = (target, found)
                    ended = _ended(tier, target, found, self._clock) if has_ended(found) else None
        await self._note(ended or self._without_verdict(tier, target, "OUT_OF_TIME", "What was begun goes on."))

    async def _follow(self, tier: FrozenTier, target: Target, operation: pb.Operation, *, timed: bool) -> None:
        """Until it has ended; when the run is aborted it is called off, if that is possible still. `timed`: it gives
        its guest time, which may become less."""
        self._under_way[target.key] = (target, operation)

        async def changed(now: pb.Operation) -> None:
            self._under_way[target.key] = (target, now)
            if self.history.aborted:
                await self._call_off(target, now)

        told = self.history.force_after(tier.name, target)
        moving = asyncio.ensure_future(self._bring_forward(tier, target, operation.id, told)) if timed else None
        try:
            await self._calls.follow(target, operation.id, changed)
        finally:
            if moving:
                moving.cancel()

    async def _bring_forward(self, tier: FrozenTier, target: Target, operation: str, told: datetime) -> None:
        """Tell its provider, which was `told` another moment, the new one, each time the run is shortened."""
        while True:
            shorter, short = self._shorter, self.history.shortened
            until = max(self.history.forced_by(tier, target), self._clock() + SOON)
            if until < told and not self.history.aborted:
                why = f"{self._start.why}: {short.why}"[:256] if short else self._start.why
                promised, told = told, until
                await self._tell_moment(tier, target, operation, promised, why)
            await shorter.wait()

    async def _tell_moment(
        self, tier: FrozenTier, target: Target, operation: str, promised: datetime, why: str
    ) -> None:
        """The moment that counts now. Where it has passed on the way, a later one is told, unless the one that was
        promised is as near."""
        ahead, soon = self._start.ahead.get(target.provider, ZERO), SOON

        def force_after() -> datetime:
            return max(self.history.forced_by(tier, target), self._clock() + soon) + ahead

        while True:
            try:
                return await self._calls.bring_forward(target, operation, force_after, why)
            except ProviderError as error:
                soon *= 2
                if error.code != "INVALID_ARGUMENT" or soon > LATEST or self._clock() + soon >= promised:
                    return None

    async def _call_off(self, target: Target, operation: pb.Operation) -> None:
        """Cancel an operation that has not asked its guest; one that cannot be cancelled any more runs on."""
        if operation.state in NOT_ASKED_YET:
            with suppress(ProviderError):
                await self._calls.cancel(target, operation.id)

    def _without_verdict(
        self, tier: FrozenTier, target: Target, outcome: str, message: str, *, off: bool = False
    ) -> VMEnded:
        now = self._under_way.pop(target.key, None)
        return VMEnded(
            tier=tier.name,
            vm=target.key,
            at=self._clock(),
            outcome=outcome,
            operation=now[1].id if now else "",
            message=message,
            off=off,
            stopped=now is not None,
        )

    # The record

    async def _note(self, event: Event) -> None:
        """Something has happened, or is about to. While the disk cannot be written, or hangs, the run goes on: the
        power will not wait, and a provider takes each step once anyway."""
        try:
            async with asyncio.timeout(LONGEST_WRITE):
                await self._journal.write(event)
        except (JournalError, TimeoutError):
            log.exception("the run goes on without its record", run=self._start.run)
        self.history.note(event)

    def _noted(self, event: Event) -> None:
        match event:
            case TierOver():
                self._over[event.tier].set()
            case VMEnded():
                self._ended[event.vm].set()
            case Aborted() | Stopped():
                self._no_more_tiers.set()
            case Shortened():
                self._deadlines.moved()
                self._shorter.set()
                self._shorter = asyncio.Event()


def _ended(tier: FrozenTier, target: Target, operation: pb.Operation, clock: Clock) -> VMEnded:
    """What an operation that has ended says of its VM."""
    off = operation.state == pb.OPERATION_STATE_SUCCEEDED
    verdict = operation.verdict
    saved_before = verdict.outcome == pb.OUTCOME_SAVED and not verdict.reason  # nothing was done to it
    return VMEnded(
        tier=tier.name,
        vm=target.key,
        at=clock(),
        outcome=short(pb.Outcome, verdict.outcome) or short(pb.OperationState, operation.state),
        reason=short(pb.Reason, verdict.reason),
        operation=operation.id,
        message=verdict.message or operation.error.message,
        off=off,
        stopped=(verdict.outcome in OURS and not saved_before) or operation.state == pb.OPERATION_STATE_CANCELLED,
    )


async def _all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


async def _first_of(*waits: Awaitable[object]) -> None:
    """Return when one of them has ended."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
