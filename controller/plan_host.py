"""The host of runs of plans: the engine of plans/ in the controller, on what is declared here.

Everything that a run needs is read and connected when it begins, by connections of its own: it goes on whatever becomes
of the resources, and of where they come from. While it holds a VM the reconciler leaves that alone. Its record is on
the local disk; a controller that was restarted holds what was held, and takes up what was under way.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog

from client.errors import ProviderError
from client.power import WorkRequest
from controller import convert
from controller.client import ProviderClient
from controller.enums import DesiredPower
from controller.models import PowerPlan, PowerRun, Provider, Runtime, VirtualMachine
from controller.plan_scope import Scope, called, full_name, violations
from controller.run_status import ENDED, PowerRunStatus, refused, run_status
from controller.source import Event, GuestCredentials, Key, SecretUnavailable, Source, SourceError, key_of
from plans.calls import Calls, Named
from plans.clock import Clock
from plans.freeze import Frozen, Unreachable, freeze
from plans.frozen import FrozenTier, Target
from plans.history import SAVED, Closed, History, Released, Start, VMEnded, VMUp
from plans.history import Event as Fact
from plans.journal import Journal, JournalError, Off, Runs
from plans.members import PlanRefused, Violation
from plans.run import Run
from protos.power.v1 import power_pb2 as pb

FOLDER = ".runs"
"""Of the records, in the controller's state directory: no namespace is called so."""
PLAN_GRACE = 5.0
"""Seconds that a run waits for its plan, which may be declared a moment after it."""
WRITE_AFTER = 2.0
"""Seconds until a run's status is written: many VMs that end together are one write."""
MERGED = 0.2
"""Seconds for which what happens in a run is told together."""
WARNINGS = frozenset({"Refused", "Lost"})
DOWN = frozenset({DesiredPower.OFF, DesiredPower.OFF_GRACEFUL})

log = structlog.get_logger()


class RunRefused(Exception):
    """A run does not begin, or is not in a state for what is asked; nothing was done.

    Attributes:
        reason: one word for programs.
        violations: the fields of the plan, or of the run, that are to blame.
    """

    def __init__(self, reason: str, message: str, violations: Iterable[Violation] = ()) -> None:
        super().__init__(message)
        self.reason, self.message, self.violations = reason, message, tuple(violations)


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that is asked for. `resource` and `uid` are of the PowerRun, where there is one."""

    plan: Key
    reason: str = ""
    emergency: bool = False
    resource: str = ""
    uid: str = ""


class World(Protocol):
    """What is declared, as the runner knows it."""

    @property
    def source(self) -> Source: ...

    def providers(self) -> Collection[Provider]: ...

    def machine(self, provider: str, vm: str, resource: str) -> VirtualMachine | None:
        """The resource that is bound to a VM of the Provider NAMESPACE/NAME; `resource`: most likely this one, as
        NAMESPACE/NAME; empty: any."""

    def scope(self, namespace: str) -> Scope: ...

    def open(self, provider: Provider) -> ProviderClient:
        """A connection of the caller's own."""

    def wake(self, vms: Collection[tuple[str, str]]) -> None:
        """The resources of these VMs, each given by its Provider and id, have another look."""

    def write_within(self, key: Key, seconds: float) -> None:
        """Have the status of a PowerRun written."""


@dataclass(slots=True)
class Hosted:
    """A run that is not released. `journal`: its record is this process's; `run` and `task`: it is carried out, unless
    another run has taken it over. `given_up`: its PowerRun is gone."""

    history: History
    journal: Journal | None = None
    taken_by: str = ""
    given_up: bool = False
    run: Run | None = None
    task: asyncio.Task[None] | None = None
    on_pause: list[Callable[[], None]] = field(default_factory=list)
    """Told when it is not carried out any more."""

    @property
    def is_open(self) -> bool:
        """Whether something is done, or is to be done after a restart."""
        under_way = self.task is not None and not self.task.done()
        return under_way or (self.history.released is None and (self.history.closed is None or self.wants_release))

    @property
    def wants_release(self) -> bool:
        """Whether it is released as soon as what it stopped is up."""
        goes_up = self.history.aborted is not None or self.history.bring_up_began is not None
        return goes_up and self.history.taken_over is None


