from typing import Any

import pytest

from client.errors import ProviderError
from controller.reconcile import Held, Hold, Wait
from controller.status import report
from controller.status_models import Condition, Statement, VirtualMachineStatus, conditions
from controller.vm_conditions import Observation
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    FAILED,
    NOW,
    POWER_ON,
    SUCCEEDED,
    forecast,
    machine,
    operation,
    record,
    seconds,
    vm,
    with_status,
)

LATER = NOW + seconds(60)
AWAY = ProviderError("UNAVAILABLE", "no answer", "ProviderUnreachable")
MOVED = forecast(problems=("It was moved to another host.",))
NEWER: Any = 99
"""A number of an enum that a newer provider has and we do not know."""


def condition(status: VirtualMachineStatus, name: str = "Ready") -> Condition:
    return next(found for found in status.conditions if found.type == name)


def ready(resource: Any, **seen: Any) -> tuple[str, str]:
    found = condition(report(resource, Observation(NOW, **seen)))
    return found.status, found.reason


SAID: list[tuple[str, Any, dict[str, Any], tuple[str, str]]] = [
    ("off as wanted", machine(), {"vm": vm(pb.POWER_STATE_OFF)}, ("True", "Off")),
    ("on as wanted", machine("On"), {"vm": vm()}, ("True", "On")),
    ("paused", machine("On"), {"vm": vm(pb.POWER_STATE_PAUSED)}, ("False", "Paused")),
    ("nobody can tell", machine("On"), {"vm": vm(pb.POWER_STATE_UNKNOWN)}, ("Unknown", "PowerUnknown")),
    ("what a newer provider tells", machine("On"), {"vm": vm(NEWER)}, ("Unknown", "PowerUnknown")),
    ("left alone", machine(None), {"vm": vm()}, ("True", "NotManaged")),
    ("not there", machine(), {"vm": None}, ("False", "VMNotFound")),
    ("shutting down", machine(), {"vm": vm(), "operation": operation()}, ("False", "ShuttingDown")),
    ("starting", machine("On"), {"vm": vm(pb.POWER_STATE_OFF), "operation": operation(POWER_ON)},
     ("False", "PoweringOn")),
    ("asked", machine(), {"vm": vm(), "operation": operation(state=AWAITING_DECISION)},
     ("False", "AwaitingDecision")),
    ("cancelled", machine(), {"vm": vm(), "action": Hold()}, ("False", "Cancelled")),
    ("held", machine("On"), {"vm": vm(pb.POWER_STATE_OFF), "action": Held("tonight")}, ("False", "HeldByPlan")),
    ("held and going down", machine("On"), {"vm": vm(), "operation": operation(), "action": Held("tonight", "op-1")},
     ("False", "HeldByPlan")),
    ("failed", with_status(machine(), operation=record(state=FAILED)), {"vm": vm(), "action": Wait(LATER)},
     ("False", "Failed")),
    ("waits", machine(), {"vm": vm(), "action": Wait(LATER)}, ("False", "Pending")),
    ("drifted", with_status(machine(), operation=record(state=SUCCEEDED)), {"vm": vm(), "action": Wait(LATER)},
     ("False", "Pending")),
    ("refused", machine(), {"vm": vm(), "error": ProviderError("X", "a template", "VM_REFUSED")},
     ("False", "VM_REFUSED")),
    ("away", machine(), {"trouble": AWAY}, ("Unknown", "ProviderUnreachable")),
    ("vanished after it went off", with_status(machine(), operation=record(state=SUCCEEDED)), {"vm": None},
     ("True", "Off")),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "seen", "expected"), [row[1:] for row in SAID], ids=[row[0] for row in SAID])
def test_ready_says(resource: Any, seen: dict[str, Any], expected: tuple[str, str]) -> None:
    assert ready(resource, **seen) == expected


def test_a_failure_says_why_and_when_it_is_tried_again() -> None:
    failed = record(state=FAILED, message="Not powered off hard, as asked.")
    status = report(with_status(machine(), operation=failed), Observation(NOW, vm(), action=Wait(LATER)))
    expected = "Not powered off hard, as asked. The next attempt begins at 2030-01-01T12:01:00Z."
    assert condition(status).message == expected


