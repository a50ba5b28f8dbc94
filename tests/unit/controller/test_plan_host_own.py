"""The machines that the controller runs on, brought down last by plans that may."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.plan_terms import Asked, RunRefused
from controller.source import Key, SourceError
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import binding, provider, with_status
from tests.unit.controller.fakes import FakeSource
from tests.unit.controller.plan_world import FakeWorld, Guests, Hosting, declared, plan, run

pytestmark = pytest.mark.looptime

NIGHT = Key("PowerPlan", "default", "night")
LAST: dict[str, Any] = {"self": "Last", "others": "Last"}
AWAY = SourceError("The API server does not answer.")


@pytest.fixture
async def hosting(tmp_path: Path) -> AsyncIterator[Hosting]:
    hosting = Hosting(tmp_path, self_namespace="default")
    yield hosting
    await hosting.end()


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Hosting]:
    """Of an operator who has named no namespace."""
    hosting = Hosting(tmp_path)
    yield hosting
    await hosting.end()


def lab() -> Guests:
    return Guests(app=5, db=5, mail=5, node1=5, node2=5)


def nodes() -> FakeSource:
    return FakeSource(machines=["node1", "NODE2", "elsewhere"])


async def forecast(world: FakeWorld) -> dict[str, list[str]]:
    start, _ = await world.host.forecast(NIGHT)
    return {tier.name: [target.name for target in tier.targets] for tier in start.tiers}


async def test_they_go_down_together_when_all_others_are_off(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**LAST), run(), source=nodes(), lab=guests)
    await asyncio.sleep(60)
    assert max(guests.off[name] for name in ("app", "db", "mail")) <= guests.asked["node1"]
    assert guests.asked["node2"] == pytest.approx(guests.asked["node1"], abs=1)
    assert [vm.vm for vm in world.status().tiers[-1].vms] == ["lab/node1", "lab/node2"]
    assert world.status().tiers[-1].name == "(self)"


async def test_the_forecast_has_them(hosting: Hosting) -> None:
    world = await hosting.start(plan(**LAST), source=nodes(), lab=lab())
    assert await forecast(world) == {
        "apps": ["app"],
        "databases": ["db"],
        "(others)": ["mail"],
        "(self)": ["node1", "node2"],
    }


async def test_a_plan_that_does_not_say_so_takes_them_for_vms_like_others(hosting: Hosting) -> None:
    source = nodes()
    world = await hosting.start(plan(others="Last"), source=source, lab=lab())
    await asyncio.sleep(1)
    source.machines_asked = 0
    assert (await forecast(world))["(others)"] == ["mail", "node1", "node2"]
    assert source.machines_asked == 0


async def test_where_the_operator_has_named_no_namespace_it_is_refused_and_nothing_is_asked(closed: Hosting) -> None:
    guests, source = lab(), nodes()
    world = await closed.start(plan(**LAST), run(), source=source, lab=guests)
    await asyncio.sleep(60)
    assert (world.status().phase, [each.field for each in world.status().refusals]) == ("Refused", ["spec.self"])
    assert (source.machines_asked, guests.sent(pb.ShutdownRequest)) == (0, [])


async def test_an_outage_that_took_the_api_server_first_finds_them_known(hosting: Hosting) -> None:
    guests, source = lab(), nodes()
    world = await hosting.start(plan(**LAST), source=source, lab=guests)
    await asyncio.sleep(1)
    source.machines = AWAY
    await world.host.start(Asked(NIGHT, emergency=True, trigger="the UPS says LB"))
    await asyncio.sleep(60)
    assert guests.off.keys() == {"app", "db", "mail", "node1", "node2"}


async def test_where_they_were_never_known_no_run_begins(hosting: Hosting) -> None:
    guests, source = lab(), FakeSource(machines=AWAY)
    world = await hosting.start(plan(**LAST), source=source, lab=guests)
    with pytest.raises(RunRefused, match="not known which machines"):
        await world.host.start(Asked(NIGHT))
    assert not guests.sent(pb.ShutdownRequest)


async def test_a_run_of_some_tiers_leaves_them_alone(hosting: Hosting) -> None:
    guests = lab()
    world = await hosting.start(plan(**LAST), run(tiers=["apps"]), source=nodes(), lab=guests)
    await asyncio.sleep(60)
    assert (world.status().phase, set(guests.off)) == ("Held", {"app"})


async def test_two_vms_that_may_be_one_of_them_refuse_the_plan_by_its_field(hosting: Hosting) -> None:
    guests = lab()
    guests.vms["app"].system_uuid = guests.vms["db"].system_uuid = "4c4c4544-0042-3510-8051-b8c04f4e3132"
    source = FakeSource(machines=["4C4C4544-0042-3510-8051-B8C04F4E3132"])
    world = await hosting.start(plan(**LAST), source=source, lab=guests)
    with pytest.raises(RunRefused) as refused:
        await world.host.forecast(NIGHT)
    (violation,) = refused.value.violations
    assert (refused.value.reason, violation.field) == ("PLAN_REFUSED", "spec.self")
    assert "lab/app, lab/db" in violation.message


async def test_where_none_of_them_is_at_the_plans_providers_there_is_no_tier_and_the_log_says_so(
    hosting: Hosting,
) -> None:
    world = await hosting.start(plan(**LAST), source=FakeSource(machines=["elsewhere"]), lab=lab())
    with capture_logs() as logs:
        assert "(self)" not in await forecast(world)
    assert "none of the machines that this controller runs on" in logs[-1]["event"]


async def test_what_another_namespaces_provider_says_is_not_taken_for_ours(hosting: Hosting) -> None:
    """It may claim any UUID: it is neither one of ours nor in the way of those that are."""
    claims = declared("node1", spec={"providerRef": {"name": "far", "namespace": "infra"}}, meta={"labels": {"a": "b"}})
    bound = binding("node1", name="node1", provider_ref="infra/far")
    chosen = {"name": "foreign", "members": [{"selector": {"matchLabels": {"a": "b"}}}]}
    declared_plan, guests = plan(chosen, **LAST | {"others": "Ignore"}), lab()
    world = await hosting.start(declared_plan, source=nodes(), lab=guests, far=Guests(node1=5))
    access = [{"namespaces": {"names": ["default"]}, "allow": ["power"]}]
    world.known = [provider("lab"), provider("far", namespace="infra", access=access)]
    world.machines = [with_status(claims, vm=bound)]
    assert await forecast(world) == {"foreign": ["node1"]}
