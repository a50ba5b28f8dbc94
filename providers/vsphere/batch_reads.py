"""Reads of VMs: those that are requested while a call is under way are made together by the next one, which comes when
that is answered, or has not been for so long that it may never be."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from providers.core.lanes import PATIENCE
from providers.vsphere.properties import Update

Read = Callable[[Sequence[str]], Awaitable[Mapping[str, Update]]]
"""Reads VMs by their ids within vCenter; those that do not exist are not in the answer."""


class BatchReads:
    """A read returns what was true after it was requested; two hundred at once cost vCenter a few calls."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._wanted: dict[str, asyncio.Future[Update | None]] = {}
        self._working: asyncio.Task[None] | None = None

    async def read(self, moid: str) -> Update | None:
        """A VM as it is now; None: there is none."""
        if moid not in self._wanted:
            self._wanted[moid] = asyncio.get_running_loop().create_future()
        wanted = self._wanted[moid]
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await asyncio.shield(wanted)

    async def _work(self) -> None:
        me = asyncio.current_task()
        while self._wanted and self._working is me:
            wanted, self._wanted = self._wanted, {}
            timer = asyncio.get_running_loop().call_later(PATIENCE, self._go_on_without, me)
            try:
                found = await self._read(list(wanted))
            except Exception as error:  # for the callers
                for future in wanted.values():
                    future.set_exception(error)
                    future.exception()  # taken here: all its callers may have been cancelled
            else:
                for moid, future in wanted.items():
                    future.set_result(found.get(moid))
            finally:
                timer.cancel()
        if self._working is me:
            self._working = None

    def _go_on_without(self, slow: "asyncio.Task[None] | None") -> None:
        """The next call does not wait for this one."""
        if self._working is slow:
            self._working = asyncio.create_task(self._work()) if self._wanted else None
