"""Five hundred shutdowns at once on a Proxmox VE cluster: what they cost it, and how soon ends are known."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.bench.control import INTERVAL, Told, Work, run
from tests.bench.rush import CASES, Case, late, middle_and_tail, right, through
from tests.bench.sim import names
from tests.bench.table import Result, Row
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import provider
from tests.rigs.usage import cpu, rss

COUNT, IDLE = 500, 60
VMS = names("vm", COUNT)
KINDS: Sequence[dict[str, object]] = (
    {"agent": "answers"},
    {"agent": "answers", "node": "pve2"},
    {"node": "pve3"},
    {"kind": "lxc"},
)
"""Half with agents, a quarter without, a quarter containers; on three nodes."""
SHARED = ("GET /cluster/resources", "GET /nodes/{node}/tasks")
"""What is read at once for all guests, and for all tasks of a node."""
SHORT = {
    "POST /nodes/{node}/qemu/{vmid}/agent/ping": "state",
    "GET /nodes/{node}/qemu/{vmid}/status/current": "state",
    "GET /nodes/{node}/lxc/{vmid}/status/current": "state",
    "POST /nodes/{node}/qemu/{vmid}/status/shutdown": "asked",
    "POST /nodes/{node}/lxc/{vmid}/status/shutdown": "asked",
    "GET /nodes/{node}/tasks/{upid}/log": "log",
}


class Seen(NamedTuple):
    """What a client told of itself, and the rig of it. `calls` are all of its calls, by their kinds."""

    told: Told
    calls: Mapping[str, int]
    connections: int
    guests: Mapping[str, Mapping[str, Any]]

    @property
    def asked(self) -> list[float]:
        """Seconds from the beginning until Proxmox VE was asked for a guest's shutdown."""
        return [guest["asked"][0][0] - self.told.began for guest in self.guests.values()]

    @property
    def own(self) -> Mapping[str, int]:
        """Calls about single guests, by what they are for."""
        found = dict[str, int]()
        for call, count in self.calls.items():
            if call not in SHARED:
                found[SHORT.get(call, call)] = found.get(SHORT.get(call, call), 0) + count
        return found


async def bench() -> Result:
    """Each on a cluster of its own, by the same program."""
    rows, notes = list[Row](), list[str]()
    for case in CASES:
        for title, way in WAYS.items():
            seen = await _seen(case, way)
            rows.append(_row(f"{case.title}: {title}", seen))
            notes.append(f"{case.title}: {title}: {_counts(seen.calls)}")
    title = f"{COUNT} shutdowns at once, of guests that need so long and up to {INTERVAL:g} s more"
    return Result(title, rows, [*notes, await _idle()])


async def _seen(case: Case, way: Callable[[Cluster], Awaitable[Told]]) -> Seen:
    with _cluster(case) as cluster:
        told = await way(cluster)
        calls, connections = cluster.calls(), cluster.connections()
        return Seen(told, calls, connections, {name: cluster.show(name) for name in VMS})


def _cluster(case: Case) -> Cluster:
    guests = {
        name: KINDS[i % len(KINDS)] | {"shutdown_secs": seconds}
        for i, (name, seconds) in enumerate(case.needs(VMS).items())
    }
    return Cluster(guests, nodes=("pve1", "pve2", "pve3"), latency=case.latency)


async def _ours(cluster: Cluster) -> Told:
    with provider(cluster) as process:
        cluster.reset_calls()
        return await through(process, VMS)


async def _poll(cluster: Cluster) -> Told:
    login = (cluster.token_id, cluster.token_secret)
    return await run("proxmox_poll", Work(cluster.urls[0], str(cluster.ca), *login, str(cluster.folder), VMS))


WAYS: Mapping[str, Callable[[Cluster], Awaitable[Told]]] = {"vmpower": _ours, "2 s poll": _poll}


def _row(title: str, seen: Seen) -> Row:
    return {
        "": title,
        "right": f"{len(right(seen.told, seen.guests))} of {COUNT}",
        "calls/guest": round(sum(seen.own.values()) / COUNT, 2),
        **{f"{what}/guest": round(count / COUNT, 2) for what, count in seen.own.items()},
        "shared": sum(seen.calls.get(call, 0) for call in SHARED),
        "connections": seen.connections,
        **middle_and_tail("asked", seen.asked),
        **middle_and_tail("told", late(seen.told, seen.guests)),
        "RSS MiB": seen.told.rss,
        "CPU s": round(seen.told.cpu, 2),
    }


def _counts(calls: Mapping[str, int]) -> str:
    return ", ".join(f"{call} {count}" for call, count in calls.items()) or "no call"


async def _idle() -> str:
    """What a provider of as many guests asks at its start, and then while nothing happens."""
    with _cluster(CASES[0]) as cluster:
        began = time.perf_counter()
        with provider(cluster) as process:
            started, first = time.perf_counter() - began, cluster.reset_calls()
            pid = process.process.pid
            busy, occupied = cpu(pid), rss(pid)
            await asyncio.sleep(IDLE)
            idle = cluster.calls()
            return (
                f"cold start: {started:.2f} s, {busy:.2f} s of CPU, {occupied:.0f} MiB, {_counts(first)}\n"
                f"idle for {IDLE} s: {cpu(pid) - busy:.2f} s of CPU, {_counts(idle)}"
            )
