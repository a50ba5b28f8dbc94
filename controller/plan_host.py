"""The host of runs of plans: the engine of plans/ in the controller, on what is declared here.

Everything that a run needs is read and connected when it begins, by connections of its own: it goes on whatever becomes
of the resources, of where they come from, and of the lead. While it holds a VM the reconciler leaves that alone. Its
record is on the local disk and, where another controller may go on with it, in its PowerRun's status: what leads next
holds what was held, and takes up what was under way.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from common.backoff import Backoff
from controller.client import ProviderClient
from controller.enums import DesiredPower
from controller.hosted_run import Hosted, HostedCalls, targets
from controller.hosted_runs import HostedRuns
from controller.models import PowerPlan, PowerRun, VirtualMachine
from controller.plan_begin import Beginning
from controller.plan_declared import Declared
from controller.plan_holds import Holds
from controller.plan_own import OwnMachines
from controller.plan_scope import full_name
from controller.plan_terms import Asked, RunRefused, World, resource_of
from controller.plan_triggers import Triggers
from controller.run_connections import close, read_logins, reopened
from controller.run_record import recorded_status, size
from controller.run_status import PowerRunStatus, run_status
from controller.source import Key, Rejected, Source, SourceError
from plans.calls import Calls
from plans.clock import Clock
from plans.freeze import Frozen
from plans.frozen import Target
from plans.history import SAVED, BringUpBegan, Closed, History, Released, Start, VMEnded, VMUp
from plans.history import Event as Fact
from plans.journal import Off, Runs
from plans.look import runs_again
from plans.run import Run

FOLDER = ".runs"
"""Of the records, in the controller's state directory: no namespace is called so."""
WRITE_AFTER = 2.0
"""Seconds until a run's status is written: many VMs that end together are one write."""
WRITTEN = 50_000
"""Bytes a second that the statuses of a run are written with while its VMs end: one of 2,000 VMs each 20 s."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a run whose record another process has is taken up again."""
KEPT = 10
"""Runs that are over, of those that a plan's triggers have begun."""
DOWN = frozenset({DesiredPower.OFF, DesiredPower.OFF_GRACEFUL})

T = TypeVar("T")
log = structlog.get_logger()