class HostedCalls(Calls):
    """Calls that bring what the record leaves out: guests' credentials, and the hooks of VMs that come up."""

    def __init__(
        self,
        clients: Mapping[str, ProviderClient],
        logins: Mapping[str, GuestCredentials],
        machine: Callable[[Target], VirtualMachine | None],
    ) -> None:
        super().__init__(clients)
        self._logins, self._machine = logins, machine

    async def begin(self, vm: Named, request: WorkRequest, given_up: Callable[[], bool]) -> pb.Operation | None:
        if isinstance(vm, Target) and vm.resource and isinstance(request, pb.ShutdownRequest | pb.PowerOnRequest):
            if isinstance(request, pb.PowerOnRequest) and (machine := self._machine(vm)) is not None:
                request.post_start.extend(convert.hooks(machine.spec.lifecycle.post_start))
            if login := convert.credentials(self._logins.get(vm.key)):
                request.guest_credentials.CopyFrom(login)
        return await super().begin(vm, request, given_up)


class PlanHost:
    """Plans and runs that are declared or asked for, and the runs that are under way or hold VMs."""

    def __init__(self, state_dir: Path, clock: Callable[[], Clock] = Clock, off: Off = asyncio.to_thread) -> None:
        """`clock` makes the one of a run that begins, or is taken up; `off` runs what blocks.

        The records are read here: what they hold is held before anything is reconciled.
        """
        self._runs, self._clock = Runs(state_dir / FOLDER, off), clock
        self._hosted: dict[str, Hosted] = {}
        self._by_uid: dict[str, str] = {}
        """The runs of PowerRuns, also those that are released."""
        for history in self._runs.all():
            self._by_uid[history.start.uid] = history.start.run
            if history.released is None:
                self._host(history)
        self._plans: dict[Key, PowerPlan] = {}
        self._asked: dict[Key, PowerRun] = {}
        self._answers: dict[Key, PowerRunStatus] = {}
        """The statuses of PowerRuns that have no record."""
        self._begun: set[str] = set()
        """The uids of PowerRuns that have been begun, or refused."""
        self._world: World | None = None
        self._synced = False
        self._declared = asyncio.Condition()
        """Told of plans that are declared."""
        self._one_start = asyncio.Lock()
        """One run at a time is begun, brought up or released."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._holds: dict[tuple[str, str], str] = {}
        self._saves: dict[tuple[str, str], str] = {}
        self._settled = False
        """Whether `_holds` and `_saves` are as the histories say."""

    # What is declared

    def attach(self, world: World) -> None:
        """Work on what this world declares."""
        self._world, self._synced = world, False

    def apply(self, key: Key, resource: PowerPlan | PowerRun) -> None:
        """A plan, which replaces the one before, or a run, whose first spec counts."""
        if isinstance(resource, PowerPlan):
            self._plans[key] = resource
            self._spawn(self._tell_of_plans())
            return
        known = self._asked.get(key)
        if known is not None and known.metadata.uid == resource.metadata.uid:
            return
        self._asked[key] = resource
        self._write(key)
        if self._synced:
            self._consider(key)

    async def _tell_of_plans(self) -> None:
        async with self._declared:
            self._declared.notify_all()

    def delete(self, key: Key) -> None:
        """What is no longer declared. A run that is under way is aborted; one that is over is released."""
        self._plans.pop(key, None)
        self._answers.pop(key, None)
        resource = self._asked.pop(key, None)
        hosted = self._hosted.get(self._by_uid.get(resource.metadata.uid, "")) if resource else None
        if hosted is not None:
            self._spawn(self._give_up(hosted))

    def synced(self) -> None:
        """All that existed at the start has been applied: take up what was under way, and begin what is asked for."""
        self._synced = True
        for hosted in list(self._hosted.values()):
            if hosted.is_open and hosted.task is None:
                self._spawn(self._take_up(hosted))
        for key in list(self._asked):
            self._consider(key)

    def _consider(self, key: Key) -> None:
        """Begin a run that has not been begun; never one whose record is lost."""
        resource = self._asked[key]
        uid, phase = resource.metadata.uid, resource.status.phase
        if uid in self._by_uid or uid in self._begun or phase in ENDED:
            return
        self._begun.add(uid)
        if phase == "Pending":
            self._spawn(self._begin_asked(key, resource))
        else:
            said = "The record of the run is lost, so that it is not known what became of it; it is not begun again."
            self._answers[key] = PowerRunStatus(phase="Lost", message=said)
            self._write(key)

    async def _begin_asked(self, key: Key, resource: PowerRun) -> None:
        plan = Key("PowerPlan", key.namespace, resource.spec.plan_ref.name)
        with suppress(TimeoutError):
            async with asyncio.timeout(PLAN_GRACE), self._declared:
                await self._declared.wait_for(lambda: plan in self._plans)
        try:
            spec = resource.spec
            await self.start(Asked(plan, spec.reason, spec.emergency, key.name, resource.metadata.uid))
        except RunRefused as error:
            log.warning("run refused", run=str(key), error=str(error))
            self._answers[key] = refused(error.message, error.violations)
            self._write(key)
        except Exception:
            log.exception("a bug in vmpower: a run is not begun", run=str(key))
            self._answers[key] = refused("vmpower failed; its log says how. Nothing was done.")
            self._write(key)
        else:
            if key not in self._asked:  # deleted meanwhile
                await self._give_up(self._hosted[self._by_uid[resource.metadata.uid]])

    # What is held, and what is known

    def holder(self, provider: str, vm: str) -> str:
        """The run that holds a VM of the Provider NAMESPACE/NAME; empty: none."""
        if not self._settled:
            self._settle()
        return self._holds.get((provider, vm), "")

    def saved(self, provider: str, vm: str) -> str:
        """The operation by which the run that holds a VM has saved its memory; empty: none has."""
        if not self._settled:
            self._settle()
        return self._saves.get((provider, vm), "")

    def _settle(self) -> None:
        held, saved, self._settled = self._holds, self._saves, True
        self._holds, self._saves = {}, {}
        for hosted in self._hosted.values():
            history = hosted.history
            for target in _targets(history):
                vm = (full_name(history.start.namespace, target.provider), target.vm)
                if history.holds(target):
                    self._holds[vm] = history.start.called
                    if operation := history.saved_by(target):
                        self._saves[vm] = operation
        changed = {vm for vm, _ in (held.items() ^ self._holds.items()) | (saved.items() ^ self._saves.items())}
        if changed and self._world is not None:
            self._world.wake(changed)

    def _unsettle(self) -> None:
        if self._settled:
            self._settled = False
            asyncio.get_running_loop().call_soon(lambda: self.holder("", ""))

    def plans(self) -> list[PowerPlan]:
        """All that are declared.

        Raises:
            RunRefused: they have not been read yet.
        """
        self._require_world()
        return list(self._plans.values())

    def plan_key(self, name: str) -> Key:
        """The plan that is called NAME or NAMESPACE/NAME.

        Raises:
            RunRefused: there is none, or there are several of this name.
        """
        self._require_world()
        found = [key for key in self._plans if name in {key.name, f"{key.namespace}/{key.name}"}]
        if len(found) != 1:
            several = f"Several PowerPlans are called {name!r}; write NAMESPACE/NAME."
            raise RunRefused("PLAN_NOT_FOUND", several if found else f"No PowerPlan {name!r} is declared.")
        return found[0]

    async def follow(self, history: History) -> AsyncGenerator[list[Fact], None]:
        """What happens in a run from now on, until nothing more happens by itself; what comes close together is told
        together. First nothing: from then on all is heard."""
        hosted = self._hosted.get(history.start.run)
        if hosted is None:
            yield []
            return
        untold, news = list[Fact](), asyncio.Event()

        def heard(fact: Fact) -> None:
            untold.append(fact)
            news.set()

        history.listeners.append(heard)
        hosted.on_pause.append(news.set)
        try:
            yield []
            while hosted.is_open or untold:
                await news.wait()
                await asyncio.sleep(MERGED)
                told, untold[:] = untold[:], []
                news.clear()
                yield told
        finally:
            history.listeners.remove(heard)
            hosted.on_pause.remove(news.set)

    def histories(self) -> list[History]:
        """Every run that can be read, oldest first."""
        return [self._known(history) for history in self._runs.all()]

    def history(self, name: str) -> History:
        """The run of this name, or of the PowerRun of this name or NAMESPACE/NAME; the latest, if there are several.

        Raises:
            RunRefused: there is none.
        """
        hosted = [each.history for each in self._hosted.values() if name and _is_called(each.history.start, name)]
        if hosted:  # without a look at the disk, which may hang
            return max(hosted, key=lambda each: each.start.at)
        for history in reversed(self._runs.all()):
            if _is_called(history.start, name):
                return self._known(history)
        raise RunRefused("RUN_NOT_FOUND", f"There is no run {name!r} here.")

    def _known(self, history: History) -> History:
        """The one that is carried out, of a run that was read."""
        hosted = self._hosted.get(history.start.run)
        return hosted.history if hosted else history

    # The statuses

    async def write_down(self, key: Key) -> None:
        """Write the status of a PowerRun, if it has changed.

        Raises:
            SourceError: it could not be written; to be tried again.
            ResourceGone: there is nothing to write it to any more.
        """
        resource, world = self._asked.get(key), self._world
        if resource is None or world is None or resource.status.phase in ENDED:  # of what has ended all is written
            return
        status = self._status(key, resource)
        if status is None or status == resource.status:
            return
        await world.source.write_status(key, status)
        self._asked[key] = resource.model_copy(update={"status": status})
        if status.phase != resource.status.phase:
            await world.source.emit_event(key, _event(status))

    def _status(self, key: Key, resource: PowerRun) -> PowerRunStatus | None:
        run = self._by_uid.get(resource.metadata.uid)
        if run is None:
            return self._answers.get(key)
        hosted = self._hosted.get(run)
        return run_status(hosted.history if hosted else self._runs.read(run))

    def _write(self, key: Key, seconds: float = 0.0) -> None:
        if self._world is not None:
            self._world.write_within(key, seconds)

    # What is done

    async def forecast(self, plan: Key) -> tuple[Start, Frozen]:
        """What a run of a plan would do that begins now; no guest is touched.

        Raises:
            RunRefused
        """
        found = self._plan(plan)
        within = self._require_world().scope(plan.namespace)
        clients = self._open(within.providers)
        try:
            frozen = await self._freeze(found, within, clients)
            return frozen.start(found.metadata.name, found.spec, self._clock()()), frozen
        finally:
            await _close(clients)

    async def start(self, asked: Asked) -> History:
        """Begin a run; it is on disk, and its VMs are held, when this returns.

        Raises:
            RunRefused: another one is under way, or the plan cannot be run as it is.
        """
        plan, world = self._plan(asked.plan), self._require_world()
        async with self._one_start:
            others = self._in_the_way(asked)
            within = world.scope(asked.plan.namespace)
            clients = self._open(within.providers)
            try:
                frozen = await self._freeze(plan, within, clients)
                history, journal = await self._create(asked, plan, frozen)
            except BaseException:
                await _close(clients)
                raise
            for other in others:
                other.taken_by = history.start.called
                if other.task is not None:
                    other.task.cancel()
            hosted = self._host(history)
            hosted.journal = journal
            self._by_uid[history.start.uid] = history.start.run
            self._unsettle()
            needed = {target.provider for target in _targets(history)}
            await _close({name: client for name, client in clients.items() if name not in needed})
            await self._carry_on(hosted, {name: client for name, client in clients.items() if name in needed})
        return history

    async def abort(self, name: str) -> History:
        """Begin no further tier; then what the run stopped comes up, if its plan says so, and is released.

        Raises:
            RunRefused: there is no such run, or it is over.
        """
        hosted = self._found(name)
        if hosted.run is None or hosted.history.brought_down is not None:
            raise RunRefused("RUN_OVER", f"Run {hosted.history.start.called} is over: bring it up, or release it.")
        await hosted.run.abort()
        return hosted.history

    async def release(self, name: str) -> History:
        """Give the VMs of a run that is over back to their owners, also those that are off.

        Raises:
            RunRefused: there is no such run, or it is under way.
        """
        async with self._one_start:
            hosted = self._found(name)
            if hosted.is_open:
                raise RunRefused("RUN_ACTIVE", f"Run {hosted.history.start.called} is under way: abort it first.")
            await self._release(hosted)
        return hosted.history

    async def bring_up(self, name: str) -> History:
        """Start what a run that is over has stopped, as its plan says; its VMs are released when that is done.

        Raises:
            RunRefused: there is no such run, it is under way, or its plan brings nothing up.
        """
        async with self._one_start:
            hosted = self._found(name)
            start = hosted.history.start
            if hosted.is_open:
                raise RunRefused("RUN_ACTIVE", f"Run {start.called} is under way.")
            if start.spec.bring_up is None:
                raise RunRefused("NO_BRING_UP", f"The plan of {start.called} has no bringUp: release the run instead.")
            self._resume_journal(hosted)
            await self._carry_on(hosted, self._reopened(hosted.history), bring_up=True)
        return hosted.history

    async def close(self) -> None:
        """Stop; what was begun goes on at the providers, and is taken up by the next process."""
        tasks = [*self._tasks, *(hosted.task for hosted in self._hosted.values() if hosted.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for hosted in self._hosted.values():
            if hosted.journal is not None:
                hosted.journal.close()

    # Inside

    def _host(self, history: History) -> Hosted:
        hosted = self._hosted[history.start.run] = Hosted(history)
        history.listeners.append(partial(self._noted, history))
        return hosted

    def _noted(self, history: History, fact: Fact) -> None:
        saved = isinstance(fact, VMEnded) and fact.outcome == SAVED
        if saved or isinstance(fact, Closed | Released | VMUp):
            self._unsettle()
        if history.start.resource:
            key = Key("PowerRun", history.start.namespace, history.start.resource)
            self._write(key, WRITE_AFTER if isinstance(fact, VMEnded | VMUp) else WRITE_AFTER / 10)

    def _found(self, name: str) -> Hosted:
        history = self.history(name)
        hosted = self._hosted.get(history.start.run)
        if hosted is None:
            raise RunRefused("RUN_RELEASED", f"Run {history.start.called} is released: nothing is left to do.")
        return hosted

    def _plan(self, key: Key) -> PowerPlan:
        if key not in self._plans:
            message = f"No PowerPlan {key.name!r} is declared in namespace {key.namespace}."
            raise RunRefused("PLAN_NOT_FOUND", message, [Violation("spec.planRef.name", "names no PowerPlan")])
        return self._plans[key]

    def _require_world(self) -> World:
        if self._world is None or not self._synced:
            raise RunRefused("NOT_READY", "The controller does not know yet what is declared; ask again in a moment.")
        return self._world

    def _in_the_way(self, asked: Asked) -> list[Hosted]:
        """The runs that are under way, which an emergency takes over.

        Raises:
            RunRefused
        """
        others = [hosted for hosted in self._hosted.values() if hosted.is_open]
        for other in others:
            start = other.history.start
            if start.emergency or not asked.emergency:
                message = f"Run {start.called} of plan {start.plan} is under way; one at a time."
                wrong = Violation("spec.emergency", "only an emergency takes a run over, and only one that is none")
                raise RunRefused("RUN_ACTIVE", message, [wrong])
        return others

    async def _freeze(self, plan: PowerPlan, within: Scope, clients: Mapping[str, ProviderClient]) -> Frozen:
        wrong = list(violations(plan.spec, within))
        if wrong:
            raise _plan_refused(plan, wrong)
        try:
            return await freeze(plan.spec, clients, self._clock(), within.declared)
        except PlanRefused as error:
            raise _plan_refused(plan, error.violations) from error
        except Unreachable as error:
            message = f"Provider {error.provider} does not answer; nothing was done. {error.error.message}"
            raise RunRefused("PROVIDER_UNREACHABLE", message) from error

    async def _create(self, asked: Asked, plan: PowerPlan, frozen: Frozen) -> tuple[History, Journal]:
        name = f"{asked.resource[:63].rstrip('-.')}-{asked.uid[:8]}" if asked.uid else ""
        start = frozen.start(
            plan.metadata.name,
            plan.spec,
            self._clock()(),
            name,
            reason=asked.reason,
            emergency=asked.emergency,
            namespace=asked.plan.namespace,
            resource=asked.resource,
            uid=asked.uid,
        )
        try:
            return await self._runs.create(start)
        except JournalError as error:
            raise RunRefused("NO_RECORD", f"{error} Nothing was done.") from error

    async def _take_up(self, hosted: Hosted) -> None:
        """Go on with a run that was under way when the controller ended."""
        try:
            self._resume_journal(hosted)
        except RunRefused:
            log.exception("a run cannot be taken up", run=hosted.history.start.run)
            return
        log.info("run taken up again", run=hosted.history.start.run)
        await self._carry_on(hosted, self._reopened(hosted.history))

    async def _carry_on(self, hosted: Hosted, clients: Mapping[str, ProviderClient], bring_up: bool = False) -> None:
        history, journal = hosted.history, hosted.journal
        if journal is None:
            raise RuntimeError(f"run {history.start.run} has no record")
        logins = await self._logins(history, clients)
        calls = HostedCalls(clients, logins, lambda target: self._machine(history, target))
        hosted.run = Run(history, journal, calls, self._clock(), partial(self._stays_off, history))
        if bring_up:
            await hosted.run.promise_bring_up()
        if hosted.given_up:
            await hosted.run.abort()
        hosted.task = asyncio.create_task(self._work(hosted, hosted.run, clients))
        hosted.task.add_done_callback(lambda _: [told() for told in hosted.on_pause])

    async def _work(self, hosted: Hosted, run: Run, clients: Mapping[str, ProviderClient]) -> None:
        try:
            await self._go_through(hosted, run)
        except asyncio.CancelledError:
            if not hosted.taken_by:
                raise
            await run.leave(hosted.taken_by)
        except Exception:
            log.exception("a bug in vmpower: a run is not carried out any more", run=hosted.history.start.run)
        finally:
            await _close(clients)

    async def _go_through(self, hosted: Hosted, run: Run) -> None:
        if hosted.taken_by:
            await run.leave(hosted.taken_by)
        elif hosted.history.closed is None:
            await run.carry_out()
        elif hosted.history.bring_up_began:
            await run.bring_up()
        if hosted.wants_release or hosted.given_up:
            await self._release(hosted)

    async def _release(self, hosted: Hosted) -> None:
        self._resume_journal(hosted)
        if hosted.journal is not None:
            run = hosted.run or Run(hosted.history, hosted.journal, Calls({}), self._clock())
            await run.release()
            hosted.journal.close()
        self._hosted.pop(hosted.history.start.run, None)
        self._unsettle()

    async def _give_up(self, hosted: Hosted) -> None:
        """Abort or release a run whose PowerRun is gone, or have that done as soon as it can be."""
        hosted.given_up = True
        if not hosted.is_open:
            await self._release(hosted)
        elif hosted.run is not None:
            await hosted.run.abort()

    def _resume_journal(self, hosted: Hosted) -> None:
        """Make the record of a run this process's.

        Raises:
            RunRefused: it is not readable, or another process's.
        """
        if hosted.journal is not None:
            return
        try:
            _, hosted.journal = self._runs.resume(hosted.history.start.run)
        except JournalError as error:
            raise RunRefused("NO_RECORD", str(error)) from error

    def _open(self, providers: Mapping[str, Provider]) -> dict[str, ProviderClient]:
        world = self._require_world()
        return {name: world.open(provider) for name, provider in providers.items()}

    def _reopened(self, history: History) -> dict[str, ProviderClient]:
        """Connections to the providers of a run; to one that is not declared any more, none that answers."""
        world, namespace = self._require_world(), history.start.namespace
        known = {called(namespace, provider): provider for provider in world.providers()}
        needed = {target.provider for target in _targets(history)}
        return {
            name: world.open(known[name]) if name in known else ProviderClient(Runtime(), lambda _: None)
            for name in needed
        }

    async def _logins(self, history: History, clients: Mapping[str, ProviderClient]) -> dict[str, GuestCredentials]:
        """The guests' credentials, by the keys of their VMs, and the certificates of the connections: read now, as
        where they are may go down too."""
        for name, client in clients.items():
            try:
                await client.prepare()
                client.read_tls = None
            except ProviderError as error:
                log.warning("a certificate is not read", provider=name, error=error.message)
        found = dict[str, GuestCredentials]()
        for target in _targets(history):
            machine = self._machine(history, target) if target.resource else None
            if machine is None or not clients[target.provider].trusted:
                continue
            lifecycle = machine.spec.lifecycle
            reference = lifecycle.guest_credentials_secret_ref
            if reference is None or not any(hook.exec for hook in (*lifecycle.pre_stop, *lifecycle.post_start)):
                continue
            try:
                namespace = machine.metadata.namespace
                source = self._require_world().source
                found[target.key] = await source.guest_credentials(namespace, reference.name)
            except (SecretUnavailable, SourceError) as error:  # a broken hook keeps no machine up
                log.warning("guest credentials are not read", resource=str(key_of(machine)), error=str(error))
        return found

    def _machine(self, history: History, target: Target) -> VirtualMachine | None:
        if self._world is None:
            return None
        return self._world.machine(full_name(history.start.namespace, target.provider), target.vm, target.resource)

    def _stays_off(self, history: History, target: Target) -> bool:
        """Whether a VM's owner wants it off by now."""
        machine = self._machine(history, target)
        return machine is not None and machine.wanted in DOWN

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_tell_of_a_bug)


def _is_called(start: Start, name: str) -> bool:
    return name in {"", start.run, start.resource, f"{start.namespace}/{start.resource}"}


def _targets(history: History) -> Iterable[Target]:
    tiers: Iterable[FrozenTier] = history.start.tiers
    return (target for tier in tiers for target in tier.targets)


async def _close(clients: Mapping[str, ProviderClient]) -> None:
    await asyncio.gather(*(client.close() for client in clients.values()))


def _event(status: PowerRunStatus) -> Event:
    said = " ".join((status.message, *(f"{each.field}: {each.message}" for each in status.refusals)))
    level: Literal["Normal", "Warning"] = "Warning" if status.phase in WARNINGS else "Normal"
    return Event(level, f"Run{status.phase}", said or f"Run {status.run}.")


def _plan_refused(plan: PowerPlan, violations: Iterable[Violation]) -> RunRefused:
    message = f"PowerPlan {plan.metadata.name} cannot be run as it is; nothing was done."
    return RunRefused("PLAN_REFUSED", message, [Violation(each.path, each.message) for each in violations])


def _tell_of_a_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.error("a bug in vmpower", exc_info=task.exception())
