import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from plans.calls import Calls
from plans.clock import Clock
from plans.freeze import freeze
from plans.model import PlanSpec
from plans.run import Run
from plans.ups.follow import NotLetIn, Seen
from plans.ups.stage_run import OwnRun
from plans.ups.stages import Reading, Stage
from plans.ups.wait import CannotBegin, News, Waiting
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.builders import EPOCH, plan, tier
from tests.unit.plans.conftest import Engine
from tests.unit.plans.fake import FakeProvider, wall

pytestmark = pytest.mark.looptime

NUT: dict[str, Any] = {
    "ups": [{"name": "a"}],
    "user": "vmpower",
    "passwordFile": "password",
    "onBattery": {"after": "2m", "tiers": ["batch"]},
    "below": {"charge": 40},
    "pollEvery": "5s",
}
TIERS = tier("batch", "lab/batch"), tier("apps", "lab/app"), tier("databases", "lab/db")
ON_LINE, ON_BATTERY, LOW = "OL", "OB", "OB LB"


def now() -> float:
    return asyncio.get_running_loop().time()


class Host:
    """Where a plan waits. `says` is what its UPS says from now on; None: there is no contact."""

    def __init__(self, engine: Engine, lab: FakeProvider, **changes: Any) -> None:
        self.spec: PlanSpec = plan(*TIERS, **{"bringUp": {}, "triggers": [{"nut": NUT}]} | changes)
        self.lab, self.lines, self.begun = lab, list[str](), list[OwnRun]()
        self.news, self.untils = list[News](), list[float]()
        self.failure, self.in_part = "", False
        """Why no run can begin, and whether one can without some of its VMs: then it is without the apps."""
        self.logged_out: float | None = None
        self._engine, self._says = engine, Reading(frozenset({ON_LINE}), 100.0, timedelta(hours=1))
        self._contact, self._polled = True, asyncio.Condition()
        self.waiting = self.waits()
        self.work = asyncio.ensure_future(self.waiting.carry_out(self._follow))

    def waits(self, *begun: OwnRun) -> Waiting:
        assert self.spec.nut
        return Waiting(self.spec.nut, self.spec.budget.total, self._begin, Clock(wall), self._say, begun=begun)

    def _say(self, news: News, line: str) -> None:
        self.news.append(news)
        self.lines.append(line)

    async def says(self, words: str | None, charge: float = 100, minutes: float = 60) -> None:
        self._contact = words is not None
        if words is not None:
            self._says = Reading(frozenset(words.split()), charge, timedelta(minutes=minutes))
        async with self._polled:
            await self._polled.wait()

    async def told(self, line: str) -> None:
        """Wait until a line with this was said."""
        async with self._polled:
            await self._polled.wait_for(lambda: any(line in each for each in self.lines))

    async def went_off(self, *vms: str) -> None:
        async with self._polled:
            await self._polled.wait_for(lambda: all(vm in self.lab.off for vm in vms))

    async def began(self, runs: int) -> None:
        async with self._polled:
            await self._polled.wait_for(lambda: len(self.begun) == runs)

    def asked(self, kind: type[Any] = pb.ShutdownRequest) -> list[str]:
        return [request.vm for request in self.lab.sent(kind)]

    async def _follow(self, ups: str, seen: Callable[[Seen], None]) -> None:
        try:
            while True:
                seen(Seen(ups, self._says) if self._contact else Seen(ups, None, "it is gone"))
                async with self._polled:
                    self._polled.notify_all()
                await asyncio.sleep(5)
        finally:
            self.logged_out = now()

    async def _begin(self, stage: Stage, why: str, left: timedelta, *, in_part: bool = False) -> OwnRun:
        if self.failure and not (in_part and self.in_part):
            raise CannotBegin(self.failure)
        clock, spec = Clock(wall), self.spec.only(["batch"]) if stage is Stage.NAMED else self.spec
        spec = spec.only(["batch"]) if in_part else spec
        frozen = await freeze(spec, {"lab": self.lab}, clock)
        more = {"trigger": why, "ends": clock() + left, "left_out": "the rest" if in_part else ""}
        start = frozen.start("test", spec, clock()).model_copy(update=more)
        self.untils.append(left.total_seconds())
        history, journal = await self._engine.runs.create(start)
        self._engine._journals.append(journal)
        begun = OwnRun(stage, history, journal, lambda: Run(history, journal, Calls({"lab": self.lab}), clock))
        self.begun.append(begun)
        return begun

    async def close(self) -> None:
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)