class PlanHost:
    """Plans and runs that are declared or asked for, and the runs that are under way or hold VMs."""

    def __init__(
        self,
        state_dir: Path,
        clock: Callable[[], Clock] = Clock,
        off: Off = asyncio.to_thread,
        *,
        self_namespace: str = "",
    ) -> None:
        """`clock` makes the one of a run that begins, or is taken up; `off` runs what blocks. `self_namespace` is that
        of the plans that may bring down what this controller runs on; empty: none may."""
        self._own = OwnMachines(self_namespace)
        self._clock, records = clock, Runs(state_dir / FOLDER, off)
        self.runs = HostedRuns(records, clock, off, self._noted)
        self._world: World | None = None
        """That of whom to tell, and where statuses are written."""
        self._known: World | None = None
        """That of which all is known: a run that is under way while the lead is lost looks there."""
        self._synced = False
        self._another_led = False
        """Whether another controller has led since the records on this disk were written, as far as is known."""
        self._declared = Declared(self, lambda: self._world)
        self._beginning = Beginning(records, self._declared, self._own, clock, self._status_of)
        self._holds = Holds(lambda: [hosted.history for hosted in self.runs.all()], self._wake)
        self._triggers = Triggers(self, clock)
        self._one_start = asyncio.Lock()
        """One run at a time is begun, brought up or released."""
        self._forgetting: set[Key] = set()
        """The plans whose old runs are being forgotten."""
        self._tasks: set[asyncio.Task[None]] = set()

    # What is declared

    def attach(self, world: World) -> None:
        """Work on what this world declares, as soon as that is known. What is under way goes on meanwhile."""
        self._world, self._synced = world, False
        self._declared.pause()

    def apply(self, key: Key, resource: PowerPlan | PowerRun) -> None:
        """A plan, which replaces the one before, or a run, whose first spec counts."""
        self._declared.apply(key, resource)

    def reject(self, change: Rejected) -> None:
        """A plan that cannot be acted upon."""
        self._declared.reject(change)

    def delete(self, key: Key) -> None:
        """What is no longer declared. A run that is under way is aborted; one that is over is released."""
        self._declared.delete(key)

    async def synced(self) -> None:
        """All that existed at the start has been applied: hold what was held, take up what was under way, and begin
        what is asked for.

        The records are read here, before anything is reconciled: one that was read while another controller led would
        be an old one.
        """
        await self._read_records()
        world = self._world
        self._known, self._synced = world, True
        if world is not None:
            self.spawn(self._own.learn(world.source))
        for hosted in self.runs.all():
            if hosted.given_up or self._is_gone(hosted):
                self.spawn(self._give_up(hosted))
            if hosted.is_open and hosted.task is None:
                self.spawn(self._take_up(hosted))
        self._declared.count(world.source.is_gone if world is not None else lambda _: False)
        self._another_led = False
        self._holds.changed()

    async def stand_down(self) -> None:
        """Another controller leads, and goes on with all runs: end them here, and forget what is known of them."""
        if self.runs.names():
            log.info("another controller goes on with the runs", runs=sorted(self.runs.names()))
        await self._triggers.close()
        await self._stop()
        ended = self.runs.clear()
        self._declared.clear()
        self._known, self._synced, self._another_led = None, False, True
        self._holds.changed()
        for hosted in ended:
            hosted.pause()

    async def _read_records(self) -> None:
        """Those of the disk and, where it knows more, of the PowerRuns."""
        for history in await self.runs.read(self._ended_elsewhere):
            start = history.start
            if start.uid and self._declared.uid(resource_of(start)) == start.uid:
                self._declared.answer(resource_of(start), run_status(history))
        for history in self._declared.records():
            self.take_in(history)

    def _ended_elsewhere(self, start: Start) -> bool:
        """Whether another controller has brought a run to its end, so that what is on this disk is old: its PowerRun
        says so, or is gone since another one led."""
        if not start.resource or self._world is None:
            return False
        key = resource_of(start)
        gone = self._another_led and not self._declared.uid(key) and self._world.source.is_gone(key)
        return gone or self._declared.has_ended(key, start.uid)

    def take_in(self, history: History) -> None:
        """Go on with a run by the record that its PowerRun has, if that knows more than ours."""
        hosted = self.runs.take_in(history)
        if hosted is None:
            return
        self._holds.changed()
        if self._synced and hosted.is_open:
            self.spawn(self._take_up(hosted))

    def _is_gone(self, hosted: Hosted) -> bool:
        """Whether its PowerRun was deleted while no controller led: for certain, as a list of what there is may be cut
        short."""
        key, world = hosted.resource, self._world
        if key is None or world is None:
            return False
        declared = self._declared.uid(key)
        return declared != hosted.history.start.uid if declared else world.source.is_gone(key)

    # What is held, and what is known

    def holder(self, provider: str, vm: str) -> str:
        """The run that holds a VM of the Provider NAMESPACE/NAME; empty: none."""
        return self._holds.holder(provider, vm)

    def saved(self, provider: str, vm: str) -> str:
        """The operation by which the run that holds a VM has saved its memory; empty: none has."""
        return self._holds.saved(provider, vm)

    def _wake(self, vms: Collection[tuple[str, str]]) -> None:
        if self._world is not None:
            self._world.wake(vms)

    def plans_changed(self) -> None:
        """Follow the triggers of the plans that are declared now."""
        self._triggers.follow(self._declared.plans)

    def source(self) -> Source | None:
        """Where plans are declared."""
        return self._world.source if self._world is not None else None

    def knows(self, uid: str) -> bool:
        """Whether there is a record of the run of a PowerRun."""
        return self.runs.knows(uid)

    def plans(self) -> list[PowerPlan]:
        """All that are declared.

        Raises:
            RunRefused: they have not been read yet.
        """
        self._require_world()
        return list(self._declared.plans.values())

    def plan_key(self, name: str) -> Key:
        """The plan that is called NAME or NAMESPACE/NAME.

        Raises:
            RunRefused: there is none, or there are several of this name.
        """
        self._require_world()
        found = [key for key in self._declared.plans if name in {key.name, f"{key.namespace}/{key.name}"}]
        if len(found) != 1:
            several = f"Several PowerPlans are called {name!r}; write NAMESPACE/NAME."
            raise RunRefused("PLAN_NOT_FOUND", several if found else f"No PowerPlan {name!r} is declared.")
        return found[0]

    # The statuses

    def status(self, uid: str) -> PowerRunStatus | None:
        """That of the run of a PowerRun, if it is hosted."""
        hosted = self.runs.of_resource(uid)
        if hosted is None:
            return None
        status = self._status_of(hosted.history)
        hosted.size = size(status)
        return status

    def _status_of(self, history: History) -> PowerRunStatus:
        """With its record, where other controllers may have to go on by that."""
        shared = self._world is not None and self._world.source.shared
        return recorded_status(history) if shared else run_status(history)

    async def write_down(self, key: Key) -> None:
        """Write the status of a PowerRun, if it has changed.

        Raises:
            SourceError: it could not be written; to be tried again.
            ResourceGone: there is nothing to write it to any more.
        """
        await self._declared.write_down(key)

    # What is done

    async def forecast(self, plan: Key) -> tuple[Start, Frozen]:
        """What a run of a plan would do that begins now; no guest is touched.

        Raises:
            RunRefused
        """
        return await self._beginning.forecast(plan, self._require_world())

    async def start(self, asked: Asked) -> History:
        """Begin a run; it is on disk, and its VMs are held, when this returns. Where other controllers may have to go
        on with it, its PowerRun says before that it has begun.

        Raises:
            RunRefused: another one is under way, or the plan cannot be run as it is.
            SourceError, ResourceGone: its PowerRun cannot say so; nothing was done.
        """
        world = self._world_of(asked)
        if world.source.shared and not asked.uid and not asked.trigger:
            message = "Another controller could not go on with it: make a PowerRun of it, by kubectl create."
            raise RunRefused("NO_RECORD", message)
        try:
            return await self._start(asked, world)
        finally:
            if asked.trigger and asked.plan not in self._forgetting:
                self.spawn(self._forget_old(asked.plan))

    async def _start(self, asked: Asked, world: World) -> History:
        async with self._one_start:
            under_way = [hosted for hosted in self.runs.all() if hosted.is_open]
            begun = await self._beginning.begin(asked, world, under_way, leads=self._synced)
            history = begun.history
            for other in begun.taken:
                other.taken_by = history.start.called
                if other.task is not None:
                    other.task.cancel()
            hosted = self.runs.add(history)
            hosted.journal = begun.journal
            self._holds.changed()
            needed = {target.provider for target in targets(history)}
            self.spawn(close({name: client for name, client in begun.clients.items() if name not in needed}))
            await self._surely(
                self._carry_on(hosted, {name: client for name, client in begun.clients.items() if name in needed})
            )
        return history

    async def _forget_old(self, plan: Key) -> None:
        """Of the runs that a plan's triggers began and that are over, keep the newest, here and as PowerRuns."""
        self._forgetting.add(plan)
        try:
            await self.runs.forget(plan, KEPT)
            for key in self._declared.over_by_triggers(plan)[:-KEPT]:
                await self._delete_run(key)
        finally:
            self._forgetting.discard(plan)

    async def _delete_run(self, key: Key) -> None:
        try:
            await self._require_world().source.delete_run(key)
        except (SourceError, RunRefused) as error:
            log.warning("an old run is not deleted; the next one has another try", run=str(key), error=str(error))

    async def abort(self, name: str) -> History:
        """Begin no further tier; then what the run stopped comes up, if its plan says so, and is released.

        Raises:
            RunRefused: there is no such run, or it is over.
        """
        hosted = await self.runs.found(name)
        called = hosted.history.start.called
        if hosted.run is None and hosted.is_open:
            raise RunRefused("NOT_READY", f"Run {called} is about to be taken up; ask again in a moment.")
        if hosted.run is None or hosted.history.brought_down is not None:
            over = (hosted.is_open and _lets_go(hosted.history)) or "is over: bring it up, or release it."
            raise RunRefused("RUN_OVER", f"Run {called} {over}")
        await self._surely(hosted.run.abort())
        return hosted.history

    async def release(self, name: str) -> History:
        """Give the VMs of a run that is over back to their owners, also those that are off.

        Raises:
            RunRefused: there is no such run, or it is under way.
        """
        async with self._one_start:
            hosted = await self.runs.found(name)
            if hosted.is_open:
                under_way = _lets_go(hosted.history) or "is under way: abort it first."
                raise RunRefused("RUN_ACTIVE", f"Run {hosted.history.start.called} {under_way}")
            await self._surely(self._release(hosted))
        return hosted.history

    async def bring_up(self, name: str) -> History:
        """Start what a run that is over has stopped, as its plan says; its VMs are released when that is done.

        Raises:
            RunRefused: there is no such run, it is under way, or its plan brings nothing up.
        """
        async with self._one_start:
            hosted = await self.runs.found(name)
            start = hosted.history.start
            if hosted.is_open:
                under_way = _lets_go(hosted.history) or "is under way."
                raise RunRefused("RUN_ACTIVE", f"Run {start.called} {under_way}")
            if start.spec.bring_up is None:
                raise RunRefused("NO_BRING_UP", f"The plan of {start.called} has no bringUp: release the run instead.")
            await self.runs.resume(hosted)
            clients = reopened(self._known or self._require_world(), hosted.history)
            await self._surely(self._carry_on(hosted, clients, bring_up=True))
        return hosted.history

    async def is_undone(self, history: History) -> bool:
        """Whether a VM of a run that is over runs, as far as its provider tells, or is being started."""
        if history.bring_up_began is not None and history.released is None:
            return True
        clients = reopened(self._known or self._require_world(), history)
        try:
            return await runs_again(history, Calls(clients))
        finally:
            await close(clients)

    async def bring_back(self, name: str) -> None:
        """Abort a run, if it is under way, and bring up what it has stopped, if its plan says so. Its VMs are their
        owners' again when this returns, unless another run has taken it over meanwhile, or its plan has Stop and a VM
        was not ready.

        Raises:
            RunRefused: it is about to be taken up; to be tried again.
        """
        asked = False
        while (hosted := self.runs.get(name)) is not None:
            if hosted.is_open:
                if hosted.run is None or hosted.task is None or hosted.task.done():
                    raise RunRefused("NOT_READY", f"Run {hosted.history.start.called} is not carried out yet.")
                await self._surely(hosted.run.abort())
                await asyncio.wait([hosted.task])
            elif asked and (hosted.history.taken_over or hosted.history.bring_up_stopped):
                return
            elif asked or hosted.history.start.spec.bring_up is None:
                await self.release(name)
            else:
                asked = True
                await self.bring_up(name)

    async def close(self) -> None:
        """Stop; what was begun goes on at the providers, and is taken up by the next process."""
        await self._triggers.close()
        await self._stop()

    async def _stop(self) -> None:
        tasks = [*self._tasks, *(hosted.task for hosted in self.runs.all() if hosted.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for hosted in self.runs.all():
            hosted.close()

    # Inside

    def _noted(self, history: History, fact: Fact) -> None:
        saved = isinstance(fact, VMEnded) and fact.outcome == SAVED
        if saved or isinstance(fact, Closed | Released | BringUpBegan | VMUp):
            self._holds.changed()
        hosted = self.runs.get(history.start.run)
        if history.start.resource and hosted is not None:
            often = max(WRITE_AFTER, hosted.size / WRITTEN)
            seconds = often if isinstance(fact, VMEnded | VMUp) else WRITE_AFTER / 10
            self._declared.write(resource_of(history.start), seconds)

    def _world_of(self, asked: Asked) -> World:
        """That in which a run is begun. What a UPS says counts also while the lead is lost, as the API server may be
        what an outage took first: by what was known last, as long as no other controller is known to lead.

        Raises:
            RunRefused: what is declared is not known.
        """
        if asked.trigger and asked.emergency and self._known is not None:
            return self._known
        return self._require_world()

    def _require_world(self) -> World:
        if self._world is None or not self._synced:
            raise RunRefused("NOT_READY", "The controller does not know yet what is declared; ask again in a moment.")
        return self._world

    async def _take_up(self, hosted: Hosted) -> None:
        """Go on with a run that was under way when a controller ended, or lost the lead. One that still carries it out,
        on the same disk, is waited for."""
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while hosted.journal is None:
            try:
                await self.runs.resume(hosted)
            except RunRefused as error:
                log.warning("a run cannot be taken up yet", run=hosted.history.start.run, error=str(error))
                await asyncio.sleep(pauses.next())
        if hosted.is_open and hosted.task is None:
            log.info("run taken up again", run=hosted.history.start.run)
            await self._carry_on(hosted, reopened(self._known or self._require_world(), hosted.history))

    async def _carry_on(self, hosted: Hosted, clients: Mapping[str, ProviderClient], bring_up: bool = False) -> None:
        history, journal = hosted.history, hosted.journal
        if journal is None:
            raise RuntimeError(f"run {history.start.run} has no record")
        logins = await read_logins(self.source(), history, clients, partial(self._machine, history))
        calls = HostedCalls(clients, logins, lambda target: self._machine(history, target))
        hosted.run = Run(history, journal, calls, self._clock(), partial(self._stays_off, history))
        if history.start.emergency:
            hosted.run.earlier = self.runs.names() - {history.start.run}
        if bring_up:
            await hosted.run.promise_bring_up()
        if hosted.given_up:
            await hosted.run.abort()
        hosted.task = asyncio.create_task(self._work(hosted, hosted.run, clients))
        hosted.task.add_done_callback(lambda _: self._pause(hosted))

    def _pause(self, hosted: Hosted) -> None:
        """It is not carried out any more. Its record, which may wait for weeks, keeps no file open."""
        if not hosted.is_open:
            hosted.close()
            if hosted.given_up and hosted.history.released is None:  # as it ended
                self.spawn(self._give_up(hosted))
        hosted.pause()

    async def _work(self, hosted: Hosted, run: Run, clients: Mapping[str, ProviderClient]) -> None:
        try:
            await self._go_through(hosted, run)
        except asyncio.CancelledError:
            if not hosted.taken_by:
                raise
            await _leave(hosted, run)
        except Exception:
            log.exception("a bug in vmpower: a run is not carried out any more", run=hosted.history.start.run)
        finally:
            await close(clients)

    async def _go_through(self, hosted: Hosted, run: Run) -> None:
        if hosted.taken_by:
            await _leave(hosted, run)
        elif hosted.history.closed is None:
            await run.carry_out()
        elif hosted.history.bring_up_began:
            await run.bring_up()
        if hosted.wants_release or hosted.given_up:
            await self._release(hosted)

    async def _release(self, hosted: Hosted) -> None:
        start = hosted.history.start
        await (await self.runs.recorded(hosted)).release()
        hosted.close()
        self.runs.remove(hosted)
        if start.resource and self._declared.uid(resource_of(start)) == start.uid:
            self._declared.answer(resource_of(start), self._status_of(hosted.history))
        self._holds.changed()

    def give_up(self, uid: str) -> None:
        """The PowerRun is gone: abort its run, or release it, as soon as that can be done."""
        hosted = self.runs.of_resource(uid)
        if hosted is not None:
            self.spawn(self._give_up(hosted))

    async def _give_up(self, hosted: Hosted) -> None:
        hosted.given_up = True
        if not hosted.is_open:
            await self._release(hosted)
        elif hosted.run is not None:
            await hosted.run.abort()

    def _machine(self, history: History, target: Target) -> VirtualMachine | None:
        if self._known is None:
            return None
        return self._known.machine(full_name(history.start.namespace, target.provider), target.vm, target.resource)

    async def _stays_off(self, history: History, target: Target) -> bool:
        """Whether a VM's owner wants it off by now, or another run, with which it comes up then."""
        machine = self._machine(history, target)
        if machine is not None and machine.wanted in DOWN:
            return True
        provider = full_name(history.start.namespace, target.provider)
        for other, theirs in reversed(self._holds.holders(provider, target.vm)):
            if other is not history and other.bring_up_began is None and other.aborted is None:
                return await self._hand_over(other, theirs)
        return False

    async def _hand_over(self, other: History, target: Target) -> bool:
        """A VM that another run holds comes up with that, if it can write that down."""
        try:
            run = await self.runs.recorded(await self.runs.found(other.start.run))
        except RunRefused as error:
            log.warning(
                "a VM comes up that another run holds, as its record is lost", vm=target.title, error=str(error)
            )
            return False
        await run.inherit(target)
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done in the background."""
        self._task(work).add_done_callback(_tell_of_a_bug)

    async def _surely(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done also if who waits for that is cancelled, as a plan changes or a client leaves: a run that holds
        its VMs and that nothing carries out would be in the way of all others. Only the host's own end ends it."""
        await asyncio.shield(self._task(work))

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """One that ends with the host."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _lets_go(history: History) -> str:
    """What a run does that was told to let go already; empty: it was not."""
    if history.aborted is None and history.bring_up_began is None:
        return ""
    return "lets go of its VMs by itself, as soon as what it does is done: wait for that."


async def _leave(hosted: Hosted, run: Run) -> None:
    """Another run has taken it over, which may be aborted or end later: what this one stopped can come up then."""
    await run.leave(hosted.taken_by)
    hosted.taken_by = ""


def _tell_of_a_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.error("a bug in vmpower", exc_info=task.exception())
