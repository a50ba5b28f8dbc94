import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.plan_host import FOLDER
from controller.plan_terms import RunRefused
from controller.source import GuestCredentials, key_of
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.plan_world import FakeWorld, Guests, Hosting, declared, plan, run
from tests.unit.plans.builders import tier

pytestmark = pytest.mark.looptime

APP, DB = ("default/lab", "app"), ("default/lab", "db")
UP: dict[str, Any] = {"bringUp": {}}


@pytest.fixture
async def hosting(tmp_path: Path) -> AsyncIterator[Hosting]:
    hosting = Hosting(tmp_path)
    yield hosting
    await hosting.end()


def lab() -> Guests:
    return Guests(app=5, db=5)


def holders(world: FakeWorld) -> tuple[str, str]:
    return world.host.holder(*APP), world.host.holder(*DB)


# The run


async def test_a_run_brings_its_plan_down_in_order(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), lab=guests)
    await asyncio.sleep(20)
    assert guests.off["app"] <= guests.asked["db"] < guests.off["app"] + 1
    assert world.status().phase == "Held"


async def test_its_status_is_the_record(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    apps, databases = world.status().tiers
    assert [(tier.name, vm.vm, vm.outcome, vm.off) for tier in (apps, databases) for vm in tier.vms] == [
        ("apps", "lab/app", "GRACEFUL", True),
        ("databases", "lab/db", "GRACEFUL", True),
    ]
    assert apps.began_at and apps.over_at and databases.began_at
    assert apps.began_at < apps.over_at <= databases.began_at


async def test_a_plan_that_is_declared_a_moment_later_is_waited_for(hosting: Hosting) -> None:
    world = await hosting.start(run(), lab=lab())
    await asyncio.sleep(2)
    late = plan()
    world.host.apply(key_of(late), late)
    await asyncio.sleep(20)
    assert world.status().phase == "Held"


async def test_a_run_that_was_refused_is_not_begun_by_the_next_process(hosting: Hosting) -> None:
    world = await hosting.start(run(), lab=lab())
    await asyncio.sleep(20)
    await hosting.end()
    guests, refused = lab(), run().model_copy(update={"status": world.status()})
    await hosting.start(plan(), refused, lab=guests)
    await asyncio.sleep(20)
    assert not guests.sent(pb.ShutdownRequest)


async def test_a_run_whose_record_is_lost_is_not_begun_again(hosting: Hosting, tmp_path: Path) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(3)
    await hosting.end()
    for file in (tmp_path / FOLDER).iterdir():
        file.unlink()
    guests, known = lab(), run().model_copy(update={"status": world.status()})
    world = await hosting.start(plan(), known, lab=guests)
    await asyncio.sleep(20)
    assert (world.status().phase, guests.sent(pb.ShutdownRequest)) == ("Lost", [])


# Logins in guests


async def test_a_hook_in_a_guest_has_its_login_though_the_record_has_none(hosting: Hosting, tmp_path: Path) -> None:
    guests = lab()
    app = declared(
        "app",
        meta={"labels": {"tier": "web"}},
        preStop={"exec": {"command": ["save"]}},
        guestCredentialsSecretRef={"name": "login"},
    )
    members = {"name": "apps", "members": [{"selector": {"matchLabels": {"tier": "web"}}}]}
    world = await hosting.start(plan(members), machines=[app], lab=guests)
    world.source.secrets["default", "login"] = GuestCredentials("root", "s3cret")
    world.host.apply(key_of(run()), run())
    await asyncio.sleep(40)
    (request,) = guests.sent(pb.ShutdownRequest)
    assert request.guest_credentials.password == "s3cret"
    assert not any(b"s3cret" in file.read_bytes() for file in (tmp_path / FOLDER).iterdir())


async def test_the_program_that_a_guest_is_asked_by_has_the_login_of_its_vm(hosting: Hosting) -> None:
    guests = lab()
    app = declared("app", meta={"labels": {"tier": "web"}}, guestCredentialsSecretRef={"name": "login"})
    members = {"name": "apps", "members": [{"selector": {"matchLabels": {"tier": "web"}}}]}
    asked = plan(members, bringUp={"ready": {"exec": {"command": ["pg_isready"]}}})
    world = await hosting.start(asked, machines=[app], lab=guests)
    world.source.secrets["default", "login"] = GuestCredentials("root", "s3cret")
    world.host.apply(key_of(run()), run())
    await asyncio.sleep(40)
    await world.host.bring_up("tonight")
    await asyncio.sleep(40)
    (request,) = guests.sent(pb.PowerOnRequest)
    assert (request.ready.exec.command, request.guest_credentials.password) == (["pg_isready"], "s3cret")


async def test_a_run_that_only_holds_keeps_no_file_open(hosting: Hosting, tmp_path: Path) -> None:
    world = await hosting.start(plan(**UP), run(), lab=lab())
    await asyncio.sleep(5)
    assert open_files(tmp_path)
    await asyncio.sleep(60)
    assert (holders(world), open_files(tmp_path)) == (("tonight", "tonight"), [])


def open_files(folder: Path) -> list[str]:
    """Those in a folder that this process has open."""
    targets = (str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink())
    return [target for target in targets if target.startswith(str(folder))]


# Two at once


async def test_what_a_run_that_was_taken_over_stopped_stays_held(hosting: Hosting) -> None:
    world = await hosting.start(plan(), plan(tier("db", "lab/db"), name="now"), run(), lab=lab())
    await asyncio.sleep(3)
    emergency = run("fire", plan="now", emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await asyncio.sleep(20)
    assert holders(world) == ("tonight", "fire")


async def test_what_a_run_that_was_taken_over_has_asked_has_no_more_time_than_the_emergency(hosting: Hosting) -> None:
    guests = Guests(app=None, db=5)
    now = plan(tier("all", "lab/app"), name="now", total="1m", reserve="30s")
    world = await hosting.start(plan(), now, run(), lab=guests)
    await asyncio.sleep(3)
    emergency = run("fire", plan="now", emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await asyncio.sleep(60)
    assert guests.off["app"] < 40


async def test_a_bring_up_that_an_emergency_took_over_is_not_taken_up_again(hosting: Hosting) -> None:
    guests = lab()
    plans = plan(bringUp={"ready": {"signal": "Agent"}}), plan(tier("db", "lab/db"), name="now")
    world = await hosting.start(*plans, run(), lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_up("tonight")
    await asyncio.sleep(1)
    emergency = run("fire", plan="now", emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await asyncio.sleep(20)
    before = len(guests.sent(pb.PowerOnRequest))
    await hosting.end()
    await hosting.start(*plans, run(), emergency, lab=guests)
    await asyncio.sleep(60)
    assert len(guests.sent(pb.PowerOnRequest)) == before


# What is held


async def test_all_vms_of_a_run_are_held_while_it_is_under_way(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(1)
    assert holders(world) == ("tonight", "tonight")
    assert {vm for woken in world.woken for vm in woken} == {APP, DB}


async def test_what_is_off_stays_held_when_the_run_is_over(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    assert holders(world) == ("tonight", "tonight")


async def test_a_vm_that_did_not_go_down_is_let_go_when_the_run_is_over(hosting: Hosting) -> None:
    guests = Guests(app=None, db=5)
    world = await hosting.start(plan(tier("apps", "lab/app", atDeadline="Stop"), total="2m"), run(), lab=guests)
    await asyncio.sleep(300)
    assert world.status().tiers[0].vms[0].outcome == "STILL_RUNNING"
    assert holders(world) == ("", "")


async def test_a_release_lets_all_go(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    await world.host.release("tonight")
    await asyncio.sleep(1)
    assert (holders(world), world.status().phase) == (("", ""), "Released")


async def test_a_run_that_is_under_way_is_not_released(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(1)
    with pytest.raises(RunRefused) as refused:
        await world.host.release("tonight")
    assert refused.value.reason == "RUN_ACTIVE"


async def test_a_run_that_is_deleted_when_it_is_over_is_released(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    world.host.delete(key_of(run()))
    await asyncio.sleep(1)
    assert holders(world) == ("", "")


async def test_a_run_that_is_deleted_as_it_ends_is_released(hosting: Hosting) -> None:
    guests = lab()

    async def slowly() -> None:
        await asyncio.sleep(5)

    guests.close = slowly  # type: ignore[method-assign]
    world = await hosting.start(plan(), run(), lab=guests)
    await asyncio.sleep(12)
    assert world.status().phase == "Held"
    world.host.delete(key_of(run()))
    await asyncio.sleep(30)
    assert holders(world) == ("", "")


async def test_what_was_stopped_comes_up_and_is_released(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**UP), run(), lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_up("tonight")
    await asyncio.sleep(20)
    assert [request.vm for request in guests.sent(pb.PowerOnRequest)] == ["db", "app"]
    assert (holders(world), world.status().phase) == (("", ""), "Released")


STOP: dict[str, Any] = {"bringUp": {"ready": {"signal": "Agent", "timeout": "30s", "onTimeout": "Stop"}}}


async def test_with_stop_what_did_not_come_up_stays_held_until_it_is_asked_for_again(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**STOP), run(), lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_up("tonight")
    await asyncio.sleep(60)
    assert (came_up(guests), holders(world)) == (["db"], ("tonight", ""))
    assert (world.status().phase, "bring the run up again, or release it" in world.status().message) == ("Held", True)
    guests.agents = True
    await world.host.bring_up("tonight")
    await asyncio.sleep(60)
    assert (guests.vms["app"].power_state, holders(world)) == (pb.POWER_STATE_ON, ("", ""))
    assert (world.status().phase, world.status().message) == ("Released", "")


async def test_brought_back_with_stop_it_is_not_released_either(hosting: Hosting) -> None:
    world = await hosting.start(plan(**STOP), run(), lab=lab())
    await asyncio.sleep(20)
    (held,) = world.host.runs.names()
    await world.host.bring_back(held)
    assert holders(world) == ("tonight", "")
    await world.host.release("tonight")
    assert holders(world) == ("", "")


async def test_the_next_process_leaves_a_bring_up_that_was_stopped(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**STOP), run(), lab=guests)
    await asyncio.sleep(2)
    await world.host.abort("tonight")
    await asyncio.sleep(60)
    await hosting.end()
    before = len(guests.sent(pb.PowerOnRequest))
    world = await hosting.start(plan(**STOP), run(), lab=guests)
    await asyncio.sleep(60)
    assert (len(guests.sent(pb.PowerOnRequest)), world.status().phase) == (before, "Held")


async def test_what_was_taken_over_on_its_way_up_is_started_when_it_is_asked_for_again(hosting: Hosting) -> None:
    guests = lab()
    plans = plan(bringUp={"ready": {"signal": "Agent"}}), plan(tier("db", "lab/db"), name="now")
    world = await hosting.start(*plans, run(), lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_up("tonight")
    await asyncio.sleep(1)
    emergency = run("fire", plan="now", emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await asyncio.sleep(20)
    assert guests.vms["db"].power_state == pb.POWER_STATE_OFF
    await world.host.release("fire")
    guests.agents = True
    await world.host.bring_up("tonight")
    await asyncio.sleep(20)
    assert [guest.power_state for guest in guests.vms.values()] == [pb.POWER_STATE_ON] * 2


async def test_a_plan_without_a_bring_up_brings_nothing_up(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    with pytest.raises(RunRefused) as refused:
        await world.host.bring_up("tonight")
    assert refused.value.reason == "NO_BRING_UP"


async def test_a_vm_that_its_owner_wants_off_by_now_stays_off(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**UP), run(), machines=[declared("app")], lab=guests)
    await asyncio.sleep(20)
    world.machines = [declared("app", "Off")]
    await world.host.bring_up("tonight")
    await asyncio.sleep(20)
    assert [request.vm for request in guests.sent(pb.PowerOnRequest)] == ["db"]


async def test_hooks_of_resources_run_when_their_vms_come_up(hosting: Hosting) -> None:
    guests = lab()
    app = declared("app", meta={"labels": {"tier": "web"}}, postStart={"exec": {"command": ["mount"]}})
    members = {"name": "apps", "members": [{"selector": {"matchLabels": {"tier": "web"}}}]}
    world = await hosting.start(plan(members, **UP), run(), machines=[app], lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_up("tonight")
    await asyncio.sleep(5)
    assert guests.sent(pb.PowerOnRequest)[0].post_start[0].exec.command == ["mount"]


# Aborted


async def test_an_aborted_run_brings_up_what_it_stopped_and_is_released(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**UP), run(), lab=guests)
    await asyncio.sleep(2)
    await world.host.abort("tonight")
    await asyncio.sleep(30)
    assert "db" not in guests.asked
    assert [request.vm for request in guests.sent(pb.PowerOnRequest)] == ["app"]
    assert (world.status().phase, world.status().aborted, holders(world)) == ("Released", True, ("", ""))


async def test_a_run_that_is_deleted_while_it_is_under_way_is_aborted(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**UP), run(), lab=guests)
    await asyncio.sleep(2)
    world.host.delete(key_of(run()))
    await asyncio.sleep(30)
    assert "db" not in guests.asked
    assert holders(world) == ("", "")


async def test_a_run_that_is_deleted_while_it_is_begun_is_aborted(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**UP), run(), lab=guests)
    world.host.delete(key_of(run()))
    await asyncio.sleep(30)
    assert "db" not in guests.asked
    assert holders(world) == ("", "")


async def test_a_bug_in_the_beginning_of_a_run_is_told(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    world.scope = None  # type: ignore[assignment, method-assign]
    await asyncio.sleep(1)
    assert (world.status().phase, "its log says how" in world.status().message) == ("Refused", True)


async def test_an_abort_counts_though_who_asked_for_it_has_left(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**UP), run(), lab=guests)
    await asyncio.sleep(2)
    (hosted,) = world.host.runs.all()
    assert hosted.journal
    write = hosted.journal.write

    async def slowly(*records: Any) -> None:
        await asyncio.sleep(1)
        await write(*records)

    hosted.journal.write = slowly  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.host.abort("tonight"), 0.5)
    await asyncio.sleep(60)
    assert (world.status().phase, world.status().aborted) == ("Released", True)


async def test_a_run_that_comes_up_is_told_so_to_who_wants_it_to_let_go(hosting: Hosting) -> None:
    world = await hosting.start(plan(bringUp={"ready": {"signal": "Agent"}}), run(), lab=lab())
    await asyncio.sleep(20)
    await world.host.bring_up("tonight")
    for ask in (world.host.abort, world.host.release, world.host.bring_up):
        with pytest.raises(RunRefused, match="lets go of its VMs by itself"):
            await ask("tonight")


async def test_a_run_that_is_over_is_not_aborted(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    with pytest.raises(RunRefused) as refused:
        await world.host.abort("tonight")
    assert refused.value.reason == "RUN_OVER"


# The next process


async def test_the_next_process_goes_on_with_the_same_requests(hosting: Hosting) -> None:
    guests = lab()
    await hosting.start(plan(), run(), lab=guests)
    await asyncio.sleep(2)
    await hosting.end()
    world = await hosting.start(plan(), run(), lab=guests)
    await asyncio.sleep(20)
    asked = [request for request in guests.sent(pb.ShutdownRequest) if request.vm == "app"]
    assert len({(request.request_id, request.force_after.ToSeconds()) for request in asked}) == 1
    assert len(guests.operations) == 2
    assert [vm.outcome for tier in world.status().tiers for vm in tier.vms] == ["GRACEFUL", "GRACEFUL"]


async def test_what_a_run_has_saved_is_known_until_it_is_released(hosting: Hosting) -> None:
    world = await hosting.start(plan(tier("apps", "lab/app", atDeadline="Save")), run(), lab=Guests(app=None, db=5))
    await asyncio.sleep(60)
    assert world.host.saved(*APP) == ""
    await asyncio.sleep(20)
    assert (world.host.saved(*APP), {APP} in map(set, world.woken)) == ("op-0", True)
    await hosting.end()
    world = await hosting.start(plan(), run(), lab=lab())
    assert world.host.saved(*APP) == "op-0"
    await world.host.release("tonight")
    assert world.host.saved(*APP) == ""


async def test_what_was_held_is_held_before_anything_is_declared(hosting: Hosting, tmp_path: Path) -> None:
    await hosting.start(plan(), run(), lab=lab())
    await asyncio.sleep(20)
    await hosting.end()
    world = await hosting.start(lab=lab())
    assert holders(world) == ("tonight", "tonight")


async def test_the_next_process_brings_up_what_the_last_one_began_to(hosting: Hosting) -> None:
    guests = lab()
    slow = plan(bringUp={"ready": {"signal": "Agent", "timeout": "30s"}})
    world = await hosting.start(slow, run(), lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_up("tonight")
    await asyncio.sleep(1)
    await hosting.end()
    world = await hosting.start(slow, run(), lab=guests)
    await asyncio.sleep(90)
    assert world.status().phase == "Released"


async def test_the_next_process_brings_up_what_was_held(hosting: Hosting) -> None:
    guests = lab()
    await hosting.start(plan(**UP), run(), lab=guests)
    await asyncio.sleep(20)
    await hosting.end()
    world = await hosting.start(plan(**UP), run(), lab=guests)
    await world.host.bring_up("tonight")
    await asyncio.sleep(20)
    assert len(guests.sent(pb.PowerOnRequest)) == 2
    assert holders(world) == ("", "")


async def test_a_provider_that_is_not_declared_any_more_holds_up_no_other(hosting: Hosting) -> None:
    guests, pve = Guests(db=5), Guests(batch=5)
    both = plan(tier("batch", "pve/batch"), tier("databases", "lab/db"), total="2m")
    await hosting.start(both, run(), lab=guests, pve=pve)
    await asyncio.sleep(2)
    await hosting.end()
    await hosting.start(both, run(), lab=guests)
    await asyncio.sleep(200)
    assert guests.off["db"] < 120


# Elsewhere


async def test_connections_are_closed_when_a_run_is_over(hosting: Hosting) -> None:
    guests, pve = lab(), Guests()
    await hosting.start(plan(), run(), lab=guests, pve=pve)
    await asyncio.sleep(20)
    assert (guests.closed, pve.closed) == (1, 1)


# Brought back


async def test_brought_back_what_it_stopped_is_up_and_released(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**UP), run(), lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_back("tonight-tonight-")
    assert [request.vm for request in guests.sent(pb.PowerOnRequest)] == ["db", "app"]
    await asyncio.sleep(1)
    assert (world.status().phase, holders(world)) == ("Released", ("", ""))


async def test_without_a_bring_up_it_is_released_as_it_is(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(), lab=guests)
    await asyncio.sleep(20)
    await world.host.bring_back("tonight-tonight-")
    assert (guests.sent(pb.PowerOnRequest), holders(world)) == ([], ("", ""))


def came_up(guests: Guests) -> list[str]:
    return [request.vm for request in guests.sent(pb.PowerOnRequest)]


async def taken_over(hosting: Hosting, guests: Guests) -> FakeWorld:
    """A run, and an emergency that has taken it over; both are over."""
    world = await hosting.start(plan(**UP), run(), lab=guests)
    await asyncio.sleep(20)
    emergency = run("now", emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await asyncio.sleep(300)
    return world


async def test_what_a_run_that_was_taken_over_stopped_can_be_brought_up(hosting: Hosting) -> None:
    guests = Guests(app=5, db=100)
    world = await taken_over(hosting, guests)
    await world.host.release("now")
    await world.host.bring_up("tonight")
    await asyncio.sleep(20)
    assert came_up(guests) == ["db", "app"]


async def brought_up(world: FakeWorld, name: str) -> None:
    await world.host.bring_up(name)
    await asyncio.sleep(60)


async def test_what_another_run_holds_comes_up_with_that(hosting: Hosting) -> None:
    guests = Guests(app=5, db=100)
    world = await taken_over(hosting, guests)
    await brought_up(world, "tonight")
    assert (came_up(guests), holders(world)) == ([], ("now", "now"))
    await brought_up(world, "now")
    assert (came_up(guests), holders(world)) == (["db", "app"], ("", ""))


async def test_the_next_process_knows_with_which_run_it_comes_up(hosting: Hosting) -> None:
    guests = Guests(app=5, db=100)
    await brought_up(await taken_over(hosting, guests), "tonight")
    await hosting.end()
    world = await hosting.start(plan(**UP), run(), run("now", emergency=True), lab=guests)
    await brought_up(world, "now")
    assert came_up(guests) == ["db", "app"]


async def test_a_run_that_comes_up_itself_is_left_nothing(hosting: Hosting) -> None:
    guests = Guests(app=5, db=100)
    guests.slow[pb.PowerOnRequest] = 10
    world = await taken_over(hosting, guests)
    await asyncio.gather(brought_up(world, "now"), brought_up(world, "tonight"))
    assert sorted(came_up(guests)) == ["app", "db"]
