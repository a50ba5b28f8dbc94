"""A host on which a UPS begins runs, with providers in memory and in virtual time."""

import asyncio
from collections.abc import Callable

import pytest

from controller import plan_ups as module
from controller.models import PowerPlan, PowerRun
from controller.plan_terms import Asked, RunRefused
from controller.run_status import PowerRunStatus
from controller.source import SourceError, UpsSecret, key_of
from plans.history import History, Start
from plans.journal import Journal, Runs
from plans.model import Nut
from plans.ups.client import Credentials, Login
from plans.ups.follow import NotLetIn, Seen
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.fakes import FakeSource
from tests.unit.controller.plan_world import FakeWorld, Guests, Hosting, run
from tests.unit.controller.plan_world import plan as any_plan
from tests.unit.controller.site import TRIGGER, Site, asked, lab, plan, runs, source, told
from tests.unit.plans.builders import tier

pytestmark = pytest.mark.looptime

APP, DB = ("default/lab", "app"), ("default/lab", "db")
AWAY = SourceError("The API server does not answer.")
LOW = "OB LB"
NAMES_NONE = {"onBattery": None}
"""Of a trigger without a first stage."""


@pytest.fixture
def slow_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes 2 s for the first record of a run."""
    create = Runs._create

    async def slow(self: Runs, start: Start) -> tuple[History, Journal]:
        await asyncio.sleep(2)
        return await create(self, start)

    monkeypatch.setattr(Runs, "_create", slow)


# What is said


async def test_a_flap_is_an_event_and_nothing_else(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.poll()
    await site.says("OB", 97)
    await site.says("OL")
    await asyncio.sleep(3600)
    assert told(world) == ["UpsRead"] * 3
    assert told(world, "UpsRead")[1] == "a: OB, 97 % of its charge, lasts 60 min"
    assert (asked(guests), await runs(world)) == ([], [])


async def test_on_battery_for_its_time_the_named_tiers_go_down_and_no_other(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB")
    await asyncio.sleep(600)
    assert asked(guests) == ["app"]
    assert told(world, "PowerFailed") == ["The named tiers go down: a has been on battery for 2m"]
    (begun,) = await runs(world)
    assert (begun.start.trigger, begun.start.emergency) == ("a has been on battery for 2m", True)


async def test_what_went_down_is_held_until_the_power_is_back(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB")
    await asyncio.sleep(300)
    assert world.host.holder(*APP)
    await site.says("OL")
    await asyncio.sleep(120)
    assert (asked(guests, pb.PowerOnRequest), world.host.holder(*APP)) == (["app"], "")
    assert told(world, "BroughtUp") == ["What was stopped has been brought up again, as the plan says."]


async def test_power_that_is_back_in_a_tier_begins_no_further_one(hosting: Hosting, site: Site) -> None:
    guests = lab(app=100)
    world = await hosting.start(plan(nut={"backOnLine": "10s"}), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await site.poll(3)
    await site.says("OL")
    await asyncio.sleep(300)
    assert (asked(guests), asked(guests, pb.PowerOnRequest)) == (["app"], ["app"])
    (begun,) = await runs(world)
    assert begun.aborted is not None
    assert begun.released is not None


async def test_a_low_battery_in_the_first_stage_brings_all_down(hosting: Hosting, site: Site) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB")
    await asyncio.sleep(130)
    await site.says(LOW)
    await asyncio.sleep(75)
    assert guests.off.keys() == {"app", "db"}
    first, second = await runs(world)
    assert first.taken_over is not None
    assert first.taken_over.by == second.start.run
    assert told(world, "AllDown") == ["All is down, and the primary may go on."]
    assert site.logged_out == 1


async def test_what_both_stages_stopped_comes_up_in_reverse(hosting: Hosting, site: Site) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB")
    await asyncio.sleep(130)
    await site.says("OB", charge=30)
    await asyncio.sleep(120)
    await site.says("OL")
    await asyncio.sleep(300)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]
    assert (world.host.holder(*APP), world.host.holder(*DB)) == ("", "")


async def test_power_that_fails_again_while_all_comes_up_brings_it_down_again(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(nut={"backOnLine": "10s"}), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await asyncio.sleep(60)
    guests.slow[pb.PowerOnRequest] = 20
    await site.says("OL")
    await site.poll(7)
    assert asked(guests, pb.PowerOnRequest) == ["db"]
    await site.says("OB", charge=30)
    await asyncio.sleep(200)
    await site.says("OL")
    await asyncio.sleep(300)
    assert {vm for vm in ("app", "db") if guests.vms[vm].power_state == pb.POWER_STATE_ON} == {"app", "db"}
    assert [each.released is not None for each in await runs(world)] == [True, True]


async def test_a_battery_that_says_less_shortens_the_run(hosting: Hosting, site: Site) -> None:
    world = await hosting.start(plan(), source=source(), lab=lab(app=None))
    await site.says("OB", charge=30)
    await site.poll(2)
    await site.says("OB", charge=30, minutes=4)
    await site.poll(3)
    (begun,) = await runs(world)
    assert begun.shortened is not None
    assert (begun.ends - begun.shortened.at).total_seconds() == pytest.approx(180, abs=10)


async def test_a_run_that_cannot_begin_is_told_once_and_then_begins_in_part(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(others="Refuse", tiers=any_plan().spec.tiers[:1]), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await site.poll(5)
    (refused,), (told_why,) = told(world, "RunNotBegun"), told(world, "RunInPart")
    assert "spec.others: no tier names lab/db" in refused
    assert "goes on without: spec.others: no tier names lab/db" in told_why
    assert asked(guests) == ["app"]


def over_two(pve: Guests) -> PowerPlan:
    """Of two providers, of which this one is away for now."""
    pve.away = True
    tiers = tier("apps", "lab/app"), tier("databases", "pve/db")
    return any_plan(*tiers, bringUp={}, triggers=[{"nut": TRIGGER}])


async def test_a_provider_that_comes_back_is_brought_down_too(hosting: Hosting, site: Site) -> None:
    guests, pve = Guests(app=5), Guests(db=5)
    world = await hosting.start(over_two(pve), source=source(), lab=guests, pve=pve)
    await site.says("OB", charge=30)
    await site.poll(5)
    assert told(world, "RunInPart")[0].endswith(" goes on without: provider pve does not answer")
    assert set(guests.off) == {"app"}
    pve.away = False
    await asyncio.sleep(120)
    assert set(pve.off) == {"db"}
    await site.says("OL")
    await asyncio.sleep(200)
    assert (asked(guests, pb.PowerOnRequest), asked(pve, pb.PowerOnRequest)) == (["app"], ["db"])


async def test_the_next_process_goes_on_trying_what_was_left_out(hosting: Hosting, site: Site) -> None:
    guests, pve = Guests(app=5), Guests(db=5)
    outage = over_two(pve)
    await hosting.start(outage, source=source(), lab=guests, pve=pve)
    await site.says("OB", charge=30)
    await site.poll(5)
    await hosting.end()
    await hosting.start(outage, source=source(), lab=guests, pve=pve)
    pve.away = False
    await asyncio.sleep(120)
    assert set(pve.off) == {"db"}


async def test_a_run_of_a_person_of_the_same_plan_is_taken_over(hosting: Hosting, site: Site) -> None:
    guests = lab(app=100)
    world = await hosting.start(plan(), run(emergency=True), source=source(), lab=guests)
    await asyncio.sleep(5)
    await site.says(LOW)
    await asyncio.sleep(300)
    assert world.status().message.startswith("Taken over by run night-")
    assert guests.off.keys() == {"app", "db"}


async def test_an_emergency_of_another_plan_is_not_taken_over(hosting: Hosting, site: Site) -> None:
    other = any_plan(name="other")
    guests = lab(app=400)
    world = await hosting.start(plan(), other, source=source(), lab=guests)
    await world.host.start(Asked(key_of(other), emergency=True))
    await site.says(LOW)
    await site.poll(2)
    assert "under way, and brings down lab/app and 1 more of this one, too" in told(world, "RunNotBegun")[0]
    assert [request.reason for request in guests.sent(pb.ShutdownRequest)] == ["plan other"]


async def test_beside_an_emergency_of_another_plan_goes_down_what_that_does_not_bring_down(
    hosting: Hosting, site: Site
) -> None:
    other = any_plan(tier("apps", "lab/app"), name="other")
    guests = lab(app=400)
    world = await hosting.start(plan(), other, source=source(), lab=guests)
    await world.host.start(Asked(key_of(other), emergency=True))
    await site.says(LOW)
    await asyncio.sleep(60)
    assert "goes on without: spec.tiers: Run other-" in told(world, "RunInPart")[0]
    assert asked(guests) == ["app", "db"]


async def test_what_shares_no_vm_with_an_emergency_of_another_plan_does_not_wait_for_it(
    hosting: Hosting, site: Site
) -> None:
    rack = plan(tiers=[tier("apps", "lab/app")])
    other = any_plan(tier("databases", "lab/db"), name="other", bringUp={}, triggers=[{"nut": TRIGGER | NAMES_NONE}])
    guests = lab(app=100, db=100)
    world = await hosting.start(rack, other, source=source(), lab=guests)
    await site.says(LOW)
    await asyncio.sleep(60)
    assert sorted(asked(guests)) == ["app", "db"]
    assert told(world, "RunNotBegun") == []


async def test_a_run_of_a_schedule_waits_for_no_outage_to_end(hosting: Hosting, site: Site) -> None:
    other = any_plan(tier("databases", "lab/db"), name="other")
    world = await hosting.start(plan(tiers=[tier("apps", "lab/app")]), other, source=source(), lab=lab(app=100))
    await site.says(LOW)
    await site.poll(2)
    with pytest.raises(RunRefused, match="one at a time"):
        await world.host.start(Asked(key_of(other), trigger="schedule"))


async def test_a_run_that_a_person_ends_is_not_begun_again_in_the_same_stage(hosting: Hosting, site: Site) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await site.poll(3)
    await world.host.abort("")
    await asyncio.sleep(600)
    assert (asked(guests), asked(guests, pb.PowerOnRequest)) == (["app"], ["app"])


async def test_a_powerrun_that_is_called_like_the_outages_run_is_not_taken_for_it(hosting: Hosting, site: Site) -> None:
    guests = lab()
    other = any_plan(tier("x", "pve/x"), name="other")
    world = await hosting.start(plan(), other, source=source(), lab=guests, pve=Guests(x=5))
    await site.says("OB", charge=30)
    await asyncio.sleep(60)
    (begun,) = await runs(world)
    alike = run(begun.start.run, plan="other")
    world.host.apply(key_of(alike), alike)
    await asyncio.sleep(60)
    await site.says("OL")
    await asyncio.sleep(300)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


async def test_a_plan_that_changes_while_its_run_is_about_to_be_carried_out_ends_no_run(
    hosting: Hosting, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)

    async def slow() -> None:
        if world.host.holder(*APP):
            await asyncio.sleep(3)

    monkeypatch.setattr(guests, "prepare", slow)
    await site.says(LOW)
    await asyncio.sleep(1)
    changed = plan(total="11m")
    world.host.apply(key_of(changed), changed)
    await asyncio.sleep(60)
    assert asked(guests) == ["app", "db"]


async def test_a_plan_that_changes_while_its_run_is_declared_leaves_no_powerrun_that_says_it_runs(
    hosting: Hosting, site: Site
) -> None:
    guests, slow = lab(), source(shared=True)
    slow.write_time = 3
    world = await hosting.start(plan(), source=slow, lab=guests)
    await site.says(LOW)
    await asyncio.sleep(1)
    changed = plan(total="11m")
    world.host.apply(key_of(changed), changed)
    await asyncio.sleep(300)
    phases = [world.status(key.name).phase for key in world.source.made]
    assert (asked(guests), phases) == (["app", "db"], ["Refused", "Held"])


async def test_power_that_is_back_leaves_no_run_that_was_put_on_disk_as_its_plan_was_changed(
    hosting: Hosting, site: Site, slow_records: None
) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says(LOW)
    await asyncio.sleep(1)
    site.will_say("OL")
    changed = plan(total="11m")
    world.host.apply(key_of(changed), changed)
    await asyncio.sleep(3600)
    assert (asked(guests), world.host.holder(*APP)) == ([], "")


async def test_a_lead_that_is_lost_while_a_run_is_put_on_disk_leaves_no_connection_open(
    hosting: Hosting, site: Site, slow_records: None
) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(shared=True), lab=guests)
    await site.says(LOW)
    await asyncio.sleep(1)
    await world.host.stand_down()
    await asyncio.sleep(10)
    assert (guests.closed, asked(guests)) == (1, [])


async def test_what_a_person_brings_up_on_battery_goes_down_when_the_battery_is_low(
    hosting: Hosting, site: Site
) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await asyncio.sleep(60)
    (begun,) = await runs(world)
    await world.host.bring_up(begun.start.run)
    await asyncio.sleep(600)
    assert (asked(guests), asked(guests, pb.PowerOnRequest)) == (["app", "db"], ["db", "app"])
    await site.says(LOW)
    await asyncio.sleep(60)
    assert asked(guests) == ["app", "db"] * 2


async def test_what_comes_up_by_a_person_as_the_battery_gets_low_goes_down_again(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await asyncio.sleep(60)
    (begun,) = await runs(world)
    guests.slow[pb.PowerOnRequest] = 30
    await world.host.bring_up(begun.start.run)
    await site.says(LOW)
    await asyncio.sleep(120)
    assert {guests.vms[vm].power_state for vm in ("app", "db")} == {pb.POWER_STATE_OFF}


async def test_what_somebody_starts_while_the_last_run_goes_on_goes_down_again(hosting: Hosting, site: Site) -> None:
    guests = lab(app=5, db=50)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says(LOW)
    await asyncio.sleep(30)
    await guests.turn("app", pb.POWER_STATE_ON)
    await asyncio.sleep(100)
    assert guests.vms["app"].power_state == pb.POWER_STATE_OFF
    assert told(world, "AllDown") == ["All is down, and the primary may go on."]


async def test_who_is_not_down_is_named_when_the_primary_may_go_on(hosting: Hosting, site: Site) -> None:
    guests = lab(db=None)
    stays = tier("apps", "lab/app"), tier("databases", "lab/db", atDeadline="Stop")
    world = await hosting.start(plan(tiers=stays, total="2m"), source=source(), lab=guests)
    await site.says(LOW)
    await asyncio.sleep(150)
    assert told(world, "AllDown") == ["The primary may go on. Not known to be down: lab/db."]


async def test_the_next_outage_is_told_though_a_person_has_released_the_last_one_s_run(
    hosting: Hosting, site: Site
) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says(LOW)
    await asyncio.sleep(30)
    await world.host.release("")
    site.will_say("OL")
    await asyncio.sleep(3600)
    for vm in guests.vms:
        await guests.turn(vm, pb.POWER_STATE_ON)
    await site.says(LOW)
    await asyncio.sleep(60)
    assert len(told(world, "PowerFailed")) == 2


# After the last verdict


async def test_a_ups_that_said_fsd_is_followed_again_and_power_that_is_back_brings_all_up(
    hosting: Hosting, site: Site
) -> None:
    guests = lab()
    await hosting.start(plan(), source=source(), lab=guests)
    await site.says("FSD OB LB")
    await asyncio.sleep(30)
    assert (set(guests.off), site.logged_out) == ({"app", "db"}, 1)
    await site.says("OL")
    await asyncio.sleep(300)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


async def test_while_it_says_fsd_nothing_comes_up_and_nothing_goes_down_twice(hosting: Hosting, site: Site) -> None:
    guests = lab()
    await hosting.start(plan(), source=source(), lab=guests)
    await site.says("FSD OL CHRG")
    await asyncio.sleep(3600)
    assert (asked(guests), asked(guests, pb.PowerOnRequest)) == (["app", "db"], [])


async def test_one_ups_that_does_not_let_us_in_keeps_us_from_no_other(
    hosting: Hosting, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow(nut: Nut, login: Credentials, ups: str, seen: Callable[[Seen], None]) -> None:
        if ups == "b":
            raise NotLetIn("b: upsd answers 'ACCESS-DENIED'")
        await site.follow(nut, login, ups, seen)

    monkeypatch.setattr(module, "follow", follow)
    guests, two = lab(), {"ups": [{"name": "a"}, {"name": "b", "powerValue": 0}]}
    world = await hosting.start(plan(nut=two), source=source(), lab=guests)
    await asyncio.sleep(1000)
    await site.says(LOW)
    await asyncio.sleep(20)
    assert (asked(guests), site.logged_out) == (["app", "db"], 1)
    assert len(told(world, "UpsNotLetIn")) == 1


async def test_who_is_not_let_in_is_told_and_tries_again(hosting: Hosting, site: Site) -> None:
    site.refusal = NotLetIn("a: upsd answers 'ACCESS-DENIED'")
    world = await hosting.start(plan(), source=source(), lab=lab())
    await asyncio.sleep(30)
    assert told(world, "UpsNotLetIn") == [
        "a: upsd answers 'ACCESS-DENIED'. The operator sets the user and its password (upsd.users)."
    ]
    site.refusal = None
    await site.poll()


# The login


async def test_a_plan_that_names_a_file_is_told_and_no_file_is_opened(hosting: Hosting, site: Site) -> None:
    nut = {"ups": [{"name": "a"}], "user": "vmpower", "passwordFile": "/etc/shadow"}
    world = await hosting.start(plan(triggers=[{"nut": nut}]), source=source(), lab=lab())
    await asyncio.sleep(60)
    assert (told(world), site.logins) == (["TriggersNotFollowed"], [])


async def test_it_is_the_secrets(hosting: Hosting, site: Site) -> None:
    await hosting.start(plan(), source=source(), lab=lab())
    await site.poll()
    assert site.logins == [Login("vmpower", "word")]


async def test_without_the_secret_there_is_no_contact(hosting: Hosting, site: Site) -> None:
    world = await hosting.start(plan(), source=FakeSource(), lab=lab())
    await asyncio.sleep(3)
    assert told(world, "UpsLost") == ["a: no contact: There is no secret default/ups."]


async def test_while_the_api_is_away_the_one_that_was_read_last_counts() -> None:
    class Away(FakeSource):
        async def ups_secret(self, namespace: str, name: str) -> UpsSecret:
            raise AWAY

    known: list[FakeSource] = [source()]
    login = module.SecretLogin(lambda: known[-1], "default", "ups")
    first = await login.read()
    known.append(Away())
    assert await login.read() is first


# The next process


async def test_the_next_process_goes_on_with_the_run_and_begins_no_other(hosting: Hosting, site: Site) -> None:
    guests = lab(app=60)
    await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await site.poll(3)
    await hosting.end()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await asyncio.sleep(300)
    assert (asked(guests), len(await runs(world))) == (["app", "app", "db"], 1)


async def test_the_next_process_brings_up_when_the_power_is_back_what_is_down(hosting: Hosting, site: Site) -> None:
    guests = lab()
    await hosting.start(plan(), source=source(), lab=guests)
    await site.says("FSD OB LB")
    await asyncio.sleep(30)
    await hosting.end()
    await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OL")
    await asyncio.sleep(300)
    assert asked(guests, pb.PowerOnRequest) == ["db", "app"]


# Where other controllers may have to go on


def declared(source: FakeSource) -> PowerRun:
    (made,) = source.made.values()
    return made


async def test_its_power_run_says_what_began_it_before_a_guest_is_asked(hosting: Hosting, site: Site) -> None:
    guests, cluster = lab(), source(shared=True)
    cluster.write_time = 3.0
    await hosting.start(plan(), source=cluster, lab=guests)
    await site.says("OB")
    await asyncio.sleep(122)
    made = declared(cluster)
    assert made.spec.model_dump(exclude_defaults=True) == {
        "plan_ref": {"name": "night"},
        "emergency": True,
        "tiers": ("apps",),
        "trigger": "a has been on battery for 2m",
    }
    assert guests.asked == {}
    await asyncio.sleep(20)
    assert "app" in guests.asked


async def test_the_next_leader_goes_on_with_it(hosting: Hosting, elsewhere: Hosting, site: Site) -> None:
    guests, cluster = lab(app=60), source(shared=True)
    await hosting.start(plan(), source=cluster, lab=guests)
    await site.says("OB", charge=30)
    await site.poll(3)
    await hosting.worlds[-1].host.stand_down()
    made = declared(cluster)
    status = cluster.statuses[key_of(made)][-1]
    assert isinstance(status, PowerRunStatus)
    known = made.model_copy(update={"status": status})
    world = await elsewhere.start(plan(), known, source=cluster, lab=guests)
    await asyncio.sleep(300)
    assert (set(guests.off), len(await runs(world)), len(cluster.made)) == ({"app", "db"}, 1, 1)


async def test_where_it_cannot_be_declared_in_an_outage_the_run_begins_all_the_same(
    hosting: Hosting, site: Site
) -> None:
    guests, cluster = lab(), source(shared=True)
    cluster.make_failures = [AWAY]
    world = await hosting.start(plan(), source=cluster, lab=guests)
    await site.says("OB", charge=30)
    await asyncio.sleep(60)
    assert guests.off.keys() == {"app", "db"}
    assert world.host.holder(*APP)


async def test_an_outage_while_the_lead_is_lost_brings_all_down(hosting: Hosting, site: Site) -> None:
    guests, cluster = lab(), source(shared=True)
    world = await hosting.start(plan(), source=cluster, lab=guests)
    await site.poll()
    world.host.attach(FakeWorld(world.host, {}, source=cluster))
    await site.says("OB", charge=30)
    await asyncio.sleep(60)
    assert (set(guests.off), cluster.made) == ({"app", "db"}, {})
