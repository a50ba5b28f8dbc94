"""Ever more shutdowns at once on the sim: what each costs the provider, when guests are asked and their ends told."""

import asyncio
import time
from contextlib import closing
from pathlib import Path

from providers.sim.world import World
from tests.bench.client import client
from tests.bench.control import INTERVAL
from tests.bench.rush import Case, checkouts, middle_and_tail
from tests.bench.sim import sim
from tests.bench.table import Result, Row
from tests.rigs.usage import cpu, rss

COUNTS = (1, 200, 1000)
NEEDED = Case("2 s", 2)


async def bench() -> Result:
    """Each on a provider of its own."""
    title = f"shutdowns at once, of guests that need {NEEDED.needed:g} s and up to {INTERVAL:g} s more"
    notes = (
        "asked: from the first request to the guest; told: from the guest's end to the client",
        "by the times that the sim keeps of what its guests heard and did",
    )
    rows = [await _row(count, who, root) for count in COUNTS for who, root in checkouts().items()]
    return Result(title, rows, notes)


async def _row(count: int, who: str, root: Path) -> Row:
    needs = NEEDED.needs([f"vm-{number:04}" for number in range(1, count + 1)])
    process = sim({name: {"shutdown_time": seconds} for name, seconds in needs.items()})
    process.cwd = root
    with process as provider:
        pid = provider.process.pid
        busy = cpu(pid)
        async with client(provider.address) as power:
            began = time.time()
            ended = await asyncio.gather(*(power.shutdown(name, 60) for name in needs))
        with closing(World(process.folder / "world.db")) as world:
            guests = {name: world.named(name)[0] for name in needs}
        asked = [min(line.at for line in guest.console if "asked" in line.text) for guest in guests.values()]
        told = [each.received - (guests[each.operation.vm_name].off_at or 0) for each in ended]
        return {
            "": f"{count}: {who}",
            "right": f"{sum(each.verdict == 'GRACEFUL' for each in ended)} of {count}",
            "CPU ms each": round((cpu(pid) - busy) * 1000 / count, 2),
            **middle_and_tail("asked", [at - began for at in asked]),
            **middle_and_tail("told", told),
            "peak MiB": rss(pid, peak=True),
        }
