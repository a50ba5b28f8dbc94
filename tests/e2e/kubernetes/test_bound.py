"""A resource decides about its own VM and about no other one, whatever is edited, on a real API server."""

from collections.abc import Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.sim.script import guest_id
from tests.rigs.calls import Calls, calls
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, condition, virtual_machine
from tests.rigs.process import Provider

SCRIPT = """
guests:
  deaf: {agent: none, acpi: ignores, count: 9}
  web: {shutdown_time: 500ms, count: 9}
"""
LONG = {"gracefulShutdownTimeout": "1h"}
SHORT = {"gracefulShutdownTimeout": "2s"}


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


@pytest.fixture(scope="module")
def elsewhere(lab: Lab) -> Iterator[Calls]:
    """Another hypervisor with VMs of the same names and ids, served by the Provider `elsewhere`."""
    provider = Provider("sim")
    (provider.folder / "script.yaml").write_text(SCRIPT)
    provider.command += ["--script", str(provider.folder / "script.yaml"), "--world", str(provider.folder / "world.db")]
    with provider, calls(provider.address) as client:
        lab.vms.declare_provider("elsewhere", provider.address)
        lab.vms.wait_status("elsewhere", lambda status: status.get("phase") == "Ready", kind="vmprov")
        yield client


def shutting_down(lab: Lab, vm: str, lifecycle: Object) -> None:
    lab.vms.declare(vm, "OffGraceful", lifecycle)
    lab.vms.wait_status(vm, lambda status: status.get("phase") == "ShuttingDown")


def refused(lab: Lab, vm: str, **spec: object) -> str:
    """What kubectl says of an edit."""
    with pytest.raises(RuntimeError) as raised:
        lab.vms.change(vm, **spec)
    return str(raised.value)


def ready(lab: Lab, vm: str, reason: str) -> Object:
    """The condition Ready once this is its reason."""
    return condition(lab.vms.wait(vm, lambda state: condition(state, "Ready").get("reason") == reason), "Ready")


def test_a_resource_says_which_vm_it_is_bound_to(lab: Lab) -> None:
    lab.vms.declare("web-0001", "On")
    state = lab.vms.wait("web-0001", lambda state: condition(state, "Bound").get("status") == "True")
    uid = lab.vms.get("lab", kind="vmprov")["metadata"]["uid"]
    bound = state["status"]["vm"]
    assert (bound["provider"], bound["id"], bound["name"]) == (uid, guest_id("web-0001"), "web-0001")


def test_an_edit_of_the_provider_in_mid_shutdown_is_refused_and_cuts_no_other_machine(
    lab: Lab, elsewhere: Calls
) -> None:
    shutting_down(lab, "deaf-0001", SHORT | {"escalation": "Force"})
    assert "spec.providerRef" in refused(lab, "deaf-0001", providerRef={"name": "elsewhere"})
    lab.vms.wait_status("deaf-0001", lambda status: "lastPowerOff" in status)
    assert elsewhere.vm("deaf-0001").power_state == pb.POWER_STATE_ON


def test_an_edit_of_the_name_is_refused(lab: Lab) -> None:
    shutting_down(lab, "deaf-0002", LONG)
    assert "spec.vmName" in refused(lab, "deaf-0002", vmName="web-0002")
    lab.vms.change("deaf-0002", vmName="deaf-0002")  # says the same


def test_a_resource_that_was_never_bound_may_be_mended(lab: Lab) -> None:
    lab.vms.apply(virtual_machine("wbe", "On") | {"spec": {"providerRef": {"name": "nowhere"}, "powerState": "On"}})
    ready(lab, "wbe", "ProviderNotFound")
    lab.vms.change("wbe", providerRef={"name": "lab"}, vmName="web-0003")
    assert ready(lab, "wbe", "On")["status"] == "True"


def test_a_provider_that_is_led_to_another_hypervisor_in_mid_shutdown_cuts_no_machine_there(
    lab: Lab, elsewhere: Calls
) -> None:
    lab.vms.declare_provider("moving", lab.provider.address)
    lab.vms.apply(_of("moving", "deaf-0003", SHORT | {"escalation": "Ask"}))
    lab.vms.wait_status("deaf-0003", lambda status: "forceAfter" in status.get("operation", {}))
    address = lab.vms.get("elsewhere", kind="vmprov")["spec"]["runtime"]["endpoint"]
    lab.vms.declare_provider("moving", address)
    assert "vmpower/rebind" in ready(lab, "deaf-0003", "Replaced")["message"]
    lab.vms.change("deaf-0003", powerState="Off", lifecycle={"escalation": None})
    lab.vms.wait("deaf-0003", lambda state: condition(state, "Ready").get("observedGeneration") == 2)
    assert elsewhere.vm("deaf-0003").power_state == pb.POWER_STATE_ON
    assert _operations(elsewhere, "deaf-0003") == []


