"""What the API server has to write down: a status when a shutdown begins and when it has ended, and nothing else."""

from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.audit import AuditEvent
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object

SCRIPT = """
guests:
  web: {shutdown_time: 1500ms, count: 5, hooks: [{match: save, takes: 1s}]}
  deaf: {agent: none, acpi: ignores}
  marker: {shutdown_time: 100ms, count: 2}
"""


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


def bring_down(lab: Lab, vm: str, lifecycle: Object | None = None) -> None:
    """Down, and told so: Events come after the status."""
    lab.vms.declare(vm, "OffGraceful", lifecycle)
    lab.vms.wait_status(vm, lambda status: status.get("phase") == "Off")
    lab.vms.wait_event(vm, "ForcedOff" if vm.startswith("deaf") else "GracefulShutdown")


def status_writes(lab: Lab, vm: str) -> int:
    """How often the controller has written this VM's status."""

    def is_one(event: AuditEvent) -> bool:
        return (event.resource, event.subresource, event.name) == ("virtualmachines", "status", vm)

    return sum(is_one(event) and event.is_write for event in lab.cluster.audit(lab.user))


def test_a_graceful_shutdown_is_two_writes(lab: Lab) -> None:
    bring_down(lab, "web-0001")
    assert status_writes(lab, "web-0001") == 2


def test_a_graceful_shutdown_with_a_hook_is_three_writes(lab: Lab) -> None:
    bring_down(lab, "web-0002", {"preStop": {"exec": {"command": ["save"]}}})
    assert status_writes(lab, "web-0002") == 3


def test_a_forced_shutdown_is_two_writes(lab: Lab) -> None:
    bring_down(lab, "deaf", {"gracefulShutdownTimeout": "1500ms"})
    assert status_writes(lab, "deaf") == 2


def test_a_running_vm_is_one_write_and_its_shutdown_two_more(lab: Lab) -> None:
    lab.vms.declare("web-0003", "On")
    lab.vms.wait_status("web-0003", lambda status: status.get("phase") == "Running")
    bring_down(lab, "web-0003")
    assert status_writes(lab, "web-0003") == 3


def test_a_label_is_no_write(lab: Lab) -> None:
    bring_down(lab, "web-0004")
    before = status_writes(lab, "web-0004")
    lab.vms.kubectl("label", "vm", "web-0004", "touched=yes")
    bring_down(lab, "marker-0001")  # changes come in order: once this is told, the label has been seen
    assert status_writes(lab, "web-0004") == before


def test_a_controller_that_starts_again_has_nothing_to_write(lab: Lab) -> None:
    bring_down(lab, "web-0005")
    before = status_writes(lab, "web-0005")
    lab.controller.stop()
    lab.controller.start()
    bring_down(lab, "marker-0002")
    assert status_writes(lab, "web-0005") == before
