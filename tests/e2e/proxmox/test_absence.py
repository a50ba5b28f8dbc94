"""Guests that cluster/resources leaves out while they run: "not listed" is neither off nor gone."""

import time

import grpc
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, served, wait_for

KINDS = pytest.mark.parametrize("kind", ["qemu", "lxc"])
ASK, AWAITING = pb.ESCALATION_ASK, pb.OPERATION_STATE_AWAITING_DECISION


def told(it: Served, web: str, seconds: float) -> list[str]:
    """What a watcher hears of a guest in so many seconds after the first snapshot."""
    vm_id, heard = it.calls.vm(web).id, list[str]()
    watch = it.calls.stub.WatchVMs(pb.WatchVMsRequest(), timeout=seconds)
    try:
        for event in watch:
            if event.removed == vm_id:
                heard.append("removed")
            if event.changed.id == vm_id:
                heard.append(pb.PowerState.Name(event.changed.power_state).removeprefix("POWER_STATE_"))
    except grpc.RpcError as over:
        assert over.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    return heard


@KINDS
@pytest.mark.parametrize("times", [1, 10])
def test_a_guest_that_is_left_out_for_some_polls_is_neither_gone_nor_off(
    it: Served, guest: NewGuest, kind: str, times: int
) -> None:
    web = guest(kind=kind)
    it.cluster.omit(web, times)
    assert {*told(it, web, 4)} <= {"ON"}
    assert it.calls.vm(web).power_state == pb.POWER_STATE_ON


@KINDS
def test_a_guest_that_is_left_out_while_it_is_shut_down_is_waited_for_and_told_as_ever(
    it: Served, guest: NewGuest, kind: str
) -> None:
    web = guest(kind=kind, shutdown_secs=4)
    operation = it.ask(web)
    it.cluster.omit(web)
    wait_for(time.time() + 2)
    assert not it.ended(operation)
    assert (it.ending(operation), it.asked(web)) == ("GRACEFUL", ["shutdown"])


def test_a_guest_that_is_left_out_is_forced_at_its_deadline_and_no_sooner(it: Served, guest: NewGuest) -> None:
    web = guest(ignores=True)
    operation = it.ask(web, 3)
    it.cluster.omit(web)
    ended = it.calls.end(operation)
    assert pb.Outcome.Name(ended.verdict.outcome) == "OUTCOME_FORCED"
    assert it.cluster.show(web)["off_at"] >= operation.force_after.ToNanoseconds() / 1e9


def test_a_guest_that_is_left_out_may_be_asked_by_its_name(it: Served, guest: NewGuest) -> None:
    web = guest()
    it.cluster.omit(web)
    assert it.ending(it.shutdown(web)) == "GRACEFUL"


def test_a_guest_that_is_left_out_while_it_moves_is_followed_to_its_new_node() -> None:
    with served({"web": {"ignores": True}}) as it:
        operation = it.ask("web", 2, escalation=ASK)
        it.calls.until_state(operation, AWAITING)
        it.cluster.omit("web", 3)
        it.cluster.task(it.cluster.migrate("web", "pve2", 1), ended=True)
        it.calls.wait_vm("web", lambda vm: vm.node == "pve2")
        assert not it.ended(operation)
        it.calls.stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))
        assert it.ending(operation) == "FORCED/REQUESTED"
        assert it.cluster.show("web")["off_cause"] == "stop"


def test_how_a_guest_is_that_is_left_out_is_not_known_while_its_node_is_away() -> None:
    with served({"web": {"node": "pve2"}}, "--idle-interval=300ms") as it:
        it.cluster.omit("web")
        it.cluster.node_down("pve2")
        it.calls.wait_vm("web", lambda vm: vm.power_state == pb.POWER_STATE_UNKNOWN)
        it.cluster.node_up("pve2")
        it.calls.wait_vm("web", lambda vm: vm.power_state == pb.POWER_STATE_ON)


@KINDS
def test_a_guest_that_is_destroyed_is_gone(it: Served, kind: str) -> None:
    it.cluster.add("doomed-" + kind, kind=kind)
    vm_id = it.calls.wait_vm("doomed-" + kind, lambda _vm: True).id
    watch = it.calls.stub.WatchVMs(pb.WatchVMsRequest(), timeout=30)
    it.cluster.remove("doomed-" + kind)
    assert any(event.removed == vm_id for event in watch)