def test_a_decision_that_is_waited_for_says_how_to_decide() -> None:
    asks = operation(state=AWAITING_DECISION)
    assert "vmpower force, extend or cancel op-1" in condition(report(machine(), Observation(NOW, vm(), asks))).message


@pytest.mark.parametrize(
    ("forecast", "power", "expected"),
    [
        (forecast(True, ("ACPI",)), pb.POWER_STATE_ON, ("True", "Graceful")),
        (forecast(False, (), "TOOLS_UNAVAILABLE", ("no agent",)), pb.POWER_STATE_ON, ("False", "TOOLS_UNAVAILABLE")),
        (forecast(False, (), "PAUSED", ("paused",)), pb.POWER_STATE_PAUSED, ("False", "PAUSED")),
        (forecast(), pb.POWER_STATE_OFF, ("Unknown", "NotRunning")),
    ],
)
def test_the_forecast_is_a_condition(
    forecast: pb.Forecast, power: "pb.PowerState.ValueType", expected: tuple[str, str]
) -> None:
    status = report(machine("On"), Observation(NOW, vm(power, forecast=forecast)))
    said = condition(status, "GracefulShutdownReady")
    assert (said.status, said.reason) == expected


def test_a_vm_that_was_saved_as_its_spec_says_is_ready() -> None:
    status = report(machine("OffGraceful", escalation="Save"), Observation(NOW, vm(pb.POWER_STATE_SUSPENDED)))
    assert (condition(status).status, condition(status).reason) == ("True", "Saved")
    assert condition(status, "GracefulShutdownReady").reason == "NotRunning"


@pytest.mark.parametrize(("escalation", "told"), [("Save", True), ("Force", False)])
def test_what_keeps_memory_from_being_saved_is_told_where_it_is_to_be_saved(escalation: str, told: bool) -> None:
    foreseen = pb.Forecast(graceful=True, save_problems=[pb.Problem(message="It is tied.")])
    status = report(machine("On", escalation=escalation), Observation(NOW, vm(forecast=foreseen)))
    assert ("It is tied." in condition(status, "GracefulShutdownReady").message) is told


def test_the_reason_of_a_bad_forecast_is_the_first_that_a_problem_has() -> None:
    problems = [pb.Problem(message="slow"), pb.Problem(reason=pb.REASON_SUSPENDED, message="asleep")]
    seen = vm(pb.POWER_STATE_SUSPENDED, forecast=pb.Forecast(signals=[pb.SIGNAL_ACPI], problems=problems))
    said = condition(report(machine("On"), Observation(NOW, seen)), "GracefulShutdownReady")
    assert (said.status, said.reason, said.message) == ("False", "SUSPENDED", "slow asleep")


def test_a_reason_or_signal_of_a_newer_provider_is_not_shown_as_a_number() -> None:
    strange = pb.Forecast(problems=[pb.Problem(reason=NEWER, message="strange")])
    said = condition(report(machine("On"), Observation(NOW, vm(forecast=strange))), "GracefulShutdownReady")
    assert (said.reason, said.message) == ("NotGraceful", "strange")
    heard_by = pb.Forecast(graceful=True, signals=[NEWER])
    said = condition(report(machine("On"), Observation(NOW, vm(forecast=heard_by))), "GracefulShutdownReady")
    assert said.message == "The guest would be asked by UNSPECIFIED."


@pytest.mark.parametrize("power", ["On", "Off", "OffGraceful"])
def test_a_vm_of_unknown_power_says_why_in_its_providers_words(power: str) -> None:
    status = report(machine(power), Observation(NOW, vm(pb.POWER_STATE_UNKNOWN, forecast=MOVED)))
    said = condition(status)
    assert (status.power_state, status.phase, said.status, said.reason) == (
        "Unknown",
        "Unknown",
        "Unknown",
        "PowerUnknown",
    )
    expected = "Its provider cannot tell whether it runs: nothing is done. It was moved to another host."
    assert said.message == expected


