"""What the API shows of VMs is so: also while a provider is frozen, or does not reach its hypervisor."""

import time
from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, condition

SCRIPT = "guests: {web: {shutdown_time: 500ms, count: 4}}"


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        for number in range(1, 5):
            lab.vms.declare(f"web-{number:04}", "On")
            ready(lab, f"web-{number:04}", "True")
        yield lab


def ready(lab: Lab, vm: str, status: str) -> Object:
    """The condition Ready once it has this status."""
    return condition(lab.vms.wait(vm, lambda state: condition(state, "Ready").get("status") == status), "Ready")


def test_a_frozen_provider_is_noticed_within_ten_seconds_and_so_is_its_return(lab: Lab) -> None:
    began = time.monotonic()
    lab.provider.freeze()
    try:
        ready(lab, "web-0001", "Unknown")
        noticed = time.monotonic() - began
    finally:
        lab.provider.thaw()
    ready(lab, "web-0001", "True")
    assert noticed <= 10


def test_a_vm_that_is_edited_while_its_provider_is_frozen_is_never_ready_for_the_edit(lab: Lab) -> None:
    lab.provider.freeze()
    try:
        lab.vms.change("web-0002", powerState="OffGraceful")
        said = ready(lab, "web-0002", "Unknown")
        assert said["reason"] == "ProviderUnreachable"
    finally:
        lab.provider.thaw()
    lab.vms.wait_status("web-0002", lambda status: status.get("phase") == "Off")


def test_a_provider_whose_hypervisor_is_away_is_not_ready_and_says_why(lab: Lab) -> None:
    lab.control("hide", "12")
    state = lab.vms.wait("lab", lambda state: condition(state, "Ready").get("status") == "False", kind="vmprov")
    assert condition(state, "Ready")["reason"] == "HypervisorUnreachable"
    said = lab.vms.wait("web-0003", lambda state: condition(state, "HypervisorReachable").get("status") == "False")
    assert condition(said, "ProviderReachable")["status"] == "True"
    assert condition(said, "Ready")["status"] == "Unknown"
    ready(lab, "web-0003", "True")
