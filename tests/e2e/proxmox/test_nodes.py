"""Nodes that go away and come back, and guests that move between them, in the middle of shutdowns."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.proxmox.adapter import ProxmoxAdapter
from tests.e2e.proxmox.served import Served, served, wait_for, wait_until

FORGOTTEN = pytest.mark.parametrize("forgotten", [True, False], ids=["forgotten", "remembered"])
"""Whether the cluster has forgotten the node's guests, or still says what it last knew."""
FAR: dict[str, object] = {"node": "pve2"}
"""The provider talks to pve1."""
NEVER, ASK = pb.ESCALATION_NEVER, pb.ESCALATION_ASK
AWAITING = pb.OPERATION_STATE_AWAITING_DECISION


@contextmanager
def away(it: Served, *, forgotten: bool, silence: float = 0) -> Iterator[None]:
    it.cluster.node_down("pve2", forgotten=forgotten, silence=silence)
    try:
        yield
    finally:
        it.cluster.node_up("pve2")


def wait_beyond(operation: Any, it: Served) -> None:
    """Until the operation's guest is past all of its time."""
    seen = it.calls.stub.GetOperation(pb.GetOperationRequest(id=operation.id))
    wait_for(seen.force_after.ToNanoseconds() / 1e9 + ProxmoxAdapter.margin.total_seconds() + 1)


@FORGOTTEN
def test_a_node_that_is_back_before_the_deadline_changes_nothing(forgotten: bool) -> None:
    with served({"web": FAR | {"shutdown_secs": 5, "agent": "answers"}}) as it:
        operation = it.ask("web")
        with away(it, forgotten=forgotten):
            wait_for(time.time() + 3)
        assert (it.ending(operation), it.asked("web")) == ("GRACEFUL", ["shutdown"])


@FORGOTTEN
def test_a_guest_that_goes_off_while_its_node_is_away_is_graceful_when_it_is_back(forgotten: bool) -> None:
    with served({"web": FAR | {"shutdown_secs": 2}, "ct": FAR | {"kind": "lxc", "shutdown_secs": 2}}) as it:
        operations = [it.ask("web"), it.ask("ct")]
        with away(it, forgotten=forgotten):
            it.cluster.wait_off("web")
            wait_for(it.cluster.wait_off("ct")["off_at"] + 3)
            assert not any(it.ended(operation) for operation in operations)
        assert [it.ending(operation) for operation in operations] == ["GRACEFUL", "GRACEFUL"]


MIXED: dict[str, dict[str, object]] = {
    "quick": FAR | {"shutdown_secs": 3},
    "deaf": FAR | {"ignores": True},
    "spared": FAR | {"ignores": True},
    "held": FAR | {"ignores": True},
    "deaf-ct": FAR | {"kind": "lxc", "ignores": True},
}
ESCALATIONS = {"spared": NEVER, "held": ASK}
ENDINGS = {
    "quick": "GRACEFUL",
    "deaf": "FORCED/TIMEOUT",
    "spared": "STILL_RUNNING/TIMEOUT",
    "held": "AWAITING_DECISION",
    "deaf-ct": "FORCED/TIMEOUT",
}


def ask_all(it: Served) -> dict[str, pb.Operation]:
    return {name: it.ask(name, 5, escalation=ESCALATIONS.get(name, pb.ESCALATION_FORCE)) for name in MIXED}


def endings(it: Served, operations: dict[str, pb.Operation]) -> dict[str, str]:
    held = it.calls.until_state(operations["held"], AWAITING)
    assert held.state == AWAITING
    found = {name: it.ending(operation) for name, operation in operations.items() if name != "held"}
    return found | {"held": "AWAITING_DECISION"}


@FORGOTTEN
def test_deadlines_that_pass_while_a_node_is_away_are_judged_when_it_is_back(forgotten: bool) -> None:
    with served(MIXED) as it:
        operations = ask_all(it)
        with away(it, forgotten=forgotten):
            wait_beyond(operations["deaf-ct"], it)
            assert not any(it.ended(operation) for operation in operations.values())
        assert endings(it, operations) == ENDINGS
        assert [it.asked(name) for name in MIXED] == [["shutdown"]] * len(MIXED)


