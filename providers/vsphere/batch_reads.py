"""Reads of VMs: those that are requested while a call is under way are made together by the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

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
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                found = await self._read(list(wanted))
            except Exception as error:  # for the callers
                for future in wanted.values():
                    future.set_exception(error)
                    future.exception()  # taken here: all its callers may have been cancelled
            else:
                for moid, future in wanted.items():
                    future.set_result(found.get(moid))
        self._working = None
