"""What keeps a run from beginning, and what one that begins has decided."""

import asyncio
from datetime import timedelta

import pytest

from client.times import moment
from controller.source import Key, key_of
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import provider
from tests.unit.controller.plan_world import Hosting, declared, plan, run
from tests.unit.controller.site import lab
from tests.unit.plans.builders import EPOCH, tier

pytestmark = pytest.mark.looptime


async def test_a_plan_that_is_not_there_is_refused_by_its_field(hosting: Hosting) -> None:
    world = await hosting.start(run(), lab=lab())
    await asyncio.sleep(20)
    assert [refusal.field for refusal in world.status().refusals] == ["spec.planRef.name"]


async def test_a_plan_that_cannot_be_meant_is_refused_by_its_field(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(tier("apps", "lab/wiki")), run(), lab=guests)
    await asyncio.sleep(20)
    status = world.status()
    assert (status.phase, [each.field for each in status.refusals]) == ("Refused", ["spec.tiers[0].members[0].vms[0]"])
    assert not guests.sent(pb.ShutdownRequest)


async def test_a_provider_that_is_away_refuses_the_run(hosting: Hosting) -> None:
    guests = lab()
    guests.away = True
    world = await hosting.start(plan(), run(), lab=guests)
    await asyncio.sleep(20)
    assert world.status().phase == "Refused"
    assert "lab" in world.status().message


async def test_a_selector_chooses_resources_and_their_lifecycle_counts(hosting: Hosting) -> None:
    guests = lab()
    app = declared(
        "app",
        meta={"labels": {"tier": "web"}},
        escalation="Never",
        gracefulShutdownTimeout="20s",
        preStop={"exec": {"command": ["save"]}, "timeout": "3s"},
    )
    members = {"name": "apps", "members": [{"selector": {"matchLabels": {"tier": "web"}}}]}
    await hosting.start(plan(members), run(), machines=[app, declared("db")], lab=guests)
    await asyncio.sleep(20)
    (request,) = guests.sent(pb.ShutdownRequest)
    assert (request.vm, request.escalation, request.pre_stop[0].exec.command) == ("app", pb.ESCALATION_NEVER, ["save"])
    assert moment(request.force_after) - EPOCH == pytest.approx(timedelta(seconds=23), abs=timedelta(seconds=1))


async def test_a_second_run_is_refused_while_one_is_under_way(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(), run("second"), lab=lab())
    await asyncio.sleep(20)
    assert (world.status().phase, world.status("second").phase) == ("Held", "Refused")
    assert [refusal.field for refusal in world.status("second").refusals] == ["spec.emergency"]


async def test_an_emergency_takes_a_maintenance_run_over(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), plan(tier("db", "lab/db"), name="now"), run(), lab=guests)
    await asyncio.sleep(3)
    emergency = run("fire", plan="now", emergency=True)
    world.host.apply(key_of(emergency), emergency)
    await asyncio.sleep(20)
    assert world.status().message == "Taken over by run fire."
    assert (world.status("fire").phase, guests.asked["db"] < 4) == ("Held", True)


async def test_an_emergency_does_not_take_over_another_one(hosting: Hosting) -> None:
    world = await hosting.start(plan(), run(emergency=True), run("second", emergency=True), lab=lab())
    await asyncio.sleep(20)
    assert world.status("second").phase == "Refused"


async def test_another_namespaces_provider_is_meant_by_resources_alone(hosting: Hosting) -> None:
    world = await hosting.start(plan(tier("apps", "infra/lab/app")), lab=lab())
    world.known = [provider("lab", namespace="infra")]
    world.host.apply(key_of(run()), run())
    await asyncio.sleep(20)
    assert [refusal.field for refusal in world.status().refusals] == ["spec.tiers[0].members[0].vms[0]"]


async def test_a_forecast_touches_no_guest(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), lab=guests)
    start, frozen = await world.host.forecast(Key("PowerPlan", "default", "night"))
    assert (start.plan, [tier.name for tier in frozen.tiers]) == ("night", ["apps", "databases"])
    assert not guests.operations


async def test_a_run_of_some_tiers_leaves_the_others_alone(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(tiers=["apps"]), lab=guests)
    await asyncio.sleep(20)
    assert (list(guests.off), [tier.name for tier in world.status().tiers]) == (["app"], ["apps"])


@pytest.mark.parametrize(
    ("tiers", "wrong"),
    [
        (["nothing"], "there is no tier 'nothing'"),
        (["databases"], "'databases' comes after 'apps', which is not named"),
    ],
)
async def test_tiers_that_cannot_be_run_alone_are_refused_by_their_field(
    hosting: Hosting, tiers: list[str], wrong: str
) -> None:
    guests = lab()
    world = await hosting.start(plan(), run(tiers=tiers), lab=guests)
    await asyncio.sleep(20)
    (refusal,) = world.status().refusals
    assert (refusal.field, refusal.message, guests.requests) == ("spec.tiers", wrong, [])


async def test_a_run_is_told_to_providers_with_its_reason(hosting: Hosting) -> None:
    guests = lab()
    await hosting.start(plan(), run(reason="new UPS"), lab=guests)
    await asyncio.sleep(20)
    assert {request.reason for request in guests.sent(pb.ShutdownRequest)} == {"plan night: new UPS"}
