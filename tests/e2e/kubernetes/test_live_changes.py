"""The spec is changed while a shutdown is under way, and that counts for it."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object

SCRIPT = """
guests:
  deaf: {agent: none, acpi: ignores, count: 7}
  slow: {shutdown_time: 3s, boot_time: 0s}
"""


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def begin(lab: Lab, vm: str, timeout: str = "1h") -> Object:
    """Have it shut down; its operation once it is written down."""
    lab.vms.declare(vm, "OffGraceful", {"gracefulShutdownTimeout": timeout})
    operation: Object = lab.vms.wait_status(vm, lambda status: "forceAfter" in status.get("operation", {}))["operation"]
    return operation


def went_down(status: Object) -> bool:
    return status.get("phase") == "Off" and "lastPowerOff" in status


def runs(status: Object) -> bool:
    return status.get("phase") == "Running"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(("vm", "minutes"), [("deaf-0001", 90), ("deaf-0002", 30)], ids=["longer", "shorter"])
def test_another_timeout_moves_the_deadline_of_the_same_operation(lab: Lab, vm: str, minutes: int) -> None:
    before = begin(lab, vm)
    lab.vms.change(vm, lifecycle={"gracefulShutdownTimeout": f"{minutes}m"})
    after = lab.vms.wait_status(vm, lambda status: status["operation"]["forceAfter"] != before["forceAfter"])[
        "operation"
    ]
    assert after["id"] == before["id"]
    assert moment(after["forceAfter"]) - moment(before["forceAfter"]) == timedelta(minutes=minutes - 60)


def test_a_timeout_that_has_passed_when_it_is_written_forces_now(lab: Lab) -> None:
    before = begin(lab, "deaf-0003")
    lab.vms.change("deaf-0003", lifecycle={"gracefulShutdownTimeout": "1ms"})
    verdict = lab.vms.wait_status("deaf-0003", went_down)["lastPowerOff"]
    assert (verdict["operation"], verdict["outcome"], verdict["reason"]) == (before["id"], "FORCED", "TIMEOUT")


def test_off_forces_the_same_operation_now(lab: Lab) -> None:
    before = begin(lab, "deaf-0004")
    lab.vms.change("deaf-0004", powerState="Off")
    verdict = lab.vms.wait_status("deaf-0004", went_down)["lastPowerOff"]
    assert (verdict["operation"], verdict["outcome"], verdict["reason"]) == (before["id"], "FORCED", "REQUESTED")


def test_on_calls_it_off(lab: Lab) -> None:
    before = begin(lab, "deaf-0005", "5s")  # until then it may still go down
    lab.vms.change("deaf-0005", powerState="On")
    status = lab.vms.wait_status("deaf-0005", runs)
    ended = next(operation for operation in lab.operations("deaf-0005") if operation.id == before["id"])
    assert ended.verdict.outcome == pb.OUTCOME_STILL_RUNNING
    assert "power_off" not in lab.guest("deaf-0005").calls
    assert status["operation"]["kind"] == "POWER_ON"


def test_on_starts_a_guest_again_that_goes_down_all_the_same(lab: Lab) -> None:
    begin(lab, "slow")
    lab.calls.until(
        lab.operations("slow")[0], lambda operation: any("asking" in step.message for step in operation.steps)
    )
    lab.vms.change("slow", powerState="On")
    lab.vms.wait_status("slow", runs)
    assert lab.console("slow").splitlines()[-2:] == ["guest slow: powering off", "guest slow: ready"]


def test_escalation_never_gives_up_and_begins_anew_without_force(lab: Lab) -> None:
    before = begin(lab, "deaf-0006")
    lab.vms.change("deaf-0006", lifecycle={"escalation": "Never"})
    after = lab.vms.wait_status("deaf-0006", lambda status: status["operation"]["id"] not in {"", before["id"]})[
        "operation"
    ]
    escalations = {operation.id: operation.escalation for operation in lab.operations("deaf-0006")}
    assert escalations == {before["id"]: pb.ESCALATION_FORCE, after["id"]: pb.ESCALATION_NEVER}


def test_escalation_force_ends_the_waiting_for_a_decision(lab: Lab) -> None:
    lab.vms.declare("deaf-0007", "OffGraceful", {"gracefulShutdownTimeout": "1s", "escalation": "Ask"})
    lab.vms.wait_status("deaf-0007", lambda status: status.get("phase") == "AwaitingDecision")
    lab.vms.change("deaf-0007", lifecycle={"escalation": "Force"})
    verdict = lab.vms.wait_status("deaf-0007", went_down)["lastPowerOff"]
    assert (verdict["outcome"], verdict["reason"]) == ("FORCED", "REQUESTED")
