"""Two hundred shutdowns at once on a vCenter: what they cost it, and how soon guests are asked and their ends known."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from tests.bench.control import INTERVAL, Told, Work, run
from tests.bench.rush import CASES, Case, late, middle_and_tail, right, through
from tests.bench.sim import names
from tests.bench.table import Result, Row
from tests.rigs.vsphere.provider import provider
from tests.rigs.vsphere.vcenter import Connections, VCenter

COUNT = 200
VMS = names("vm", COUNT)
STREAM = "WaitForUpdatesEx"


class Seen(NamedTuple):
    """What a client told of itself, and the rig of it. `calls` are all of its SOAP calls by their methods."""

    told: Told
    calls: Mapping[str, int]
    connections: Connections
    guests: Mapping[str, Mapping[str, Any]]

    @property
    def per_vm(self) -> float:
        """Calls for each VM, without those that wait for news."""
        return (sum(self.calls.values()) - self.calls.get(STREAM, 0)) / COUNT

    @property
    def asked(self) -> list[float]:
        """Seconds from the beginning until a guest was asked."""
        times = ([call["time"] for call in guest["asked_at"]] for guest in self.guests.values())
        return [min(each) - self.told.began for each in times if each]


async def bench() -> Result:
    """Each on a vCenter of its own, by the same program."""
    rows, notes = list[Row](), list[str]()
    for case in CASES:
        seen = {title: await _seen(case, way) for title, way in WAYS.items()}
        rows += [_row(f"{case.title}: {title}", found) for title, found in seen.items()]
        notes.append(_claims(case, seen))
    return Result(f"{COUNT} shutdowns at once, of guests that need so long and up to {INTERVAL:g} s more", rows, notes)


async def _seen(case: Case, way: Callable[[VCenter], Awaitable[Told]]) -> Seen:
    guests = {name: {"shutdown_time": seconds} for name, seconds in case.needs(VMS).items()}
    with VCenter(guests, latency=case.latency) as vcenter:
        told = await way(vcenter)
        calls, connections = vcenter.calls(), vcenter.connections()
        return Seen(told, calls, connections, {name: vcenter.show(name) for name in VMS})


async def _ours(vcenter: VCenter) -> Told:
    with provider(vcenter) as process:
        vcenter.reset_calls()  # what a start costs is told by vsphere-idle-2000
        return await through(process, VMS)


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
        "right": f"{len(right(seen.told, seen.guests))} of {COUNT}",
        "calls/VM": round(seen.per_vm, 2),
        "of the stream": seen.calls.get(STREAM, 0),
        "connections": seen.connections.opened,
        "at once": seen.connections.peak,
        **middle_and_tail("asked", seen.asked),
        **middle_and_tail("told", late(seen.told, seen.guests)),
        "RSS MiB": seen.told.rss or "",
        "CPU s": round(seen.told.cpu, 2),
    }


def _claims(case: Case, seen: Mapping[str, Seen]) -> str:
    calls = ", ".join(f"{found.per_vm:.2f}" for found in seen.values())
    lags = ", ".join(
        f"{middle_and_tail('told', late(found.told, found.guests)).get('told p95 ms', math.nan):.0f}"
        for found in seen.values()
    )
    connections = ", ".join(str(found.connections.opened) for found in seen.values())
    return (
        f"claims, {case.title}: at most 2 calls a VM, told within 150 ms (p95), ahead of both controls: "
        f"calls {calls}; told {lags} ms; connections {connections}"
    )
