"""Which plans' triggers are followed."""

import asyncio

import pytest

from controller.plan_triggers import A_BUG, MOST
from controller.source import key_of
from tests.unit.controller.plan_world import Hosting
from tests.unit.controller.plan_world import plan as any_plan
from tests.unit.controller.site import NIGHT, TRIGGER, Site, asked, lab, plan, runs, source, told

pytestmark = pytest.mark.looptime


async def test_a_ups_is_followed_wherever_it_is_among_the_triggers(hosting: Hosting, site: Site) -> None:
    triggers = [{"schedule": {"cron": "@daily"}}, {"nut": TRIGGER}]
    world = await hosting.start(any_plan(bringUp={}, triggers=triggers), source=source(), lab=lab())
    await site.poll()
    assert told(world) == ["UpsRead"]


async def test_a_plan_that_changes_is_followed_anew_and_its_run_goes_on(hosting: Hosting, site: Site) -> None:
    guests = lab(app=60)
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.says("OB", charge=30)
    await site.poll(3)
    changed = plan(nut={"margin": "2m"})
    world.host.apply(key_of(changed), changed)
    await asyncio.sleep(300)
    assert (len(site.logins), site.logged_out) == (2, 1)
    assert (asked(guests), len(await runs(world))) == (["app", "db"], 1)


async def test_the_same_plan_again_is_followed_on(hosting: Hosting, site: Site) -> None:
    world = await hosting.start(plan(), source=source(), lab=lab())
    await site.poll()
    world.host.apply(NIGHT, plan())
    await site.poll()
    assert len(site.logins) == 1


async def test_a_plan_that_is_deleted_is_followed_no_more(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await site.poll()
    world.host.delete(NIGHT)
    await asyncio.sleep(1)
    assert site.logged_out == 1


async def test_where_another_one_leads_nothing_is_followed(hosting: Hosting, site: Site) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=source(shared=True), lab=guests)
    await site.poll()
    await world.host.stand_down()
    await asyncio.sleep(60)
    assert (site.logged_out, len(site.logins)) == (1, 1)


async def test_of_a_namespace_only_so_many_are_followed_and_the_others_told_once(hosting: Hosting, site: Site) -> None:
    many = [plan(name=f"plan-{number:02}") for number in range(MOST + 1)]
    world = await hosting.start(*many, source=source(), lab=lab())
    await site.poll()
    world.host.apply(key_of(many[-1]), many[-1])
    await asyncio.sleep(1)
    assert len(site.logins) == MOST
    refused = [key for key, event in world.source.events if event.reason == "TriggersNotFollowed"]
    assert refused == [key_of(many[-1])]


async def test_there_is_room_again_when_one_is_deleted(hosting: Hosting, site: Site) -> None:
    many = [plan(name=f"plan-{number:02}") for number in range(MOST + 1)]
    world = await hosting.start(*many, source=source(), lab=lab())
    await site.poll()
    world.host.delete(key_of(many[0]))
    await asyncio.sleep(10)
    assert len(site.logins) == MOST + 1


async def test_a_bug_ends_no_trigger_for_good(
    hosting: Hosting, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(site, "refusal", ZeroDivisionError("a bug"))
    guests = lab()
    world = await hosting.start(plan(), source=source(), lab=guests)
    await asyncio.sleep(60)
    site.refusal = None
    await site.says("OB LB")
    await asyncio.sleep(60)
    assert set(told(world, "TriggerFailed")) == {A_BUG}
    assert asked(guests) == ["app", "db"]
