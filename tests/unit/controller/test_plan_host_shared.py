"""Runs with which controllers elsewhere may have to go on: their records are in the statuses of their PowerRuns."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from controller.models import PowerRun
from controller.plan_host import FOLDER
from controller.plan_terms import Asked, RunRefused
from controller.run_record import packed, unpacked
from controller.run_status import PowerRunStatus
from controller.source import Key, Rejected, ResourceGone, SourceError, key_of
from plans.history import History
from plans.journal import Runs
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.fakes import FakeSource
from tests.unit.controller.plan_world import FakeWorld, Guests, Hosting, declared, plan, run
from tests.unit.plans.builders import tier

pytestmark = pytest.mark.looptime

APP, DB = ("default/lab", "app"), ("default/lab", "db")
TONIGHT = key_of(run())
HOUR = timedelta(hours=1)
AWAY = SourceError("The API server does not answer.")


def shared() -> FakeSource:
    return FakeSource(shared=True)


def lab() -> Guests:
    return Guests(app=5, db=5)


def holders(world: FakeWorld) -> tuple[str, str]:
    return world.host.holder(*APP), world.host.holder(*DB)


def known(status: PowerRunStatus) -> PowerRun:
    """The PowerRun as the API has it."""
    return run().model_copy(update={"status": status})


# The record


async def test_its_status_says_that_it_began_before_a_guest_is_asked(hosting: Hosting) -> None:
    guests, source = lab(), shared()
    source.write_time = 3.0
    await hosting.start(plan(), run(), source=source, lab=guests)
    await asyncio.sleep(2)
    assert guests.asked == {}
    await asyncio.sleep(5)
    first = source.statuses[TONIGHT][0]
    assert isinstance(first, PowerRunStatus)
    assert (first.phase, unpacked(first.record).events) == ("Running", [])
    assert "app" in guests.asked


async def test_a_run_whose_begin_cannot_be_written_down_is_begun_when_it_can(hosting: Hosting) -> None:
    guests, source = lab(), shared()
    source.failures = [AWAY, AWAY]
    world = await hosting.start(plan(), run(), source=source, lab=guests)
    await asyncio.sleep(40)
    assert world.status().phase == "Held"
    assert len(guests.operations) == 2


async def test_a_run_that_is_gone_before_it_begins_touches_no_guest(hosting: Hosting) -> None:
    guests, source = lab(), shared()
    source.failures = [ResourceGone("PowerRun default/tonight")]
    await hosting.start(plan(), run(), source=source, lab=guests)
    await asyncio.sleep(20)
    assert (guests.operations, source.statuses) == ({}, {})


async def test_a_run_without_a_power_run_is_refused(hosting: Hosting) -> None:
    world = await hosting.start(plan(), source=shared(), lab=lab())
    with pytest.raises(RunRefused, match="make a PowerRun of it"):
        await world.host.start(Asked(Key("PowerPlan", "default", "night")))


async def test_where_no_one_shares_it_the_status_has_no_record(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    assert world.status().record == ""


# The next leader


async def test_a_leader_on_another_disk_goes_on_with_the_same_requests(hosting: Hosting, elsewhere: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    await hosting.end()
    before = world.status()
    world = await elsewhere.start(plan(), known(before), source=shared(), lab=guests)
    assert holders(world) == ("tonight", "tonight")
    await asyncio.sleep(20)
    asked = [request for request in guests.sent(pb.ShutdownRequest) if request.vm == "app"]
    assert len({(request.request_id, request.force_after.ToSeconds()) for request in asked}) == 1
    assert len(guests.operations) == 2
    assert (world.status().phase, world.status().ends) == ("Held", before.ends)


async def test_a_leader_on_another_disk_holds_what_was_held(hosting: Hosting, elsewhere: Hosting) -> None:
    world = await hosting.start(plan(), run(), source=shared(), lab=lab())
    await asyncio.sleep(20)
    await hosting.end()
    world = await elsewhere.start(plan(), known(world.status()), source=shared(), lab=lab())
    assert holders(world) == ("tonight", "tonight")


async def test_what_it_took_over_is_on_its_disk(hosting: Hosting, elsewhere: Hosting, tmp_path: Path) -> None:
    world = await hosting.start(plan(), run(), source=shared(), lab=lab())
    await asyncio.sleep(2)
    await hosting.end()
    world = await elsewhere.start(plan(), known(world.status()), source=shared(), lab=lab())
    await asyncio.sleep(20)
    (history,) = Runs(tmp_path / "elsewhere" / FOLDER).all()
    assert history.events == (await world.host.runs.history("tonight")).events
    assert history.closed


async def test_its_own_disk_counts_where_that_knows_more(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    old = world.status()
    await asyncio.sleep(20)
    await hosting.end()
    world = await hosting.start(plan(), known(old), source=shared(), lab=guests)
    await asyncio.sleep(1)
    assert (world.status().phase, len(guests.operations)) == ("Held", 2)


async def test_the_status_counts_where_that_knows_more(hosting: Hosting, elsewhere: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    await hosting.end()
    world = await elsewhere.start(plan(), known(world.status()), source=shared(), lab=guests)
    await asyncio.sleep(20)
    world = await hosting.start(plan(), known(world.status()), source=shared(), lab=guests)
    assert (await world.host.runs.history("tonight")).closed
    await asyncio.sleep(20)
    assert len(guests.operations) == 2


@pytest.mark.parametrize("record", ["", "no record"])
async def test_a_status_without_a_record_is_lost(elsewhere: Hosting, record: str) -> None:
    guests, status = lab(), PowerRunStatus(phase="Running", record=record)
    world = await elsewhere.start(plan(), known(status), source=shared(), lab=guests)
    await asyncio.sleep(20)
    assert (world.status().phase, guests.operations) == ("Lost", {})


async def test_another_runs_record_is_not_taken_for_its_own(hosting: Hosting, elsewhere: Hosting) -> None:
    world = await hosting.start(plan(), run(), source=shared(), lab=lab())
    await asyncio.sleep(2)
    guests, other = lab(), run("other").model_copy(update={"status": world.status()})
    world = await elsewhere.start(plan(), other, source=shared(), lab=guests)
    await asyncio.sleep(20)
    assert (world.status("other").phase, guests.operations) == ("Lost", {})


async def test_a_record_whose_times_have_no_zone_is_lost_and_keeps_no_other_run_from_going_on(
    hosting: Hosting, elsewhere: Hosting
) -> None:
    world = await hosting.start(plan(), run(), source=shared(), lab=lab())
    await asyncio.sleep(2)
    start = unpacked(world.status().record).start
    other = run("other")
    strange = start.model_copy(
        update={"run": "other-1", "resource": "other", "uid": other.metadata.uid, "at": start.at.replace(tzinfo=None)}
    )
    status = world.status().model_copy(update={"record": packed(History(strange))})
    told = other.model_copy(update={"status": status})
    world = await elsewhere.start(plan(), known(world.status()), told, source=shared(), lab=lab())
    await asyncio.sleep(30)
    assert (world.status().phase, world.status("other").phase) == ("Held", "Lost")


async def test_a_record_under_the_name_of_another_run_does_not_take_its_place(
    hosting: Hosting, elsewhere: Hosting
) -> None:
    world = await hosting.start(plan(), run(), source=shared(), lab=lab())
    await asyncio.sleep(30)
    start, other = unpacked(world.status().record).start, run("other")
    theirs = start.model_copy(update={"resource": "other", "uid": other.metadata.uid, "at": start.at + HOUR})
    status = world.status().model_copy(update={"record": packed(History(theirs))})
    told = other.model_copy(update={"status": status})
    world = await elsewhere.start(plan(), known(world.status()), told, source=shared(), lab=lab())
    await asyncio.sleep(30)
    assert holders(world) == ("tonight", "tonight")


async def test_a_record_that_another_process_has_is_waited_for(hosting: Hosting, tmp_path: Path) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    beside = Hosting(tmp_path / "here")  # on the same disk
    other = await beside.start(plan(), known(world.status()), source=shared(), lab=guests)
    assert holders(other) == ("tonight", "tonight")
    await asyncio.sleep(30)
    await hosting.end()
    await asyncio.sleep(60)
    assert (await other.host.runs.history("tonight")).closed
    assert (other.status().phase, len(guests.operations)) == ("Held", 2)
    await beside.end()


# Without the lead


async def test_a_run_goes_on_while_the_lead_is_lost_and_its_status_catches_up(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    world.host.attach(world)
    await asyncio.sleep(20)
    assert set(guests.off) == {"app", "db"}
    await world.host.synced()
    await asyncio.sleep(1)
    assert (world.status().phase, holders(world)) == ("Held", ("tonight", "tonight"))


async def test_an_owner_is_heeded_while_the_lead_is_lost(hosting: Hosting) -> None:
    guests = lab()
    slow = plan(tier("apps", "lab/app"), tier("databases", "lab/db"), bringUp={})
    machines = [declared("app"), declared("db")]
    world = await hosting.start(slow, run(), machines=machines, source=shared(), lab=guests)
    await asyncio.sleep(20)
    world.machines = [declared("app", "Off"), declared("db")]
    await world.host.bring_up("tonight")
    world.host.attach(FakeWorld(world.host, world.guests))
    await asyncio.sleep(20)
    assert [request.vm for request in guests.sent(pb.PowerOnRequest)] == ["db"]


async def test_a_run_that_is_asked_for_while_the_lead_is_lost_is_begun_later(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(run(), source=shared(), lab=guests)
    world.host.attach(world)  # before the plan is waited for in vain
    await asyncio.sleep(20)
    assert (guests.operations, world.source.statuses) == ({}, {})
    world.host.apply(key_of(plan()), plan())
    await world.host.synced()
    await asyncio.sleep(20)
    assert world.status().phase == "Held"


async def test_where_another_one_leads_nothing_goes_on_and_nothing_is_held(hosting: Hosting, tmp_path: Path) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    await world.host.stand_down()
    await asyncio.sleep(20)
    assert ("db" in guests.asked, holders(world), guests.closed) == (False, ("", ""), 1)
    Runs(tmp_path / "here" / FOLDER).resume(world.status().run)[1].close()  # another process may have it


async def test_who_leads_again_goes_on_by_what_is_known_then(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    await world.host.stand_down()
    world.host.attach(world)
    for resource in (plan(), known(world.status())):
        world.host.apply(key_of(resource), resource)
    await world.host.synced()
    await asyncio.sleep(20)
    assert (world.status().phase, len(guests.operations)) == ("Held", 2)


# Deleted while no controller led


async def test_a_run_that_is_gone_for_certain_is_aborted_by_the_next_leader(hosting: Hosting) -> None:
    guests, source = lab(), shared()
    await hosting.start(plan(bringUp={}), run(), source=source, lab=guests)
    await asyncio.sleep(2)
    await hosting.end()
    source.gone = {TONIGHT}
    world = await hosting.start(plan(bringUp={}), source=source, lab=guests)
    await asyncio.sleep(60)
    assert ("db" in guests.asked, holders(world)) == (False, ("", ""))
    assert [request.vm for request in guests.sent(pb.PowerOnRequest)] == ["app"]


async def test_one_that_was_over_is_released(hosting: Hosting) -> None:
    source = shared()
    await hosting.start(plan(), run(), source=source, lab=lab())
    await asyncio.sleep(20)
    await hosting.end()
    source.gone = {TONIGHT}
    world = await hosting.start(plan(), source=source, lab=lab())
    await asyncio.sleep(1)
    assert holders(world) == ("", "")


async def test_one_of_its_name_that_was_made_anew_is_another_one(hosting: Hosting) -> None:
    guests = lab()
    await hosting.start(plan(), run(), source=shared(), lab=guests)
    await asyncio.sleep(20)
    await hosting.end()
    meta = run().metadata.model_copy(update={"uid": "another-one"})
    world = await hosting.start(plan(), run().model_copy(update={"metadata": meta}), source=shared(), lab=guests)
    await asyncio.sleep(20)
    assert (world.status().phase, len(guests.operations)) == ("Held", 4)


# Plans that are invalid


async def test_a_plan_that_became_invalid_is_not_in_effect_any_more(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), source=shared(), lab=guests)
    world.host.reject(Rejected(key_of(plan()), 2, "spec.tiers: they wait for one another", plan().status))
    world.host.apply(TONIGHT, run())
    await asyncio.sleep(1)
    assert (world.status().phase, guests.operations) == ("Refused", {})
    assert "they wait for one another" in world.status().message


# Old records


async def two_leaders(hosting: Hosting, elsewhere: Hosting, guests: Guests) -> PowerRun:
    """The PowerRun as the second one, elsewhere, has ended and released it; the first one has an old record."""
    world = await hosting.start(plan(bringUp={}), run(), source=shared(), lab=guests)
    await asyncio.sleep(2)
    await hosting.end()
    world = await elsewhere.start(plan(bringUp={}), known(world.status()), source=shared(), lab=guests)
    with pytest.raises(RunRefused, match="about to be taken up"):
        await world.host.abort("tonight")
    await asyncio.sleep(1)
    await world.host.abort("tonight")
    await asyncio.sleep(30)
    assert world.status().phase == "Released"
    return known(world.status())


async def test_an_old_record_of_what_is_released_is_not_taken_up(hosting: Hosting, elsewhere: Hosting) -> None:
    guests = lab()
    released = await two_leaders(hosting, elsewhere, guests)
    before = len(guests.operations)
    world = await hosting.start(plan(bringUp={}), released, source=shared(), lab=guests)
    await asyncio.sleep(20)
    assert (holders(world), len(guests.operations)) == (("", ""), before)


async def test_nor_is_it_when_the_power_run_is_deleted_later(hosting: Hosting, elsewhere: Hosting) -> None:
    guests, source = lab(), shared()
    released = await two_leaders(hosting, elsewhere, guests)
    before = len(guests.operations)
    await hosting.start(plan(bringUp={}), released, source=source, lab=guests)
    await asyncio.sleep(1)
    await hosting.end()
    source.gone = {TONIGHT}
    world = await hosting.start(plan(bringUp={}), source=source, lab=guests)
    await asyncio.sleep(30)
    assert (holders(world), len(guests.operations)) == (("", ""), before)


async def test_what_was_deleted_since_another_one_led_is_released_and_no_more(
    hosting: Hosting, elsewhere: Hosting
) -> None:
    guests, source = lab(), shared()
    await two_leaders(hosting, elsewhere, guests)
    before = len(guests.operations)
    source.gone = {TONIGHT}
    world = await hosting.start(plan(bringUp={}), source=source, stood_by=True, lab=guests)
    await asyncio.sleep(30)
    assert (holders(world), len(guests.operations)) == (("", ""), before)


async def test_a_run_that_is_deleted_while_the_lead_is_lost_is_aborted(hosting: Hosting) -> None:
    guests, source = lab(), shared()
    world = await hosting.start(plan(bringUp={}), run(), source=source, lab=guests)
    await asyncio.sleep(2)
    world.host.attach(world)
    source.gone = {TONIGHT}
    world.host.apply(key_of(plan()), plan(bringUp={}))
    await world.host.synced()
    await asyncio.sleep(30)
    assert ("db" in guests.asked, holders(world)) == (False, ("", ""))


async def test_who_follows_a_run_is_told_when_another_one_leads(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), source=shared(), lab=lab())
    await asyncio.sleep(2)
    told = [
        facts
        async for facts in world.host.runs.follow(await world.host.runs.history("tonight"))
        if await stand_down(world)
    ]
    assert told == [[]]  # and that was all


async def stand_down(world: FakeWorld) -> bool:
    await world.host.stand_down()
    return True
