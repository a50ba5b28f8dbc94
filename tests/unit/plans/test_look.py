import asyncio

import pytest

from plans.calls import Calls
from plans.look import LOOK, runs_again
from plans.model import PlanSpec
from plans.run import Run
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.builders import plan, tier
from tests.unit.plans.conftest import Engine
from tests.unit.plans.fake import FakeProvider

pytestmark = pytest.mark.looptime

ON = pb.POWER_STATE_ON


def two(**more: object) -> PlanSpec:
    return plan(tier("apps", "lab/app", **more), tier("databases", "lab/db", **more))


async def over(engine: Engine, lab: FakeProvider, spec: PlanSpec | None = None) -> Run:
    """A run that is over."""
    run = await engine.start(spec or two(), lab=lab)
    await run.carry_out()
    return run


async def test_what_is_down_does_not_run(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await over(engine, lab)
    assert not await runs_again(run.history, Calls({"lab": lab}))


async def test_what_somebody_has_started_runs(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await over(engine, lab)
    await lab.turn("db", ON)
    assert await run.runs_again()


async def test_vms_of_no_tier_do_not_count(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1, theirs=1)
    run = await over(engine, lab)
    assert not await run.runs_again()


async def test_what_its_plan_leaves_running_does_not_count(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=None)
    run = await over(engine, lab, two(atDeadline="Stop"))
    assert run.history.ended["lab/db"].outcome == "STILL_RUNNING"
    assert not await run.runs_again()


async def test_what_an_abort_has_left_running_counts(engine: Engine) -> None:
    lab = FakeProvider(app=10, db=1)
    run = await engine.start(two(), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await asyncio.sleep(5)
    await run.abort()
    await work
    assert (list(lab.off), await run.runs_again()) == (["app"], True)


async def test_a_provider_that_does_not_answer_tells_of_none(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await over(engine, lab)
    await lab.turn("db", ON)
    lab.away = True
    assert not await run.runs_again()


async def test_one_that_answers_late_is_not_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await over(engine, lab)

    async def late() -> list[pb.VM]:
        await asyncio.sleep(1000)
        return []

    monkeypatch.setattr(lab, "list_vms", late)
    begun = asyncio.get_running_loop().time()
    assert not await run.runs_again()
    assert asyncio.get_running_loop().time() - begun == pytest.approx(LOOK, abs=0.1)
