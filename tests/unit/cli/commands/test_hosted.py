"""Commands at a controller that hosts plans: a real server, with guests in memory."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.plan_server import PlanServer
from tests.unit.cli.conftest import Ended, Shell
from tests.unit.controller.plan_world import Guests, Hosting, plan


class Hosted:
    """`vmpower plan`, with a controller in a thread of its own."""

    def __init__(self, folder: Path, vmpower: Shell) -> None:
        self.address, self._folder, self._vmpower = f"unix://{folder}/controller.sock", folder, vmpower
        self.guests = Guests(app=0.1, db=0.1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __call__(self, *words: str) -> Ended:
        return self._vmpower("plan", *words, "--controller", self.address)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)

    async def _serve(self) -> None:
        self._hosting = Hosting(self._folder)
        world = await self._hosting.start(plan(bringUp={}), lab=self.guests)
        self._server = PlanServer(self.address, world.host)
        await self._server.start()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        await self._server.stop()
        await self._hosting.end()


@pytest.fixture
def hosted(tmp_path: Path, vmpower: Shell) -> Iterator[Hosted]:
    hosted = Hosted(tmp_path, vmpower)
    hosted.start()
    yield hosted
    hosted.stop()


def began(hosted: Hosted) -> str:
    """The name of a run that was begun."""
    return hosted("start", "night", "--reason", "new UPS").out.partition(":")[0]


def test_plans_are_listed_and_so_are_runs(hosted: Hosted) -> None:
    assert hosted("list").out.splitlines() == [
        "PLAN           TIERS           TOTAL",
        "default/night  apps databases  10 min 00 s",
    ]
    name = began(hosted)
    assert re.search(rf"{name} +default/night +(RUNNING|HELD) +\d{{4}}-", hosted("list").out)


def test_a_list_for_programs_is_the_contracts(hosted: Hosted) -> None:
    assert json.loads(hosted("list", "-o", "json").out)["plans"][0]["name"] == "night"


def test_a_run_is_watched_to_its_end_as_a_tree(hosted: Hosted) -> None:
    name = began(hosted)
    told = hosted("watch", name)
    assert told.code == 0
    assert f"{name}: began at " in told.out
    assert "databases, after apps: begins after" in told.out
    assert "; critical" in told.out
    assert re.search(r"lab/db: GRACEFUL", told.out)
    assert "the run is over" in told.err


def test_a_watched_run_for_programs_is_its_record(hosted: Hosted) -> None:
    began(hosted)
    told = json.loads(hosted("watch", "-o", "json").out)
    assert told["events"][-1]["event"] == "closed"


def test_a_run_is_released(hosted: Hosted) -> None:
    name = began(hosted)
    hosted("watch", name)
    assert hosted("release", name).out == f"{name}: RELEASED\n"


def test_a_run_comes_up(hosted: Hosted) -> None:
    name = began(hosted)
    hosted("watch", name)
    assert hosted("up", name).out == f"{name}: BRINGING_UP\n"
    told = hosted("watch", name)  # it may have come up before
    assert re.search(r"lab/app: (GRACEFUL\. \(\d\.\d s\) )?Up again\.", told.err + told.out)


def test_a_run_is_aborted(hosted: Hosted) -> None:
    hosted.guests.takes["app"] = 1.0
    name = began(hosted)
    assert hosted("abort", name).out == f"{name}: ABORTING\n"


def test_a_plan_that_is_not_there_is_the_callers_mistake(hosted: Hosted) -> None:
    told = hosted("start", "day")
    assert (told.code, told.err) == (2, "vmpower: No PowerPlan 'day' is declared. [PLAN_NOT_FOUND]\n")


def test_a_second_run_is_refused(hosted: Hosted) -> None:
    hosted.guests.takes["app"] = 1.0
    began(hosted)
    told = hosted("start", "night")
    assert (told.code, "[RUN_ACTIVE]" in told.err) == (4, True)