@pytest.fixture
def lab() -> FakeProvider:
    return FakeProvider(batch=5, app=30, db=5)


@pytest.fixture
async def host(engine: Engine, lab: FakeProvider) -> AsyncIterator[Host]:
    host = Host(engine, lab)
    yield host
    await host.close()


async def test_a_flap_is_told_and_nothing_is_done(host: Host) -> None:
    await host.says(ON_BATTERY, 97)
    await host.says(ON_LINE)
    await asyncio.sleep(3600)
    assert host.lines == [
        "a: OL, 100 % of its charge, lasts 60 min",
        "a: OB, 97 % of its charge, lasts 60 min",
        "a: OL, 100 % of its charge, lasts 60 min",
    ]
    assert host.news == [News.READ] * 3
    assert host.begun == []


async def test_on_battery_for_its_time_the_named_tiers_go_down_and_no_other(host: Host) -> None:
    await host.says(ON_BATTERY)
    await asyncio.sleep(600)
    assert host.asked() == ["batch"]
    assert host.begun[0].history.start.trigger == "a has been on battery for 2m"


async def test_the_named_tiers_come_up_when_the_power_is_back(host: Host) -> None:
    await host.says(ON_BATTERY)
    await host.went_off("batch")
    await host.says(ON_LINE)
    await host.told("has been brought up again")
    assert host.asked(pb.PowerOnRequest) == ["batch"]


async def test_a_battery_that_is_low_in_the_first_stage_brings_all_down(host: Host) -> None:
    await host.says(ON_BATTERY)
    await host.went_off("batch")
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("app", "db")
    assert [begun.stage for begun in host.begun] == [Stage.NAMED, Stage.ALL]


async def test_power_that_is_back_aborts_and_brings_up_in_reverse_over_both_stages(host: Host) -> None:
    await host.says(ON_BATTERY)
    await host.went_off("batch")
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("app", "db")
    await host.says(ON_LINE)
    await host.told("has been brought up again")
    assert host.asked(pb.PowerOnRequest) == ["db", "app", "batch"]


async def test_power_that_is_back_while_a_tier_goes_down_begins_no_further_one(engine: Engine) -> None:
    host = Host(engine, FakeProvider(batch=5, app=55, db=5), triggers=[{"nut": NUT | {"backOnLine": "5s"}}])
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch")
    await host.says(ON_LINE)
    await host.told("has been brought up again")
    assert host.asked() == ["batch", "app"]
    assert host.asked(pb.PowerOnRequest) == ["app", "batch"]
    await host.close()


async def test_what_the_first_stage_has_asked_is_asked_once_more_by_nobody(engine: Engine) -> None:
    lab = FakeProvider(batch=50, app=5, db=5)
    host = Host(engine, lab)
    await host.says(ON_BATTERY)
    await host.told("The named tiers go down")
    await host.says(LOW)
    await host.work
    assert [each.vm for each in lab.operations.values()].count("batch") == 2  # the second says ALREADY_OFF
    assert lab.off["batch"] < lab.asked["app"]


async def test_what_the_first_stage_has_asked_is_over_before_the_battery_is(engine: Engine) -> None:
    lab = FakeProvider(batch=None, app=5, db=5)
    lab.vms["batch"].own_timeout.FromTimedelta(timedelta(minutes=9))
    host = Host(engine, lab)
    await host.says(ON_BATTERY)
    await host.told("The named tiers go down")
    await host.says(ON_BATTERY, charge=30, minutes=4)
    await host.says(ON_BATTERY, charge=30, minutes=4)
    await host.went_off("batch", "app", "db")
    ends = host.begun[-1].history.ends
    assert EPOCH + timedelta(seconds=max(lab.off.values())) < ends
    await host.close()


async def test_what_two_stages_have_stopped_comes_up_though_the_first_was_left(engine: Engine) -> None:
    host = Host(engine, FakeProvider(batch=50, app=5, db=5))
    await host.says(ON_BATTERY)
    await host.told("The named tiers go down")
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("db")
    await host.says(ON_LINE)
    await host.told("has been brought up again")
    assert host.asked(pb.PowerOnRequest) == ["db", "app", "batch"]
    await host.close()


