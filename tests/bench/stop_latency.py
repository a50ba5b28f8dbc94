"""From libvirt's own record of a real guest's stop to our verdict, beside a client that polls."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from tests.bench.client import Client, client
from tests.bench.control import INTERVAL
from tests.bench.poll import poll
from tests.bench.table import Result, Row, spread
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Provider

ROUNDS = 5
GUESTS = tuple(Guest(f"guest-{i}", shutdown_delay=i * INTERVAL / 4) for i in range(4))
"""Their stops fall on all parts of the poll's interval alike."""


class Lag(NamedTuple):
    """Seconds from libvirt's record of a stop."""

    verdict: float
    seen: float
    polled: float


async def bench() -> Result:
    """Guests are booted and shut down, round after round; each is polled at the same time."""
    lags = list[Lag]()
    with Libvirtd() as rig, Provider("libvirt", "--uri", rig.uri) as provider:
        ids = {guest.name: rig.define(guest) for guest in GUESTS}
        async with client(provider.address) as power:
            for number in range(1, ROUNDS + 1):
                lags += await _round(rig, power, ids, number)
    return _result(lags)


async def _round(rig: Libvirtd, power: Client, ids: Mapping[str, str], number: int) -> list[Lag]:
    for name in ids:
        await power.power_on(name)
    for name in ids:
        await asyncio.to_thread(rig.wait_ready, name, boot=number)
    return await asyncio.gather(*(_stop(rig, power, name, vm_id) for name, vm_id in ids.items()))


async def _stop(rig: Libvirtd, power: Client, name: str, vm_id: str) -> Lag:
    ended, polled = await asyncio.gather(power.shutdown(vm_id, 60), asyncio.to_thread(poll, rig.uri, vm_id))
    if ended.verdict != "GRACEFUL":
        raise RuntimeError(f"{name} ended {ended.verdict}")
    # The record of this round's stop is the only one: an ordinary user's libvirtd begins the log anew at each start.
    recorded = (await asyncio.to_thread(rig.wait_stop, name)).time.timestamp()
    return Lag(ended.end - recorded, ended.received - recorded, polled - recorded)


def _result(lags: list[Lag]) -> Result:
    seen, polled = spread([lag.seen for lag in lags]), spread([lag.polled for lag in lags])
    measured = {
        "verdict's end_time": spread([lag.verdict for lag in lags]),
        "SUCCEEDED, seen by a client": seen,
        f"control: a {INTERVAL:g}-second poll": polled,
    }
    rows: list[Row] = [
        {"": title, "stops": len(lags), "of the poll's median": f"1/{polled['p50 ms'] / found['p50 ms']:.0f}", **found}
        for title, found in measured.items()
    ]
    claim = f"claim: a median under 50 ms until SUCCEEDED: {seen['p50 ms']} ms here"
    return Result(
        "from libvirt's own record of a guest's stop", rows, [claim, "libvirt's record is to the millisecond"]
    )
