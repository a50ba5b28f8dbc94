"""The rig's cluster: its nodes, what is known of guests and how late, and who may do what."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.proxmox.conftest import SCALE, NewMachine, denied
from tests.rigs.polling import poll
from tests.rigs.proxmox.client import Client, Machine, Refused
from tests.rigs.proxmox.cluster import Cluster

POWER = ("VM.Audit", "VM.PowerMgmt")
LISTED = "/cluster/resources"


@pytest.fixture
def guarded() -> Iterator[Cluster]:
    """A cluster in which nobody may do anything yet."""
    with Cluster({"web": {"agent": "answers"}}, acl=True, time_scale=SCALE) as cluster:
        yield cluster


# Nodes


def test_every_node_answers_for_all(machine: NewMachine, cluster: Cluster) -> None:
    web = machine(node="pve2")
    assert web.does("shutdown")["exitstatus"] == "OK"
    with Client(cluster, endpoint=1) as other:
        assert other.get(f"{web.path}/status/current")["status"] == "stopped"


def test_every_node_has_its_own_certificate(cluster: Cluster) -> None:
    assert len(set(cluster.fingerprints)) == len(cluster.urls) == 2


def test_a_certificate_that_nobody_signed_is_refused(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{cluster.urls[0]}/api2/json/version", context=ssl.create_default_context())


def test_a_node_that_is_away_is_a_595_without_a_body(machine: NewMachine, cluster: Cluster) -> None:
    web = machine(node="pve2")
    cluster.node_down("pve2")
    try:
        with pytest.raises(Refused, match="595 No route to host") as refused:
            web.asks("shutdown")
    finally:
        cluster.node_up("pve2")
    assert refused.value.body == b""


def test_guests_of_a_node_that_is_away_are_unknown_and_live_on(machine: NewMachine, cluster: Cluster) -> None:
    web = machine(node="pve2", shutdown_secs=2)
    upid = web.asks("shutdown")
    cluster.node_down("pve2")
    try:
        known = web.resource()
        assert (known["status"], "name" in known) == ("unknown", False)
        assert cluster.task(upid, ended=True)["exitstatus"] == "OK"
    finally:
        cluster.node_up("pve2")
    assert web.resource()["status"] == "stopped"


def test_a_node_that_has_just_gone_is_remembered(machine: NewMachine, cluster: Cluster) -> None:
    web = machine(node="pve2")
    web.resource()
    cluster.node_down("pve2", forgotten=False)
    try:
        assert web.resource()["status"] == "running"
    finally:
        cluster.node_up("pve2")


def test_an_endpoint_goes_away_and_comes_back_where_it_was(cluster: Cluster, client: Client) -> None:
    client.get("/version")
    cluster.endpoint_down(0)
    with pytest.raises(OSError):  # whichever the system says of a connection that was cut
        client.get("/version")
    with pytest.raises(ConnectionRefusedError), Client(cluster) as another:
        another.get("/version")
    cluster.endpoint_up(0)
    with Client(cluster) as another:
        assert another.get("/version")["release"] == "9.0"


def test_guests_go_on_while_the_whole_api_is_away(machine: NewMachine, cluster: Cluster) -> None:
    web = machine(shutdown_secs=1)
    upid = web.asks("shutdown")
    cluster.stop()
    assert cluster.task(upid, ended=True)["exitstatus"] == "OK"
    cluster.start()
    with Client(cluster) as another:
        assert another.get(f"/nodes/pve1/tasks/{upid}/status")["exitstatus"] == "OK"


def test_without_quorum_a_guest_is_shut_down_but_not_started(machine: NewMachine, cluster: Cluster) -> None:
    web = machine()
    cluster.lose_quorum()
    try:
        assert web.does("shutdown")["exitstatus"] == "OK"
        with pytest.raises(Refused, match="500 cluster not ready - no quorum"):
            web.asks("start")
    finally:
        cluster.regain_quorum()


# What is known of guests


def test_a_paused_guest_is_listed_as_paused(machine: NewMachine) -> None:
    assert machine(power="paused").resource()["status"] == "paused"


def test_what_is_listed_is_as_old_as_the_last_broadcast() -> None:
    with Cluster({"web": {}}, time_scale=SCALE, stale_secs=20) as cluster, Client(cluster) as client:
        web = Machine(cluster, client, "web")
        poll(lambda: web.resource()["status"] == "running")
        web.does("stop")
        assert web.resource()["status"] == "running"
        assert client.get(f"{web.path}/status/current")["status"] == "stopped"
        poll(lambda: web.resource()["status"] == "stopped")


def test_locks_and_nodes_are_never_old() -> None:
    with Cluster({"web": {}}, time_scale=SCALE, stale_secs=600) as cluster, Client(cluster) as client:
        web = Machine(cluster, client, "web")
        cluster.task(cluster.migrate("web", "pve2", 1), ended=True)
        cluster.lock("web", "backup")
        assert (web.resource()["node"], web.resource()["lock"]) == ("pve2", "backup")


def test_guests_have_what_they_were_told_to_have(machine: NewMachine) -> None:
    web = machine(vmid=4711, name="shop", template=True, tags="a;b", protection=True, startup="down=9", power="off")
    listed = web.resource()
    assert {"vmid": 4711, "name": "shop", "template": 1, "tags": "a;b"}.items() <= listed.items()
    config = web.client.get(f"{web.path}/config")
    assert (config["protection"], config["startup"]) == (1, "down=9")


def test_many_guests_are_named_and_numbered() -> None:
    with Cluster({"web": {"count": 3}}) as cluster, Client(cluster) as client:
        listed = [(one["vmid"], one["name"]) for one in client.get(LISTED, type="vm")]
    assert listed == [(100, "web-0001"), (101, "web-0002"), (102, "web-0003")]


def test_a_renamed_guest_is_still_known_by_its_key(machine: NewMachine) -> None:
    web = machine()
    web.cluster.rename(web.key, "shop")
    assert web.resource()["name"] == "shop"
    assert web.shown["vmid"] == web.vmid


@pytest.mark.parametrize("ram", [0, 1])
def test_a_snapshot_with_or_without_ram(machine: NewMachine, cluster: Cluster, ram: int) -> None:
    web = machine(snapshot_secs=10)
    upid = web.client.post(f"{web.path}/snapshot", snapname="before", vmstate=ram)
    assert web.resource()["lock"] == "snapshot"
    assert cluster.task(upid, ended=True)["exitstatus"] == "OK"
    assert bool(web.shown["snapshots"]["before"].get("vmstate")) == bool(ram)


# Who may do what


def test_whoever_is_not_known_waits_for_a_401_without_a_body(cluster: Cluster) -> None:
    with Client(cluster) as client:
        client.log_in(cluster.user, cluster.password)
        cluster.expire_tickets()
        with pytest.raises(Refused) as refused:
            client.get("/version")
    assert (refused.value.status, refused.value.body) == (401, b"")


def test_a_ticket_is_as_good_as_a_password(cluster: Cluster) -> None:
    with Client(cluster) as client:
        ticket = client.log_in(cluster.user, cluster.password)
        assert client.log_in(cluster.user, ticket) != ticket


def test_a_password_that_was_changed_is_needed_from_then_on() -> None:
    with Cluster({}, time_scale=SCALE) as cluster, Client(cluster) as client:
        old = cluster.password
        cluster.rotate_password("Neu-2!")
        assert (cluster.credentials / "password").read_text() == "Neu-2!"
        client.log_in(cluster.user, "Neu-2!")
        with pytest.raises(Refused, match="401"):
            client.log_in(cluster.user, old)


def test_a_token_whose_secret_was_changed_is_refused() -> None:
    with Cluster({}, time_scale=SCALE) as cluster, Client(cluster) as client:
        cluster.rotate_token("another")
        with pytest.raises(Refused, match="401"):
            client.get("/version")


def test_nobody_sees_guests_without_a_right_to(guarded: Cluster) -> None:
    with Client(guarded) as client:
        assert client.get(LISTED, type="vm") == []


@pytest.mark.parametrize(
    ("privilege", "method", "path"),
    [
        ("VM.PowerMgmt", "POST", "status/shutdown"),
        ("VM.PowerMgmt", "POST", "status/start"),
        ("VM.Audit", "GET", "status/current"),
        ("VM.Audit", "GET", "config"),
        ("VM.Snapshot", "POST", "snapshot?snapname=one"),
        ("VM.GuestAgent.Audit", "POST", "agent/ping"),
        ("VM.GuestAgent.Unrestricted", "POST", "agent/exec?command=true"),
    ],
)
def test_a_privilege_is_what_a_call_needs(guarded: Cluster, privilege: str, method: str, path: str) -> None:
    with Client(guarded) as client:
        with pytest.raises(Refused, match="403 Permission check failed") as refused:
            client.call(method, f"/nodes/pve1/qemu/100/{path}")
        assert privilege in refused.value.reason
        guarded.grant(guarded.user, "/vms", privilege)
        client.call(method, f"/nodes/pve1/qemu/100/{path}")


@pytest.mark.parametrize("path", ["agent/ping", "agent/exec?command=true"])
def test_in_pve_8_the_agent_is_a_matter_of_the_monitor(path: str) -> None:
    with Cluster({"web": {"agent": "answers"}}, acl=True, release=8) as cluster, Client(cluster) as client:
        with pytest.raises(Refused, match=denied("/vms/100", "VM.Monitor")):
            client.call("POST", f"/nodes/pve1/qemu/100/{path}")
        cluster.grant(cluster.user, "/vms/100", "VM.Monitor")
        client.call("POST", f"/nodes/pve1/qemu/100/{path}")


# Faults and records


def test_a_call_fails_as_often_as_it_is_told_to(machine: NewMachine, cluster: Cluster) -> None:
    web = machine()
    cluster.fail("POST", f"/{web.vmid}/status/shutdown", 500, "boom", times=1)
    with pytest.raises(Refused, match="500 boom"):
        web.asks("shutdown")
    assert web.shown["asked"] == []
    assert web.does("shutdown")["exitstatus"] == "OK"


def test_an_answer_is_lost_of_a_call_that_was_carried_out(machine: NewMachine, cluster: Cluster) -> None:
    web = machine()
    cluster.fail("POST", f"/{web.vmid}/status/stop", 596, "Connection timed out", lost=True)
    with pytest.raises(Refused, match="596"):
        web.asks("stop")
    assert cluster.wait_off(web.key)["off_cause"] == "stop"


def test_calls_are_counted_and_kept(machine: NewMachine, cluster: Cluster) -> None:
    web = machine()
    cluster.reset_calls()
    web.asks("shutdown", timeout=9)
    calls: dict[str, Any] = cluster.calls()
    assert calls == {"POST /nodes/{node}/qemu/{vmid}/status/shutdown": 1}
    assert cluster.requests() == [("POST", f"{web.path}/status/shutdown", {"timeout": "9"})]


# Guests that are not listed, and their processes

KINDS = pytest.mark.parametrize("kind", ["qemu", "lxc"])


def listed(web: Machine) -> bool:
    return web.vmid in [one["vmid"] for one in web.client.get("/cluster/resources", type="vm")]


@KINDS
def test_a_guest_can_be_left_out_of_the_list_a_number_of_times(machine: NewMachine, kind: str) -> None:
    web = machine(kind=kind)
    web.cluster.omit(web.key, 2)
    assert [listed(web) for _ in range(3)] == [False, False, True]


@KINDS
def test_a_guest_that_is_left_out_is_known_to_its_node_and_its_number_is_taken(machine: NewMachine, kind: str) -> None:
    web = machine(kind=kind)
    web.cluster.omit(web.key)
    assert web.client.get(f"{web.path}/status/current")["status"] == "running"
    with pytest.raises(Refused) as refused:
        web.client.get("/cluster/nextid", vmid=web.vmid)
    assert "already exists" in refused.value.errors["vmid"]
    web.cluster.list_again(web.key)
    assert listed(web)


@KINDS
def test_a_nodes_own_list_shows_the_process_of_each_guest_that_runs(machine: NewMachine, kind: str) -> None:
    web, off = machine(kind=kind), machine(kind=kind, power="off")
    rows = {row["vmid"]: row for row in web.client.get(f"/nodes/{web.node}/{kind}")}
    assert rows[web.vmid]["pid"] == web.client.get(f"{web.path}/status/current")["pid"] == web.shown["pid"]
    assert "pid" not in rows[off.vmid]


@KINDS
def test_each_run_has_a_process_of_its_own(machine: NewMachine, kind: str) -> None:
    web = machine(kind=kind)
    before = web.shown["pid"]
    web.does("stop")
    web.does("start")
    assert web.shown["pid"] != before


def test_a_guest_that_was_migrated_goes_on_in_another_process(machine: NewMachine) -> None:
    web = machine()
    before = web.shown["pid"]
    web.cluster.task(web.cluster.migrate(web.key, "pve2", 1), ended=True)
    assert web.shown["pid"] != before
