"""Many shutdowns at once: what the benches on vSphere and on Proxmox VE have in common."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.client import Client, client
from tests.bench.control import INTERVAL, Told
from tests.bench.table import spread
from tests.rigs.process import ROOT, Provider
from tests.rigs.usage import cpu, rss

Guests = Mapping[str, Mapping[str, Any]]
"""What the rig shows of each, by their names."""


class Case(NamedTuple):
    """How long the quickest guest needs, and how long each call is under way; seconds."""

    title: str
    needed: float
    latency: float = 0

    def needs(self, names: Sequence[str]) -> Mapping[str, float]:
        """Of each guest: their ends fall on all parts of the poll's interval alike."""
        return {name: self.needed + i * INTERVAL / len(names) for i, name in enumerate(names)}


CASES = (Case("5 s", 5), Case("60 s", 60), Case("5 s, 20 ms a call", 5, 0.02))


def checkouts() -> Mapping[str, Path]:
    """Whose provider is measured: ours and, to compare, that of a checkout in $VMPOWER_BEFORE (same libraries)."""
    before = os.environ.get("VMPOWER_BEFORE")
    return {"vmpower": ROOT, **({"before": Path(before)} if before else {})}


async def through(process: Provider, names: Sequence[str]) -> Told:
    """Shut all these down through a provider, with what that costs it.

    Raises:
        RuntimeError: a verdict is not GRACEFUL.
    """
    pid = process.process.pid
    busy = cpu(pid)
    async with client(process.address) as power:
        told = await _all(power, names)
    told.cpu, told.rss = cpu(pid) - busy, rss(pid, peak=True)
    return told


async def _all(power: Client, names: Sequence[str]) -> Told:
    told = Told(began=time.time())
    ended = await asyncio.gather(*(power.shutdown(name, 100) for name in names))
    if wrong := [end.verdict for end in ended if end.verdict != "GRACEFUL"]:
        raise RuntimeError(f"{len(wrong)} of {len(names)} ended otherwise: {wrong}")
    told.off = {end.operation.vm_name: end.received for end in ended}
    return told


def right(told: Told, guests: Guests) -> list[str]:
    """The guests that went off by themselves, and of which the client knew that then and not before."""
    return [
        name for name, end in told.off.items() if guests[name]["off_cause"] == "guest" and end >= guests[name]["off_at"]
    ]


def late(told: Told, guests: Guests) -> list[float]:
    """Seconds from a guest's end until the client knew of it."""
    return [told.off[name] - guests[name]["off_at"] for name in right(told, guests)]


def middle_and_tail(of: str, values: Sequence[float]) -> Mapping[str, float]:
    """Median and 95th percentile in milliseconds, of a single one that; nothing of a control that could not."""
    if len(values) < 2:
        return {f"{of} p50 ms": round(value * 1000, 1) for value in values}
    return {name: value for name, value in spread(values, of).items() if "max" not in name}
