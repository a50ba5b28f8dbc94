"""The rig's QEMU guests: their power, as PVE's API has it, when nobody of ours is there."""

import pytest

from tests.e2e.proxmox.conftest import NewMachine, assert_took
from tests.rigs.proxmox.client import Client, Machine, Refused
from tests.rigs.proxmox.cluster import Cluster

STILL_RUNNING = "VM still running - terminating now with SIGTERM"
GOT_TIMEOUT = "VM quit/powerdown failed - got timeout"


def test_a_guest_goes_down_when_it_is_asked_and_takes_its_time(machine: NewMachine) -> None:
    web = machine(shutdown_secs=2)
    assert web.does("shutdown", timeout=30)["exitstatus"] == "OK"
    shown = web.shown
    assert [signal for _, signal in shown["heard"]] == ["acpi"]
    assert shown["off_cause"] == "guest"
    assert_took(2, shown)


def test_what_pve_was_asked_is_on_record(machine: NewMachine) -> None:
    web = machine()
    web.does("shutdown", timeout=300, forceStop=1)
    ((_, how, values),) = web.shown["asked"]
    assert (how, values) == ("shutdown", {"timeout": 300, "forceStop": 1})


def test_a_guest_that_ignores_is_forced_when_its_time_is_up(machine: NewMachine) -> None:
    web = machine(ignores=True)
    task = web.does("shutdown", timeout=4, forceStop=1)
    assert task["log"] == [STILL_RUNNING, "TASK OK"]
    shown = web.shown
    assert shown["off_cause"] == "pve-forced"
    assert_took(4, shown)


def test_without_forceStop_the_task_fails_and_the_guest_goes_on(machine: NewMachine) -> None:  # noqa: N802  # PVE's
    web = machine(ignores=True)
    assert web.does("shutdown", timeout=2)["exitstatus"] == GOT_TIMEOUT
    assert web.shown["power"] == "running"


def test_a_guest_that_goes_off_in_the_last_second_is_logged_as_forced(machine: NewMachine) -> None:
    web = machine(shutdown_secs=4.5)
    assert web.does("shutdown", timeout=5, forceStop=1)["log"][0] == STILL_RUNNING
    assert web.shown["off_cause"] == "guest"


def test_a_timeout_of_zero_is_none_at_all(machine: NewMachine) -> None:
    assert machine().does("shutdown", timeout=0)["exitstatus"] == GOT_TIMEOUT


def test_with_no_timeout_the_startup_order_says_it(machine: NewMachine) -> None:
    web = machine(ignores=True, startup="order=1,up=5,down=3")
    web.does("shutdown", forceStop=1)
    assert_took(3, web.shown)


def test_with_no_timeout_at_all_it_is_sixty_seconds(machine: NewMachine) -> None:
    web = machine(ignores=True)
    web.does("shutdown", forceStop=1)
    assert_took(60, web.shown)


def test_a_config_without_acpi_means_a_guest_that_does_not_hear_it(machine: NewMachine) -> None:
    web = machine(acpi=False)
    assert web.does("shutdown", timeout=2)["exitstatus"] == GOT_TIMEOUT
    assert web.shown["config"]["acpi"] == 0


@pytest.mark.parametrize("action", ["shutdown", "stop"])
def test_a_guest_that_is_off_is_shut_down_and_stopped_with_success(machine: NewMachine, action: str) -> None:
    assert machine(power="off").does(action)["exitstatus"] == "OK"


@pytest.mark.parametrize("action", ["reboot", "reset"])
def test_a_guest_that_is_off_is_not_rebooted(machine: NewMachine, action: str) -> None:
    web = machine(power="off")
    with pytest.raises(Refused, match=f"500 VM {web.vmid} not running"):
        web.asks(action)


# Paused guests


def test_a_paused_guest_is_not_shut_down(machine: NewMachine) -> None:
    web = machine(power="paused")
    with pytest.raises(Refused, match="500 VM is paused - cannot shutdown"):
        web.asks("shutdown", timeout=5)


def test_a_paused_guest_is_stopped_where_force_is_allowed(machine: NewMachine) -> None:
    web = machine(power="paused")
    assert web.does("shutdown", timeout=5, forceStop=1)["exitstatus"] == "OK"
    assert web.shown["off_cause"] == "pve-forced"
    assert web.shown["heard"] == []


def test_a_guest_that_was_paused_while_it_went_down_is_off_when_it_goes_on(machine: NewMachine) -> None:
    web = machine(shutdown_secs=10)
    upid = web.asks("shutdown", timeout=12)
    web.cluster.power(web.key, "pause")
    assert web.cluster.task(upid, ended=True)["exitstatus"] == GOT_TIMEOUT
    web.cluster.power(web.key, "resume")
    assert web.cluster.wait_off(web.key)["off_cause"] == "guest"


# Starting


def test_a_guest_starts_and_takes_its_time(machine: NewMachine) -> None:
    web = machine(power="off", start_secs=3)
    assert web.does("start")["exitstatus"] == "OK"
    assert web.shown["power"] == "running"


def test_a_guest_that_runs_already_is_a_task_that_fails(machine: NewMachine) -> None:
    web = machine()
    assert web.does("start")["exitstatus"] == f"VM {web.vmid} already running"


def test_a_start_that_fails_says_why(machine: NewMachine) -> None:
    assert machine(power="off", start_error="no space").does("start")["exitstatus"] == "no space"


