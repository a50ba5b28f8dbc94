"""The rig's HA: requests are noted, and carried out by somebody else, later, in their own way."""

from collections.abc import Iterator

import pytest

from tests.e2e.proxmox.conftest import NewMachine, assert_took
from tests.rigs.polling import poll
from tests.rigs.proxmox.client import Machine, Refused
from tests.rigs.proxmox.cluster import Cluster

DISARM = pytest.mark.parametrize(("mode", "state"), [("ignore", "started"), ("freeze", "freeze")])
BY_HA = "task started by HA resource agent"


@pytest.fixture
def armed(cluster: Cluster) -> Iterator[Cluster]:
    """HA is armed again afterwards."""
    yield cluster
    cluster.arm_ha()


def fencing(machine: Machine) -> dict[str, object]:
    [entry] = [one for one in machine.client.get("/cluster/ha/status/current") if one["type"] == "fencing"]
    return dict(entry)


def task_of(machine: Machine, kind: str) -> dict[str, object]:
    """HA's task of a kind, when it has ended."""
    upid = next(task["upid"] for task in machine.tasks(source="all") if task["type"] == kind)
    return machine.cluster.task(upid, ended=True)


def test_a_shutdown_is_only_noted(machine: NewMachine) -> None:
    web = machine(ha="started", shutdown_secs=20)
    task = web.does("shutdown", timeout=30)
    assert task["type"] == "hastop"
    assert task["log"] == [f"Requesting HA stop for VM {web.vmid}", "TASK OK"]
    assert web.shown["power"] == "running"


def test_ha_asks_the_guest_itself_with_the_timeout(machine: NewMachine) -> None:
    web = machine(ha="started", shutdown_secs=2)
    web.does("shutdown", timeout=20)
    assert web.cluster.wait_off(web.key)["off_cause"] == "guest"
    task = task_of(web, "qmshutdown")
    assert (task["user"], task["log"]) == ("root@pam", [BY_HA, "TASK OK"])


def test_ha_always_forces(machine: NewMachine) -> None:
    web = machine(ha="started", ignores=True)
    web.does("shutdown", timeout=4)
    assert web.cluster.wait_off(web.key)["off_cause"] == "ha"
    assert_took(4, web.shown)


def test_a_paused_guest_is_stopped_by_ha(machine: NewMachine) -> None:
    web = machine(ha="started", power="paused")
    web.does("shutdown", forceStop=1)
    assert web.cluster.wait_off(web.key)["off_cause"] == "ha"


def test_a_stop_through_ha_is_hard(machine: NewMachine) -> None:
    web = machine(ha="started")
    assert web.does("stop")["type"] == "hastop"
    shown = web.cluster.wait_off(web.key)
    assert (shown["off_cause"], shown["heard"]) == ("ha", [])


def test_a_stop_through_ha_overrules_nothing(machine: NewMachine) -> None:
    with pytest.raises(Refused) as refused:
        machine(ha="started").asks("stop", overrule_shutdown=1)
    assert refused.value.errors == {"overrule-shutdown": "Not applicable for HA resources."}


def test_the_state_of_the_crm_tells_how_far_it_is(machine: NewMachine) -> None:
    web = machine(ha="started", ignores=True)
    states: list[str] = [web.resource()["hastate"]]
    web.does("shutdown", timeout=10)

    def stopped() -> bool:
        if (state := web.resource()["hastate"]) != states[-1]:
            states.append(state)
        return states[-1] == "stopped"

    poll(stopped)
    assert states == ["started", "request_stop", "stopped"]


def test_a_start_sets_started_and_ha_starts_it(machine: NewMachine) -> None:
    web = machine(ha="started")
    web.does("stop")
    web.cluster.wait_off(web.key)
    assert web.does("start")["type"] == "hastart"
    poll(lambda: web.resource()["status"] == "running")
    assert task_of(web, "qmstart")["log"] == [BY_HA, "TASK OK"]
    assert web.resource()["hastate"] == "started"


