from datetime import timedelta

import pytest

from client.errors import ProviderError
from controller.models import VirtualMachine
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    FAILED,
    NOW,
    POWER_ON,
    REBOOT,
    RUNNING_HOOKS,
    WAITING,
    machine,
    operation,
    record,
    seconds,
    vm,
    with_status,
)
from tests.unit.controller.conftest import Begin, Controller, Make
from tests.unit.controller.fakes import clock

pytestmark = pytest.mark.looptime


def calls(controller: Controller) -> list[str]:
    return [request[0] for request in controller.client.requests]


def restarted(resource: VirtualMachine, controller: Controller) -> VirtualMachine:
    """The resource as the next process reads it."""
    return with_status(resource, **dict(controller.source.last()))


async def test_a_shutdown_is_three_writes(begin: Begin) -> None:
    controller = await begin(machine(gracefulShutdownTimeout="60s"))
    await controller.client.tell("op-1", state=RUNNING_HOOKS)
    await controller.settle()
    await controller.client.tell("op-1", state=WAITING, force_after=NOW + seconds(60))
    await controller.settle()
    controller.client.turn(pb.POWER_STATE_OFF)
    await controller.settle()
    await controller.client.end("op-1", signal="ACPI")
    await controller.settle(1000)
    written = controller.source.written()
    assert [status.phase for status in written] == ["ShuttingDown", "ShuttingDown", "Off"]
    assert written[1].operation
    assert written[1].operation.force_after == NOW + seconds(60)
    assert written[2].last_power_off
    assert (written[2].last_power_off.outcome, written[2].last_power_off.signal) == ("GRACEFUL", "ACPI")
    assert calls(controller) == ["shutdown"]


