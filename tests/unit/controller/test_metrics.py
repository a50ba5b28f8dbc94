import pytest
from prometheus_client import generate_latest

from client.errors import ProviderError
from controller.metrics import Metrics
from tests.unit.controller.builders import machine, vm
from tests.unit.controller.conftest import Controller, Make

pytestmark = pytest.mark.looptime


@pytest.fixture
def controller(make_controller: Make) -> Controller:
    return make_controller(vm())


def value(metrics: Metrics, name: str) -> float:
    lines = generate_latest(metrics.registry).decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


async def test_before_it_leads_there_is_nothing(controller: Controller) -> None:
    metrics = Metrics()
    assert value(metrics, "vmpower_controller_leader") == 0
    assert value(metrics, "vmpower_controller_providers") == 0


async def test_whether_it_leads_is_told(controller: Controller) -> None:
    metrics = Metrics()
    metrics.follow(controller.runner)
    await controller.start()
    assert value(metrics, "vmpower_controller_leader") == 1
    await controller.stop()
    assert value(metrics, "vmpower_controller_leader") == 0


async def test_reconciles_are_counted_and_timed(controller: Controller) -> None:
    metrics = Metrics()
    metrics.follow(controller.runner)
    await controller.start()
    done = value(metrics, 'vmpower_controller_reconciles_total{result="done"}')
    assert done >= 1
    assert value(metrics, "vmpower_controller_reconcile_duration_seconds_count") == done


async def test_what_a_provider_refused_is_counted(controller: Controller) -> None:
    metrics = Metrics()
    metrics.follow(controller.runner)
    controller.client.failure = ProviderError("INTERNAL", "the disk is full", "JOURNAL_FAILED")
    await controller.start(machine("Off"))
    assert value(metrics, 'vmpower_controller_reconciles_total{result="refused"}') >= 1


async def test_updates_of_a_status_are_counted(controller: Controller) -> None:
    metrics = Metrics()
    metrics.follow(controller.runner)
    await controller.start()
    assert value(metrics, 'vmpower_controller_status_updates_total{result="done"}') >= 1


async def test_resources_are_counted_by_whether_they_are_ready(controller: Controller) -> None:
    metrics = Metrics()
    metrics.follow(controller.runner)
    await controller.start(machine("On"), machine("On", name="other"))
    assert value(metrics, 'vmpower_controller_virtual_machines{ready="True"}') == 1
    assert value(metrics, 'vmpower_controller_virtual_machines{ready="False"}') == 1


async def test_a_provider_that_does_not_answer_is_counted(controller: Controller) -> None:
    metrics = Metrics()
    metrics.follow(controller.runner)
    await controller.start()
    assert value(metrics, "vmpower_controller_providers_unreachable") == 0
    controller.client.reachable = False
    assert value(metrics, "vmpower_controller_providers_unreachable") == 1


async def test_a_runner_that_follows_another_goes_on_counting(make_controller: Make) -> None:
    metrics, first, second = Metrics(), make_controller(vm()), make_controller(vm())
    metrics.follow(first.runner)
    await first.start()
    before = value(metrics, 'vmpower_controller_reconciles_total{result="done"}')
    await first.stop()
    metrics.follow(second.runner)
    await second.start()
    assert value(metrics, 'vmpower_controller_reconciles_total{result="done"}') > before
