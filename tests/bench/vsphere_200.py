"""Two hundred shutdowns at once on a vCenter: what they cost it, and how soon guests are asked and their ends known."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.bench.client import Client, client
from tests.bench.control import Told, Work, run
from tests.bench.sim import names
from tests.bench.table import Result, Row, spread
from tests.bench.usage import cpu, rss
from tests.bench.vsphere_poll import INTERVAL
from tests.rigs.vsphere.provider import provider
from tests.rigs.vsphere.vcenter import Connections, VCenter

COUNT = 200
VMS = names("vm", COUNT)
STREAM = "WaitForUpdatesEx"


class Case(NamedTuple):
    """How long the quickest guest needs, and how long each call is under way; seconds."""

    title: str
    needed: float
    latency: float = 0

    def guests(self) -> dict[str, dict[str, object]]:
        """Their ends fall on all parts of the poll's interval alike."""
        return {name: {"shutdown_time": self.needed + i * INTERVAL / COUNT} for i, name in enumerate(VMS)}


CASES = (Case("5 s", 5), Case("60 s", 60), Case("5 s, 20 ms a call", 5, 0.02))


class Seen(NamedTuple):
    """What a client told of itself, and the rig of it. `calls` are all of its SOAP calls by their methods."""

    told: Told
    calls: Mapping[str, int]
    connections: Connections
    guests: Mapping[str, Mapping[str, Any]]

    @property
    def right(self) -> list[str]:
        """The VMs that went off by themselves, and of which it knew that then and not before."""
        return [name for name, end in self.told.off.items() if _gracefully(self.guests[name], end)]

    @property
    def per_vm(self) -> float:
        """Calls for each VM, without those that wait for news."""
        return (sum(self.calls.values()) - self.calls.get(STREAM, 0)) / COUNT

    @property
    def asked(self) -> list[float]:
        """Seconds from the beginning until a guest was asked."""
        times = ([call["time"] for call in guest["asked_at"]] for guest in self.guests.values())
        return [min(each) - self.told.began for each in times if each]

    @property
    def late(self) -> list[float]:
        """Seconds from a VM's end until its client knew of it."""
        return [self.told.off[name] - self.guests[name]["off_at"] for name in self.right]


async def bench() -> Result:
    """Each on a vCenter of its own, by the same program."""
    rows, notes = list[Row](), list[str]()
    for case in CASES:
        seen = {title: await _seen(case, way) for title, way in WAYS.items()}
        rows += [_row(f"{case.title}: {title}", found) for title, found in seen.items()]
        notes.append(_claims(case, seen))
    return Result(f"{COUNT} shutdowns at once, of guests that need so long and up to {INTERVAL:g} s more", rows, notes)


def _gracefully(guest: Mapping[str, Any], end: float) -> bool:
    return guest["off_cause"] == "guest" and bool(end >= guest["off_at"])


async def _seen(case: Case, way: Callable[[VCenter], Awaitable[Told]]) -> Seen:
    with VCenter(case.guests(), latency=case.latency) as vcenter:
        told = await way(vcenter)
        calls, connections = vcenter.calls(), vcenter.connections()
        return Seen(told, calls, connections, {name: vcenter.show(name) for name in VMS})


async def _ours(vcenter: VCenter) -> Told:
    with provider(vcenter) as process:
        vcenter.reset_calls()  # what a start costs is told by vsphere-idle-2000
        pid = process.process.pid
        busy = cpu(pid)
        async with client(process.address) as power:
            told = await _through(power)
        told.cpu, told.rss = cpu(pid) - busy, rss(pid, peak=True)
    return told


async def _through(power: Client) -> Told:
    told = Told(began=time.time())
    ended = await asyncio.gather(*(power.shutdown(name, 100) for name in VMS))
    if wrong := [end.verdict for end in ended if end.verdict != "GRACEFUL"]:
        raise RuntimeError(f"{len(wrong)} of {COUNT} ended otherwise: {wrong}")
    told.off = {end.operation.vm_name: end.received for end in ended}
    return told


def _work(vcenter: VCenter) -> Work:
    login = (vcenter.username, vcenter.password)
    return Work(vcenter.url, str(vcenter.ca), *login, str(vcenter.folder), VMS)


WAYS: Mapping[str, Callable[[VCenter], Awaitable[Told]]] = {
    "vmpower": _ours,
    "govc": lambda vcenter: run("vsphere_govc", _work(vcenter)),
    "2 s poll": lambda vcenter: run("vsphere_poll", _work(vcenter)),
}


def _row(title: str, seen: Seen) -> Row:
    return {
        "": title,
        "right": f"{len(seen.right)} of {COUNT}",
        "calls/VM": round(seen.per_vm, 2),
        "of the stream": seen.calls.get(STREAM, 0),
        "connections": seen.connections.opened,
        "at once": seen.connections.peak,
        **_pick("asked", seen.asked),
        **_pick("told", seen.late),
        "RSS MiB": seen.told.rss or "",
        "CPU s": round(seen.told.cpu, 2),
    }


def _pick(of: str, values: Sequence[float]) -> Mapping[str, float]:
    if len(values) < 2:  # a control that could not: it is told, and no reason to end
        return {}
    return {name: value for name, value in spread(values, of).items() if "max" not in name}


def _claims(case: Case, seen: Mapping[str, Seen]) -> str:
    calls = ", ".join(f"{found.per_vm:.2f}" for found in seen.values())
    late = ", ".join(f"{_pick('told', found.late).get('told p95 ms', math.nan):.0f}" for found in seen.values())
    connections = ", ".join(str(found.connections.opened) for found in seen.values())
    return (
        f"claims, {case.title}: at most 2 calls a VM, told within 150 ms (p95), ahead of both controls: "
        f"calls {calls}; told {late} ms; connections {connections}"
    )
