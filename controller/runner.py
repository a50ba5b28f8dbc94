"""The main loop: changes of resources fill two queues of keys, and a few workers serve them.

A worker is held for the length of a call, never for the length of a shutdown: what is under way wakes its
key when there is news. So thousands of VMs need a handful of workers, and none waits for another's guest.
Writes of status have a queue and workers of their own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, assert_never

import structlog

from client.errors import ProviderError
from controller.events import provider_events
from controller.models import Provider, Resource
from controller.pool import Connect, Connection, Pool
from controller.provider_status import provider_status
from controller.queue import KeyQueue
from controller.source import Applied, Change, Decided, Deleted, Key, ResourceGone, Source, SourceError, Synced, key_of
from controller.vm_reconciler import Clock, VMReconciler, wall_clock

COUNT_AFTER = 5.0
"""Seconds until a provider's counts are looked at again: two thousand new VMs are one write."""

WRITERS = 4
"""Statuses that are written at the same moment: few, so that in a rush the guests are asked first."""

log = structlog.get_logger()


class Runner:
    """The controller's core, for one source."""

    def __init__(self, source: Source, connect: Connect, workers: int = 16, clock: Clock = wall_clock) -> None:
        self._source, self._clock, self._workers = source, clock, workers
        self._queue: KeyQueue[Key] = KeyQueue()
        self._writing: KeyQueue[Key] = KeyQueue()
        self._pool = Pool(connect, self._wake, lambda key: self._writing.add_within(key, COUNT_AFTER))
        self._reconcilers: dict[Key, VMReconciler] = {}

    async def run(self) -> None:
        """Serve until cancelled. Operations that are under way then go on at their providers.

        Raises:
            SourceError: the source cannot go on.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            async for change in self._source.watch():
                await self._take_in(change)
                if isinstance(change, Synced) and not tasks:
                    tasks = [asyncio.create_task(work) for work in self._work()]
        finally:
            await self._stop(tasks)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reconciler in self._reconcilers.values():
            reconciler.close()
        await self._pool.close()

    async def _take_in(self, change: Change) -> None:
        match change:
            case Applied(resource):
                await self._apply(key_of(resource), resource)
            case Deleted(key):
                await self._delete(key)
            case Decided(key) if key in self._reconcilers:
                self._reconcilers[key].decide(change)
                self._queue.add(key)
            case Decided():
                log.info("a decision about a VM that is gone", resource=str(change.key))
            case Synced():
                log.info("synced", virtual_machines=len(self._reconcilers))
            case _:
                assert_never(change)

    async def _apply(self, key: Key, resource: Resource) -> None:
        if isinstance(resource, Provider):
            await self._pool.apply(resource)
        else:
            reconciler = self._reconcilers.get(key)
            if reconciler and reconciler.resource.metadata.uid == resource.metadata.uid:
                reconciler.apply(resource)
            else:
                self._forget(key)
                self._reconcilers[key] = VMReconciler(resource, self._source, self._queue, self._writing, self._clock)
            self._pool.bind(key, resource)
        self._wake(key)

    def _wake(self, key: Key) -> None:
        """A VM is reconciled; of a provider only the status is written."""
        (self._writing if key.kind == "Provider" else self._queue).add(key)

    async def _delete(self, key: Key) -> None:
        if key.kind == "Provider":
            await self._pool.remove(key)
        else:
            self._pool.unbind(key)
            self._forget(key)
        self._queue.drop(key)
        self._writing.drop(key)

    def _forget(self, key: Key) -> None:
        reconciler = self._reconcilers.pop(key, None)
        if reconciler is not None:
            reconciler.close()

    def _work(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield from (self._serve(self._queue, self._attend) for _ in range(self._workers))
        yield from (self._serve(self._writing, self._write_down) for _ in range(WRITERS))

    async def _serve(self, queue: KeyQueue[Key], deed: Callable[[Key], Awaitable[None]]) -> None:
        while True:
            key = await queue.get()
            try:
                await self._do(queue, deed, key)
            finally:
                queue.done(key)

    async def _do(self, queue: KeyQueue[Key], deed: Callable[[Key], Awaitable[None]], key: Key) -> None:
        try:
            await deed(key)
        except ResourceGone:
            log.info("deleted meanwhile", resource=str(key))
        except (ProviderError, SourceError) as error:
            log.warning("to be tried again", resource=str(key), error=str(error))
            queue.retry(key)
        except Exception:
            log.exception("a bug in vmpower; to be tried again", resource=str(key))
            queue.retry(key)
        else:
            queue.forget(key)

    async def _attend(self, key: Key) -> None:
        reconciler = self._reconcilers.get(key)
        if reconciler is not None:
            await reconciler.attend(self._pool.client_of(key))

    async def _write_down(self, key: Key) -> None:
        reconciler, connection = self._reconcilers.get(key), self._pool.get(key)
        if reconciler is not None:
            await reconciler.write_down()
        elif connection is not None:
            await self._report(key, connection)

    async def _report(self, key: Key, connection: Connection) -> None:
        provider = connection.provider
        status = provider_status(provider, connection.client, self._pool.declared(key), self._clock())
        if status != provider.status:
            await self._source.write_status(key, status)
            connection.provider = provider.model_copy(update={"status": status})
            for event in provider_events(provider.status, status):
                await self._source.emit_event(key, event)
