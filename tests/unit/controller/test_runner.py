import asyncio
from pathlib import Path

import pytest

from client.errors import ProviderError
from controller.plan_host import PlanHost
from controller.source import Key, Rejected, ResourceGone, SourceError, Standby
from controller.status_models import ProviderStatus
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import binding, machine, provider, vm, with_status
from tests.unit.controller.conftest import Begin, Make
from tests.unit.controller.plan_world import plan
from tests.unit.plans.builders import here

pytestmark = pytest.mark.looptime


async def test_five_hundred_waiting_shutdowns_hold_no_worker(make_controller: Make) -> None:
    names = [f"vm-{i}" for i in range(500)]
    controller = make_controller(*(vm(name=name) for name in names), vm(name="web"), workers=2)
    await controller.start(*(machine(name=name) for name in names))
    assert len(controller.client.operations) == 500
    await controller.apply(machine("Off", name="web"))
    assert controller.client.requests[-1] == ("power_off", "id-web", "uid-web-1-1")


async def test_no_more_calls_run_at_once_than_there_are_workers(make_controller: Make) -> None:
    names = [f"vm-{i}" for i in range(20)]
    controller = make_controller(*(vm(name=name) for name in names), workers=3)
    controller.client.call_time = 1
    await controller.start(*(machine(name=name) for name in names))
    await controller.settle(20)
    assert controller.client.busiest == 3
    assert len(controller.client.operations) == 20


async def test_a_machine_that_changes_all_the_time_does_not_keep_another_waiting(make_controller: Make) -> None:
    controller = make_controller(vm(name="hot"), vm(name="web"), workers=1)
    await controller.start(machine("On", name="hot"))
    hot = asyncio.create_task(flap(controller.client.changed))
    await controller.apply(machine("OffGraceful"))
    hot.cancel()
    assert controller.client.requests[0][:2] == ("shutdown", "id-web")


async def flap(changed: object) -> None:
    assert callable(changed)
    while True:
        changed({"hot"})
        await asyncio.sleep(0.0001)


async def test_what_failed_is_tried_again_with_growing_pauses(begin: Begin, make_controller: Make) -> None:
    controller = make_controller()
    controller.client.failure = ProviderError("INTERNAL", "the disk is full", "JOURNAL_FAILED")
    await controller.start()
    await controller.settle(100)
    assert 6 <= len(controller.client.requests) <= 8
    assert len({request[2] for request in controller.client.requests}) == 1


async def test_a_status_that_could_not_be_written_is_written_later(make_controller: Make) -> None:
    controller = make_controller()
    controller.source.failures = [SourceError("disk full"), SourceError("disk full")]
    await controller.start()
    await controller.settle(10)
    assert controller.source.ready() == ("False", "ShuttingDown")
    assert len(controller.client.operations) == 1


async def test_a_resource_that_is_gone_when_its_status_is_written_is_no_matter(make_controller: Make) -> None:
    controller = make_controller()
    controller.source.failures = [ResourceGone("web") for _ in range(100)]
    await controller.start()
    await controller.settle(1000)
    assert len(controller.client.requests) == 1
    assert len(controller.source.failures) > 90


async def test_taking_a_manifest_away_leaves_its_vm_as_it_is_and_gives_up_its_shutdown(begin: Begin) -> None:
    controller = await begin(machine())
    controller.source.delete(machine())
    await controller.settle()
    controller.client.turn(pb.POWER_STATE_ON)
    await controller.settle(1000)
    assert [request[0] for request in controller.client.requests] == ["shutdown", "cancel"]
    assert controller.client.watchers == 0


async def test_a_spec_that_cannot_be_acted_upon_is_a_condition(begin: Begin) -> None:
    controller = await begin(machine("On"))
    assert controller.source.ready() == ("True", "On")
    controller.source.reject(machine("On"), 2, "spec.powerState: wrong")
    await controller.settle(60)
    assert controller.source.ready() == ("False", "InvalidSpec")
    await controller.apply(machine("On", generation=3))
    assert controller.source.ready() == ("True", "On")


