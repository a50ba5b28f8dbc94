"""What the next controller makes of an operation that a killed one could not write down."""

from typing import Any

import pytest

from controller.models import VirtualMachine
from controller.source import Key
from controller.status import heard
from controller.status_models import VirtualMachineStatus
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    NOW,
    POWER_OFF,
    SUCCEEDED,
    WAITING,
    binding,
    machine,
    operation,
    provider,
    record,
    seconds,
    verdict,
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


# What has ended before it was written down


async def ended(
    make: Make, resource: VirtualMachine, *operations: pb.Operation, power: Any = pb.POWER_STATE_OFF
) -> Controller:
    """A controller that starts with this resource, as the last one wrote it, after these operations have ended."""
    controller = make(vm(power))
    controller.client.operations = {each.id: each for each in operations}
    await controller.start(resource)
    return controller


def cutting() -> pb.Operation:
    """One that has forced its VM."""
    end = verdict("FORCED", reason="TIMEOUT")
    return operation(id="op-7", request_id="uid-web-1-1", state=SUCCEEDED, verdict=end)


def cutting_by_hand(number: int = 7) -> pb.Operation:
    """One that a person asked for, and that has forced the VM."""
    began = NOW + seconds(number)
    end = verdict("FORCED", reason="REQUESTED", began=began)
    return operation(
        POWER_OFF, id=f"op-{number}", request_id="by-hand", create_time=began, state=SUCCEEDED, verdict=end
    )


def saving(request_id: str = "uid-web-1-1", began: float = 0) -> pb.Operation:
    """One that has saved the memory of its VM."""
    end = verdict("SAVED", reason="TIMEOUT", began=NOW + seconds(began))
    return operation(id="op-7", request_id=request_id, create_time=NOW + seconds(began), state=SUCCEEDED, verdict=end)


async def test_what_ended_for_an_older_spec_is_told(make_controller: Make) -> None:
    cut = cutting()
    controller = await ended(make_controller, machine("Off", generation=2), cut)
    last = controller.source.last().last_power_off
    assert last
    assert (last.operation, last.outcome) == ("op-7", "FORCED")


async def test_what_was_saved_for_an_older_spec_is_resumed_for_on(make_controller: Make) -> None:
    controller = await ended(make_controller, machine("On", generation=2), saving(), power=pb.POWER_STATE_SUSPENDED)
    assert calls(controller) == ["power_on"]


async def test_what_began_later_than_what_is_known_is_told_whoever_asked(make_controller: Make) -> None:
    known = with_status(machine(), operation=record(id="op-1", state=SUCCEEDED), observed_generation=1)
    controller = await ended(make_controller, known, saving(request_id="by-hand", began=60))
    last = controller.source.last().last_power_off
    assert last
    assert (last.operation, last.outcome) == ("op-7", "SAVED")


async def test_what_others_did_before_the_resource_was_bound_is_not_told(make_controller: Make) -> None:
    controller = await ended(make_controller, machine("Off"), saving(request_id="by-hand", began=-60))
    assert controller.source.last().last_power_off is None


async def test_what_others_did_since_the_resource_was_bound_is_told(make_controller: Make) -> None:
    bound = with_status(machine("Off"), vm=binding(since=NOW - seconds(60)), observed_generation=1)
    controller = await ended(make_controller, bound, saving(request_id="by-hand"))
    last = controller.source.last().last_power_off
    assert last
    assert (last.operation, last.outcome) == ("op-7", "SAVED")


async def test_what_began_before_what_is_known_is_not_told(make_controller: Make) -> None:
    told = heard(VirtualMachineStatus(), operation(id="op-8", state=SUCCEEDED, verdict=verdict(began=NOW)), NOW)
    known = with_status(machine("Off"), last_power_off=told.last_power_off, observed_generation=1)
    controller = await ended(make_controller, known, saving(began=-60))
    last = controller.source.last().last_power_off
    assert last
    assert last.operation == "op-8"


async def test_an_earlier_attempt_is_not_told_though_the_clock_was_set_back_since(make_controller: Make) -> None:
    told = heard(VirtualMachineStatus(), operation(id="op-8", state=SUCCEEDED, verdict=verdict(began=NOW)), NOW)
    second = record(id="op-8", state=SUCCEEDED, attempt=2)
    known = with_status(machine(), operation=second, last_power_off=told.last_power_off, observed_generation=1)
    controller = await ended(make_controller, known, saving(began=3600))
    last = controller.source.last().last_power_off
    assert last
    assert last.operation == "op-8"


async def test_of_several_the_last_counts_and_each_is_an_event(make_controller: Make) -> None:
    cut = cutting()
    asked = operation(
        id="op-8", request_id="uid-web-3-1", create_time=NOW + seconds(60), state=SUCCEEDED, verdict=verdict("GRACEFUL")
    )
    controller = await ended(make_controller, machine("Off", generation=4), asked, cut)
    last = controller.source.last().last_power_off
    assert last
    assert last.operation == "op-8"
    told = [event.reason for key, event in controller.source.events if key.kind == "VirtualMachine"]
    assert told == ["ForcedOff", "GracefulShutdown"]


async def test_what_is_saved_unheard_while_the_controller_runs_is_resumed_for_on(make_controller: Make) -> None:
    controller = make_controller()
    known = with_status(machine("On"), operation=record(id="op-1", state=SUCCEEDED), observed_generation=1)
    await controller.start(known)
    controller.client.operations["op-7"] = saving(request_id="by-hand", began=60)
    controller.client.turn(pb.POWER_STATE_SUSPENDED)
    await controller.settle(60)
    assert calls(controller) == ["power_on"]


async def test_what_others_did_before_it_was_heard_of_is_told(make_controller: Make) -> None:
    controller = make_controller()
    await controller.start(with_status(machine("On"), vm=binding(since=NOW - seconds(60)), observed_generation=1))
    controller.client.operations["op-7"] = cutting_by_hand()
    controller.client.turn(pb.POWER_STATE_OFF)
    await controller.settle(60)
    last = controller.source.last().last_power_off
    assert last
    assert (last.operation, last.outcome) == ("op-7", "FORCED")


async def test_what_superseded_a_followed_one_by_hand_is_told(make_controller: Make) -> None:
    controller = await found(make_controller, machine(), escalation="FORCE", state=WAITING)
    given_way = verdict("FORCED", reason="PREEMPTED")
    controller.client.operations["op-8"] = cutting_by_hand(8)
    controller.client.turn(pb.POWER_STATE_OFF)
    await controller.client.tell("op-7", state=SUCCEEDED, verdict=given_way)
    await controller.settle(60)
    last = controller.source.last().last_power_off
    assert last
    assert last.operation == "op-8"


async def test_what_its_host_has_suspended_is_left_so(make_controller: Make) -> None:
    controller = make_controller()
    known = with_status(machine("On"), operation=record(id="op-1", state=SUCCEEDED), observed_generation=1)
    await controller.start(known)
    controller.client.turn(pb.POWER_STATE_SUSPENDED)
    await controller.settle(60)
    assert calls(controller) == []
