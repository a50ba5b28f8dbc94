"""Guests that somebody else holds: by a lock in their configuration, or by its file."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import OFTEN, NewGuest
from tests.e2e.proxmox.served import Served, duration, ending, served, wait_until

WAITING, AWAITING = pb.OPERATION_STATE_WAITING_FOR_GUEST, pb.OPERATION_STATE_AWAITING_DECISION
NEVER, ASK = pb.ESCALATION_NEVER, pb.ESCALATION_ASK
QUICK = 0.25
"""One of PVE's seconds, in ours: no guest here is forced by Proxmox VE itself."""
KINDS = pytest.mark.parametrize("kind", ["qemu", "lxc"])


@pytest.fixture(scope="module")
def it() -> Iterator[Served]:
    with served({"spare": {}}, *OFTEN, time_scale=QUICK) as it:
        yield it


def problems(vm: pb.VM) -> str:
    return " ".join(problem.message for problem in vm.forecast.problems)


def backed_up(it: Served, web: str, seconds: float) -> None:
    """A backup of it has begun, which takes so many of our seconds, and the provider knows whose."""
    it.cluster.backup(web, seconds / QUICK)
    it.calls.wait_vm(web, lambda vm: "vzdump by root@pam" in problems(vm))


def timeouts(it: Served, web: str) -> list[int]:
    """What each of the guest's shutdowns was told."""
    return [parameters["timeout"] for _, how, parameters in it.cluster.show(web)["asked"] if how == "shutdown"]


@KINDS
def test_a_backup_is_named_with_its_user(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind)
    backed_up(it, web, 3)
    vm = it.calls.vm(web)
    assert (vm.forecast.graceful, list(vm.forecast.signals)) == (False, [])
    assert [problem.reason for problem in vm.forecast.problems if problem.reason] == [pb.REASON_LOCKED]


@KINDS
def test_a_guest_whose_backup_ends_in_time_is_asked_then_with_what_is_left(
    it: Served, guest: NewGuest, kind: str
) -> None:
    web = guest(kind=kind)
    backed_up(it, web, 3)
    assert it.ending(it.shutdown(web, 30)) == "GRACEFUL"
    [left] = timeouts(it, web)
    assert 20 < left < 30


@KINDS
def test_a_guest_that_is_held_beyond_its_time_runs_on_where_it_is_never_forced(
    it: Served, guest: NewGuest, kind: str
) -> None:
    web = guest(kind=kind)
    backed_up(it, web, 30)
    operation = it.calls.end(it.shutdown(web, 2, escalation=NEVER))
    assert (ending(operation), it.asked(web)) == ("STILL_RUNNING/LOCKED", [])
    assert "vzdump by root@pam" in operation.verdict.message


@KINDS
def test_a_guest_that_is_held_beyond_its_time_waits_for_a_decision(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind)
    backed_up(it, web, 5)
    operation = it.calls.until_state(it.shutdown(web, 2, escalation=ASK), AWAITING)
    assert "vzdump by root@pam" in operation.steps[-1].message
    assert it.asked(web) == []


@KINDS
def test_a_guest_that_is_held_beyond_its_time_cannot_be_forced_either_and_says_by_what(
    it: Served, guest: NewGuest, kind: str
) -> None:
    web = guest(kind=kind)
    backed_up(it, web, 60)
    operation = it.calls.end(it.shutdown(web, 2))
    assert (operation.state, operation.error.reason) == (pb.OPERATION_STATE_FAILED, "LOCKED")
    assert ending(operation) == "STILL_RUNNING/LOCKED"
    assert "vzdump by root@pam" in operation.verdict.message
    assert it.cluster.show(web)["power"] == "running"


@KINDS
def test_a_guest_that_is_held_a_moment_beyond_its_time_is_forced_for_the_lock(
    it: Served, guest: NewGuest, kind: str
) -> None:
    web = guest(kind=kind)
    backed_up(it, web, 4.5)  # the last of three tries to force it comes no sooner than 1.5 s after its time
    operation = it.calls.end(it.shutdown(web, 3))
    assert ending(operation) == "FORCED/LOCKED"
    assert "vzdump by root@pam" in operation.verdict.message
    assert it.asked(web)[-1] == "stop"


