"""Runs that begin at set times, with providers in memory and in virtual time, which begins at midnight UTC."""

import asyncio
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.hosted_runs import HostedRuns
from controller.models import PowerPlan
from controller.plan_host import KEPT
from controller.plan_schedule import ScheduleTrigger, comes_up
from controller.plan_terms import Asked
from controller.source import Key, Rejected, SourceError, key_of
from plans.clock import Clock
from plans.history import Start
from plans.journal import Runs
from plans.model import CronSchedule
from plans.ups.follow import NotLetIn
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.plan_world import FakeWorld, Guests, Hosting, run
from tests.unit.controller.plan_world import plan as any_plan
from tests.unit.controller.site import NIGHT, TRIGGER, Site, asked, lab, runs, source, told
from tests.unit.plans.builders import EPOCH, here, tier
from tests.unit.plans.fake import wall

pytestmark = pytest.mark.looptime

HOUR = 3600.0
NIGHTLY = {"cron": "0 22 * * *", "bringUpAt": "0 6 * * *"}


def plan(*schedules: Any, **changes: Any) -> PowerPlan:
    """At ten in the evening all goes down, and at six in the morning it comes up."""
    triggers = [{"schedule": each} for each in schedules or [NIGHTLY]]
    return any_plan(**{"bringUp": {}, "triggers": triggers} | changes)


async def at(hour: float) -> None:
    """Sleep until then, in hours of the first day."""
    await asyncio.sleep((EPOCH.replace(hour=0) + timedelta(hours=hour) - wall()).total_seconds())


def held(world: FakeWorld) -> bool:
    return bool(world.host.holder("default/lab", "app"))


