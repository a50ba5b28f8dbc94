"""PlanService over a real socket, with guests in memory."""

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.errors import ProviderError
from client.plans import PlanClient
from common.listening import CannotListen
from controller.plan_server import PlanServer
from plans.history import Closed, TierBegan, VMEnded
from plans.journal import event_of, history_of
from protos.plan.v1 import plan_pb2 as pb
from protos.power.v1 import power_pb2
from tests.unit.controller.plan_world import FakeWorld, Guests, Hosting, plan
from tests.unit.plans.builders import tier


@dataclass
class Served:
    client: PlanClient
    world: FakeWorld
    guests: Guests
    socket: Path

    async def until_over(self, run: str) -> list[pb.WatchRunResponse]:
        return [response async for response in self.client.watch(run)]

    async def refusal(self, request: object) -> ProviderError:
        with pytest.raises(ProviderError) as refused:
            await self.client.call(request)  # type: ignore[call-overload]
        return refused.value


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    guests, hosting = Guests(app=0.1, db=0.1), Hosting(tmp_path)
    world = await hosting.start(plan(bringUp={}), plan(tier("a", "lab/wiki"), name="wrong"), lab=guests)
    server = PlanServer(f"unix://{tmp_path}/s", world.host)
    await server.start()
    async with PlanClient(f"unix://{tmp_path}/s") as client:
        yield Served(client, world, guests, tmp_path / "s")
    await server.stop()
    await hosting.end()


async def test_the_socket_is_for_its_owner_and_group(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o660


async def test_plans_are_listed_with_their_tiers(served: Served) -> None:
    found = await served.client.call(pb.ListPlansRequest())
    assert [(each.namespace, each.name, list(each.tiers)) for each in found.plans] == [
        ("default", "night", ["apps", "databases"]),
        ("default", "wrong", ["a"]),
    ]


async def test_a_forecast_asks_no_guest(served: Served) -> None:
    told = await served.client.call(pb.ForecastPlanRequest(plan="night"))
    assert [(each.name, [vm.vm for vm in each.vms], each.critical) for each in told.tiers] == [
        ("apps", ["lab/app"], True),
        ("databases", ["lab/db"], True),
    ]
    assert not served.guests.sent(power_pb2.ShutdownRequest)


async def test_a_run_is_begun_and_listed(served: Served) -> None:
    began = await served.client.call(pb.StartRunRequest(plan="default/night", reason="new UPS"))
    assert (began.summary.phase, began.summary.plan) == (pb.PHASE_RUNNING, "default/night")
    found = await served.client.call(pb.ListPlansRequest())
    assert [run.name for run in found.runs] == [began.summary.name]


async def test_a_run_is_followed_to_its_end(served: Served) -> None:
    began = await served.client.call(pb.StartRunRequest(plan="night"))
    told = await served.until_over(began.summary.name)
    assert told[-1].run.summary.phase == pb.PHASE_HELD
    assert [(vm.vm, vm.outcome) for tier in told[-1].run.tiers for vm in tier.vms] == [
        ("lab/app", "GRACEFUL"),
        ("lab/db", "GRACEFUL"),
    ]


async def test_the_record_and_what_follows_are_the_whole_history(served: Served) -> None:
    began = await served.client.call(pb.StartRunRequest(plan="night"))
    first, *later = await served.until_over(began.summary.name)
    history = history_of(first.run.record)
    for response in later:
        assert not response.run.record
        for line in response.events:
            history.note(event_of(line))
    kinds = [type(event) for event in history.events]
    assert (kinds.count(TierBegan), kinds.count(VMEnded), kinds[-1]) == (2, 2, Closed)


async def test_a_run_that_is_over_is_told_once(served: Served) -> None:
    began = await served.client.call(pb.StartRunRequest(plan="night"))
    await served.until_over(began.summary.name)
    (told,) = await served.until_over("")
    assert told.run.summary.phase == pb.PHASE_HELD


async def test_what_was_stopped_is_brought_up_and_released(served: Served) -> None:
    began = await served.client.call(pb.StartRunRequest(plan="night"))
    await served.until_over(began.summary.name)
    await served.client.call(pb.BringUpRequest(run=began.summary.name))
    told = await served.until_over(began.summary.name)
    assert told[-1].run.summary.phase == pb.PHASE_RELEASED
    assert len(served.guests.sent(power_pb2.PowerOnRequest)) == 2


async def test_a_run_is_aborted(served: Served) -> None:
    served.guests.takes["app"] = 0.5
    began = await served.client.call(pb.StartRunRequest(plan="night"))
    async for response in served.client.watch(began.summary.name):
        if response.run.tiers[0].HasField("begin_time"):
            break
    told = await served.client.call(pb.AbortRunRequest(run=began.summary.name))
    assert told.summary.phase == pb.PHASE_ABORTING
    assert (await served.until_over(began.summary.name))[-1].run.summary.phase == pb.PHASE_RELEASED


async def test_a_run_is_released(served: Served) -> None:
    began = await served.client.call(pb.StartRunRequest(plan="night"))
    await served.until_over(began.summary.name)
    told = await served.client.call(pb.ReleaseRunRequest(run=began.summary.name))
    assert (told.summary.phase, served.world.host.holder("default/lab", "app")) == (pb.PHASE_RELEASED, "")


async def test_a_plan_that_cannot_be_meant_is_refused_with_its_fields(served: Served) -> None:
    refused = await served.refusal(pb.StartRunRequest(plan="wrong"))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "PLAN_REFUSED")
    assert [field for field, _ in refused.violations] == ["spec.tiers[0].members[0].vms[0]"]


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (pb.StartRunRequest(plan="day"), "NOT_FOUND", "PLAN_NOT_FOUND"),
        (pb.StartRunRequest(plan="night", reason="x" * 257), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (pb.AbortRunRequest(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (pb.ReleaseRunRequest(run="tonight"), "NOT_FOUND", "RUN_NOT_FOUND"),
    ],
)
async def test_what_cannot_be_done_says_why(served: Served, request_: object, code: str, reason: str) -> None:
    refused = await served.refusal(request_)
    assert (refused.code, refused.reason) == (code, reason)


async def test_a_second_run_is_refused(served: Served) -> None:
    await served.client.call(pb.StartRunRequest(plan="night"))
    refused = await served.refusal(pb.StartRunRequest(plan="night"))
    assert (refused.code, refused.reason) == ("ABORTED", "RUN_ACTIVE")


async def test_a_provider_that_is_away_is_told(served: Served) -> None:
    served.guests.away = True
    refused = await served.refusal(pb.StartRunRequest(plan="night"))
    assert (refused.code, refused.reason) == ("UNAVAILABLE", "PROVIDER_UNREACHABLE")


async def test_a_controller_that_was_just_started_is_asked_again(served: Served) -> None:
    host = served.world.host
    host.attach(served.world)
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, lambda: host.spawn(host.synced()))
    assert len((await served.client.call(pb.ListPlansRequest())).plans) == 2


async def test_but_not_for_longer_than_there_is_time(served: Served) -> None:
    served.world.host.attach(served.world)
    with pytest.raises(ProviderError) as refused:
        await served.client.call(pb.ListPlansRequest(), timeout=0.1)
    assert refused.value.reason == "NOT_READY"


async def test_a_bug_is_told_as_one(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.world.host, "plans", None)
    assert (await served.refusal(pb.ListPlansRequest())).reason == "INTERNAL_ERROR"


async def test_where_another_process_serves_there_is_no_place(served: Served) -> None:
    with pytest.raises(CannotListen, match="--listen"):
        await PlanServer(f"unix://{served.socket}", served.world.host).start()
