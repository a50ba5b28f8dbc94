"""Two thousand deaf guests wait for half an hour: whether the provider grows while nothing but time goes on.

`VMPOWER_MINUTES=3 python -m tests.bench deaf-2000` waits for less. It takes as long as it says: the time is real.
"""

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from protos.power.v1 import power_pb2 as pb
from tests.bench.client import FINAL, Client, client
from tests.bench.sim import DEAF, names, sim
from tests.bench.table import Result, Row
from tests.rigs.usage import cpu, rss

WAITING = 2000
MINUTES = float(os.environ.get("VMPOWER_MINUTES", "30"))
TIMEOUT = (MINUTES + 60) * 60
"""Seconds, more than is waited for; each is sent ACPI again every 10 s, as by default."""
TOGETHER = 100
CLAIM = 1.1
"""What the provider may have grown to, of what it was after the first minute."""


async def bench() -> Result:
    """A row a minute at first, then each five minutes; the journal is read when the provider has ended."""
    with sim({"deaf": {"count": WAITING, **DEAF}}) as provider:
        async with client(provider.address) as power:
            operations = await _begin(power)
            rows, began = list[Row](), time.monotonic()
            for minute in _moments():
                await asyncio.sleep(began + minute * 60 - time.monotonic())
                rows.append(await _row(power, provider.process.pid, minute, operations, rows))
        provider.kill()
        rows[-1] = {**rows[-1], **_on_disk(provider.folder / "state" / "sim.journal.db")}
    grown = float(rows[-1]["of the first minute"])
    verdict = "within" if grown <= CLAIM else "NOT within"
    note = f"claim: RSS stays within {CLAIM:g} of what it was after the first minute: {grown:.2f} here, {verdict}"
    return Result(f"{WAITING} deaf guests wait, asked again every 10 s", rows, [note])


async def _begin(power: Client) -> list[str]:
    operations = list[str]()
    vms = names("deaf", WAITING)
    for first in range(0, WAITING, TOGETHER):
        begun = await asyncio.gather(*(power.begin(vm, TIMEOUT) for vm in vms[first : first + TOGETHER]))
        operations += [operation.id for operation in begun]
    return operations


def _moments() -> list[float]:
    """Minutes after the last shutdown was begun."""
    moments = [minute for minute in (1, 2, 3, *range(5, 24 * 60, 5)) if minute < MINUTES]
    return [*moments, MINUTES]


async def _row(power: Client, pid: int, minute: float, operations: list[str], before: list[Row]) -> Row:
    """All must still wait: a provider that forgot them would be a small one."""
    last = await power.stub.GetOperation(pb.GetOperationRequest(id=operations[-1]))
    if last.state in FINAL:
        raise RuntimeError(f"a guest that is deaf ended {last.verdict}")
    now = rss(pid)
    return {
        "": f"{minute:g} min",
        "of the first minute": round(now / float(before[0]["RSS MiB"]), 3) if before else 1.0,
        "RSS MiB": now,
        "server's CPU s": round(cpu(pid), 1),
        "steps of one": len(last.steps),
        "bytes of one, as told": last.ByteSize(),
    }


def _on_disk(journal: Path) -> Row:
    """Bytes of a record in the journal, on average and at the most."""
    with closing(sqlite3.connect(journal)) as db:
        mean, most = db.execute("SELECT avg(length(record)), max(length(record)) FROM operations").fetchone()
    return {"bytes of a record": round(mean), "at the most": most}