@FORGOTTEN
def test_a_provider_that_is_restarted_while_a_node_is_away_judges_none_of_its_guests(forgotten: bool) -> None:
    with served(MIXED) as it:
        operations = ask_all(it)
        with away(it, forgotten=forgotten):
            it.restart()
            wait_beyond(operations["deaf-ct"], it)
            assert not any(it.ended(operation) for operation in operations.values())
        assert endings(it, operations) == ENDINGS
        assert [it.asked(name) for name in MIXED] == [["shutdown"]] * len(MIXED)


@FORGOTTEN
def test_a_guest_that_runs_on_through_a_restart_while_its_node_is_away_is_still_waited_for(forgotten: bool) -> None:
    with served({"web": FAR | {"shutdown_secs": 9}}) as it:
        operation = it.ask("web", 60)
        with away(it, forgotten=forgotten):
            it.restart()
        assert it.cluster.show("web")["power"] == "running"
        assert (it.ending(operation), it.asked("web")) == ("GRACEFUL", ["shutdown"])


@FORGOTTEN
def test_a_guest_whose_node_is_away_when_it_is_to_be_asked_is_asked_when_it_is_back(forgotten: bool) -> None:
    with served({"web": FAR}) as it:
        with away(it, forgotten=forgotten):
            operation = it.shutdown("web")
            wait_for(time.time() + 3)
            assert it.asked("web") == []
        assert (it.ending(operation), it.asked("web")) == ("GRACEFUL", ["shutdown"])


@FORGOTTEN
def test_a_node_that_keeps_the_others_waiting_does_not_hold_up_their_guests(forgotten: bool) -> None:
    with served({"far": FAR | {"count": 30, "ignores": True}, "near": {"count": 5, "shutdown_secs": 3}}) as it:
        for number in range(1, 31):
            it.ask(f"far-{number:04}", 5)
        with away(it, forgotten=forgotten, silence=30):
            wait_for(time.time() + 5 + ProxmoxAdapter.margin.total_seconds())  # by then all of them are looked at
            operations = {f"near-{number:04}": it.shutdown(f"near-{number:04}") for number in range(1, 6)}
            assert [it.ending(operation) for operation in operations.values()] == ["GRACEFUL"] * 5
            assert time.time() - max(it.cluster.show(name)["off_at"] for name in operations) < 5


@FORGOTTEN
def test_a_provider_that_starts_while_a_node_keeps_the_others_waiting_serves_soon(forgotten: bool) -> None:
    with served({"far": FAR | {"ignores": True}, "near": {}}) as it:
        it.ask("far")
        with away(it, forgotten=forgotten, silence=30):
            began = time.time()
            it.restart()
            assert time.time() - began < 15


# Guests that move


def test_a_guest_that_moves_when_it_is_to_be_asked_is_asked_where_it_is_then() -> None:
    with served({"web": {"shutdown_secs": 1}}) as it:
        it.cluster.migrate("web", "pve2", 4)
        assert it.ending(it.shutdown("web")) == "GRACEFUL"
        shutdown = [path for method, path, _ in it.cluster.requests() if path.endswith("/shutdown")]
        assert shutdown[-1].startswith("/nodes/pve2/")


def test_a_guest_that_moves_while_it_goes_down_is_seen_to_go_off_where_it_is_then() -> None:
    with served({"web": {"shutdown_secs": 9}}) as it:
        operation = it.ask("web", 4, escalation=ASK)
        it.calls.until_state(operation, AWAITING)  # PVE's own task has ended, which held the guest's lock
        it.cluster.task(it.cluster.migrate("web", "pve2", 1), ended=True)
        assert (it.ending(operation), it.cluster.show("web")["node"]) == ("GRACEFUL", "pve2")


def test_a_guest_that_moved_while_it_waited_for_a_decision_is_forced_where_it_is_then() -> None:
    with served({"web": {"ignores": True}}) as it:
        operation = it.ask("web", 2, escalation=ASK)
        it.calls.until_state(operation, AWAITING)
        it.cluster.task(it.cluster.migrate("web", "pve2", 1), ended=True)
        it.calls.stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))
        assert (it.ending(operation), it.cluster.show("web")["off_cause"]) == ("FORCED/REQUESTED", "stop")
        wait_until(lambda: it.asked("web") == ["shutdown", "stop"])
