"""What an adapter's watch yields and how a guest's program ends, to be waited for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import cast

from providers.adapter import (
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

GRACE = Grace(datetime.max.replace(tzinfo=UTC), Escalation.NEVER)
PATIENCE = 60


class Watch:
    """What a watch yields, to be waited for."""

    def __init__(self, changes: AsyncIterator[Change]) -> None:
        self._changes = changes

    async def until(self, wanted: Callable[[VM], bool]) -> VM:
        """The first VM, listed or changed, that is wanted."""
        async with asyncio.timeout(PATIENCE):
            async for change in self._changes:
                vms = change.vms if isinstance(change, Listed) else (change.vm,) if isinstance(change, Changed) else ()
                for vm in vms:
                    if wanted(vm):
                        return vm
        raise AssertionError("the watch ended")

    async def next(self) -> Change:
        async with asyncio.timeout(PATIENCE):
            return await anext(self._changes)

    async def until_off(self, vm_id: str) -> VM:
        return await self.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.OFF)


@asynccontextmanager
async def watching(adapter: Adapter) -> AsyncIterator[Watch]:
    async with aclosing(cast(AsyncGenerator[Change, None], adapter.watch())) as changes:
        assert isinstance(await anext(changes), Listed)
        yield Watch(changes)


async def ended(process: GuestProcess) -> GuestExit:
    """Asks again and again: the agent tells nobody by itself, and its answer takes the guest a moment."""
    async with asyncio.timeout(PATIENCE):
        while (end := await process.poll()) is None:
            pass
    return end
