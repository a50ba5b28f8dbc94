"""A plan of five tiers over two thousand guests of four providers: what the engine itself takes from tier to tier."""

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import yaml

from providers.sim.guest import Guest
from providers.sim.world import World
from tests.bench.sim import names, sim
from tests.bench.table import Result, Row, spread
from tests.rigs.process import Program, Provider
from tests.rigs.usage import cpu, rss

PROVIDERS, TIERS, EACH, RUNS = 4, 5, 100, 3
PATIENCE = 600.0
"""Seconds for a run; the guests need 2 s each, and twenty are asked at once."""


async def bench() -> Result:
    """By the times that the sims keep of what their guests heard and did."""
    with ExitStack() as stack:
        sims = [stack.enter_context(sim(_guests())) for _ in range(PROVIDERS)]
        for each in sims:
            each.start()
        gaps, rows = list[float](), list[Row]()
        for number in range(1, RUNS + 1):
            found, row = await asyncio.to_thread(_one_run, sims, f"run {number}")
            gaps += found
            rows.append(row)
            await asyncio.to_thread(_bring_up, sims)
    whole: Row = {"": "all runs", "from a tier to the next": len(gaps), **spread(gaps)}
    notes = ("ms: from the moment at which the last guest of a tier is off until the first of the next is asked",)
    vms = PROVIDERS * TIERS * EACH
    return Result(f"{vms} guests of {PROVIDERS} providers in {TIERS} tiers", [*rows, whole], notes)


def _guests() -> dict[str, dict[str, object]]:
    return {tier: {"count": EACH, "shutdown_time": "2s"} for tier in _tiers()}


def _tiers() -> list[str]:
    return [f"tier{number}" for number in range(1, TIERS + 1)]


def _one_run(sims: Sequence[Provider], title: str) -> tuple[list[float], Row]:
    with _plan(sims, "run") as plan:
        plan.start()
        plan.wait_output("the run is over", PATIENCE)
        used, memory = cpu(plan.process.pid), rss(plan.process.pid, peak=True)
        if code := plan.wait():
            raise RuntimeError(f"the run ended with {code}:\n{plan.output()}")
    guests = [guest for each in sims for guest in _all(each)]
    asked = {tier: min(_asked(guest) for guest in _of(tier, guests)) for tier in _tiers()}
    off = {tier: max(guest.off_at or 0.0 for guest in _of(tier, guests)) for tier in _tiers()}
    gaps = [asked[after] - off[before] for before, after in itertools.pairwise(_tiers())]
    if min(gaps) < 0:
        raise RuntimeError(f"a tier began before the one before it was off: {gaps}")
    row: Row = {
        "": title,
        "from a tier to the next": len(gaps),
        **spread(gaps),
        "whole run s": round(max(off.values()) - min(asked.values()), 1),
        "engine's RSS MiB": memory,
        "engine's CPU ms/VM": round(used * 1000 / len(guests), 2),
    }
    return gaps, row


def _bring_up(sims: Sequence[Provider]) -> None:
    with _plan(sims, "up") as plan:
        plan.start()
        if code := plan.wait(PATIENCE):
            raise RuntimeError(f"bringing up ended with {code}:\n{plan.output()}")


def _plan(sims: Sequence[Provider], command: str) -> Program:
    """`vmpower plan COMMAND`, with its state beside the first sim's."""
    folder = sims[0].folder
    (folder / "config.yaml").write_text(yaml.safe_dump({"providers": _configured(sims)}))
    (folder / "plan.yaml").write_text(yaml.safe_dump(_spec()))
    environment = {"VMPOWER_CONFIG": str(folder / "config.yaml"), "XDG_STATE_HOME": str(folder)}
    file = [str(folder / "plan.yaml")] if command == "run" else []
    return Program("cli", "plan", command, *file, env=environment)


def _configured(sims: Sequence[Provider]) -> dict[str, dict[str, str]]:
    return {f"sim{number}": {"address": each.address} for number, each in enumerate(sims)}


def _spec() -> dict[str, object]:
    tiers = [
        {
            "name": tier,
            "members": [{"vms": [f"sim{number}/{name}" for number in range(PROVIDERS) for name in names(tier, EACH)]}],
        }
        for tier in _tiers()
    ]
    return {
        "apiVersion": "infra.virtrigaud.io/v1beta1",
        "kind": "PowerPlan",
        "metadata": {"name": "all"},
        "spec": {"budget": {"total": "20m", "reserve": "30s"}, "tiers": tiers, "bringUp": {}},
    }


def _all(provider: Provider) -> list[Guest]:
    with closing(World(Path(provider.folder / "world.db"))) as world:
        return list(world.guests())


def _of(tier: str, guests: Sequence[Guest]) -> list[Guest]:
    return [guest for guest in guests if guest.name.startswith(f"{tier}-")]


def _asked(guest: Guest) -> float:
    """When it was asked last."""
    return max(line.at for line in guest.console if "asked" in line.text or "pressed" in line.text)