@pytest.mark.parametrize("words", [LOW, "FSD OB", "FSD OL CHRG"])
async def test_without_return_it_logs_out_after_the_last_verdict_and_ends(host: Host, words: str) -> None:
    await host.says(words)
    await host.work
    assert host.lab.off.keys() == {"batch", "app", "db"}
    assert host.logged_out is not None
    assert host.logged_out >= max(host.lab.off.values())
    assert host.begun[-1].history.closed is not None


async def test_without_return_power_that_is_back_ends_nothing(host: Host) -> None:
    await host.says("FSD OB")
    await host.says("FSD OL CHRG")
    await host.work
    assert host.begun[0].history.aborted is None
    assert host.asked(pb.PowerOnRequest) == []


async def test_all_down_it_stays_logged_in_until_the_ups_says_fsd(host: Host) -> None:
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("db")
    await asyncio.sleep(600)
    assert host.logged_out is None
    await host.says("FSD OB LB")
    await host.work
    assert len(host.begun) == 1


async def test_a_run_of_the_first_stage_that_was_left_is_closed_in_the_end(engine: Engine) -> None:
    host = Host(engine, FakeProvider(batch=50, app=5, db=5))
    await host.says(ON_BATTERY)
    await host.told("The named tiers go down")
    await host.says(LOW)
    await host.work
    closed = host.begun[0].history.closed
    assert closed is not None
    assert closed.message == f"Taken over by run {host.begun[1].history.start.run}."


async def test_power_that_fails_again_while_all_comes_up_brings_it_down_again(engine: Engine) -> None:
    ready = {"ready": {"signal": "Agent", "timeout": "10m"}}
    host = Host(engine, FakeProvider(batch=5, app=5, db=5), bringUp=ready)
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("db")
    await host.says(ON_LINE)
    await host.told("The power is back")
    await asyncio.sleep(30)
    host.lab.off.clear()
    await host.says(ON_BATTERY, charge=20)
    await host.went_off("db")
    assert len(host.begun) == 2
    await host.close()


@pytest.mark.parametrize("words", [ON_BATTERY, LOW])
async def test_power_that_fails_again_goes_through_the_stages_again(engine: Engine, words: str) -> None:
    ready = {"ready": {"signal": "Agent", "timeout": "30m"}}
    host = Host(engine, FakeProvider(batch=5, app=5, db=5), bringUp=ready)
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("db")
    await host.says(ON_LINE)
    await host.told("The power is back")
    await host.says(ON_BATTERY)
    await host.told("The named tiers go down")
    await host.says(words, charge=20)
    await host.began(3)
    assert [begun.stage for begun in host.begun] == [Stage.ALL, Stage.NAMED, Stage.ALL]
    await host.close()


async def test_a_run_ends_before_the_battery_does(host: Host) -> None:
    await host.says(ON_BATTERY, charge=30, minutes=5)
    await host.went_off("batch")
    assert host.untils == [pytest.approx(240, abs=5)]


async def test_a_run_under_way_ends_sooner_when_the_battery_says_less_twice(host: Host) -> None:
    host.lab.takes["app"] = None
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch")
    run = host.begun[0].history
    await host.says(ON_BATTERY, charge=30, minutes=2)
    assert run.shortened is None
    await host.says(ON_BATTERY, charge=30, minutes=2)
    await asyncio.sleep(0.1)
    assert (run.ends - wall()).total_seconds() == pytest.approx(60, abs=6)


async def test_a_battery_that_lasts_longer_again_gives_nothing_back(host: Host) -> None:
    host.lab.takes["app"] = None
    await host.says(ON_BATTERY, charge=30, minutes=5)
    await host.went_off("batch")
    ends = host.begun[0].history.ends
    await host.says(ON_BATTERY, charge=30, minutes=50)
    await asyncio.sleep(30)
    assert host.begun[0].history.ends == ends


async def test_contact_that_is_lost_on_battery_brings_all_down(host: Host) -> None:
    await host.says(ON_BATTERY)
    await host.says(None)
    await host.went_off("db")
    assert "a: no contact: it is gone" in host.lines


async def test_a_run_that_cannot_begin_is_tried_again(host: Host) -> None:
    host.failure = "lab: it is away"
    await host.says(LOW)
    await asyncio.sleep(60)
    host.failure = ""
    await host.work
    assert host.lines.count("The run cannot begin; it is tried again. lab: it is away") == 1
    assert host.lab.off.keys() == {"batch", "app", "db"}


