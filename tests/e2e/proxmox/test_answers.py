"""Answers that fail, are lost, or say what was: each shutdown is asked for once, and ends with the right verdict."""

import time

import grpc
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.served import served, wait_for, wait_until

SHUTDOWN = "/status/shutdown"


def test_a_shutdown_that_could_not_be_handed_to_its_node_is_asked_for_again() -> None:
    with served({"web": {"shutdown_secs": 1}}) as it:
        it.cluster.fail("POST", SHUTDOWN, 595, "No route to host", 1)
        assert (it.ending(it.shutdown("web")), it.asked("web")) == ("GRACEFUL", ["shutdown"])


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_shutdown_whose_answer_is_lost_is_not_asked_for_twice(kind: str) -> None:
    with served({"web": {"kind": kind, "shutdown_secs": 4}}) as it:
        it.cluster.fail("POST", SHUTDOWN, 596, "Connection timed out", lost=True)
        assert (it.ending(it.shutdown("web")), it.asked("web")) == ("GRACEFUL", ["shutdown"])


def test_a_deaf_guest_whose_shutdowns_answer_is_lost_is_forced_in_its_time() -> None:
    with served({"web": {"ignores": True}}) as it:
        it.cluster.fail("POST", SHUTDOWN, 596, "Connection timed out", lost=True)
        assert (it.ending(it.shutdown("web", 5)), it.asked("web")) == ("FORCED/TIMEOUT", ["shutdown"])


def test_a_stop_whose_answer_is_lost_is_a_stop() -> None:
    with served({"web": {}}) as it:
        it.cluster.fail("POST", "/status/stop", 596, "Connection timed out", lost=True)
        assert it.ending(it.calls.stub.PowerOff(pb.PowerOffRequest(vm="web"))) == "FORCED/REQUESTED"


def test_a_start_that_ends_in_an_error_is_told_in_proxmox_ves_words() -> None:
    words = "start failed: QEMU exited with code 1"
    with served({"web": {"power": "off", "start_error": words}}) as it:
        operation = it.calls.end(it.calls.stub.PowerOn(pb.PowerOnRequest(vm="web")))
        assert operation.state == pb.OPERATION_STATE_FAILED
        assert words in operation.error.message


# What cluster/resources says too late


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_verdict_does_not_wait_for_what_the_cluster_hears_late(kind: str) -> None:
    with served({"web": {"kind": kind, "shutdown_secs": 1}}, stale_secs=10) as it:
        assert it.ending(it.shutdown("web")) == "GRACEFUL"
        assert time.time() - it.cluster.show("web")["off_at"] < 4


def test_a_guest_that_has_just_started_is_not_off_because_the_cluster_has_not_heard_of_it() -> None:
    with served({"web": {"power": "off", "shutdown_secs": 1}}, stale_secs=10) as it:
        assert it.ending(it.calls.stub.PowerOn(pb.PowerOnRequest(vm="web"))) == "STARTED"
        assert (it.ending(it.shutdown("web")), it.asked("web")) == ("GRACEFUL", ["start", "shutdown"])


def test_a_guest_that_a_colleague_has_just_started_is_not_said_to_be_off_already() -> None:
    with served({"web": {"power": "off", "shutdown_secs": 1}}, stale_secs=10) as it:
        wait_for(time.time() + 1)
        it.cluster.power("web", "on")
        wait_until(lambda: it.cluster.show("web")["power"] == "running")
        assert (it.ending(it.shutdown("web")), it.asked("web")) == ("GRACEFUL", ["shutdown"])


def test_what_the_cluster_hears_late_makes_no_guest_flap() -> None:
    with served({"web": {"shutdown_secs": 1}}, stale_secs=10) as it:
        states = list[int]()
        events = it.calls.stub.WatchVMs(pb.WatchVMsRequest(), timeout=30)
        assert it.ending(it.shutdown("web")) == "GRACEFUL"
        end = time.time() + 14
        with pytest.raises(grpc.RpcError, match="DEADLINE"):
            for event in events:
                states.append(event.changed.power_state)
        assert time.time() > end
        on, off = states.count(pb.POWER_STATE_ON), states.count(pb.POWER_STATE_OFF)
        assert on and off and states == sorted(states, key=lambda state: state == pb.POWER_STATE_OFF)
