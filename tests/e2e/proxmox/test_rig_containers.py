"""The rig's containers: what PVE does with their power, and how little it says of it."""

import pytest

from tests.e2e.proxmox.conftest import NewMachine, assert_took
from tests.rigs.proxmox.client import Refused


def test_a_container_goes_down_when_it_is_asked_and_takes_its_time(machine: NewMachine) -> None:
    ct = machine(kind="lxc", shutdown_secs=2)
    assert ct.does("shutdown", timeout=30)["exitstatus"] == "OK"
    assert ct.shown["off_cause"] == "guest"
    assert_took(2, ct.shown)


def test_a_container_is_forced_without_a_word_in_the_log(machine: NewMachine) -> None:
    ct = machine(kind="lxc", ignores=True)
    assert ct.does("shutdown", timeout=3, forceStop=1)["log"] == ["TASK OK"]
    assert ct.shown["off_cause"] == "pve-forced"
    assert_took(3, ct.shown)


def test_without_forceStop_the_task_waits_once_more_and_fails(machine: NewMachine) -> None:  # noqa: N802  # PVE's
    ct = machine(kind="lxc", ignores=True)
    task = ct.does("shutdown", timeout=2)
    assert task["log"][0] == f"command 'lxc-stop -n {ct.vmid} --nokill --timeout 2' failed: exit code 1"
    assert task["exitstatus"] == "container did not stop"
    assert ct.shown["power"] == "running"


def test_a_container_that_goes_down_while_the_task_waits_once_more_is_a_success(machine: NewMachine) -> None:
    ct = machine(kind="lxc", shutdown_secs=4)
    assert ct.does("shutdown", timeout=2)["exitstatus"] == "OK"


def test_the_startup_order_says_nothing_of_a_container(machine: NewMachine) -> None:
    ct = machine(kind="lxc", ignores=True, startup="down=3")
    ct.does("shutdown", forceStop=1)
    assert_took(60, ct.shown)


@pytest.mark.parametrize("action", ["shutdown", "stop", "reboot"])
def test_a_container_that_is_off_is_an_http_error(machine: NewMachine, action: str) -> None:
    ct = machine(kind="lxc", power="off")
    with pytest.raises(Refused, match=f"500 CT {ct.vmid} not running"):
        ct.asks(action)


def test_a_container_that_runs_already_is_an_http_error(machine: NewMachine) -> None:
    ct = machine(kind="lxc")
    with pytest.raises(Refused, match=f"500 CT {ct.vmid} already running"):
        ct.asks("start")


def test_a_container_starts(machine: NewMachine) -> None:
    ct = machine(kind="lxc", power="off")
    assert ct.does("start")["exitstatus"] == "OK"
    assert ct.resource()["status"] == "running"


def test_a_container_reboots_in_one_task(machine: NewMachine) -> None:
    ct = machine(kind="lxc", shutdown_secs=1)
    ct.does("reboot", timeout=5)
    shown = ct.shown
    assert shown["power"] == "running"
    assert shown["off_at"] < shown["on_at"]


@pytest.mark.parametrize("action", ["shutdown", "stop"])
def test_a_locked_container_is_a_task_that_fails(machine: NewMachine, action: str) -> None:
    assert machine(kind="lxc", lock="backup").does(action)["exitstatus"] == "CT is locked (backup)"


def test_the_lock_file_is_waited_for_ten_seconds(machine: NewMachine) -> None:
    ct = machine(kind="lxc")
    ct.cluster.hold_config_lock(ct.key, 30)
    lock = f"/run/lock/lxc/pve-config-{ct.vmid}.lock"
    assert ct.does("stop")["exitstatus"] == f"can't lock file '{lock}' - got timeout"


def test_a_stop_that_overrules_has_the_shutdown_killed(machine: NewMachine) -> None:
    ct = machine(kind="lxc", ignores=True)
    upid = ct.asks("shutdown", timeout=60)
    assert ct.does("stop", overrule_shutdown=1)["exitstatus"] == "OK"
    assert ct.cluster.task(upid)["exitstatus"] == "unexpected status"
    assert ct.shown["off_cause"] == "stop"


def test_a_container_that_goes_down_while_its_task_is_killed_is_a_success(machine: NewMachine) -> None:
    ct = machine(kind="lxc", shutdown_secs=3)
    upid = ct.asks("shutdown", timeout=60)
    ct.client.delete(f"/nodes/pve1/tasks/{upid}")
    assert ct.cluster.task(upid)["exitstatus"] == "OK"


def test_a_container_migrates(machine: NewMachine) -> None:
    ct = machine(kind="lxc")
    task = ct.cluster.task(ct.cluster.migrate(ct.key, "pve2", 1), ended=True)
    assert task["type"] == "vzmigrate"
    assert ct.resource()["node"] == "pve2"