async def test_a_decision_that_is_waited_for_is_written(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    await controller.settle()
    assert controller.source.last().phase == "AwaitingDecision"
    assert controller.source.ready() == ("False", "AwaitingDecision")


async def test_a_drifted_vm_is_brought_back_by_another_attempt(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.client.end("op-1")
    await controller.settle(10)
    controller.client.turn(pb.POWER_STATE_ON)
    await controller.settle()
    assert [request[2] for request in controller.client.requests] == ["uid-web-1-1", "uid-web-1-2"]


async def test_a_guest_that_will_not_go_is_not_asked_for_ever(begin: Begin) -> None:
    controller = await begin(machine(escalation="Never"))
    for _ in range(5):
        last = f"op-{len(controller.client.operations)}"
        await controller.client.end(last, "STILL_RUNNING", FAILED, message="Not powered off hard, as asked.")
        await controller.settle(1)
    assert len(controller.client.operations) == 1
    assert controller.source.ready() == ("False", "Failed")
    await controller.settle(24 * 3600)
    assert len(controller.client.operations) == 2


async def test_a_persons_cancel_stands_until_the_spec_changes(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.client.cancel("op-1")
    await controller.settle(7 * 24 * 3600)
    assert controller.source.ready() == ("False", "Cancelled")
    await controller.apply(machine(generation=2))
    assert [request[2] for request in controller.client.requests[2:]] == ["uid-web-2-1"]


async def test_another_timeout_extends_the_running_shutdown(begin: Begin) -> None:
    controller = await begin(machine(gracefulShutdownTimeout="60s"))
    await controller.apply(machine(gracefulShutdownTimeout="300s", generation=2))
    await controller.settle(10)
    assert controller.client.requests[1:] == [("extend", "op-1", timedelta(minutes=5))]
    operation = controller.source.last().operation
    assert operation
    assert (operation.force_after, operation.timeout, operation.generation) == (NOW + seconds(300), seconds(300), 2)


async def test_news_that_overtook_an_answer_count_and_not_the_answer(begin: Begin) -> None:
    """The provider shortens the guest's time to none, says so, and then that a decision is awaited."""
    controller = await begin(machine(escalation="Ask", gracefulShutdownTimeout="60s"))
    controller.client.answer_time = 1
    await controller.apply(machine(escalation="Force", gracefulShutdownTimeout="1s", generation=2))
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    await controller.settle(10)
    assert calls(controller) == ["shutdown", "extend", "force"]


async def test_a_timeout_that_is_changed_while_the_shutdown_is_asked_for_extends_it(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.answer_time = 1
    await controller.apply(machine(generation=2, gracefulShutdownTimeout="60s"))
    await controller.apply(machine(generation=3, gracefulShutdownTimeout="300s"))
    await controller.settle(10)
    assert calls(controller) == ["shutdown", "extend"]
    assert controller.client.requests[1] == ("extend", "op-1", timedelta(minutes=5))


async def test_a_spec_that_comes_while_another_is_acted_upon_is_not_said_to_be_acted_upon(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.call_time = 3
    await controller.apply(machine(generation=2))
    await controller.apply(machine("On", generation=3))
    await controller.settle(5)
    assert controller.source.last().observed_generation == 2


async def test_what_is_as_before_by_the_time_a_slow_write_has_ended_is_written_again(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.settle(2)
    controller.source.write_time = 10
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    await controller.settle(1)
    await controller.client.tell("op-1", state=WAITING)
    await controller.settle(60)
    assert controller.source.last().phase == "ShuttingDown"


async def test_what_a_provider_refuses_is_told_by_the_field_of_the_manifest(begin: Begin) -> None:
    controller = await begin(machine("On"))
    violations = [("pre_stop[0].exec.command", "must be at most 256 parts")]
    controller.client.failure = ProviderError("INVALID_ARGUMENT", "?", "INVALID_REQUEST", violations=violations)
    await controller.apply(machine(generation=2, preStop={"exec": {"command": ["x"] * 300}}))
    ready = next(each for each in controller.source.last().conditions if each.type == "Ready")
    told = "spec.lifecycle.preStop.exec.command: must be at most 256 parts. Mend the resource."
    assert (ready.reason, ready.message) == ("INVALID_REQUEST", told)


async def test_off_forces_the_running_shutdown(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.apply(machine("Off", generation=2))
    await controller.client.end("op-1", "FORCED", reason="REQUESTED")
    await controller.settle(1000)
    assert calls(controller) == ["shutdown", "force"]
    assert controller.source.ready() == ("True", "Off")


async def test_on_calls_the_running_shutdown_off(begin: Begin) -> None:
    hook = {"exec": {"command": ["/bin/start"]}}
    controller = await begin(machine())
    await controller.apply(machine("On", generation=2, postStart=hook))
    assert controller.client.requests[-1][:3] == ("power_on", "id-web", "uid-web-2-1")
    assert controller.client.requests[-1][3][0].exec.command == ["/bin/start"]
    await controller.client.end("op-2", "ALREADY_ON")
    await controller.settle(1000)
    assert controller.source.ready() == ("True", "On")


async def test_never_instead_of_force_takes_force_away_from_a_running_shutdown(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.apply(machine(generation=2, escalation="Never"))
    assert calls(controller) == ["shutdown", "cancel", "shutdown"]
    assert controller.client.requests[-1][3].escalation == pb.ESCALATION_NEVER


async def test_a_restarted_controller_goes_on_with_the_same_operation(make_controller: Make) -> None:
    before, after = make_controller(), make_controller()
    await before.start(machine())
    await before.settle(1)
    await before.stop()
    after.client.operations = before.client.operations
    await after.start(restarted(machine(), before))
    assert (after.client.watchers, calls(after)) == (1, [])
    await after.client.end("op-1")
    await after.settle()
    assert after.source.last().last_power_off
    assert calls(after) == []


async def test_a_controller_killed_before_it_wrote_anything_asks_for_the_same_operation(make_controller: Make) -> None:
    before, after = make_controller(), make_controller()
    await before.start(machine())
    after.client.operations = before.client.operations
    await after.start(machine())
    assert len(after.client.operations) == 1
    assert after.client.requests[0][2] == before.client.requests[0][2]


async def test_a_shutdown_that_ended_unseen_still_gets_its_verdict(make_controller: Make) -> None:
    before, after = make_controller(), make_controller(vm(pb.POWER_STATE_OFF))
    await before.start(machine())
    await before.client.end("op-1", "FORCED", reason="TIMEOUT")
    after.client.operations = before.client.operations
    await after.start(machine())
    record = after.source.last().last_power_off
    assert record
    assert (record.outcome, record.reason) == ("FORCED", "TIMEOUT")
    assert calls(after) == []


async def test_while_it_goes_down_it_is_shown_as_it_was_when_that_began(make_controller: Make) -> None:
    controller = make_controller(vm(pb.POWER_STATE_OFF))
    await controller.start(machine())
    assert controller.source.last().power_state == "Off"
    controller.client.turn(pb.POWER_STATE_ON)
    await controller.settle(2)
    shown = controller.source.last()
    forecast = next(each for each in shown.conditions if each.type == "GracefulShutdownReady")
    assert (shown.phase, shown.power_state, forecast.status) == ("ShuttingDown", "On", "True")


async def test_a_shutdown_that_a_start_superseded_still_gets_its_verdict(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.apply(machine("On", generation=2))
    await controller.client.end("op-1", "GRACEFUL")
    await controller.client.end("op-2", "STARTED")
    await controller.settle()
    last = controller.source.last().last_power_off
    assert last
    assert (last.operation, last.outcome) == ("op-1", "GRACEFUL")


async def test_a_shutdown_whose_answer_was_lost_still_gets_its_verdict(begin: Begin) -> None:
    controller = await begin(machine("Off"))
    client = controller.client
    await client.end("op-1", "FORCED", reason="REQUESTED")
    client.turn(pb.POWER_STATE_OFF)
    await controller.settle(60)
    client.answer_time = 60
    await controller.apply(machine(generation=2))
    client.turn(pb.POWER_STATE_ON)
    await controller.settle(10)
    client.answer_lost = True
    await client.end("op-2", "GRACEFUL")
    client.turn(pb.POWER_STATE_OFF)
    await controller.settle(120)
    client.changed(None)
    await controller.settle(5)
    last = controller.source.last().last_power_off
    assert last
    assert (last.operation, last.outcome) == ("op-2", "GRACEFUL")


async def test_a_provider_that_forgot_the_operation_is_given_the_same_force_after(make_controller: Make) -> None:
    forgotten = with_status(machine(), operation=record(force_after=NOW + seconds(9)), observed_generation=1)
    controller = make_controller()
    await controller.start(forgotten)
    await controller.settle(2)
    request = controller.client.requests[0]
    assert (request[0], request[2], request[4]) == ("shutdown", "uid-web-1-1", NOW + seconds(9))


async def test_a_watch_that_breaks_is_taken_up_again(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.client.break_watches()
    await controller.settle(2)
    await controller.client.end("op-1")
    await controller.settle()
    assert controller.source.ready() == ("True", "Off")


async def test_somebody_elses_operation_is_waited_for_and_its_verdict_kept(make_controller: Make) -> None:
    controller = make_controller(vm(active="op-9"))
    foreign = operation(REBOOT, WAITING, id="op-9", create_time=clock())
    controller.client.operations["op-9"] = foreign
    await controller.start(machine("On"))
    assert controller.source.last().phase == "Rebooting"
    await controller.client.end("op-9")
    controller.client.turn(pb.POWER_STATE_ON)
    await controller.settle(10)
    kept = controller.source.last().last_power_off
    assert kept
    assert (kept.operation, calls(controller)) == ("op-9", [])


async def test_an_active_operation_that_we_did_not_know_of_is_followed(make_controller: Make) -> None:
    controller = make_controller()
    foreign = operation(POWER_ON, RUNNING_HOOKS, id="op-9", create_time=clock())
    controller.client.operations["op-9"] = foreign
    active = ProviderError("ABORTED", "op-9 is active", "OPERATION_ACTIVE", {"operation_id": "op-9"})
    controller.client.failure = active
    await controller.start(machine())
    assert controller.source.last().phase == "PoweringOn"
    controller.client.failure = None
    await controller.client.end("op-9", "STARTED")
    await controller.settle(2)
    assert controller.source.last().phase == "ShuttingDown"


async def test_a_vm_that_does_not_exist_is_reported(begin: Begin) -> None:
    controller = await begin(machine(spec={"vmName": "nobody"}))
    assert controller.source.ready() == ("False", "VMNotFound")


async def test_a_name_that_several_vms_bear_is_reported(make_controller: Make) -> None:
    controller = make_controller(vm(), pb.VM(id="id-2", name="web", power_state=pb.POWER_STATE_ON))
    await controller.start(machine())
    assert controller.source.ready() == ("False", "AMBIGUOUS_NAME")


async def test_what_the_provider_refuses_is_reported_in_its_own_words(make_controller: Make) -> None:
    controller = make_controller()
    controller.client.failure = ProviderError("FAILED_PRECONDITION", "web is a template", "VM_REFUSED")
    await controller.start(machine())
    assert controller.source.ready() == ("False", "VM_REFUSED")


async def test_a_connection_that_fails_for_a_moment_is_not_reported(make_controller: Make) -> None:
    controller = make_controller()
    controller.client.failure = ProviderError("UNAVAILABLE", "connection reset")
    await controller.start(machine())
    assert controller.source.written() == []


async def test_a_provider_that_has_too_much_to_do_for_a_moment_is_not_reported_and_asked_again(
    make_controller: Make,
) -> None:
    controller = make_controller()
    controller.client.failure = ProviderError(
        "RESOURCE_EXHAUSTED", "3000 are under way", "TOO_MANY_CALLS", retry_after=1
    )
    await controller.start(machine())
    assert controller.source.written() == []
    controller.client.failure = None
    await controller.settle(5)
    assert controller.source.last().phase == "ShuttingDown"


async def test_a_provider_that_is_away_keeps_what_was_known(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.set_reachable(False, "no answer")
    await controller.settle()
    status = controller.source.last()
    assert (controller.source.ready(), status.power_state) == (("Unknown", "ProviderUnreachable"), "On")


async def test_a_vm_that_was_migrated_away_is_not_started(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.turn(pb.POWER_STATE_UNKNOWN)
    await controller.settle(24 * 3600)
    assert calls(controller) == []
    assert (controller.source.ready(), controller.source.last().power_state) == (("Unknown", "PowerUnknown"), "Unknown")


async def test_a_vm_of_which_nobody_knew_whether_it_runs_is_acted_upon_when_that_is_known(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.client.turn(pb.POWER_STATE_UNKNOWN)
    await controller.settle(60)
    controller.client.turn(pb.POWER_STATE_OFF)
    await controller.settle()
    assert calls(controller) == ["power_on"]


async def test_an_operation_that_ended_in_the_same_moment_is_no_error(begin: Begin) -> None:
    controller = await begin(machine())
    ended = ProviderError("FAILED_PRECONDITION", "it has ended", "OPERATION_ENDED")

    async def refuse(request: pb.ForceOperationRequest) -> pb.Operation:
        raise ended

    controller.client.call = refuse  # type: ignore[assignment, method-assign]
    await controller.apply(machine("Off", generation=2))
    await controller.client.end("op-1")
    await controller.settle()
    assert controller.source.ready() == ("True", "Off")


async def test_people_are_told_how_it_went(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.settle(1)
    await controller.client.end("op-1", "FORCED", reason="TIMEOUT", message="Powered off hard, reason TIMEOUT.")
    await controller.settle()
    told = [(event.type, event.reason) for key, event in controller.source.events if key.kind == "VirtualMachine"]
    assert told == [("Normal", "ShutdownStarted"), ("Warning", "ForcedOff")]
