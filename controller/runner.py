"""The main loop: changes of resources fill two queues of keys, and a few workers serve them.

A worker is held for the length of a call, never for the length of a shutdown: what is under way wakes its
key when there is news. So thousands of VMs need a handful of workers, and none waits for another's guest.
Writes of status have a queue and workers of their own, and wait while calls follow one another (rush.py).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from typing import Any, assert_never

import structlog

from client.errors import ProviderError
from controller.client import ProviderClient
from controller.events import provider_events
from controller.models import OF_PLANS, PowerPlan, PowerRun, Provider, Resource, VirtualMachine
from controller.owners import Owners
from controller.plan_host import PlanHost
from controller.plan_scope import Scope, scope
from controller.pool import Connect, Connection, Pool
from controller.provider_status import provider_status
from controller.queue import KeyQueue
from controller.rush import Rush
from controller.source import (
    Applied,
    Change,
    Decided,
    Deleted,
    Event,
    Key,
    Labelled,
    Rejected,
    ResourceGone,
    Source,
    SourceError,
    Standby,
    Synced,
    key_of,
)
from controller.status import rejected
from controller.status_models import ProviderStatus, VirtualMachineStatus, condition
from controller.trust import EVERYBODY, Trust
from controller.vm_reconciler import Clock, VMReconciler, wall_clock
from protos.power.v1 import power_pb2 as pb

COUNT_AFTER = 5.0
"""Seconds until a provider's counts are looked at again: two thousand new VMs are one write."""

WRITERS = 4
"""Statuses that are written at the same moment: few, so that in a rush the guests are asked first."""

log = structlog.get_logger()


class Work(StrEnum):
    """What a resource has a turn for."""

    RECONCILE = "reconcile"
    STATUS = "status"


