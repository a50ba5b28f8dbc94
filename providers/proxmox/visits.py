"""Calls to many nodes at once: one that is slow delays nothing that concerns another one."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from providers.core.errors import HypervisorUnavailable


class Visits:
    """Work at nodes, by any key, of which each is under way once at most. Those that take longer than `patience`
    (seconds) go on in the background."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._under_way = dict[str, asyncio.Task[None]]()

    def busy(self, key: str) -> bool:
        """Whether this work is still under way."""
        return (visit := self._under_way.get(key)) is not None and not visit.done()

    async def make(self, work: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        """Begin all of it, and wait for what does not take long. Nodes that are away are asked again another time."""
        visits = {key: asyncio.create_task(_unless_away(one)) for key, one in work.items()}
        self._under_way = {key: visit for key, visit in self._under_way.items() if not visit.done()} | visits
        if visits:
            done, _ = await asyncio.wait(visits.values(), timeout=self._patience)
            for visit in done:
                visit.result()


async def _unless_away(work: Coroutine[Any, Any, None]) -> None:
    with suppress(HypervisorUnavailable):
        await work
