import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from plans.calls import Calls
from plans.clock import Clock
from plans.freeze import freeze
from plans.run import Run
from plans.ups.stage_run import OwnRun
from plans.ups.stages import Stage
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.builders import plan, tier
from tests.unit.plans.conftest import Engine
from tests.unit.plans.fake import FakeProvider, wall

pytestmark = pytest.mark.looptime


@pytest.fixture
def lab() -> FakeProvider:
    return FakeProvider(web=30, db=5)


@pytest.fixture
async def run(engine: Engine, lab: FakeProvider) -> AsyncIterator[OwnRun]:
    spec, clock = plan(tier("front", "lab/web"), tier("back", "lab/db"), bringUp={}), Clock(wall)
    start = (await freeze(spec, {"lab": lab}, clock)).start("test", spec, clock())
    history, journal = await engine.runs.create(start)
    run = OwnRun(Stage.ALL, history, journal, lambda: Run(history, journal, Calls({"lab": lab}), clock))
    yield run
    run.close()


async def test_it_is_carried_out_and_its_end_is_told(run: OwnRun, lab: FakeProvider) -> None:
    over = asyncio.Event()
    run.carry_out([], over.set)
    assert run.under_way
    await over.wait()
    assert (run.under_way, list(lab.off)) == (False, ["web", "db"])


async def test_let_go_it_is_left_as_it_is(run: OwnRun, lab: FakeProvider) -> None:
    run.carry_out([], lambda: None)
    await asyncio.sleep(10)
    await run.let_go()
    await run.ended()
    assert not run.under_way
    assert run.history.closed is None
    assert [request.vm for request in lab.sent(pb.ShutdownRequest)] == ["web"]


async def test_it_is_shortened(run: OwnRun) -> None:
    run.carry_out([], lambda: None)
    await asyncio.sleep(1)
    await run.shorten(timedelta(minutes=2), "the battery lasts less long")
    assert run.history.shortened is not None
    assert run.history.ends == run.history.shortened.at + timedelta(minutes=2)
    await run.let_go()


async def test_brought_back_it_is_aborted_and_what_it_stopped_comes_up(run: OwnRun, lab: FakeProvider) -> None:
    run.carry_out([], lambda: None)
    await asyncio.sleep(10)
    await run.bring_back()
    assert run.history.aborted is not None
    assert [request.vm for request in lab.sent(pb.PowerOnRequest)] == ["web"]
    assert [request.vm for request in lab.sent(pb.ShutdownRequest)] == ["web"]


async def test_brought_back_after_its_end_all_comes_up_in_reverse(run: OwnRun, lab: FakeProvider) -> None:
    run.carry_out([], lambda: None)
    await run.ended()
    await run.bring_back()
    assert [request.vm for request in lab.sent(pb.PowerOnRequest)] == ["db", "web"]


async def test_it_gives_way_once(run: OwnRun) -> None:
    await run.give_way("another")
    closed = run.history.closed
    await run.give_way("a third")
    assert run.history.closed is closed
    assert closed is not None
    assert closed.message == "Taken over by run another."


async def test_what_somebody_starts_after_its_end_undoes_it(run: OwnRun, lab: FakeProvider) -> None:
    run.carry_out([], lambda: None)
    await run.ended()
    assert not await run.is_undone()
    await lab.turn("db", pb.POWER_STATE_ON)
    assert await run.is_undone()