def test_another_vm_under_the_same_name_is_left_alone_until_the_resource_is_rebound(lab: Lab) -> None:
    lab.vms.declare("web-0004", "On")
    ready(lab, "web-0004", "On")
    lab.control("remove", "web-0004")
    lab.control("add", "web-0004", "id=another", "shutdown_time=500ms", "power=off")
    ready(lab, "web-0004", "Replaced")
    assert _operations(lab.calls, "another") == []
    lab.vms.annotate("web-0004", "vmpower/rebind=another")
    assert ready(lab, "web-0004", "On")["status"] == "True"
    assert lab.vms.status("web-0004")["vm"]["id"] == "another"


def test_two_resources_that_name_one_vm_do_not_power_cycle_it(lab: Lab) -> None:
    lab.vms.declare("web-0005", "On")
    ready(lab, "web-0005", "On")
    rival = _of("lab", "rival", {})
    rival["spec"]["vmName"] = guest_id("web-0005")
    lab.vms.apply(rival)
    assert f"{lab.namespace}/web-0005" in ready(lab, "rival", "Conflict")["message"]
    lab.vms.change("web-0005", lifecycle=LONG)
    lab.vms.wait_status("web-0005", lambda status: status["observedGeneration"] == 2)
    assert lab.operations("web-0005") == []
    lab.vms.kubectl("delete", "vm", "web-0005")
    lab.vms.wait_status("rival", lambda status: status.get("phase") == "Off")


def test_a_resource_is_left_alone_while_it_is_paused(lab: Lab) -> None:
    paused = virtual_machine("web-0006", "OffGraceful")
    paused["metadata"]["annotations"] = {"vmpower/paused": "true"}
    lab.vms.apply(paused)
    ready(lab, "web-0006", "LeftAlone")
    heading, line = lab.vms.kubectl("get", "vm", "web-0006").splitlines()
    assert (heading.split()[-2], line.split()[-2]) == ("PAUSED", "True")
    assert lab.operations("web-0006") == []
    lab.vms.annotate("web-0006", "vmpower/paused-")
    ready(lab, "web-0006", "Off")


def test_a_suspended_vm_is_not_resumed(lab: Lab) -> None:
    lab.vms.declare("web-0007", "On")
    ready(lab, "web-0007", "On")
    lab.control("suspend", "web-0007")
    ready(lab, "web-0007", "Suspended")
    assert lab.operations("web-0007") == []


def test_resources_can_be_selected_by_what_is_and_what_is_wanted(lab: Lab) -> None:
    shutting_down(lab, "deaf-0004", LONG)
    found = lab.vms.kubectl(
        "get", "vm", "--field-selector", "status.phase=ShuttingDown,spec.powerState=OffGraceful", "--output", "name"
    )
    assert "virtualmachine.infra.virtrigaud.io/deaf-0004" in found.split()
    assert "ShuttingDown" in lab.vms.kubectl("get", "vm", "deaf-0004")


def test_a_vm_that_is_switched_off_behind_our_back_is_told(lab: Lab) -> None:
    lab.vms.declare("web-0008", "On")
    ready(lab, "web-0008", "On")
    lab.control("off", "web-0008")
    assert "stopped at its hypervisor" in lab.vms.wait_event("web-0008", "Drifted")["message"]
    lab.vms.wait_event("web-0008", "PowerOnSucceeded")


def test_a_vm_that_crashes_is_told(lab: Lab) -> None:
    lab.vms.declare("web-0009", "On")
    ready(lab, "web-0009", "On")
    lab.control("crash", "web-0009")
    lab.vms.wait_event("web-0009", "Crashed")


def _of(provider: str, vm: str, lifecycle: Object) -> Object:
    made = virtual_machine(vm, "OffGraceful", lifecycle)
    made["spec"]["providerRef"] = {"name": provider}
    return made


def _operations(client: Calls, vm: str) -> list[pb.Operation]:
    return list(client.stub.ListOperations(pb.ListOperationsRequest(vm=vm)).operations)
