"""Guests that come, go, move and are renamed; their names; and what it costs to know all that."""

import re
import time

import grpc
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, served, wait_for, wait_until


def names(it: Served) -> list[str]:
    return [vm.name for vm in it.calls.stub.ListVMs(pb.ListVMsRequest()).vms]


def refused(it: Served, name: str) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        it.calls.vm(name)
    code: grpc.StatusCode = caught.value.code()
    return code


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_guest_that_is_added_is_listed(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, tags="prod;web", pool="shop", node="pve2")
    vm = it.calls.vm(web)
    assert web in names(it)
    assert (vm.node, vm.power_state) == ("pve2", pb.POWER_STATE_ON)
    assert dict(vm.labels) == {"kind": kind, "tags": "prod;web", "pool": "shop"}


def test_a_guest_that_is_removed_is_listed_no_more(it: Served) -> None:
    it.cluster.add("gone")
    it.calls.wait_vm("gone", lambda vm: True)
    watch = it.calls.stub.WatchVMs(pb.WatchVMsRequest(), timeout=30)
    vm_id = it.calls.vm("gone").id
    it.cluster.remove("gone")
    assert any(event.removed == vm_id for event in watch)
    assert "gone" not in names(it)


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_guest_that_is_renamed_is_found_by_its_new_name(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind)
    vm_id = it.calls.vm(web).id
    it.cluster.rename(web, f"{web}-new")
    assert it.calls.wait_vm(f"{web}-new", lambda vm: True).id == vm_id
    assert refused(it, web) is grpc.StatusCode.NOT_FOUND


def test_a_guest_that_moves_is_shown_where_it_is(it: Served, guest: NewGuest) -> None:
    web = guest()
    it.cluster.migrate(web, "pve2", 0)
    assert it.calls.wait_vm(web, lambda vm: vm.node == "pve2").power_state == pb.POWER_STATE_ON


def test_a_guest_is_found_by_its_vmid_its_name_and_its_path(it: Served, guest: NewGuest) -> None:
    web = guest()
    vmid = str(it.cluster.show(web)["vmid"])
    assert {it.calls.vm(name).id for name in (vmid, web, f"qemu/{vmid}")} == {vmid}


def test_a_container_is_found_by_its_path_too(it: Served, guest: NewGuest) -> None:
    web = guest(kind="lxc")
    vmid = it.cluster.show(web)["vmid"]
    assert it.calls.vm(f"lxc/{vmid}").name == web
    assert refused(it, f"qemu/{vmid}") is grpc.StatusCode.NOT_FOUND


def test_a_name_that_two_bear_is_no_name_but_their_vmids_are(it: Served, guest: NewGuest) -> None:
    one, other = guest(name="twin"), guest(name="twin", kind="lxc")
    ids = {str(it.cluster.show(key)["vmid"]) for key in (one, other)}
    wait_until(lambda: names(it).count("twin") == 2)
    assert refused(it, "twin") is grpc.StatusCode.FAILED_PRECONDITION
    assert {it.calls.vm(vmid).name for vmid in ids} == {"twin"}


def test_a_colleagues_hand_is_seen_without_any_operation(it: Served, guest: NewGuest) -> None:
    web = guest()
    for how, state in (("pause", pb.POWER_STATE_PAUSED), ("resume", pb.POWER_STATE_ON), ("crash", pb.POWER_STATE_OFF)):
        it.cluster.power(web, how)
        it.calls.wait_vm(web, lambda vm, state=state: bool(vm.power_state == state))  # type: ignore[misc]


# What it costs

IDLE = 10.0
FEW = 8
"""Guests whose details are read again beside each poll (providers/proxmox/details.py)."""


def test_an_idle_provider_reads_the_cluster_once_an_interval_and_a_few_details() -> None:
    guests: dict[str, dict[str, object]] = {
        "web": {"count": 40, "agent": "answers"},
        "ct": {"count": 20, "kind": "lxc"},
    }
    with served(guests, "--idle-interval=2s") as it:
        it.cluster.reset_calls()
        wait_for(time.time() + IDLE)
        calls = it.cluster.calls()
        polls = calls.pop("GET /cluster/resources")
        configs = sum(count for call, count in calls.items() if call.endswith("/config"))
        pings = calls.get("POST /nodes/{node}/qemu/{vmid}/agent/ping", 0)
        assert IDLE / 2 - 2 <= polls <= IDLE / 2 + 1
        assert configs <= FEW * (polls + 1)
        assert pings <= configs
        assert configs + pings == sum(calls.values())


def test_reads_of_our_callers_ask_proxmox_ve_nothing() -> None:
    with served({"web": {"count": 3}}, "--idle-interval=10m") as it:
        it.cluster.reset_calls()
        for _ in range(20):
            it.calls.stub.ListVMs(pb.ListVMsRequest())
            it.calls.stub.ForecastShutdown(pb.ForecastShutdownRequest())
            it.calls.vm("web-0001")
        assert it.cluster.calls() == {}


def test_while_an_operation_waits_all_is_read_once_an_active_interval() -> None:
    with served({"web": {"ignores": True}, "many": {"count": 50}}, "--active-interval=1s", "--idle-interval=10m") as it:
        operation = it.ask("web", 60, escalation=pb.ESCALATION_NEVER)
        it.cluster.reset_calls()
        wait_for(time.time() + 5)
        calls = it.cluster.calls()
        it.calls.stub.CancelOperation(pb.CancelOperationRequest(id=operation.id))
        assert calls.keys() <= {"GET /cluster/resources", "GET /nodes/{node}/tasks"}
        assert 3 <= calls["GET /cluster/resources"] <= 6
        assert calls["GET /nodes/{node}/tasks"] <= 6


def test_a_shutdown_costs_few_calls_of_its_own() -> None:
    with served({"web": {"shutdown_secs": 5}}, "--idle-interval=10m") as it:
        it.cluster.reset_calls()
        assert it.ending(it.shutdown("web")) == "GRACEFUL"
        own = [call for call in it.cluster.requests() if re.search(r"/qemu/100/|/tasks/UPID", call[1])]
        assert len(own) <= 3
