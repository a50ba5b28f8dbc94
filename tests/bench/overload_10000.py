"""Ten thousand requests at once on a hypervisor that is slow, and what PowerOffs and reads take meanwhile."""

import asyncio
import time
from collections import Counter
from contextlib import closing
from typing import NamedTuple

import grpc

from protos.power.v1 import power_pb2 as pb
from providers.sim.world import World
from tests.bench.client import Client, client, duration
from tests.bench.sim import names, sim
from tests.bench.table import Result, Row, spread
from tests.rigs.process import Provider
from tests.rigs.usage import cpu, rss

REQUESTS, LATENCY = 10_000, 0.2
OTHERS, EVERY = 40, 0.25
"""VMs that are powered off meanwhile, one each so many seconds, each after a read."""
CALLERS = 4
"""Connections that the requests come over."""


class Beside(NamedTuple):
    """Seconds that each PowerOff (to its verdict) and each GetVM took."""

    cuts: list[float]
    reads: list[float]


async def bench() -> Result:
    """A provider that has nothing else to do, and one that gets ten thousand shutdowns in the same moment."""
    title = f"PowerOff and GetVM beside {REQUESTS:,} Shutdowns at once; each call of the hypervisor takes {LATENCY:g} s"
    notes = (
        "at once: how many calls of a kind the hypervisor ever had under way, by its own count",
        "a PowerOff is two calls, each of which takes that long",
    )
    return Result(title, [await _row("idle", 0), await _row("overloaded", REQUESTS)], notes)


async def _row(title: str, requests: int) -> Row:
    guests = {"many": {"count": REQUESTS, "shutdown_time": 1}, "other": {"count": OTHERS}}
    with sim(guests, latency=LATENCY) as provider:
        pid = provider.process.pid
        busy = cpu(pid)
        async with client(provider.address) as beside:
            rush = asyncio.create_task(_rush(provider, names("many", REQUESTS)[:requests]))
            await asyncio.sleep(EVERY)
            took = await _beside(beside)
            answers = await rush
        with closing(World(provider.folder / "world.db")) as world:
            most = world.hypervisor().most
        return {
            "": title,
            "taken on": answers["taken on"],
            "refused": answers["RESOURCE_EXHAUSTED"],
            "otherwise": answers.total() - answers["taken on"] - answers["RESOURCE_EXHAUSTED"],
            "asks, cuts at once": f"{most.get('send_signal', 0)}, {most.get('power_off', 0)}",
            **{f"PowerOff {name}": value for name, value in spread(took.cuts).items()},
            **{f"GetVM {name}": value for name, value in spread(took.reads).items()},
            "CPU s": round(cpu(pid) - busy, 1),
            "peak MiB": rss(pid, peak=True),
        }


async def _rush(provider: Provider, vms: list[str]) -> Counter[str]:
    """All of them at the same time, over a few connections."""
    answers = Counter[str]()

    async def begin(power: Client, vm: str) -> None:
        try:
            await power.stub.Shutdown(pb.ShutdownRequest(vm=vm, timeout=duration(3600)))
            answers["taken on"] += 1
        except grpc.aio.AioRpcError as error:
            answers[error.code().name] += 1

    async def caller(part: list[str]) -> None:
        async with client(provider.address) as power:
            await asyncio.gather(*(begin(power, vm) for vm in part))

    await asyncio.gather(*(caller(vms[number::CALLERS]) for number in range(CALLERS)))
    return answers


async def _beside(power: Client) -> Beside:
    """PowerOffs and reads, one after the other's beginning, whatever they take."""
    took = Beside([], [])

    async def one(vm: str) -> None:
        begun = time.monotonic()
        await power.stub.GetVM(pb.GetVMRequest(vm=vm))
        took.reads.append(time.monotonic() - begun)
        begun = time.monotonic()
        ended = await power.power_off(vm)
        took.cuts.append(time.monotonic() - begun)
        if ended.verdict != "FORCED/REQUESTED":
            raise RuntimeError(f"{vm} ended {ended.verdict}")

    tasks = list[asyncio.Task[None]]()
    for vm in names("other", OTHERS):
        tasks.append(asyncio.create_task(one(vm)))
        await asyncio.sleep(EVERY)
    await asyncio.gather(*tasks)
    return took
