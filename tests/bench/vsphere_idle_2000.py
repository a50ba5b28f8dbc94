"""A provider of two thousand VMs: its cold start, and what it asks of vCenter while nothing happens."""

import asyncio
import time
from collections.abc import Mapping

from tests.bench.table import Result, Row
from tests.rigs.process import Provider
from tests.rigs.usage import cpu, rss
from tests.rigs.vsphere.provider import provider
from tests.rigs.vsphere.vcenter import VCenter

COUNT, FEW, IDLE = 2000, 5, 60


async def bench() -> Result:
    """A few VMs are the control: what Python, its libraries and a login take."""
    return Result(f"started, and then left alone for {IDLE} s", [await _row(FEW), await _row(COUNT)])


async def _row(count: int) -> Row:
    with VCenter({"vm": {"count": count}}) as vcenter:
        began = time.perf_counter()
        with provider(vcenter) as process:
            started = time.perf_counter() - began
            first = sum(vcenter.reset_calls().values())
            busy, occupied = cpu(process.process.pid), rss(process.process.pid)
            await asyncio.sleep(IDLE)
            return {
                "": f"{count} VMs",
                "s until SERVING": round(started, 2),
                "s of CPU": busy,
                "calls": first,
                "RSS MiB": occupied,
                **_idle(process, vcenter.calls(), busy),
                "connections": vcenter.connections().open,
            }


def _idle(process: Provider, calls: Mapping[str, int], busy: float) -> Row:
    return {
        "calls while idle": ", ".join(f"{method} {count}" for method, count in calls.items()) or "none",
        "s of CPU while idle": round(cpu(process.process.pid) - busy, 2),
    }