async def test_what_can_go_down_does_when_the_whole_cannot_for_a_while(host: Host) -> None:
    host.failure, host.in_part = "pve is away", True
    await host.says(ON_BATTERY, charge=30)
    await asyncio.sleep(8)
    assert host.asked() == []
    await asyncio.sleep(60)
    assert host.asked() == ["batch"]


async def test_the_whole_takes_over_what_went_down_in_part_as_soon_as_it_can(host: Host) -> None:
    host.failure, host.in_part = "pve is away", True
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch")
    host.failure = ""
    await host.went_off("batch", "app", "db")
    assert [begun.in_part for begun in host.begun] == [True, False]


async def test_power_that_is_back_brings_up_what_went_down_in_part(host: Host) -> None:
    host.failure, host.in_part = "pve is away", True
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch")
    await host.says(ON_LINE)
    await host.told("has been brought up again")
    assert host.asked(pb.PowerOnRequest) == ["batch"]


async def test_without_return_what_cannot_go_down_keeps_the_primary_no_longer_than_the_budget(host: Host) -> None:
    host.failure, host.in_part = "pve is away", True
    await host.says(LOW)
    await host.work
    assert (list(host.lab.off), len(host.begun)) == (["batch"], 1)
    assert now() == pytest.approx(600, abs=30)


async def started(host: Host, vm: str) -> None:
    """By somebody, when all had gone down on battery."""
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch", "app", "db")
    await host.begun[0].ended()
    await host.lab.turn(vm, pb.POWER_STATE_ON)
    host.lab.off.clear()


async def test_what_somebody_starts_on_battery_runs_on_until_the_battery_is_low(host: Host) -> None:
    await started(host, "db")
    await host.says(ON_BATTERY, charge=30)
    await asyncio.sleep(600)
    assert len(host.begun) == 1
    await host.says(LOW)
    await host.work
    assert (list(host.lab.off), len(host.begun)) == (["db"], 2)


async def test_without_return_it_is_looked_at_once(host: Host) -> None:
    await started(host, "db")
    await host.says(LOW)
    await host.work
    again = host.waits(*host.begun)
    again.final = host.waiting.final
    await host.lab.turn("db", pb.POWER_STATE_ON)
    await again.carry_out(host._follow)
    assert (again.final, len(host.begun)) == (host.begun[1].name, 2)


async def test_what_runs_again_and_cannot_be_brought_down_keeps_the_primary_no_longer_than_the_budget(
    host: Host,
) -> None:
    await started(host, "db")
    host.failure, begun = "lab: it is away", now()
    await host.says(LOW)
    await host.work
    assert now() - begun == pytest.approx(600, abs=30)


async def test_of_the_first_stage_nothing_goes_down_in_part(host: Host) -> None:
    host.failure, host.in_part = "pve is away", True
    await host.says(ON_BATTERY)
    await asyncio.sleep(600)
    assert host.asked() == []


async def test_a_run_that_cannot_begin_within_its_budget_ends_it(host: Host) -> None:
    host.failure = "lab: it is away"
    await host.says(LOW)
    with pytest.raises(CannotBegin):
        await host.work
    assert now() == pytest.approx(600, abs=30)


async def test_told_to_leave_it_leaves_the_run_as_it_is(host: Host) -> None:
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch")
    await host.close()
    assert host.begun[0].history.closed is None
    assert host.logged_out == pytest.approx(now(), abs=0.1)


async def test_runs_that_were_left_are_gone_on_with(host: Host) -> None:
    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch")
    await host.close()
    again = host.waits(*host.begun)
    work = asyncio.ensure_future(again.carry_out(host._follow))
    await host.says(LOW)
    await work
    assert host.lab.off.keys() == {"batch", "app", "db"}
    assert len(host.begun) == 1


async def test_who_is_not_let_in_is_told(host: Host) -> None:
    async def refuse(ups: str, seen: Callable[[Seen], None]) -> None:
        raise NotLetIn(f"{ups}: ACCESS-DENIED")

    with pytest.raises(NotLetIn):
        await host.waits().carry_out(refuse)


async def test_who_is_not_let_in_carries_out_the_run_that_was_left(host: Host) -> None:
    async def refuse(ups: str, seen: Callable[[Seen], None]) -> None:
        raise NotLetIn(f"{ups}: ACCESS-DENIED")

    await host.says(ON_BATTERY, charge=30)
    await host.went_off("batch")
    await host.close()
    with pytest.raises(NotLetIn):
        await host.waits(*host.begun).carry_out(refuse)
    assert host.lab.off.keys() == {"batch", "app", "db"}