async def test_a_resource_that_was_never_acted_upon_says_why(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.source.reject(machine(name="bad"), 1, "spec.powerState: wrong")
    await controller.settle()
    assert controller.source.ready("bad") == ("False", "InvalidSpec")


async def test_a_resource_that_cannot_be_acted_upon_keeps_its_vm_from_others(make_controller: Make) -> None:
    controller = make_controller()
    bad = with_status(machine(name="bad"), vm=binding(name="bad"))
    controller.source.reject(bad, 2, "spec.powerState: wrong")
    await controller.start(machine())
    assert (controller.client.requests, controller.source.ready()) == ([], ("False", "Conflict"))


async def test_a_provider_whose_spec_cannot_be_acted_upon_says_so(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.source.reject(provider(), 2, "spec.runtime: wrong")
    await controller.settle(10)
    status = controller.source.statuses[Key("Provider", "default", "local")][-1]
    assert [each.reason for each in status.conditions if each.type == "Ready"] == ["InvalidSpec"]


async def test_a_vm_whose_provider_is_not_declared_says_so(make_controller: Make) -> None:
    controller = make_controller()
    await controller.start(machine(spec={"providerRef": {"name": "elsewhere"}}))
    assert controller.source.ready() == ("Unknown", "ProviderNotFound")


async def test_a_provider_that_is_declared_later_is_found(make_controller: Make) -> None:
    controller = make_controller()
    await controller.start(machine(spec={"providerRef": {"name": "late"}}))
    await controller.apply(provider("late"))
    controller.client.set_reachable(True)
    await controller.settle()
    assert controller.client.requests[0][0] == "shutdown"


async def test_a_provider_that_is_no_longer_declared_is_missed(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.source.delete(provider())
    await controller.settle()
    assert controller.source.ready() == ("Unknown", "ProviderNotFound")


async def test_the_status_of_a_provider_is_written_once_for_each_change(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.set_reachable(True)
    await controller.settle()
    controller.client.set_reachable(False, "no answer")
    await controller.settle()
    written = controller.source.statuses[Key("Provider", "default", "local")]
    assert [status.phase for status in written if isinstance(status, ProviderStatus)] == ["Ready", "Unreachable"]


async def test_nothing_is_said_before_a_provider_has_had_time_to_answer(make_controller: Make) -> None:
    controller = make_controller()
    controller.client.reachable = None
    await controller.start()
    assert controller.source.statuses == {}


async def test_a_source_that_gives_up_ends_the_controller(make_controller: Make) -> None:
    controller = make_controller()

    async def lost_the_lease() -> None:
        raise SourceError("another controller leads")

    controller.source.changes.get = lost_the_lease  # type: ignore[assignment, method-assign]
    await controller.start()
    with pytest.raises(SourceError, match="another controller leads"):
        await controller.stop()


# Plans


class Told(PlanHost):
    """A host of plans, and what it was told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, off=here)
        self.told: list[str] = []

    def reject(self, change: Rejected) -> None:
        self.told.append(f"reject {change.key.name}: {change.message}")

    async def synced(self) -> None:
        self.told.append("synced")

    async def stand_down(self) -> None:
        self.told.append("stand down")


async def test_a_host_of_plans_is_told_who_leads(make_controller: Make, tmp_path: Path) -> None:
    plans = Told(tmp_path)
    controller = make_controller(plans=plans)
    controller.source.changes.put_nowait(Standby())
    await controller.start()
    assert plans.told == ["stand down", "synced"]
    await controller.stop()


async def test_who_stands_by_does_not_lead(make_controller: Make) -> None:
    controller = make_controller()
    await controller.start()
    assert controller.runner.load().leads
    controller.source.changes.put_nowait(Standby())
    await controller.settle()
    assert not controller.runner.load().leads


async def test_a_plan_that_cannot_be_acted_upon_is_told_its_host(make_controller: Make, tmp_path: Path) -> None:
    plans = Told(tmp_path)
    controller = make_controller(plans=plans)
    await controller.start()
    controller.source.reject(plan(), 2, "spec.tiers: a circle")
    await controller.settle()
    assert plans.told[-1] == "reject night: spec.tiers: a circle"
    assert Key("PowerPlan", "default", "night") not in controller.source.statuses