@KINDS
def test_nothing_is_ever_unlocked(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, lock="backup", knows=lambda vm: "backup" in problems(vm))
    assert it.ending(it.shutdown(web, 1)) == "STILL_RUNNING/LOCKED"
    assert it.cluster.show(web)["lock"] == "backup"
    assert [call for call in it.cluster.requests() if call[0] == "PUT" or "skiplock" in call[2]] == []


@pytest.mark.parametrize("lock", ["snapshot", "migrate", "clone", "rollback", "snapshot-delete"])
def test_every_lock_is_waited_for(it: Served, guest: NewGuest, lock: str) -> None:
    web = guest(lock=lock, knows=lambda vm: f"locked ({lock})" in problems(vm))
    operation = it.calls.until_state(it.shutdown(web), WAITING)
    it.cluster.unlock(web)
    assert (it.ending(operation), it.asked(web)) == ("GRACEFUL", ["shutdown"])


@KINDS
def test_a_snapshot_of_our_own_that_outlives_its_hook_is_waited_for(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind)
    it.cluster.set(web, snapshot_secs=3 / QUICK)
    keep = pb.Hook(name="keep", snapshot=pb.SnapshotHook(name="before"), timeout=duration(1))
    operation = it.calls.end(it.shutdown(web, 60, pre_stop=[keep]))
    assert (ending(operation), operation.verdict.hooks[0].state) == ("GRACEFUL", pb.HOOK_STATE_TIMED_OUT)
    assert it.cluster.show(web)["asked"][-1][1] == "shutdown"


@KINDS
def test_whoever_holds_the_lock_file_is_waited_for(it: Served, guest: NewGuest, kind: str) -> None:
    """The task itself waits 10 s, and fails; then it is asked again."""
    web = guest(kind=kind)
    it.cluster.hold_config_lock(web, 12)
    operation = it.calls.end(it.shutdown(web, 60))
    assert ending(operation) == "GRACEFUL"
    assert it.asked(web) == ["shutdown", "shutdown"]
    assert any("must wait" in step.message and "got timeout" in step.message for step in operation.steps)


def test_a_lock_file_that_is_given_back_soon_goes_unnoticed(it: Served, guest: NewGuest) -> None:
    web = guest()
    it.cluster.hold_config_lock(web, 3)
    begun = time.time()
    assert it.ending(it.shutdown(web, 60)) == "GRACEFUL"
    assert (it.asked(web), time.time() - begun < 10) == (["shutdown"], True)


def test_a_time_that_is_extended_while_it_is_locked_is_what_it_is_told(it: Served, guest: NewGuest) -> None:
    web = guest(lock="backup", knows=lambda vm: "backup" in problems(vm))
    operation = it.calls.until_state(it.shutdown(web, 20), WAITING)
    extended: Any = pb.ExtendOperationRequest(id=operation.id)
    extended.extension.seconds = 600
    it.calls.stub.ExtendOperation(extended)
    it.cluster.unlock(web)
    assert it.ending(operation) == "GRACEFUL"
    assert timeouts(it, web)[0] > 600


def test_a_guest_that_is_held_is_pre_empted_when_it_is_free(it: Served, guest: NewGuest) -> None:
    web = guest(lock="backup", knows=lambda vm: "backup" in problems(vm))
    it.calls.until_state(it.shutdown(web), WAITING)
    it.cluster.reset_calls()
    operation = it.calls.stub.PowerOff(pb.PowerOffRequest(vm=web))
    wait_until(lambda: any(path.endswith("/status/stop") for _, path, _ in it.cluster.requests()))
    it.cluster.unlock(web)
    assert it.ending(operation) == "FORCED/REQUESTED"
    assert it.cluster.show(web)["off_cause"] == "stop"
