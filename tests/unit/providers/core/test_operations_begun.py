"""What others see of an operation that is just being written down."""

import asyncio
from typing import Any

import pytest

from providers.core.adapter import Signal
from providers.core.errors import JournalFailed
from tests.unit.providers.world import Make, Provider

pytestmark = pytest.mark.looptime


class SlowDisk:
    """Holds up what a journal saves until it is let go, or breaks it."""

    def __init__(self, provider: Provider) -> None:
        self.free, self.arrived = asyncio.Event(), asyncio.Event()
        self._written = provider.journal._written
        provider.journal._written = self._held  # type: ignore[method-assign, assignment]

    async def _held(self, *args: Any) -> None:
        self.arrived.set()
        await self.free.wait()
        await self._written(*args)


async def test_both_callers_of_a_request_learn_that_it_could_not_begin(make_provider: Make) -> None:
    provider = await make_provider()
    disk = SlowDisk(provider)
    callers = [asyncio.create_task(provider.shutdown(request_id="once")) for _ in range(2)]
    await disk.arrived.wait()
    provider.journal.broken = True
    disk.free.set()
    assert [type(end) for end in await asyncio.gather(*callers, return_exceptions=True)] == [JournalFailed] * 2


async def test_nobody_sees_a_step_that_a_kill_could_still_undo(make_provider: Make) -> None:
    provider = await make_provider()
    operation = await provider.shutdown()
    disk = SlowDisk(provider)
    await disk.arrived.wait()
    assert (await provider.operations.get(operation.id)).sent == ()
    disk.free.set()
    assert [sent.signal for sent in (await provider.end(operation)).sent] == [Signal.GUEST_AGENT]
