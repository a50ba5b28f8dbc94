"""The rig's tasks: how they are followed, listed, aborted, and who may do that."""

import time

import pytest

from tests.e2e.proxmox.conftest import NewMachine, denied
from tests.rigs.proxmox.client import Client, Refused
from tests.rigs.proxmox.cluster import Cluster


def test_a_task_says_that_it_runs(machine: NewMachine, client: Client) -> None:
    upid = machine(ignores=True).asks("shutdown", timeout=60)
    status = client.get(f"/nodes/pve1/tasks/{upid}/status")
    assert status["status"] == "running"
    assert "exitstatus" not in status


def test_a_task_that_has_ended_says_how(machine: NewMachine, client: Client) -> None:
    web = machine(ignores=True)
    task = web.does("shutdown", timeout=1)
    status = client.get(f"/nodes/pve1/tasks/{task['upid']}/status")
    assert (status["status"], status["exitstatus"]) == ("stopped", "VM quit/powerdown failed - got timeout")


def test_a_tokens_task_is_shown_as_its_users(machine: NewMachine, client: Client) -> None:
    task = machine().does("shutdown")
    status = client.get(f"/nodes/pve1/tasks/{task['upid']}/status")
    assert (status["user"], status["tokenid"]) == ("vmpower@pve", "provider")


def test_a_log_is_read_line_by_line(machine: NewMachine, client: Client) -> None:
    task = machine(ignores=True).does("shutdown", timeout=1, forceStop=1)
    log = client.get(f"/nodes/pve1/tasks/{task['upid']}/log", start=1, limit=1)
    assert log == [{"n": 2, "t": "TASK OK"}]


def test_a_log_with_nothing_in_it_says_so(machine: NewMachine, client: Client) -> None:
    upid = machine(ignores=True).asks("shutdown", timeout=60)
    assert client.get(f"/nodes/pve1/tasks/{upid}/log") == [{"n": 1, "t": "no content"}]


def test_a_task_that_is_not_there_is_a_bad_parameter(machine: NewMachine, client: Client) -> None:
    upid = "UPID:pve1:00000001:00000001:00000001:qmstop:100:root@pam:"
    with pytest.raises(Refused) as refused:
        client.get(f"/nodes/pve1/tasks/{upid}/status")
    assert (refused.value.status, refused.value.errors) == (400, {"upid": "no such task"})


# Lists


def test_a_list_has_only_what_has_ended(machine: NewMachine) -> None:
    web = machine(ignores=True)
    ended = web.does("shutdown", timeout=0)
    web.asks("shutdown", timeout=60)
    assert [task["upid"] for task in web.tasks()] == [ended["upid"]]


def test_a_list_of_active_tasks_has_only_what_runs(machine: NewMachine) -> None:
    web = machine(ignores=True)
    web.does("shutdown", timeout=0)
    upid = web.asks("shutdown", timeout=60)
    assert [(task["upid"], task["status"]) for task in web.tasks(source="active")] == [(upid, "RUNNING")]


def test_a_list_of_all_has_what_runs_first_and_the_latest_next(machine: NewMachine) -> None:
    web = machine(ignores=True)
    first, second = (web.does("shutdown", timeout=0)["upid"] for _ in range(2))
    upid = web.asks("shutdown", timeout=60)
    assert [task["upid"] for task in web.tasks(source="all")] == [upid, second, first]


def test_a_list_can_be_of_one_kind(machine: NewMachine) -> None:
    web = machine()
    web.does("shutdown")
    web.does("start")
    assert [task["type"] for task in web.tasks(typefilter="qmstart")] == ["qmstart"]


def test_a_list_can_begin_at_a_time(machine: NewMachine) -> None:
    web = machine()
    web.does("stop")
    assert web.tasks(since=int(time.time()) + 1) == []


def test_a_list_can_be_of_errors(machine: NewMachine) -> None:
    web = machine()
    web.does("start")
    web.does("stop")
    assert [task["type"] for task in web.tasks(statusfilter="error")] == ["qmstart"]


def test_a_list_ends_at_its_limit(machine: NewMachine) -> None:
    web = machine()
    web.does("stop")
    started = web.does("start")
    assert [task["upid"] for task in web.tasks(limit=1)] == [started["upid"]]


def test_the_clusters_tasks_are_those_of_all_nodes(machine: NewMachine, cluster: Cluster, client: Client) -> None:
    upids = {machine(node=node).does("stop")["upid"] for node in cluster.nodes}
    assert upids <= {task["upid"] for task in client.get("/cluster/tasks")}


# Aborting


def test_an_aborted_task_was_interrupted(machine: NewMachine, cluster: Cluster, client: Client) -> None:
    upid = machine(ignores=True).asks("shutdown", timeout=60)
    client.delete(f"/nodes/pve1/tasks/{upid}")
    assert cluster.task(upid)["log"] == ["TASK ERROR: received interrupt"]


def test_an_aborted_task_frees_the_lock_file(machine: NewMachine, client: Client) -> None:
    web = machine(ignores=True)
    client.delete(f"/nodes/pve1/tasks/{web.asks('shutdown', timeout=60)}")
    assert web.does("stop")["log"] == ["TASK OK"]


def test_a_task_that_waits_for_the_lock_file_is_aborted(machine: NewMachine, cluster: Cluster, client: Client) -> None:
    web = machine(ignores=True)
    web.asks("shutdown", timeout=60)
    upid = web.asks("stop")
    client.delete(f"/nodes/pve1/tasks/{upid}")
    lock = f"/var/lock/qemu-server/lock-{web.vmid}.conf"
    assert cluster.task(upid)["exitstatus"] == f"can't lock file '{lock}' - received interrupt"


# Rights


def test_tasks_of_others_are_not_seen_without_a_right_to() -> None:
    with Cluster({"web": {}}, acl=True) as cluster, Client(cluster) as client:
        upid = cluster.power("web", "off")
        with pytest.raises(Refused, match=denied("/nodes/pve1", "Sys.Audit")):
            client.get(f"/nodes/pve1/tasks/{upid}/status")
        assert client.get("/nodes/pve1/tasks", source="all") == []


def test_tasks_of_others_are_not_aborted_without_a_right_to() -> None:
    with Cluster({"web": {"stop_secs": 60}}, acl=True) as cluster, Client(cluster) as client:
        cluster.grant(cluster.user, "/nodes/pve1", "Sys.Audit")
        upid = cluster.power("web", "off")
        with pytest.raises(Refused, match=denied("/nodes/pve1", "Sys.Modify")):
            client.delete(f"/nodes/pve1/tasks/{upid}")


def test_overruling_leaves_shutdowns_of_others_alone() -> None:
    with Cluster({"web": {"ignores": True}}, acl=True, time_scale=0.05) as cluster, Client(cluster) as client:
        cluster.grant(cluster.user, "/vms", "VM.PowerMgmt")
        path = "/nodes/pve1/qemu/100/status"
        with Client(cluster) as root:
            root.log_in("root@pam", cluster.root_password)
            theirs = root.post(f"{path}/shutdown", timeout=60)
        stop = cluster.task(client.post(f"{path}/stop", overrule_shutdown=1), ended=True)
        assert "got timeout" in stop["exitstatus"]
        assert cluster.task(theirs)["status"] == "running"
