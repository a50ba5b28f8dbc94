"""What people are told beside the status, and conditions that tell since when something holds."""

from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, condition

SCRIPT = """
guests:
  web: {shutdown_time: 500ms}
  broken: {shutdown_time: 500ms, hooks: [{exit_code: 3, output: "the queue is on fire\\n"}]}
  deaf: {agent: none, acpi: ignores, count: 4}
  bare: {agent: none, acpi: none, count: 2, faults: {power_off: refuse}}
  changing: {}
"""
SHORT = {"gracefulShutdownTimeout": "1s"}


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def told(lab: Lab, vm: str, last: str) -> list[tuple[str, str]]:
    """Types and reasons of the Events about a VM, once the last of them is there."""
    lab.vms.wait_event(vm, last)
    return [(event["type"], event["reason"]) for event in lab.vms.events(vm)]


def ready_for(lab: Lab, vm: str, reason: str) -> Object:
    """The condition Ready as soon as this is its reason."""
    return condition(lab.vms.wait(vm, lambda state: condition(state, "Ready").get("reason") == reason), "Ready")


def test_a_graceful_shutdown(lab: Lab) -> None:
    lab.vms.declare("web", "OffGraceful")
    assert told(lab, "web", "GracefulShutdown") == [("Normal", "ShutdownStarted"), ("Normal", "GracefulShutdown")]


def test_a_forced_one(lab: Lab) -> None:
    lab.vms.declare("deaf-0001", "OffGraceful", SHORT)
    assert told(lab, "deaf-0001", "ForcedOff") == [("Normal", "ShutdownStarted"), ("Warning", "ForcedOff")]


def test_one_that_waits_for_a_decision(lab: Lab) -> None:
    lab.vms.declare("deaf-0002", "OffGraceful", SHORT | {"escalation": "Ask"})
    assert told(lab, "deaf-0002", "AwaitingDecision") == [
        ("Normal", "ShutdownStarted"),
        ("Warning", "AwaitingDecision"),
    ]


def test_one_that_is_given_up(lab: Lab) -> None:
    lab.vms.declare("deaf-0003", "OffGraceful", SHORT | {"escalation": "Never"})
    assert told(lab, "deaf-0003", "StillRunning")[:2] == [("Normal", "ShutdownStarted"), ("Warning", "StillRunning")]


def test_a_failing_hook(lab: Lab) -> None:
    lab.vms.declare("broken", "OffGraceful", {"preStop": {"name": "drain", "exec": {"command": ["drain"]}}})
    assert told(lab, "broken", "GracefulShutdown") == [
        ("Normal", "ShutdownStarted"),
        ("Warning", "HookFailed"),
        ("Normal", "GracefulShutdown"),
    ]
    message = lab.vms.wait_event("broken", "HookFailed")["message"]
    assert message == "Hook drain: FAILED, exit code 3: the queue is on fire"


def test_a_guest_that_would_not_go_down_gracefully(lab: Lab) -> None:
    lab.vms.declare("bare-0001", "On")
    assert told(lab, "bare-0001", "GracefulShutdownNotReady") == [("Warning", "GracefulShutdownNotReady")]
    state = lab.vms.get("bare-0001")
    assert condition(state, "GracefulShutdownReady")["status"] == "False"


def test_a_guest_that_could_not_go_down_gracefully(lab: Lab) -> None:
    """It is forced at once; that is refused once, for of what has ended already no start is told."""
    lab.vms.declare("bare-0002", "OffGraceful")
    assert told(lab, "bare-0002", "ForcedOff") == [
        ("Normal", "ShutdownStarted"),
        ("Warning", "GracefulShutdownNotReady"),
        ("Warning", "ForcedOff"),
    ]


def test_a_provider_that_answers(lab: Lab) -> None:
    assert told(lab, "lab", "Connected") == [("Normal", "Connected")]


def test_kubectl_describe_shows_them(lab: Lab) -> None:
    lab.vms.declare("web", "OffGraceful")
    lab.vms.wait_event("web", "GracefulShutdown")
    described = lab.vms.kubectl("describe", "vm", "web")
    assert "GracefulShutdown" in described.rpartition("Events:")[2]


def test_conditions_name_the_spec_that_they_are_about(lab: Lab) -> None:
    lab.vms.declare("changing", "On")
    lab.vms.wait("changing", lambda state: condition(state, "Ready").get("status") == "True")
    lab.vms.change("changing", lifecycle={"gracefulShutdownTimeout": "5m"})
    state = lab.vms.wait("changing", lambda state: state["status"]["observedGeneration"] == 2)
    assert [one["observedGeneration"] for one in state["status"]["conditions"]] == [2, 2, 2, 2, 2]


def test_the_time_of_a_condition_stays_when_only_its_reason_and_message_change(lab: Lab) -> None:
    lab.vms.declare("deaf-0004", "OffGraceful", SHORT | {"escalation": "Ask"})
    old = ready_for(lab, "deaf-0004", "ShuttingDown")
    new = ready_for(lab, "deaf-0004", "AwaitingDecision")
    assert (new["status"], new["lastTransitionTime"]) == (old["status"], old["lastTransitionTime"])


def test_the_time_of_a_condition_moves_with_its_status(lab: Lab) -> None:
    lab.vms.declare("changing", "On")
    before = lab.vms.wait("changing", lambda state: condition(state, "GracefulShutdownReady").get("status") == "True")
    lab.control("set", "changing", "agent=none", "acpi=none")
    after = lab.vms.wait("changing", lambda state: condition(state, "GracefulShutdownReady")["status"] == "False")
    old, new = (condition(state, "GracefulShutdownReady") for state in (before, after))
    assert new["lastTransitionTime"] > old["lastTransitionTime"]
