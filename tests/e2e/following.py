"""What an adapter's watch yields and how a guest's program ends, to be waited for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import cast

from providers.core.adapter import (
    VM,
    Adapter,
    Change,
    Changed,
    Escalation,
    Grace,
    GuestExit,
    GuestProcess,
    Listed,
    PowerState,
)
from tests.rigs.polling import poll_async

GRACE = Grace(datetime.max.replace(tzinfo=UTC), Escalation.NEVER)
PATIENCE = 60


class Watch:
    """What a watch yields, to be waited for. It is followed all the time, as the inventory does it."""

    def __init__(self, changes: AsyncIterator[Change]) -> None:
        self._seen: asyncio.Queue[Change | Exception] = asyncio.Queue()
        self._following = asyncio.create_task(self._follow(changes))

    async def _follow(self, changes: AsyncIterator[Change]) -> None:
        try:
            async for change in changes:
                self._seen.put_nowait(change)
        except Exception as error:
            self._seen.put_nowait(error)

    async def next(self) -> Change:
        """What comes next; raises what the watch ended with."""
        async with asyncio.timeout(PATIENCE):
            seen = await self._seen.get()
        if isinstance(seen, Exception):
            raise seen
        return seen

    async def until(self, wanted: Callable[[VM], bool]) -> VM:
        """The first VM, listed or changed, that is wanted."""
        async with asyncio.timeout(PATIENCE):
            while True:
                change = await self.next()
                vms = change.vms if isinstance(change, Listed) else (change.vm,) if isinstance(change, Changed) else ()
                for vm in vms:
                    if wanted(vm):
                        return vm

    async def until_off(self, vm_id: str) -> VM:
        return await self.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.OFF)

    async def stop(self) -> None:
        """Follow no longer."""
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)


@asynccontextmanager
async def following(adapter: Adapter) -> AsyncIterator[Watch]:
    """A watch from its beginning."""
    async with aclosing(cast(AsyncGenerator[Change, None], adapter.watch())) as changes:
        watch = Watch(changes)
        try:
            yield watch
        finally:
            await watch.stop()


@asynccontextmanager
async def watching(adapter: Adapter) -> AsyncIterator[Watch]:
    """A watch that has listed all VMs already."""
    async with following(adapter) as watch:
        assert isinstance(await watch.next(), Listed)
        yield watch


async def ended(process: GuestProcess) -> GuestExit:
    """Its end. A guest agent reports nothing by itself."""
    return await poll_async(process.poll, PATIENCE)