def test_a_hibernated_guest_wakes_up(machine: NewMachine) -> None:
    web = machine(hibernated=True)
    assert (web.shown["power"], web.shown["lock"]) == ("stopped", "suspended")
    web.does("start")
    assert (web.shown["power"], web.shown["lock"]) == ("running", None)


def test_a_reboot_is_a_way_down_and_a_start_of_its_own(machine: NewMachine) -> None:
    web = machine(shutdown_secs=1, start_secs=1)
    assert web.does("reboot", timeout=5)["exitstatus"] == "OK"
    started = next(task for task in web.tasks(source="all") if task["type"] == "qmstart")
    assert started["user"] == "root@pam"
    web.cluster.task(started["upid"], ended=True)
    assert web.shown["power"] == "running"


# Locks


@pytest.mark.parametrize("action", ["shutdown", "stop", "reset"])
def test_a_locked_guest_is_a_task_that_fails(machine: NewMachine, action: str) -> None:
    assert machine(lock="backup").does(action)["exitstatus"] == "VM is locked (backup)"


def test_a_lock_is_an_http_error_where_the_rig_is_told_so() -> None:
    with Cluster({"web": {"lock": "backup"}}, refuses_early=True) as cluster, Client(cluster) as client:
        web = Machine(cluster, client, "web")
        with pytest.raises(Refused, match=r"500 VM is locked \(backup\)"):
            web.asks("shutdown")


def test_a_backup_locks_a_guest_until_it_has_ended(machine: NewMachine) -> None:
    web = machine()
    backup = web.cluster.backup(web.key, 20)
    assert web.resource()["lock"] == "backup"
    assert web.does("shutdown")["exitstatus"] == "VM is locked (backup)"
    assert web.cluster.task(backup, ended=True)["user"] == "root@pam"
    assert web.does("shutdown")["exitstatus"] == "OK"


def test_the_lock_file_is_waited_for_ten_seconds(machine: NewMachine) -> None:
    web = machine()
    web.cluster.hold_config_lock(web.key, 30)
    task = web.does("shutdown")
    assert task["log"][0] == "trying to acquire lock..."
    assert task["exitstatus"] == f"can't lock file '/var/lock/qemu-server/lock-{web.vmid}.conf' - got timeout"


def test_a_lock_file_that_becomes_free_in_time_is_taken(machine: NewMachine) -> None:
    web = machine()
    web.cluster.hold_config_lock(web.key, 8)
    assert web.does("shutdown")["log"] == ["trying to acquire lock...", " OK", "TASK OK"]


def test_a_stop_during_a_shutdown_waits_in_vain(machine: NewMachine) -> None:
    web = machine(ignores=True)
    web.asks("shutdown", timeout=60)
    assert "got timeout" in web.does("stop")["exitstatus"]


def test_a_stop_that_overrules_aborts_the_shutdown(machine: NewMachine) -> None:
    web = machine(ignores=True)
    upid = web.asks("shutdown", timeout=60)
    stop = web.does("stop", overrule_shutdown=1)
    assert stop["log"] == [f"overruled qmshutdown tasks: {upid}", "TASK OK"]
    assert web.cluster.task(upid)["exitstatus"] == "received interrupt"
    assert web.shown["off_cause"] == "stop"


def test_an_aborted_shutdown_does_not_hold_a_guest_back(machine: NewMachine) -> None:
    web = machine(shutdown_secs=20)
    upid = web.asks("shutdown", timeout=60)
    web.client.delete(f"/nodes/pve1/tasks/{upid}")
    assert web.shown["power"] == "running"
    assert web.cluster.wait_off(web.key)["off_cause"] == "guest"


# Hands of others


def test_a_colleagues_stop_is_a_task_of_root(machine: NewMachine) -> None:
    web = machine()
    web.cluster.power(web.key, "off")
    assert web.cluster.wait_off(web.key)["off_cause"] == "stop"
    assert [(task["type"], task["user"]) for task in web.tasks(source="all")] == [("qmstop", "root@pam")]


@pytest.mark.parametrize(("how", "cause"), [("crash", "crash"), ("off-by-guest", "guest")])
def test_a_guest_goes_off_with_no_task_at_all(machine: NewMachine, how: str, cause: str) -> None:
    web = machine()
    web.cluster.power(web.key, how)
    assert web.shown["off_cause"] == cause
    assert web.tasks(source="all") == []


def test_the_end_of_each_run_is_noted(machine: NewMachine) -> None:
    web = machine()
    for how in ("crash", "off-by-guest"):
        web.cluster.power(web.key, how)
        web.cluster.task(web.asks("start"), ended=True)
    ends = web.shown["ends"]
    assert [end["off_cause"] for end in ends] == ["crash", "guest"]
    assert ends[0]["on_at"] < ends[0]["off_at"] < ends[1]["on_at"] < ends[1]["off_at"] < web.shown["on_at"]


def test_a_migrated_guest_is_no_longer_where_it_was(machine: NewMachine) -> None:
    web = machine()
    web.cluster.task(web.cluster.migrate(web.key, "pve2", 2), ended=True)
    assert web.resource()["node"] == "pve2"
    with pytest.raises(
        Refused, match=f"500 Configuration file 'nodes/pve1/qemu-server/{web.vmid}.conf' does not exist"
    ):
        web.asks("shutdown")
