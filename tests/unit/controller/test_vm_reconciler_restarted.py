"""What the next controller makes of an operation that a killed one could not write down."""

from typing import Any

import pytest

from controller.models import VirtualMachine
from controller.source import Key
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    NOW,
    SUCCEEDED,
    WAITING,
    machine,
    operation,
    provider,
    record,
    seconds,
    vm,
    with_status,
)
from tests.unit.controller.conftest import Controller, Make

pytestmark = pytest.mark.looptime


async def found(make: Make, resource: VirtualMachine, request_id: str = "uid-web-1-1", **fields: Any) -> Controller:
    """A controller that starts with this resource, as the last one wrote it, while an operation is active."""
    controller = make(vm(active="op-7"))
    known: dict[str, Any] = {"state": AWAITING_DECISION, "escalation": "ASK"} | fields
    controller.client.operations["op-7"] = operation(id="op-7", request_id=request_id, **known)
    await controller.start(resource)
    return controller


def calls(controller: Controller) -> list[str]:
    return [request[0] for request in controller.client.requests]


async def test_its_bearer_is_ours_by_the_request_id(make_controller: Make) -> None:
    controller = await found(make_controller, machine(escalation="Ask"))
    written = controller.source.last().operation
    assert written
    assert (written.id, written.generation, written.attempt) == ("op-7", 1, 1)


async def test_a_later_spec_that_wants_force_forces_it(make_controller: Make) -> None:
    later = with_status(machine(generation=2, escalation="Force"), observed_generation=1)
    assert calls(await found(make_controller, later)) == ["force"]


async def test_a_later_spec_that_wants_it_on_calls_it_off(make_controller: Make) -> None:
    later = with_status(machine("On", generation=2), observed_generation=1)
    assert calls(await found(make_controller, later)) == ["power_on"]


async def test_a_later_spec_with_another_timeout_extends_it(make_controller: Make) -> None:
    later = with_status(machine(generation=2, gracefulShutdownTimeout="5m"), observed_generation=1)
    controller = await found(make_controller, later, escalation="FORCE", state=WAITING)
    assert controller.client.requests == [("extend", "op-7", seconds(300))]


async def test_what_a_person_extended_stays_extended_while_the_spec_is_the_same(make_controller: Make) -> None:
    same = machine(gracefulShutdownTimeout="1m")
    controller = await found(make_controller, same, escalation="FORCE", timeout=seconds(300))
    assert calls(controller) == []


async def test_one_that_was_written_down_after_it_counts_instead(make_controller: Make) -> None:
    newer = record(id="op-8", state=SUCCEEDED, generation=2, start_time=NOW + seconds(1))
    controller = await found(make_controller, with_status(machine(generation=2), operation=newer))
    written = controller.source.last().operation
    assert written
    assert written.id == "op-8"


async def test_one_of_another_resource_is_not_ours(make_controller: Make) -> None:
    controller = await found(make_controller, machine(), request_id="uid-website-1-1")
    assert controller.source.last().operation is None


async def test_somebody_elses_is_called_off_by_a_spec_that_has_changed_since(make_controller: Make) -> None:
    later = with_status(machine("On", generation=2), observed_generation=1)
    assert calls(await found(make_controller, later, request_id="by-hand")) == ["power_on"]


async def test_somebody_elses_is_waited_for_while_the_spec_is_the_same(make_controller: Make) -> None:
    same = with_status(machine("On"), observed_generation=1)
    controller = await found(make_controller, same, request_id="by-hand")
    controller.client.turn(pb.POWER_STATE_ON, active="op-7")
    await controller.settle(60)
    assert calls(controller) == []


async def test_a_restart_writes_nothing_about_what_is_settled(make_controller: Make) -> None:
    before, after = make_controller(vm(), vm(name="db")), make_controller(vm(), vm(name="db"))
    resources = machine("On"), machine("On", name="db")
    await before.start(*resources)
    await before.settle(10)
    kept = (with_status(each, **dict(before.source.last(each.metadata.name))) for each in resources)
    status = before.source.statuses[Key("Provider", "default", "local")][-1]
    after.source.apply(provider().model_copy(update={"status": status}))
    await after.start(*kept, declare_provider=False)
    await after.settle(24 * 3600)
    assert (after.source.statuses, after.source.events, calls(after)) == ({}, [], [])
    assert after.source.held == {Key("Provider", "default", "local"): True}
