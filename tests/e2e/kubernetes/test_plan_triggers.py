"""Plans whose UPS the controller follows, on a cluster: a real upsd with dummy-ups, kubectl on a real API server, and
guests of the sim. Real processes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object, made, virtual_machine
from tests.rigs.nut.site import Site
from tests.rigs.polling import poll

SCRIPT = "guests: {app: {shutdown_time: 4s}, db: {shutdown_time: 2s}}"
VMS = ("app", "db")
SHUTDOWN, POWER_ON = pb.OPERATION_KIND_SHUTDOWN, pb.OPERATION_KIND_POWER_ON

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def lab(cluster: Cluster, site: Site) -> Iterator[Lab]:
    """Its VMs run, their resources want that, and the controller has read the UPS."""
    with open_lab(cluster, SCRIPT, ["ups"]) as lab:
        secret(lab, site, "vmpower/nut")
        lab.vms.apply(plan(site), *(virtual_machine(vm, "On") for vm in VMS))
        for vm in VMS:
            lab.vms.wait_status(vm, lambda status: status.get("powerState") == "On")
        lab.vms.wait_event("night", "UpsRead")
        yield lab


def secret(lab: Lab, site: Site, type_: str) -> None:
    login = ("--from-literal", "username=vmpower", "--from-file", f"password={site.folder / 'word'}")
    (site.folder / "word").write_text(site.password_file.read_text().removesuffix("\n"))
    lab.vms.kubectl("delete", "secret", "ups", "--ignore-not-found")
    lab.vms.kubectl("create", "secret", "generic", "ups", f"--type={type_}", *login)


def plan(site: Site, **changes: Any) -> Object:
    nut = {
        "ups": [{"name": site.ups}],
        "secretRef": {"name": "ups"},
        "onBattery": {"after": "1s", "tiers": ["app"]},
        "below": {"charge": 40},
        "lostContact": "2s",
        "backOnLine": "500ms",
        "pollEvery": "100ms",
    }
    tiers = [{"name": vm, "members": [{"vms": [f"lab/{vm}"]}]} for vm in VMS]
    spec = {"budget": {"total": "90s"}, "tiers": tiers, "bringUp": {}, "triggers": [{"nut": nut | changes}]}
    return made("PowerPlan", "night", spec)


def run(lab: Lab) -> Object:
    """The PowerRun that the controller has declared, once there is one."""
    poll(lambda: bool(lab.vms.kubectl("get", "powerruns", "--output", "name")), 30)
    name = lab.vms.kubectl("get", "powerruns", "--output", "name").split("/")[1].strip()
    return lab.vms.wait(name, lambda state: "phase" in state.get("status", {}), "powerrun")


def all_are(lab: Lab, state: pb.PowerState.ValueType) -> Callable[[], bool]:
    return lambda: {vm.power_state for vm in lab.calls.stub.ListVMs(pb.ListVMsRequest()).vms} == {state}


def kinds(lab: Lab, vm: str) -> list[pb.OperationKind.ValueType]:
    """Of the operations that a VM has had, newest first."""
    return [operation.kind for operation in lab.operations(vm)]


def test_the_controller_declares_the_run_of_an_outage_and_releases_it_with_the_power(lab: Lab, site: Site) -> None:
    site.says("OB DISCHRG", charge=90)
    begun = run(lab)
    name = begun["metadata"]["name"]
    assert begun["spec"] == {
        "planRef": {"name": "night"},
        "emergency": True,
        "tiers": ["app"],
        "trigger": f"{site.ups} has been on battery for 1s",
    }
    held = lab.vms.wait_status("app", lambda status: status.get("powerState") == "Off")
    assert (held["heldBy"], kinds(lab, "db")) == (name, [])
    assert {"UpsRead", "PowerFailed"} <= {event["reason"] for event in lab.vms.events("night")}
    site.says("OL CHRG")
    lab.vms.wait_status(name, lambda status: status.get("phase") == "Released", "powerrun")
    lab.vms.wait_status("app", lambda status: status.get("powerState") == "On" and "heldBy" not in status)
    assert kinds(lab, "app") == [POWER_ON, SHUTDOWN]
    lab.vms.wait_event("night", "BroughtUp")


def test_the_next_leader_on_another_disk_goes_on_with_it_and_brings_all_up_with_the_power(lab: Lab, site: Site) -> None:
    site.says("OB DISCHRG", charge=30)
    name = run(lab)["metadata"]["name"]
    poll(lambda: kinds(lab, "app") == [SHUTDOWN], 30)
    with lab.another_controller("second") as second:
        lab.controller.kill()
        second.wait_output("run taken up again")
        poll(all_are(lab, pb.POWER_STATE_OFF), 60)
        site.says("OL CHRG")
        lab.vms.wait_status(name, lambda status: status.get("phase") == "Released", "powerrun")
    assert [kinds(lab, vm) for vm in VMS] == [[POWER_ON, SHUTDOWN]] * 2


@pytest.mark.parametrize("away", [Cluster.stop_api, Cluster.freeze_api], ids=["stopped", "frozen"])
def test_without_an_api_server_an_outage_brings_all_down_and_the_power_up_again(
    lab: Lab, site: Site, away: Callable[[Cluster], None]
) -> None:
    away(lab.cluster)
    lab.controller.wait_output("lead lost")
    site.says("OB DISCHRG", charge=30)
    poll(all_are(lab, pb.POWER_STATE_OFF), 60)
    lab.cluster.start_api()
    for vm in VMS:
        lab.vms.wait_status(vm, lambda status: status.get("heldBy", "").startswith("night-"))
    site.says("OL CHRG")
    poll(all_are(lab, pb.POWER_STATE_ON), 120)
    assert [kinds(lab, vm) for vm in VMS] == [[POWER_ON, SHUTDOWN]] * 2


def test_a_secret_of_another_type_is_sent_nowhere(lab: Lab, site: Site) -> None:
    secret(lab, site, "Opaque")
    lab.vms.apply(plan(site, margin="2m"))  # followed anew
    lost = lab.vms.wait_event("night", "UpsLost")
    assert "Secret " in lost["message"]
    assert "is not of type vmpower/nut; whoever owns it makes one" in lost["message"]
    poll(lambda: site.logins() == 0, 30)


def test_a_run_that_a_person_declares_with_a_trigger_is_refused(lab: Lab) -> None:
    lab.vms.apply(made("PowerRun", "own", {"planRef": {"name": "night"}, "trigger": "by hand"}))
    status = lab.vms.wait_status("own", lambda status: status.get("phase") == "Refused", "powerrun")
    assert [refusal["field"] for refusal in status["refusals"]] == ["spec.trigger"]


def test_a_run_of_some_tiers_leaves_the_others_alone(lab: Lab) -> None:
    lab.vms.apply(made("PowerRun", "part", {"planRef": {"name": "night"}, "tiers": ["app"]}))
    status = lab.vms.wait_status("part", lambda status: status.get("phase") == "Held", "powerrun")
    assert [tier["name"] for tier in status["tiers"]] == ["app"]
    assert kinds(lab, "db") == []
