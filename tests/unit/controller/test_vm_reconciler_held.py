"""VMs that a run of a plan holds."""

from pathlib import Path

import pytest

from controller.plan_host import PlanHost
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import machine, vm
from tests.unit.controller.conftest import Controller, Make
from tests.unit.plans.builders import here

pytestmark = pytest.mark.looptime
WEB = ("default/local", "id-web")


class Plans(PlanHost):
    """Holds what a test says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, off=here)
        self.held: dict[tuple[str, str], str] = {WEB: "tonight"}

        self.saves: dict[tuple[str, str], str] = {}

    def holder(self, provider: str, vm: str) -> str:
        return self.held.get((provider, vm), "")

    def saved(self, provider: str, vm: str) -> str:
        return self.saves.get((provider, vm), "")


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return Plans(tmp_path)


async def begun(make: Make, plans: Plans, power: str, state: pb.PowerState.ValueType) -> Controller:
    controller = make(vm(state), plans=plans)
    await controller.start(machine(power))
    return controller


@pytest.mark.parametrize(
    ("power", "state"),
    [("On", pb.POWER_STATE_OFF), ("OffGraceful", pb.POWER_STATE_ON), ("Off", pb.POWER_STATE_ON)],
)
async def test_nothing_is_done_to_a_vm_that_is_held(
    make_controller: Make, plans: Plans, power: str, state: pb.PowerState.ValueType
) -> None:
    controller = await begun(make_controller, plans, power, state)
    await controller.settle(3600)
    assert controller.client.requests == []


async def test_its_status_names_the_run(make_controller: Make, plans: Plans) -> None:
    controller = await begun(make_controller, plans, "On", pb.POWER_STATE_OFF)
    assert controller.source.last().held_by == "tonight"
    assert controller.source.ready() == ("False", "HeldByPlan")


async def test_it_is_started_once_it_is_released(make_controller: Make, plans: Plans) -> None:
    controller = await begun(make_controller, plans, "On", pb.POWER_STATE_OFF)
    plans.held.clear()
    controller.runner.wake({WEB})
    await controller.settle()
    assert [request[0] for request in controller.client.requests] == ["power_on"]


async def test_one_that_the_run_has_saved_is_resumed_once_it_is_released(make_controller: Make, plans: Plans) -> None:
    controller = await begun(make_controller, plans, "On", pb.POWER_STATE_ON)
    saving = await controller.client.call(pb.ShutdownRequest(vm="id-web", request_id="tonight/1"))
    controller.client.turn(pb.POWER_STATE_ON, active=saving.id)
    await controller.settle()
    await controller.client.end(saving.id, outcome="SAVED")
    await controller.settle()
    before = len(controller.client.requests)
    plans.held.clear()
    controller.runner.wake({WEB})
    await controller.settle()
    assert [request[0] for request in controller.client.requests[before:]] == ["power_on"]


async def test_so_is_one_that_the_run_has_saved_while_no_controller_ran(make_controller: Make, plans: Plans) -> None:
    controller = make_controller(vm(pb.POWER_STATE_SUSPENDED), plans=plans)
    saving = await controller.client.call(pb.ShutdownRequest(vm="id-web", request_id="tonight/1"))
    await controller.client.end(saving.id, outcome="SAVED")
    plans.saves[WEB] = saving.id
    await controller.start(machine("On"))
    await controller.settle()
    last = controller.source.last().last_power_off
    assert last is not None
    assert (last.operation, last.outcome) == (saving.id, "SAVED")
    before = len(controller.client.requests)
    plans.held.clear()
    controller.runner.wake({WEB})
    await controller.settle()
    assert [request[0] for request in controller.client.requests[before:]] == ["power_on"]


async def test_another_vm_of_the_provider_is_acted_upon(make_controller: Make, plans: Plans) -> None:
    controller = make_controller(vm(pb.POWER_STATE_OFF), vm(pb.POWER_STATE_OFF, name="db"), plans=plans)
    await controller.start(machine("On"), machine("On", name="db"))
    assert [request[:2] for request in controller.client.requests] == [("power_on", "id-db")]


async def test_what_its_run_does_is_in_its_status(make_controller: Make, plans: Plans) -> None:
    controller = await begun(make_controller, plans, "On", pb.POWER_STATE_ON)
    shutdown = pb.ShutdownRequest(vm="id-web", request_id="tonight/1")
    begun_by_run = await controller.client.call(shutdown)
    controller.client.turn(pb.POWER_STATE_ON, active=begun_by_run.id)
    await controller.settle()
    await controller.client.end(begun_by_run.id)
    await controller.settle()
    off = controller.source.last().last_power_off
    assert off is not None
    assert (off.operation, off.outcome) == (begun_by_run.id, "GRACEFUL")


async def test_a_resource_that_is_deleted_may_go_when_its_held_vm_is_off(make_controller: Make, plans: Plans) -> None:
    controller = make_controller(vm(pb.POWER_STATE_OFF), plans=plans)
    await controller.start(machine("On", meta={"leaving": True}))
    await controller.settle()
    assert [key.name for key in controller.source.released] == ["web"]
