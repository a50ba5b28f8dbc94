"""From nothing to SERVING, with few guests, with many, and with many shutdowns to go on with."""

import asyncio
import statistics
import time

from protos.power.v1 import power_pb2 as pb
from tests.bench.client import client
from tests.bench.sim import DEAF, names, sim
from tests.bench.table import Result, Row
from tests.rigs.process import Provider
from tests.rigs.usage import cpu, rss

MANY, RESUMED, STARTS = 2000, 500, 3


async def bench() -> Result:
    """A few guests are the control: what Python and gRPC take by themselves."""
    rows: list[Row] = []
    with sim({"deaf": {"count": 5, **DEAF}}) as provider:
        rows.append(_again("5 guests", provider))
    unstarted = sim({"deaf": {"count": MANY, **DEAF}})
    try:
        rows.append(_first(f"{MANY} guests, whose world is made first", unstarted))
        rows.append(_again(f"{MANY} guests", unstarted))
        await _begin(unstarted)
        rows.append(_again(f"{MANY} guests, {RESUMED} shutdowns go on", unstarted))
        await _require_going_on(unstarted)
    finally:
        unstarted.close()
    return Result(f"killed and started again; the median of {STARTS}", [_compared(row, rows[0]) for row in rows])


def _first(title: str, provider: Provider) -> Row:
    began = time.perf_counter()
    provider.start()
    return _row(title, provider, time.perf_counter() - began)


def _again(title: str, provider: Provider) -> Row:
    took = []
    for _ in range(STARTS):
        provider.kill()
        began = time.perf_counter()
        provider.start()
        took.append(time.perf_counter() - began)
    return _row(title, provider, statistics.median(took))


def _row(title: str, provider: Provider, seconds: float) -> Row:
    pid = provider.process.pid
    return {"": title, "s until SERVING": round(seconds, 3), "s of CPU": round(cpu(pid), 2), "RSS MiB": rss(pid)}


def _compared(row: Row, control: Row) -> Row:
    ratio = float(row["s until SERVING"]) / float(control["s until SERVING"])
    return {"": row[""], "ratio": round(ratio, 2), **row}


async def _begin(provider: Provider) -> None:
    async with client(provider.address) as power:
        await asyncio.gather(*(power.begin(name, 3600) for name in names("deaf", MANY)[:RESUMED]))


async def _require_going_on(provider: Provider) -> None:
    async with client(provider.address) as power:
        request = pb.ListOperationsRequest(active_only=True, page_size=1000)
        active = len((await power.stub.ListOperations(request)).operations)
    if active != RESUMED:
        raise RuntimeError(f"{active} of {RESUMED} shutdowns went on")