def test_a_vm_of_unknown_power_is_not_said_to_go_down_by_force() -> None:
    seen = vm(pb.POWER_STATE_UNKNOWN, forecast=MOVED)
    said = condition(report(machine("On"), Observation(NOW, seen)), "GracefulShutdownReady")
    assert (said.status, said.reason) == ("Unknown", "PowerUnknown")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"vm": vm()}, ("True", "Connected", "")),
        ({"vm": vm(), "error": ProviderError("ABORTED", "busy", "BUSY")}, ("True", "Connected", "")),
        ({"trouble": AWAY}, ("False", "ProviderUnreachable", "no answer")),
    ],
)
def test_whether_the_provider_answers_is_a_condition(seen: dict[str, Any], expected: tuple[str, str, str]) -> None:
    before = report(machine(), Observation(NOW, trouble=None if "trouble" in seen else AWAY, vm=vm()))
    said = condition(report(with_status(machine(), **dict(before)), Observation(LATER, **seen)), "ProviderReachable")
    assert (said.status, said.reason, said.message, said.last_transition_time) == (*expected, LATER)


def test_the_forecast_says_how_the_guest_would_be_asked_and_what_stands_in_the_way() -> None:
    warned = forecast(True, ("GUEST_AGENT", "ACPI"), "", ("It boots.", "It is slow."))
    said = condition(report(machine("On"), Observation(NOW, vm(forecast=warned))), "GracefulShutdownReady")
    assert said.message == "The guest would be asked by GUEST_AGENT, ACPI. It boots. It is slow."


def test_a_guest_that_would_not_go_down_by_itself_is_not_ready_also_without_a_reason() -> None:
    said = condition(report(machine("On"), Observation(NOW, vm(forecast=forecast()))), "GracefulShutdownReady")
    assert (said.status, said.reason) == ("False", "NotGraceful")


def test_the_forecast_of_a_provider_that_never_answered_is_not_yet_known() -> None:
    said = condition(report(machine(), Observation(NOW, trouble=AWAY)), "GracefulShutdownReady")
    assert (said.status, said.reason) == ("Unknown", "NotYetKnown")


def test_the_forecast_follows_the_vm() -> None:
    before = report(machine(), Observation(NOW, vm()))
    deaf = vm(forecast=forecast(False, (), "TOOLS_UNAVAILABLE", ("no agent",)))
    said = condition(report(with_status(machine(), **dict(before)), Observation(LATER, deaf)), "GracefulShutdownReady")
    assert (said.status, said.reason, said.message) == ("False", "TOOLS_UNAVAILABLE", "no agent")


def test_a_forecast_that_was_never_made_is_not_left_out_for_what_else_is_known() -> None:
    others = conditions((), {"Ready": Statement("False", "Pending")}, NOW, 1)
    status = report(with_status(machine(), conditions=others), Observation(NOW, trouble=AWAY))
    assert condition(status, "GracefulShutdownReady").reason == "NotYetKnown"


def test_the_forecast_stays_as_it_was_while_the_provider_is_away() -> None:
    before = report(machine(), Observation(NOW, vm()))
    after = report(with_status(machine(), **dict(before)), Observation(LATER, trouble=AWAY))
    assert condition(after, "GracefulShutdownReady") == condition(before, "GracefulShutdownReady")


def test_a_forecast_is_also_made_of_an_operation_that_is_the_first_we_see_of_a_vm() -> None:
    said = condition(report(machine(), Observation(NOW, vm(), operation())), "GracefulShutdownReady")
    assert said.status == "True"


def test_a_condition_has_the_reason_and_message_of_the_latest_look() -> None:
    before = report(machine(), Observation(NOW, vm(), operation()))
    after = condition(report(with_status(machine(), **dict(before)), Observation(LATER, vm(), action=Hold())))
    assert (after.reason, after.message) == ("Cancelled", "The operation was cancelled; change the spec to go on.")


def test_a_vm_that_is_not_as_wanted_is_pending_until_something_is_done() -> None:
    assert ready(machine(), vm=vm()) == ("False", "Pending")


def test_a_refusal_is_more_than_what_is_active() -> None:
    refused = ProviderError("FAILED_PRECONDITION", "a template", "VM_REFUSED")
    assert ready(machine(), vm=vm(), operation=operation(), error=refused) == ("False", "VM_REFUSED")


def test_an_operation_that_has_ended_is_not_under_way() -> None:
    assert ready(machine(), vm=vm(pb.POWER_STATE_OFF), operation=operation(state=SUCCEEDED)) == (
        "True",
        "Off",
    )