async def test_at_its_moment_a_run_begins_that_is_no_emergency(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(21.99)
    assert asked(guests) == []
    await at(22.01)
    (begun,) = await runs(world)
    assert (asked(guests), begun.start.at.hour, begun.start.emergency) == (["app", "db"], 22, False)
    assert begun.start.trigger == "schedule '0 22 * * *' UTC"
    assert told(world, "RunBegan") == [f"At '0 22 * * *' run {begun.start.run} began."]


async def test_what_it_stopped_is_held_until_it_comes_up_at_its_moment(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(24 + 5.99)
    assert (held(world), asked(guests, pb.PowerOnRequest)) == (True, [])
    await at(24 + 6.01)
    assert (held(world), asked(guests, pb.PowerOnRequest)) == (False, ["db", "app"])
    assert told(world, "BroughtUp")


async def test_it_goes_on_night_after_night(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(24 * 7)
    assert len(await runs(world)) == 7
    assert len(asked(guests, pb.PowerOnRequest)) == 12


async def test_a_run_that_comes_up_sooner_than_the_next_look_at_the_clock_is_not_late(hosting: Hosting) -> None:
    guests = lab()
    await hosting.start(plan({"cron": "0 22 * * *", "bringUpAt": "1 22 * * *"}), source=source(), lab=guests)
    await at(22 + 1.2 / 60)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


async def test_without_a_moment_to_come_up_it_stays_down(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan({"cron": "0 22 1 * *"}), source=source(), lab=guests)
    await at(24 * 7)
    assert (held(world), asked(guests, pb.PowerOnRequest)) == (True, [])


async def test_each_of_several_schedules_brings_up_what_it_stopped(hosting: Hosting) -> None:
    noon = {"cron": "0 12 * * *", "bringUpAt": "0 13 * * *"}
    guests = lab()
    await hosting.start(plan(NIGHTLY, noon), source=source(), lab=guests)
    await at(13.1)
    assert (asked(guests), asked(guests, pb.PowerOnRequest)) == (["app", "db"], ["db", "app"])


async def test_a_run_still_under_way_when_all_comes_up_is_aborted(hosting: Hosting) -> None:
    guests = lab(app=120)
    world = await hosting.start(plan({"cron": "0 22 * * *", "bringUpAt": "1 22 * * *"}), source=source(), lab=guests)
    await at(22.5)
    (begun,) = await runs(world)
    assert begun.aborted is not None
    assert (asked(guests), asked(guests, pb.PowerOnRequest)) == (["app"], ["app"])


async def test_what_an_emergency_took_over_is_not_brought_up(hosting: Hosting) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(22.01)
    emergency = run(emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await at(24 + 12)
    assert asked(guests, pb.PowerOnRequest) == []


async def test_what_another_emergency_took_over_comes_up_when_that_is_released(hosting: Hosting) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(22.01)
    emergency = run(emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await at(24 + 12)
    await world.host.release("tonight")
    await asyncio.sleep(120)
    assert "app" in asked(guests, pb.PowerOnRequest)
    assert not held(world)


async def test_what_an_emergency_takes_over_while_it_comes_up_is_not_let_go(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(24 + 5.99)
    guests.slow[pb.PowerOnRequest] = 60
    await at(24 + 6.01)
    emergency = run(emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await at(24 + 8)
    assert (held(world), told(world, "BroughtUp")) == (True, [])
    await world.host.release("tonight")
    await asyncio.sleep(300)
    assert (held(world), asked(guests, pb.PowerOnRequest)[-1]) == (False, "app")


@pytest.mark.parametrize("fate", ["without the schedule", "deleted", "invalid"])
async def test_what_has_begun_comes_up_whatever_becomes_of_its_plan(hosting: Hosting, fate: str) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(23)
    match fate:
        case "deleted":
            world.host.delete(NIGHT)
        case "invalid":
            world.host.reject(Rejected(NIGHT, 2, "wrong", plan().status))
        case _:
            world.host.apply(NIGHT, any_plan(bringUp={}))
    await at(24 + 6.1)
    assert (held(world), asked(guests, pb.PowerOnRequest)) == (False, ["db", "app"])


async def test_a_slow_one_keeps_no_other_plan_waiting(hosting: Hosting) -> None:
    slow = plan(tiers=[tier("apps", "lab/app")])
    quick = plan({"cron": "0 21 * * *", "bringUpAt": "1 6 * * *"}, name="quick", tiers=[tier("databases", "pve/db")])
    guests, pve = Guests(app=5), Guests(db=5)
    await hosting.start(slow, quick, source=source(), lab=guests, pve=pve)
    guests.slow[pb.PowerOnRequest] = 600
    await at(24 + 6.05)
    assert (asked(guests, pb.PowerOnRequest), asked(pve, pb.PowerOnRequest)) == ([], ["db"])


# In an outage


def in_an_outage() -> PowerPlan:
    """Of a plan that has a UPS too."""
    return plan(NIGHTLY, triggers=[{"schedule": NIGHTLY}, {"nut": TRIGGER}])


async def fails_before_dawn(hosting: Hosting, site: Site) -> tuple[FakeWorld, Guests]:
    """All is down for the night when the power fails, minutes before it is to come up."""
    guests = lab()
    world = await hosting.start(in_an_outage(), source=source(), lab=guests)
    await at(24 + 5.9)
    await site.says("OB", charge=30)
    return world, guests


async def test_nothing_comes_up_at_its_moment_in_an_outage(hosting: Hosting, site: Site) -> None:
    world, guests = await fails_before_dawn(hosting, site)
    await at(24 + 7)
    assert asked(guests, pb.PowerOnRequest) == []
    assert "comes up when the power is back" in told(world, "BringUpWaits")[0]
    await site.says("OL")
    await asyncio.sleep(300)
    assert (held(world), asked(guests, pb.PowerOnRequest)) == (False, ["db", "app"])


async def test_an_edit_of_the_plan_in_an_outage_brings_nothing_up(hosting: Hosting, site: Site) -> None:
    world, guests = await fails_before_dawn(hosting, site)
    await at(24 + 6.1)
    world.host.apply(NIGHT, plan(NIGHTLY, total="11m", triggers=[{"schedule": NIGHTLY}, {"nut": TRIGGER}]))
    await at(24 + 7)
    assert asked(guests, pb.PowerOnRequest) == []


async def test_on_battery_before_any_stage_nothing_comes_up(hosting: Hosting, site: Site) -> None:
    guests = lab()
    low_alone = TRIGGER | {"onBattery": None}
    await hosting.start(plan(triggers=[{"schedule": NIGHTLY}, {"nut": low_alone}]), source=source(), lab=guests)
    await at(24 + 5.5)
    await site.says("OB", charge=60)
    await at(24 + 6.1)
    assert asked(guests, pb.PowerOnRequest) == []


@pytest.mark.parametrize("late", [0.05, 10.0])
async def test_who_starts_in_an_outage_brings_nothing_up_before_the_ups_was_read(
    hosting: Hosting, site: Site, monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    guests, log_in = lab(), site._log_in

    async def logs_in_late(*args: Any) -> None:
        await asyncio.sleep(late)
        await log_in(*args)

    await hosting.start(in_an_outage(), source=source(), lab=guests)
    await at(23)
    await hosting.end()
    await at(24 + 6.5)
    monkeypatch.setattr(site, "_log_in", logs_in_late)
    site.will_say("OB LB")
    await hosting.start(in_an_outage(), source=source(), lab=guests)
    await asyncio.sleep(300)
    assert asked(guests, pb.PowerOnRequest) == []


async def test_a_ups_that_nobody_can_read_keeps_nothing_down_for_ever(hosting: Hosting, site: Site) -> None:
    guests = lab()
    site.refusal = NotLetIn("a: upsd answers 'ACCESS-DENIED'")
    await hosting.start(in_an_outage(), source=source(), lab=guests)
    await at(24 + 6.1)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


async def test_what_is_to_be_off_at_night_does_not_come_up_with_the_power(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(in_an_outage(), source=source(), lab=guests)
    await at(21.9)
    await site.says("OB", charge=30)
    await at(22.2)
    await site.says("OL")
    await at(24 + 5.9)
    assert (held(world), asked(guests, pb.PowerOnRequest)) == (True, [])
    await at(24 + 6.1)
    assert (held(world), asked(guests, pb.PowerOnRequest)) == (False, ["db", "app"])


async def test_what_a_person_releases_while_it_waits_is_not_told_to_be_up(hosting: Hosting, site: Site) -> None:
    world, _ = await fails_before_dawn(hosting, site)
    await at(24 + 6.1)
    night, _ = await runs(world)
    await world.host.release(night.start.run)
    await site.says("OL")
    await asyncio.sleep(600)
    assert not any(night.start.run in line for line in told(world, "BroughtUp"))


# What keeps it from coming up


def lose(folder: Path, run: str) -> None:
    """The record of a run."""
    (record,) = folder.rglob(f"{run}*")
    record.unlink()


@pytest.mark.parametrize("emergency", [True, False])
async def test_what_a_person_s_run_holds_comes_up_with_that(hosting: Hosting, emergency: bool) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(23)
    mine = run(emergency=emergency)
    world.host.apply(key_of(mine), mine)
    await at(24 + 6.5)
    assert (asked(guests, pb.PowerOnRequest), world.host.holder("default/lab", "app")) == ([], "tonight")
    assert "but for lab/app, lab/db" in told(world, "BroughtUp")[0]
    await world.host.bring_up("tonight")
    await asyncio.sleep(60)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


async def test_a_run_whose_record_is_lost_keeps_no_other_one_down(hosting: Hosting, tmp_path: Path) -> None:
    noon = {"cron": "0 12 * * *", "bringUpAt": "0 5 * * *"}
    guests = lab()
    await hosting.start(plan(noon, NIGHTLY), source=source(), lab=guests)
    await at(12.5)
    await guests.turn("app", pb.POWER_STATE_ON)
    await at(22.5)
    await hosting.end()
    world = await hosting.start(plan(noon, NIGHTLY), source=source(), lab=guests)
    first = (await runs(world))[0].start.run
    lose(tmp_path, first)
    await at(24 + 8)
    assert "app" in asked(guests, pb.PowerOnRequest)


async def test_a_bug_in_bringing_up_is_no_loop(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = await hosting.start(plan(), source=source(), lab=lab())
    tries = list[str]()

    async def bring_back(name: str) -> None:
        tries.append(name)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(world.host, "bring_back", bring_back)
    await at(24 + 6 + 1 / 60)
    assert 3 < len(tries) < 10
    assert "a bug in vmpower: what a run has stopped does not come up" in capsys.readouterr().out


async def test_what_an_outage_took_over_comes_up_at_its_moment(hosting: Hosting, site: Site) -> None:
    guests = lab(app=5, db=120)
    world = await hosting.start(in_an_outage(), source=source(), lab=guests)
    await at(22.01)
    assert asked(guests) == ["app", "db"]
    await site.says("OB LB", charge=30)
    await at(22.5)
    await site.says("OL")
    await at(24 + 5.9)
    assert "app" not in asked(guests, pb.PowerOnRequest)
    await at(24 + 6.1)
    assert (held(world), "app" in asked(guests, pb.PowerOnRequest)) == (False, True)


# What is missed


async def test_a_run_that_was_missed_is_not_made_up_for(hosting: Hosting) -> None:
    guests = lab()
    await at(22.01)
    await hosting.start(plan(), source=source(), lab=guests)
    await at(24 + 21)
    assert asked(guests) == []


async def test_a_bring_up_that_was_missed_is_done_at_once(hosting: Hosting) -> None:
    guests = lab()
    await hosting.start(plan(), source=source(), lab=guests)
    await at(23)
    await hosting.end()
    await at(24 + 9)
    await hosting.start(plan(), source=source(), lab=guests)
    await asyncio.sleep(30)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


async def test_an_edit_of_the_schedule_changes_nothing_of_a_run_that_has_begun(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(23)
    changed = plan({"cron": "0 23 * * *", "bringUpAt": "0 9 * * *"})
    world.host.apply(key_of(changed), changed)
    await at(24 + 6.1)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


@pytest.mark.parametrize(("hours", "begun"), [(0.05, 1), (12.0, 0)])
async def test_a_clock_that_is_set_past_the_moment_begins_what_is_a_little_late_alone(
    tmp_path: Path, hours: float, begun: int
) -> None:
    class Asking:
        """A host that is only asked."""

        def __init__(self) -> None:
            self.asked: list[Asked] = []
            self.cluster = source()
            self.runs = HostedRuns(Runs(tmp_path), lambda: Clock(wall), here, lambda *_: None)

        def source(self) -> Any:
            return self.cluster

        async def is_undone(self, history: Any) -> bool:
            return False

        async def start(self, asked: Asked) -> Any:
            self.asked.append(asked)
            raise SourceError("not here")

        async def bring_back(self, name: str) -> None: ...

    set_by = [timedelta()]
    host = Asking()
    schedule = CronSchedule.model_validate({"cron": "0 22 * * *"})
    trigger = ScheduleTrigger(NIGHT, schedule, host, lambda: Clock(lambda: wall() + set_by[0]), lambda: None)
    work = asyncio.create_task(trigger.follow())
    await at(21.99)
    set_by[0] = timedelta(hours=hours)
    await asyncio.sleep(50)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert bool(host.asked) is bool(begun)
    assert [event.reason for _, event in host.cluster.events] == ([] if begun else ["ScheduleMissed"])


# What keeps it from beginning


async def test_while_another_run_is_under_way_it_is_refused_and_not_tried_again(hosting: Hosting) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(21.999)
    own = run()
    world.host.apply(key_of(own), own)
    await at(23)
    assert len(await runs(world)) == 1
    (why,) = told(world, "RunNotBegun")
    assert why.startswith("At '0 22 * * *' no run began. Run tonight of plan night is under way; one at a time.")


async def test_a_provider_that_is_away_for_a_moment_is_waited_for(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(21.99)
    guests.away = True
    await at(22.03)
    guests.away = False
    await at(22.1)
    assert (asked(guests), told(world, "RunNotBegun")) == (["app", "db"], [])


async def test_one_that_stays_away_is_told_after_some_minutes(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await at(21.99)
    guests.away = True
    await at(22.2)
    (why,) = told(world, "RunNotBegun")
    assert "Provider lab does not answer; nothing was done." in why


async def test_so_is_an_api_server_that_does_not_tell_our_own_machines(tmp_path: Path) -> None:
    hosting, guests, cluster = Hosting(tmp_path, self_namespace="default"), lab(), source()
    cluster.machines = SourceError("The API server does not answer.")
    world = await hosting.start(plan(self="Last"), source=cluster, lab=guests)
    await at(22.03)
    cluster.machines = []
    await at(22.1)
    assert (asked(guests), told(world, "RunNotBegun")) == (["app", "db"], [])
    await hosting.end()


async def test_it_begins_only_when_its_power_run_says_so(hosting: Hosting) -> None:
    guests, cluster = lab(), source(shared=True)
    cluster.make_failures = [SourceError("The API server does not answer.")] * 2
    await hosting.start(plan(), source=cluster, lab=guests)
    await at(22.1)
    (made,) = cluster.made.values()
    assert (made.spec.emergency, made.spec.trigger) == (False, "schedule '0 22 * * *' UTC")
    assert asked(guests) == ["app", "db"]


async def test_a_power_run_that_could_not_say_so_says_that_nothing_was_done(hosting: Hosting) -> None:
    guests, cluster = lab(), source(shared=True)
    world = await hosting.start(plan(), source=cluster, lab=guests)
    await at(21.99)
    cluster.failures = [SourceError("The API server does not answer.")]
    await at(22.1)
    first, second = (world.status(key.name) for key in cluster.made)
    assert (first.phase, second.phase, asked(guests)) == ("Refused", "Held", ["app", "db"])
    assert "nothing was done. The run cannot be declared: The API server does not answer." in first.message


async def test_so_does_one_whose_record_cannot_be_written(hosting: Hosting, tmp_path: Path) -> None:
    guests, cluster = lab(), source(shared=True)
    world = await hosting.start(plan(), source=cluster, lab=guests)
    shutil.rmtree(tmp_path / "here", ignore_errors=True)
    (tmp_path / "here").write_text("a file where its folder should be")
    await at(22.1)
    (made,) = cluster.made
    assert (world.status(made.name).phase, asked(guests)) == ("Refused", [])
    assert len(told(world, "RunNotBegun")) == 1


# When it comes up


def began(trigger: str) -> Start:
    spec = plan().spec
    at_ten = datetime(2030, 1, 1, 22, tzinfo=UTC)
    return Start(run="r", plan="night", spec=spec, tiers=(), at=at_ten, ends=at_ten, trigger=trigger)


def test_that_is_by_the_schedule_that_began_it() -> None:
    assert comes_up(began("schedule '0 22 * * *' UTC")) == datetime(2030, 1, 2, 6, tzinfo=UTC)


@pytest.mark.parametrize("trigger", ["", "a says LB", "schedule '0 22 * * *' Europe/Berlin"])
def test_what_no_schedule_of_the_plan_began_comes_up_on_request(trigger: str) -> None:
    assert comes_up(began(trigger)) is None


# What is kept


async def test_of_many_runs_the_newest_are_kept(hosting: Hosting) -> None:
    world = await hosting.start(plan(), source=source(), lab=lab())
    await at(24 * 14 + 12)
    kept = await runs(world)
    assert (len(kept), kept[-1].start.at.day) == (KEPT + 1, 14)


async def test_so_they_are_of_the_power_runs(hosting: Hosting) -> None:
    cluster = source(shared=True)
    world = await hosting.start(plan(), source=cluster, lab=lab())
    await at(24 * 14 + 12)
    assert list(dict.fromkeys(cluster.deleted)) == list(cluster.made)[: 13 - KEPT]
    assert {NIGHT.name} == {each.start.plan for each in await runs(world)}


async def test_one_that_cannot_be_deleted_keeps_no_other_from_it(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = source(shared=True)
    delete = cluster.delete_run

    async def stays(key: Key) -> None:
        if key == next(iter(cluster.made)):
            raise SourceError("Somebody's webhook refuses it.")
        await delete(key)

    monkeypatch.setattr(cluster, "delete_run", stays)
    await hosting.start(plan(), source=cluster, lab=lab())
    await at(24 * 14 + 12)
    assert list(dict.fromkeys(cluster.deleted)) == list(cluster.made)[1 : 13 - KEPT]


async def test_what_did_not_begin_is_kept_as_long_as_what_did(hosting: Hosting) -> None:
    cluster = source(shared=True)
    world = await hosting.start(plan(), source=cluster, lab=lab())
    await at(24 * KEPT + 21.99)
    assert len(cluster.made) == KEPT
    cluster.failures = [SourceError("The API server does not answer.")]
    await at(24 * KEPT + 22.1)
    (refused,) = (key for key in cluster.made if world.status(key.name).phase == "Refused")
    assert refused not in cluster.deleted