def test_a_guest_that_goes_off_by_itself_is_started_again(machine: NewMachine) -> None:
    web = machine(ha="started")
    web.cluster.power(web.key, "off-by-guest")
    poll(lambda: web.resource()["status"] == "running")
    assert task_of(web, "qmstart")["user"] == "root@pam"


def test_a_guest_that_ha_cannot_shut_down_is_in_state_error(machine: NewMachine) -> None:
    web = machine(ha="started", lock="backup")
    web.does("shutdown", timeout=5)
    wait_for(web, "error")
    assert task_of(web, "qmshutdown")["exitstatus"] == "VM is locked (backup)"
    assert web.shown["power"] == "running"


def test_a_container_is_never_forced_by_ha(machine: NewMachine) -> None:
    ct = machine(kind="lxc", ha="started", ignores=True)
    ct.does("shutdown", timeout=2)
    wait_for(ct, "error")
    assert ct.shown["power"] == "running"


def test_nothing_is_asked_of_a_guest_in_state_error(machine: NewMachine) -> None:
    web = machine(ha="error")
    task = web.does("shutdown", timeout=5)
    assert task["log"][1] == f"service 'vm:{web.vmid}' in error state, must be disabled and fixed first"
    assert task["exitstatus"] == f"command 'ha-manager crm-command stop vm:{web.vmid} 5' failed: exit code 255"


def test_what_ha_ignores_is_not_managed(machine: NewMachine) -> None:
    web = machine(ha="ignored")
    assert web.client.get(f"{web.path}/status/current")["ha"] == {"managed": 0}
    assert web.does("shutdown")["type"] == "qmshutdown"


def test_the_ha_manager_says_what_is_wanted(machine: NewMachine) -> None:
    web = machine(ha="stopped", power="off")
    services = {one["id"]: one for one in web.client.get("/cluster/ha/status/current")}
    assert services[f"service:vm:{web.vmid}"]["request_state"] == "stopped"


def test_without_quorum_nothing_is_noted(machine: NewMachine) -> None:
    web = machine(ha="started")
    web.cluster.lose_quorum()
    try:
        task = web.does("shutdown", timeout=5)
    finally:
        web.cluster.regain_quorum()
    assert task["log"][1] == "cfs-lock 'domain-ha' error: no quorum!"
    assert web.shown["power"] == "running"


def wait_for(machine: Machine, state: str) -> None:
    """Until HA is in a state."""
    poll(lambda: machine.resource()["hastate"] == state)


# Disarmed


def test_ha_is_armed_at_first(machine: NewMachine) -> None:
    assert fencing(machine(ha="started"))["armed-state"] == "armed"


@DISARM
def test_of_ha_that_is_disarmed_its_state_tells_how_and_resources_do_not(
    armed: Cluster, machine: NewMachine, mode: str, state: str
) -> None:
    web = machine(ha="started")
    armed.disarm_ha(mode)
    assert (fencing(web)["armed-state"], fencing(web)["resource_mode"]) == ("disarmed", mode)
    assert web.resource()["hastate"] == state


@pytest.mark.parametrize("action", ["shutdown", "stop"])
def test_what_disarmed_ha_ignores_is_acted_on_at_once(armed: Cluster, machine: NewMachine, action: str) -> None:
    web = machine(ha="started")
    armed.disarm_ha("ignore")
    assert web.does(action)["type"] == f"qm{action}"
    assert web.client.get(f"{web.path}/status/current")["ha"] == {"managed": 0}


def test_ha_that_is_armed_again_starts_what_it_wants_started(armed: Cluster, machine: NewMachine) -> None:
    web = machine(ha="started")
    armed.disarm_ha("ignore")
    web.does("stop")
    armed.arm_ha()
    poll(lambda: web.shown["power"] == "running", 10)


def test_disarmed_ha_that_freezes_notes_requests_alone(armed: Cluster, machine: NewMachine) -> None:
    web = machine(ha="started")
    armed.disarm_ha("freeze")
    assert web.does("stop")["type"] == "hastop"
    assert web.shown["power"] == "running"
