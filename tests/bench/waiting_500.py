"""Five hundred deaf guests wait for a far deadline: what that costs, and whom it delays."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from protos.power.v1 import power_pb2 as pb
from tests.bench.client import Client, client
from tests.bench.sim import DEAF, names, sim
from tests.bench.table import Result, spread
from tests.rigs.usage import cpu, rss

WAITING, TIMEOUT = 500, 300.0
SAMPLES, PACE = 60, 0.2
"""So many PowerOffs, so many seconds apart: for longer than the 10 s after which all who wait are asked again."""
WARM_UP = 20


class Phase(NamedTuple):
    """What was measured at once; seconds, MiB, and cores that the server kept busy."""

    title: str
    latencies: list[float]
    rss: float
    load: float


async def bench() -> Result:
    """PowerOffs with nothing else going on, before and after, beside those with 500 waiting, unwatched and watched."""
    guests = {"deaf": {"count": WAITING, **DEAF}, "other": {"count": 4 * SAMPLES + WARM_UP, **DEAF}}
    with sim(guests) as provider:
        async with client(provider.address) as power:
            phases = await _measure(power, provider.process.pid)
    rows = [_row(phase, phases[0]) for phase in phases]
    rows[0]["KiB per waiting"] = rows[-1]["KiB per waiting"] = ""  # nothing waits
    title = f"{SAMPLES} PowerOffs of other VMs, one after another, from the request being sent to SUCCEEDED"
    return Result(title, rows, [f"claim: p95 under 100 ms beside {WAITING} waiting: {rows[1]['p95 ms']} ms here"])


async def _measure(power: Client, pid: int) -> list[Phase]:
    others = iter(names("other", 4 * SAMPLES + WARM_UP))
    for _ in range(WARM_UP):
        await power.power_off(next(others))
    phases = [await _phase("nothing waiting", power, others, pid)]
    waiting = await asyncio.gather(*(power.begin(name, TIMEOUT) for name in names("deaf", WAITING)))
    phases.append(await _phase(f"{WAITING} waiting", power, others, pid))
    async with _watched(power, waiting):
        phases.append(await _phase(f"{WAITING} waiting and watched", power, others, pid))
    await _cancel(power, waiting)
    phases.append(await _phase(f"{WAITING} cancelled", power, others, pid))
    return phases


async def _phase(title: str, power: Client, others: Iterator[str], pid: int) -> Phase:
    busy, latencies = cpu(pid), list[float]()
    for _ in range(SAMPLES):
        ended = await power.power_off(next(others))
        if ended.verdict != "FORCED/REQUESTED":
            raise RuntimeError(f"a PowerOff ended {ended.verdict}")
        latencies.append(ended.received - ended.sent)
        await asyncio.sleep(PACE)
    return Phase(title, latencies, rss(pid), (cpu(pid) - busy) / (sum(latencies) + SAMPLES * PACE))


@asynccontextmanager
async def _watched(power: Client, operations: Sequence[pb.Operation]) -> AsyncIterator[None]:
    """A WatchOperation stream open for each, and read."""
    opened = [asyncio.Event() for _ in operations]

    async def watch(operation: pb.Operation, seen: asyncio.Event) -> None:
        async for _ in power.stub.WatchOperation(pb.WatchOperationRequest(id=operation.id)):
            seen.set()

    watching = [asyncio.create_task(watch(*pair)) for pair in zip(operations, opened, strict=True)]
    await asyncio.gather(*(seen.wait() for seen in opened))
    yield
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


async def _cancel(power: Client, waiting: Sequence[pb.Operation]) -> None:
    """All of them: one that no longer waits refuses, and ends the bench."""
    requests = [pb.CancelOperationRequest(id=operation.id) for operation in waiting]
    await asyncio.gather(*(power.stub.CancelOperation(request) for request in requests))


def _row(phase: Phase, base: Phase) -> dict[str, str | int | float]:
    figures = spread(phase.latencies)
    return {
        "": phase.title,
        "p95 ratio": round(figures["p95 ms"] / spread(base.latencies)["p95 ms"], 2),
        **figures,
        "server's cores": round(phase.load, 3),
        "RSS MiB": phase.rss,
        "KiB per waiting": round((phase.rss - base.rss) * 1024 / WAITING, 1),
    }
