"""A look at what has become of the VMs of a run after its end."""

import asyncio
from contextlib import suppress

from client.errors import ProviderError
from plans.calls import Calls
from plans.frozen import SELF
from plans.history import History

LOOK = 5.0
"""Seconds for it: who asks may have a UPS that waits."""
RUNS_ON = "STILL_RUNNING"
"""The verdict of a VM that its plan leaves running."""


async def runs_again(history: History, calls: Calls) -> bool:
    """Whether a VM of a run that is over runs, as far as its provider tells in time: one that it has brought down and
    that somebody has started since, or one that it has not come to. Those that its plan leaves running do not count,
    nor does our own."""
    mine = {
        (target.provider, target.vm)
        for tier in history.start.tiers
        for target in tier.targets
        if tier.name != SELF and not (target.key in history.ended and history.ended[target.key].outcome == RUNS_ON)
    }
    providers = sorted({provider for provider, _ in mine})
    running = await asyncio.gather(*(_running(calls, provider) for provider in providers))
    return any((provider, vm) in mine for provider, vms in zip(providers, running, strict=True) for vm in vms)


async def _running(calls: Calls, provider: str) -> set[str]:
    """Of one that does not answer, none."""
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(LOOK):
            return await calls.running(provider)
    return set()
