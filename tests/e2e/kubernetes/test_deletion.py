"""A deleted resource leaves its VM as it is, unless its owner wants it brought down first."""

from collections.abc import Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, condition

ON_DELETE = "vmpower/on-delete"
SCRIPT = """
guests:
  web: {shutdown_time: 1s, count: 6}
  deaf: {agent: none, acpi: ignores, count: 4}
"""


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def running(lab: Lab, vm: str) -> None:
    """Declare it, and wait until the controller knows it."""
    lab.vms.declare(vm, "On")
    lab.vms.wait_status(vm, lambda status: status.get("phase") == "Running")


def held(lab: Lab, vm: str) -> None:
    """Annotate it, and wait until the controller holds it."""
    lab.vms.annotate(vm, f"{ON_DELETE}=OffGraceful")
    lab.vms.wait(vm, is_held)


def is_held(state: Object) -> bool:
    return ON_DELETE in state["metadata"].get("finalizers", [])


def is_deleted(state: Object) -> bool:
    return "deletionTimestamp" in state["metadata"]


def delete(lab: Lab, vm: str) -> None:
    lab.vms.kubectl("delete", "vm", vm, "--wait=false")


def wait_gone(lab: Lab, vm: str) -> None:
    lab.vms.kubectl("wait", "--for=delete", f"vm/{vm}", "--timeout=60s")


def test_deleting_a_resource_leaves_its_vm_running(lab: Lab) -> None:
    running(lab, "web-0001")
    delete(lab, "web-0001")
    wait_gone(lab, "web-0001")
    assert lab.calls.vm("web-0001").power_state == pb.POWER_STATE_ON
    assert lab.operations("web-0001") == []


def test_deleting_a_resource_in_mid_shutdown_gives_the_shutdown_up(lab: Lab) -> None:
    lab.vms.declare("deaf-0003", "OffGraceful", {"gracefulShutdownTimeout": "5m", "escalation": "Force"})
    lab.vms.wait_status("deaf-0003", lambda status: status.get("phase") == "ShuttingDown")
    delete(lab, "deaf-0003")
    wait_gone(lab, "deaf-0003")
    ended = lab.calls.end(lab.operations("deaf-0003")[0])
    assert (ended.state, ended.verdict.outcome) == (pb.OPERATION_STATE_CANCELLED, pb.OUTCOME_STILL_RUNNING)
    assert lab.calls.vm("deaf-0003").power_state == pb.POWER_STATE_ON


def test_an_operation_whose_resource_is_gone_is_adopted_by_the_one_that_binds_its_vm(lab: Lab) -> None:
    ask = {"gracefulShutdownTimeout": "1s", "escalation": "Ask"}
    lab.vms.declare("deaf-0004", "OffGraceful", ask)
    before = lab.vms.wait_status("deaf-0004", lambda status: status.get("phase") == "AwaitingDecision")
    lab.controller.kill()
    delete(lab, "deaf-0004")
    wait_gone(lab, "deaf-0004")
    lab.vms.declare("deaf-0004", "OffGraceful", ask)
    lab.controller.start()
    after = lab.vms.wait_status("deaf-0004", lambda status: status.get("phase") == "AwaitingDecision")
    assert after["operation"]["id"] == before["operation"]["id"]
    lab.vms.annotate("deaf-0004", "vmpower/decision=force")
    lab.vms.wait_status("deaf-0004", lambda status: status.get("phase") == "Off")


def test_an_annotation_without_effect_is_told(lab: Lab) -> None:
    running(lab, "web-0002")
    lab.vms.annotate("web-0002", f"{ON_DELETE}=Delete")
    lab.vms.wait_event("web-0002", "InvalidAnnotation")
    said = condition(lab.vms.get("web-0002"), "AnnotationsValid")
    assert (said["status"], "OffGraceful" in said["message"]) == ("False", True)


def test_a_resource_is_held_only_if_its_owner_asks_for_it(lab: Lab) -> None:
    running(lab, "web-0003")
    assert not is_held(lab.vms.get("web-0003"))
    held(lab, "web-0003")


def test_a_resource_is_not_held_any_more_when_its_owner_takes_that_back(lab: Lab) -> None:
    running(lab, "web-0004")
    held(lab, "web-0004")
    lab.vms.annotate("web-0004", f"{ON_DELETE}-")
    lab.vms.wait("web-0004", lambda state: not is_held(state))


def test_a_deleted_resource_that_is_held_goes_when_its_vm_is_down(lab: Lab) -> None:
    running(lab, "web-0005")
    held(lab, "web-0005")
    delete(lab, "web-0005")
    wait_gone(lab, "web-0005")
    assert lab.calls.vm("web-0005").power_state == pb.POWER_STATE_OFF
    assert lab.operations("web-0005")[0].verdict.outcome == pb.OUTCOME_GRACEFUL


def test_a_deleted_resource_that_is_held_tells_of_the_shutdown_until_it_goes(lab: Lab) -> None:
    running(lab, "deaf-0001")
    held(lab, "deaf-0001")
    lab.vms.change("deaf-0001", lifecycle={"gracefulShutdownTimeout": "1h"})
    delete(lab, "deaf-0001")
    lab.vms.wait(
        "deaf-0001", lambda state: is_deleted(state) and is_held(state) and state["status"]["phase"] == "ShuttingDown"
    )


def test_a_deleted_resource_goes_at_once_when_its_owner_takes_that_back(lab: Lab) -> None:
    running(lab, "deaf-0002")
    held(lab, "deaf-0002")
    lab.vms.change("deaf-0002", lifecycle={"gracefulShutdownTimeout": "1h"})
    delete(lab, "deaf-0002")
    lab.vms.wait_status("deaf-0002", lambda status: status.get("phase") == "ShuttingDown")
    lab.vms.annotate("deaf-0002", f"{ON_DELETE}-")
    wait_gone(lab, "deaf-0002")
    assert lab.calls.vm("deaf-0002").power_state == pb.POWER_STATE_ON


def test_a_resource_whose_vm_is_down_already_goes_at_once(lab: Lab) -> None:
    lab.vms.declare("web-0006", "OffGraceful")
    lab.vms.wait_status("web-0006", lambda status: status.get("phase") == "Off")
    held(lab, "web-0006")
    delete(lab, "web-0006")
    wait_gone(lab, "web-0006")
    assert len(lab.operations("web-0006")) == 1