class Result(StrEnum):
    """How a turn ended."""

    DONE = "done"
    GONE = "gone"
    """The resource was deleted meanwhile."""
    REFUSED = "refused"
    """By a provider, or by where resources come from; it is tried again."""
    BUG = "bug"
    """In vmpower; it is tried again."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One resource's turn, which has ended after so many seconds."""

    work: Work
    result: Result
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a runner has before it now. `queued`: resources that wait for a turn; `ready`: VirtualMachines by the status
    of their condition Ready; `unreachable`: providers that do not answer, or whose hypervisor does not."""

    leads: bool = False
    queued: Counter[Work] = field(default_factory=Counter)
    ready: Counter[str] = field(default_factory=Counter)
    providers: int = 0
    unreachable: int = 0


class Runner:
    """The controller's core, for one source."""

    def __init__(
        self,
        source: Source,
        connect: Connect,
        workers: int = 16,
        clock: Clock = wall_clock,
        trust: Trust = EVERYBODY,
        *,
        plans: PlanHost | None = None,
    ) -> None:
        """`plans` hosts their runs; without it they are left alone."""
        self._plans = plans
        self._source, self._clock, self._workers, self._trust = source, clock, workers, trust
        self._queue: KeyQueue[Key] = KeyQueue()
        self._writing: KeyQueue[Key] = KeyQueue()
        self._pool = Pool(
            connect,
            self._wake,
            lambda key: self._writing.add_within(key, COUNT_AFTER),
            trust=trust,
            read_tls=source.tls_secret,
        )
        self._labels: dict[str, Mapping[str, str]] = {}
        """Those of namespaces."""
        self._owners = Owners(self._queue.add)
        self._reconcilers: dict[Key, VMReconciler] = {}
        self._departed: dict[Key, VMReconciler] = {}
        """Resources that are gone, whose shutdown is to be given up, and whose status is to say that."""
        self._rejected: dict[Key, Rejected] = {}
        """Resources that cannot be acted upon, with what is wrong."""
        self._leads = False
        self._rush = Rush()
        self.on_turn: list[Callable[[Turn], None]] = []
        """Told of each turn that has ended."""

    def load(self) -> Load:
        """What is before it now."""
        machines = [reconciler.resource.status.conditions for reconciler in self._reconcilers.values()]
        ready = (said.status if (said := condition(each, "Ready")) else "Unknown" for each in machines)
        return Load(
            leads=self._leads,
            queued=Counter({Work.RECONCILE: len(self._queue), Work.STATUS: len(self._writing)}),
            ready=Counter(ready),
            providers=len(self._pool),
            unreachable=self._pool.unreachable(),
        )

    async def run(self) -> None:
        """Serve until cancelled. Operations that are under way then go on at their providers.

        Raises:
            SourceError: the source cannot go on.
        """
        tasks: list[asyncio.Task[None]] = []
        if self._plans is not None:
            self._plans.attach(self)
        try:
            async for change in self._source.watch():
                self._leads = not isinstance(change, Standby)
                await self._take_in(change)
                if isinstance(change, Synced) and not tasks:
                    tasks = [asyncio.create_task(work) for work in self._work()]
        finally:
            await self._stop(tasks)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        self._leads = False
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reconciler in (*self._reconcilers.values(), *self._departed.values()):
            reconciler.close()
        await self._pool.close()

    async def _take_in(self, change: Change) -> None:
        match change:
            case Applied(resource):
                await self._apply(key_of(resource), resource)
            case Rejected():
                self._reject(change)
            case Deleted(key):
                await self._delete(key)
            case Decided(key) if key in self._reconcilers:
                self._reconcilers[key].decide(change)
                self._queue.add(key)
            case Labelled(namespace, labels):
                self._label(namespace, labels)
            case Decided():
                log.info("a decision about a VM that is gone", resource=str(change.key))
            case Synced():
                log.info("synced", virtual_machines=len(self._reconcilers))
                if self._plans is not None:
                    await self._plans.synced()
            case Standby():
                if self._plans is not None:
                    await self._plans.stand_down()
            case _:
                assert_never(change)

    async def _apply(self, key: Key, resource: Resource) -> None:
        if isinstance(resource, Provider) and (objection := self._trust.objection(resource)):
            self._reject(Rejected(key, resource.metadata.generation, objection, resource.status, "NotTrusted"))
            return
        self._rejected.pop(key, None)
        match resource:
            case Provider():
                await self._pool.apply(resource)
            case VirtualMachine():
                self._apply_vm(key, resource)
            case PowerPlan() | PowerRun():
                if self._plans is not None:
                    self._plans.apply(key, resource)
                return
        self._wake(key)

    def _label(self, namespace: str, labels: Mapping[str, str]) -> None:
        """What its resources may do depends on them, where a Provider says so."""
        self._labels[namespace] = labels
        for key in self._reconcilers:
            if key.namespace == namespace:
                self._queue.add(key)

    def _apply_vm(self, key: Key, resource: VirtualMachine) -> None:
        reconciler = self._departed.pop(key, None) or self._reconcilers.get(key)
        self._owners.declare(key, resource.metadata.uid, resource.status.vm)
        self._pool.declare(key, resource)
        if reconciler and reconciler.resource.metadata.uid == resource.metadata.uid:
            self._reconcilers[key] = reconciler
            reconciler.apply(resource)
            return
        if reconciler:
            reconciler.close()
        self._reconcilers[key] = VMReconciler(
            resource,
            self._source,
            self._queue,
            self._writing,
            owners=self._owners,
            clock=self._clock,
            labels=lambda: self._labels.get(key.namespace, {}),
            holder=self._plans.holder if self._plans is not None else lambda provider, vm: "",
            saver=self._plans.saved if self._plans is not None else lambda provider, vm: "",
        )

    def _reject(self, change: Rejected) -> None:
        """A spec cannot be acted upon; the one before it stays in effect, but that of a plan."""
        if change.key.kind in OF_PLANS:
            if self._plans is not None:
                self._plans.reject(change)
            return
        reconciler = self._reconcilers.get(change.key)
        if reconciler is not None:
            reconciler.reject(change)
        else:
            self._rejected[change.key] = change
            if isinstance(change.status, VirtualMachineStatus):  # what it is bound to stays its own
                self._owners.declare(change.key, "", change.status.vm)
            self._writing.add(change.key)

    def _wake(self, key: Key) -> None:
        """A VM is reconciled; of a provider only the status is written."""
        (self._writing if key.kind == "Provider" else self._queue).add(key)

    async def _delete(self, key: Key) -> None:
        self._rejected.pop(key, None)
        self._queue.drop(key)
        self._writing.drop(key)
        reconciler = self._reconcilers.pop(key, None)
        if key.kind == "Provider":
            await self._pool.remove(key)
        elif key.kind in OF_PLANS:
            if self._plans is not None:
                self._plans.delete(key)
        elif reconciler is not None:
            self._departed[key] = reconciler
            self._queue.add(key)
        else:
            self._part_with(key)

    def _part_with(self, key: Key) -> None:
        self._owners.release(key)
        self._pool.withdraw(key)

    # What is declared, for plans

    @property
    def source(self) -> Source:
        """Where it is declared."""
        return self._source

    def providers(self) -> Collection[Provider]:
        """All that are declared."""
        return self._pool.providers()

    def machine(self, provider: str, vm: str, resource: str) -> VirtualMachine | None:
        """The resource that is bound to a VM of the Provider NAMESPACE/NAME; `resource`: most likely this one, so that
        all VMs of a run are not looked for among all resources."""
        namespace, _, name = resource.partition("/")
        likely = self._reconcilers.get(Key("VirtualMachine", namespace, name))
        for reconciler in chain([likely] if likely else [], self._reconcilers.values()):
            bound = reconciler.resource.status.vm
            if bound and bound.id == vm and bound.provider_ref == provider:
                return reconciler.declared
        return None

    def scope(self, namespace: str) -> Scope:
        """What plans of a namespace may mean."""
        machines = [reconciler.declared for reconciler in self._reconcilers.values()]
        return scope(namespace, self.providers(), machines, self._labels.get(namespace, {}), self._leads_to)

    def _leads_to(self, machine: VirtualMachine) -> tuple[Provider, pb.VM | None] | None:
        key, bound = key_of(machine), machine.status.vm
        connection = self._pool.connection_of(key)
        if connection is None:
            return None
        of_others = connection.provider.metadata.namespace != key.namespace
        if of_others and not self._owners.owns(key):
            return None
        return connection.provider, connection.client.cache.get(bound.id) if bound else None

    def open(self, provider: Provider) -> ProviderClient:
        """A connection of the caller's own."""
        return self._pool.open(provider)

    def wake(self, vms: Collection[tuple[str, str]]) -> None:
        """The resources of these VMs, each given by its Provider and id, have another look."""
        for key, reconciler in self._reconcilers.items():
            bound = reconciler.resource.status.vm
            if bound and (bound.provider_ref, bound.id) in vms:
                self._queue.add(key)

    def write_within(self, key: Key, seconds: float) -> None:
        """Have a status written."""
        self._writing.add_within(key, seconds)

    def _work(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield from (self._serve(Work.RECONCILE, self._queue, self._attend) for _ in range(self._workers))
        yield from (self._serve(Work.STATUS, self._writing, self._write_down) for _ in range(WRITERS))

    async def _serve(self, work: Work, queue: KeyQueue[Key], deed: Callable[[Key], Awaitable[None]]) -> None:
        now = asyncio.get_running_loop().time
        while True:
            key = await queue.get()
            if work is Work.RECONCILE:
                self._rush.note_call()
            else:
                await self._rush.over()
            begun = now()
            try:
                result = await self._do(queue, deed, key)
            finally:
                queue.done(key)
            for told in self.on_turn:
                told(Turn(work, result, now() - begun))

    async def _do(self, queue: KeyQueue[Key], deed: Callable[[Key], Awaitable[None]], key: Key) -> Result:
        try:
            await deed(key)
        except ResourceGone:
            log.info("deleted meanwhile", resource=str(key))
            return Result.GONE
        except (ProviderError, SourceError) as error:
            log.warning("to be tried again", resource=str(key), error=str(error))
            queue.retry(key)
            return Result.REFUSED
        except Exception:
            log.exception("a bug in vmpower; to be tried again", resource=str(key))
            queue.retry(key)
            return Result.BUG
        queue.forget(key)
        return Result.DONE

    async def _attend(self, key: Key) -> None:
        reconciler, connection = self._reconcilers.get(key), self._pool.connection_of(key)
        if reconciler is not None:
            before = reconciler.resource.status.vm
            try:
                await reconciler.attend(connection)
            finally:
                if reconciler.resource.status.vm != before and connection is not None:
                    self._pool.note_use(key_of(connection.provider))
        elif key in self._departed:
            await self._depart(key, connection)

    async def _depart(self, key: Key, connection: Connection | None) -> None:
        departed = self._departed[key]
        await departed.depart(connection.client if connection else None)
        if self._departed.get(key) is departed:  # it has not come back meanwhile
            del self._departed[key]
            self._part_with(key)

    async def _write_down(self, key: Key) -> None:
        reconciler, connection = self._reconcilers.get(key), self._pool.get(key)
        if key.kind in OF_PLANS and self._plans is not None:
            await self._plans.write_down(key)
        elif reconciler is not None:
            await reconciler.write_down()
        elif connection is not None:
            await self._report(key, connection)
        elif key in self._rejected:
            await self._report_rejected(self._rejected[key])

    async def _report_rejected(self, change: Rejected) -> None:
        """Of a resource that was never acted upon."""
        if change.key.kind == "Provider":
            # None of its VMs can be reached: there is nothing to wait for if it is deleted.
            await self._source.hold_provider(change.key, held=False)
        said = rejected(change, change.status.conditions, self._clock())
        if said != change.status.conditions:
            known = change.status.model_copy(update={"conditions": said})
            await self._source.write_status(change.key, known)
            self._rejected[change.key] = replace(change, status=known)
            if change.reason != "InvalidSpec":  # of which the source has told
                await self._source.emit_event(change.key, Event("Warning", change.reason, change.message))

    async def _report(self, key: Key, connection: Connection) -> None:
        in_use = self._owners.bound_to(connection.provider.metadata.uid) > 0
        try:  # first: the status makes a newer version of the object
            await self._source.hold_provider(key, in_use)
        finally:
            await self._write_provider(key, connection)

    async def _write_provider(self, key: Key, connection: Connection) -> None:
        provider = connection.provider
        status = self._status_of(key, connection)
        if status != provider.status:
            await self._source.write_status(key, status)
            connection.provider = provider.model_copy(update={"status": status})
            for event in provider_events(provider.status, status):
                await self._source.emit_event(key, event)

    def _status_of(self, key: Key, connection: Connection) -> ProviderStatus:
        provider, refused = connection.provider, self._rejected.get(key)
        in_use = self._owners.bound_to(provider.metadata.uid)
        status = provider_status(provider, connection.client, self._pool.declared(key), in_use, self._clock())
        if refused is None:
            return status
        said = rejected(refused, status.conditions, self._clock())
        return status.model_copy(update={"conditions": said})
