"""A running shutdown is decided about by an annotation, which goes, and an Event tells who asked."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object

DECISION = "vmpower/decision"
SCRIPT = "guests: {deaf: {agent: none, acpi: ignores, count: 9}}"


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def begin(lab: Lab, vm: str) -> Object:
    """Have it shut down; its operation once it is written down."""
    lab.vms.declare(vm, "OffGraceful", {"gracefulShutdownTimeout": "1h"})
    operation: Object = lab.vms.wait_status(vm, lambda status: "forceAfter" in status.get("operation", {}))["operation"]
    return operation


def await_decision(lab: Lab, vm: str) -> Object:
    """Have it shut down until it asks; its status then."""
    lab.vms.declare(vm, "OffGraceful", {"gracefulShutdownTimeout": "1s", "escalation": "Ask"})
    return lab.vms.wait_status(vm, lambda status: status.get("phase") == "AwaitingDecision")


def decide(lab: Lab, vm: str, text: str) -> None:
    """Annotate it, and wait until that has been taken."""
    lab.vms.annotate(vm, f"{DECISION}={text}")
    lab.vms.wait(vm, lambda state: DECISION not in state["metadata"]["annotations"])


def went_down(status: Object) -> bool:
    return status.get("phase") == "Off" and "lastPowerOff" in status


def later(after: Object, before: Object) -> timedelta:
    return datetime.fromisoformat(after["forceAfter"]) - datetime.fromisoformat(before["forceAfter"])


def test_extend_moves_the_deadline_of_the_same_operation(lab: Lab) -> None:
    before = begin(lab, "deaf-0001")
    decide(lab, "deaf-0001", "extend=5m")
    after = lab.vms.status("deaf-0001")["operation"]
    assert (after["id"], later(after, before)) == (before["id"], timedelta(minutes=5))


def test_the_same_decision_made_twice_counts_twice(lab: Lab) -> None:
    before = begin(lab, "deaf-0002")
    decide(lab, "deaf-0002", "extend=5m")
    decide(lab, "deaf-0002", "extend=5m")
    assert later(lab.vms.status("deaf-0002")["operation"], before) == timedelta(minutes=10)


def test_force_ends_the_waiting_for_the_guest(lab: Lab) -> None:
    before = begin(lab, "deaf-0003")
    lab.vms.annotate("deaf-0003", f"{DECISION}=force")
    verdict = lab.vms.wait_status("deaf-0003", went_down)["lastPowerOff"]
    assert (verdict["operation"], verdict["outcome"], verdict["reason"]) == (before["id"], "FORCED", "REQUESTED")


def test_force_ends_the_waiting_for_a_decision(lab: Lab) -> None:
    before = await_decision(lab, "deaf-0004")["operation"]
    lab.vms.annotate("deaf-0004", f"{DECISION}=force")
    verdict = lab.vms.wait_status("deaf-0004", went_down)["lastPowerOff"]
    assert (verdict["operation"], verdict["outcome"], verdict["reason"]) == (before["id"], "FORCED", "REQUESTED")


def test_extend_gives_a_guest_more_time_that_waits_for_a_decision(lab: Lab) -> None:
    before = await_decision(lab, "deaf-0005")["operation"]
    decide(lab, "deaf-0005", "extend=1h")
    status = lab.vms.wait_status("deaf-0005", lambda status: status.get("phase") == "ShuttingDown")
    assert status["operation"]["id"] == before["id"]
    assert later(status["operation"], before) > timedelta(hours=1)


def test_cancel_gives_it_up_and_nothing_is_begun_anew(lab: Lab) -> None:
    begin(lab, "deaf-0006")
    lab.vms.annotate("deaf-0006", f"{DECISION}=cancel")
    status = lab.vms.wait_status("deaf-0006", lambda status: status["operation"]["state"] == "CANCELLED")
    ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
    assert (status["phase"], ready["status"], ready["reason"]) == ("Running", "False", "Cancelled")
    assert [operation.state for operation in lab.operations("deaf-0006")] == [pb.OPERATION_STATE_CANCELLED]


def test_the_event_names_who_asked(lab: Lab) -> None:
    begin(lab, "deaf-0007")
    decide(lab, "deaf-0007", "extend=5m")
    taken = lab.vms.wait_event("deaf-0007", "DecisionTaken")
    assert (taken["type"], taken["message"].partition(";")[0]) == ("Normal", "extend=5m, asked by kubectl-annotate")


def test_a_decision_that_is_none_is_refused_with_an_event(lab: Lab) -> None:
    before = begin(lab, "deaf-0008")
    decide(lab, "deaf-0008", "explode")
    refused = lab.vms.wait_event("deaf-0008", "DecisionRefused")
    assert refused["type"] == "Warning"
    assert refused["message"] == (
        "'explode' is no decision; write extend=5m, force or cancel. (asked by kubectl-annotate)"
    )
    assert lab.vms.status("deaf-0008")["operation"] == before


def test_a_decision_about_nothing_is_refused_with_an_event(lab: Lab) -> None:
    lab.vms.declare("deaf-0009", "On")
    lab.vms.wait_status("deaf-0009", lambda status: status.get("phase") == "Running")
    decide(lab, "deaf-0009", "force")
    refused = lab.vms.wait_event("deaf-0009", "DecisionRefused")
    assert refused["message"].startswith("No shutdown is under way: there is nothing to decide.")
    assert lab.vms.status("deaf-0009")["phase"] == "Running"
