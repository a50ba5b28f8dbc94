"""Many shutdowns at once on one sim provider, from one client over one connection."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.client import Client, Ended, client
from tests.bench.sim import DEAF, names, sim
from tests.bench.table import Result, Row, spread
from tests.rigs.process import Provider
from tests.rigs.usage import cpu, rss

DEAF_TIMEOUT = 3.0
GRACEFUL, FORCED = "GRACEFUL", "FORCED/TIMEOUT"


@dataclass(frozen=True)
class Scenario:
    """How many guests go down by themselves, in `shutdown_time` seconds, and how many hear nothing."""

    title: str
    graceful: int
    deaf: int
    shutdown_time: float

    def provider(self) -> Provider:
        graceful = {"count": self.graceful, "shutdown_time": self.shutdown_time}
        return sim({"graceful": graceful, **({"deaf": {"count": self.deaf, **DEAF}} if self.deaf else {})})


SCENARIOS = (
    Scenario("50 mixed", 40, 10, 2.0),
    Scenario("500 mixed", 400, 100, 2.0),
    Scenario("500 that are off at once", 500, 0, 0.0),
)


async def bench() -> Result:
    """The same on few, on many, and where nothing is waited for."""
    title = f"all at once; mixed: 80 % go down in 2 s, 20 % are deaf and forced after {DEAF_TIMEOUT:g} s"
    notes = (
        "CPU and MiB (RSS) are the server's; overhead, that is less what the guest or the timeout takes:",
        "  from begun: from the operation's create_time to the verdict's end_time;",
        "  from sent: from sending the request to having the verdict, in a client that shares the server's cores",
    )
    return Result(title, [await _row(scenario) for scenario in SCENARIOS], notes)


async def _row(scenario: Scenario) -> Row:
    with scenario.provider() as provider:
        pid = provider.process.pid
        idle, busy = rss(pid), cpu(pid)
        async with client(provider.address) as power:
            began = time.time()
            graceful, deaf = await _shut_all_down(power, scenario)
            took = time.time() - began
        ended = [*graceful, *deaf]
        _require_right(graceful, GRACEFUL)
        _require_right(deaf, FORCED)
        return {
            "": scenario.title,
            "right verdicts": f"{len(ended)}/{scenario.graceful + scenario.deaf}",
            "requests/s": round(len(ended) / (max(e.accepted for e in ended) - began), 1),
            "shutdowns/s": round(len(ended) / took, 1),
            "CPU ms each": round((cpu(pid) - busy) * 1000 / len(ended), 2),
            "idle MiB": idle,
            "peak MiB": rss(pid, peak=True),
            **_overheads(graceful, deaf, scenario),
        }


async def _shut_all_down(power: Client, scenario: Scenario) -> tuple[list[Ended], list[Ended]]:
    graceful = [power.shutdown(name, 60) for name in names("graceful", scenario.graceful)]
    deaf = [power.shutdown(name, DEAF_TIMEOUT) for name in names("deaf", scenario.deaf)]
    ended = await asyncio.gather(*graceful, *deaf)
    return ended[: scenario.graceful], ended[scenario.graceful :]


def _require_right(ended: Sequence[Ended], verdict: str) -> None:
    """A wrong verdict is no figure: it ends the bench."""
    counted = Counter(e.verdict for e in ended)
    if set(counted) - {verdict}:
        raise RuntimeError(f"all {len(ended)} should end {verdict}: {dict(counted)}")


def _overheads(graceful: Sequence[Ended], deaf: Sequence[Ended], scenario: Scenario) -> Row:
    needed = [scenario.shutdown_time] * len(graceful) + [DEAF_TIMEOUT] * len(deaf)
    pairs = list(zip([*graceful, *deaf], needed, strict=True))
    return {
        **spread([e.end - e.begun - seconds for e, seconds in pairs], "from begun"),
        **spread([e.received - e.sent - seconds for e, seconds in pairs], "from sent"),
    }
