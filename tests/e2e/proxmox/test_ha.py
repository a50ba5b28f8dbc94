"""Guests that HA manages: they are stopped and started by its request, and always by force in the end."""

from collections.abc import Iterator

import grpc
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, duration, ending, served, wait_until

NEVER, ASK = pb.ESCALATION_NEVER, pb.ESCALATION_ASK
WAITING = pb.OPERATION_STATE_WAITING_FOR_GUEST
STARTED: dict[str, object] = {"ha": "started"}


def messages(vm: pb.VM) -> str:
    return " ".join(problem.message for problem in vm.forecast.problems)


def begins(it: Served, web: str) -> pb.Operation:
    """A shutdown whose request HA has noted."""
    operation = it.ask(web, 20)
    wait_until(lambda: bool(it.cluster.show(web)["heard"]))
    return operation


@pytest.mark.parametrize("escalation", [NEVER, ASK], ids=["never", "ask"])
@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_never_and_ask_are_refused_before_anything_is_done(
    it: Served, guest: NewGuest, kind: str, escalation: pb.Escalation.ValueType
) -> None:
    web = guest(kind=kind, **STARTED)
    with pytest.raises(grpc.RpcError, match="managed by HA") as refused:
        it.shutdown(web, escalation=escalation)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert it.asked(web) == []


def test_the_forecast_says_what_ha_means(it: Served, guest: NewGuest) -> None:
    web = guest(knows=lambda vm: "always powers off hard" in messages(vm), **STARTED)
    vm = it.calls.vm(web)
    assert (vm.forecast.graceful, vm.labels["ha"]) == (True, "started")


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_guest_that_obeys_is_graceful(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, shutdown_secs=1, **STARTED)
    assert it.ending(it.shutdown(web, 20)) == "GRACEFUL"
    [(_, how, parameters)] = it.cluster.show(web)["asked"]
    assert (how, parameters["timeout"]) == ("shutdown", 20)


def test_a_guest_that_does_not_is_forced_by_ha_for_the_time(it: Served, guest: NewGuest) -> None:
    web = guest(ignores=True, **STARTED)
    assert it.ending(it.shutdown(web, 3)) == "FORCED/TIMEOUT"
    assert (it.cluster.show(web)["off_cause"], it.asked(web)) == ("ha", ["shutdown"])


def test_a_container_that_does_not_is_left_in_state_error_by_ha_and_told_so(it: Served, guest: NewGuest) -> None:
    """HA does not force containers (pve-ha-manager, PVE::HA::Resources::PVECT)."""
    web = guest(kind="lxc", ignores=True, **STARTED)
    operation = it.calls.end(it.shutdown(web, 2))
    assert operation.state == pb.OPERATION_STATE_FAILED
    assert it.cluster.show(web)["ha"] == "error"
    assert "in error state" in operation.error.message


def test_ha_is_left_in_state_stopped_and_a_start_leaves_it_in_state_started(it: Served, guest: NewGuest) -> None:
    web = guest(**STARTED)
    assert it.ending(it.shutdown(web, 20)) == "GRACEFUL"
    wait_until(lambda: it.cluster.show(web)["ha"] == "stopped")
    assert it.ending(it.calls.stub.PowerOn(pb.PowerOnRequest(vm=web))) == "STARTED"
    shown = it.cluster.show(web)
    assert (shown["ha"], shown["power"]) == ("started", "running")


def test_a_power_off_goes_through_ha_and_overrules_nothing(it: Served, guest: NewGuest) -> None:
    web = guest(ignores=True, **STARTED)
    assert it.ending(it.calls.stub.PowerOff(pb.PowerOffRequest(vm=web))) == "FORCED/REQUESTED"
    assert [tuple(asked[1:]) for asked in it.cluster.show(web)["asked"]] == [("stop", {})]


def test_a_reboot_leaves_it_running_and_ha_started(it: Served, guest: NewGuest) -> None:
    web = guest(**STARTED)
    operation = it.calls.stub.Reboot(pb.RebootRequest(vm=web, timeout=duration(20)))
    assert it.ending(operation) == "GRACEFUL"
    shown = it.cluster.show(web)
    assert (shown["ha"], shown["power"]) == ("started", "running")


@pytest.mark.parametrize("change", ["extend", "cancel"])
def test_what_ha_was_told_cannot_be_taken_back_and_that_is_said(it: Served, guest: NewGuest, change: str) -> None:
    web = guest(shutdown_secs=6, **STARTED)
    operation = begins(it, web)
    with pytest.raises(grpc.RpcError, match="cannot be taken back"):
        if change == "extend":
            it.calls.stub.ExtendOperation(pb.ExtendOperationRequest(id=operation.id, extension=duration(60)))
        else:
            it.calls.stub.CancelOperation(pb.CancelOperationRequest(id=operation.id))
    assert it.ending(operation) == "GRACEFUL"


@pytest.mark.parametrize("how", ["force", "power off"])
def test_force_in_the_middle_comes_when_ha_is_done(it: Served, guest: NewGuest, how: str) -> None:
    """HA takes no further request while it carries one out (pve-ha-manager, `next_state_request_stop`)."""
    web = guest(ignores=True, **STARTED)
    operation = it.ask(web, 6)
    wait_until(lambda: bool(it.cluster.show(web)["heard"]))
    if how == "force":
        it.calls.stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))
        assert it.ending(operation) == "FORCED/REQUESTED"
    else:
        cut = it.calls.stub.PowerOff(pb.PowerOffRequest(vm=web))
        assert (it.ending(cut), it.ending(operation)) == ("FORCED/REQUESTED", "FORCED/PREEMPTED")
    assert it.cluster.show(web)["off_cause"] == "ha"


def test_a_guest_that_ha_has_given_up_is_reported_before_it_is_asked(it: Served, guest: NewGuest) -> None:
    web = guest(ha="error", knows=lambda vm: "state error" in messages(vm))
    assert not it.calls.vm(web).forecast.graceful
    operation = it.calls.end(it.shutdown(web, 5))
    assert (operation.state, ending(operation)) == (pb.OPERATION_STATE_FAILED, "STILL_RUNNING/COMMAND_FAILED")
    assert it.cluster.show(web)["power"] == "running"


def test_a_guest_that_ha_migrates_is_asked_when_that_is_done(it: Served, guest: NewGuest) -> None:
    web = guest(ha="migrate", knows=lambda vm: "HA is migrating it" in messages(vm))
    operation = it.calls.until_state(it.shutdown(web, 30), WAITING)
    assert it.asked(web) == []
    it.cluster.set(web, ha="started")
    assert it.ending(operation) == "GRACEFUL"


def test_what_ha_ignores_is_treated_as_any_other(it: Served, guest: NewGuest) -> None:
    web = guest(ha="ignored", ignores=True)
    assert it.ending(it.shutdown(web, 1, escalation=NEVER)) == "STILL_RUNNING/TIMEOUT"


# Without Sys.Audit nobody sees HA's own tasks


@pytest.fixture(scope="module")
def blind() -> Iterator[Served]:
    guests: dict[str, dict[str, object]] = {
        "quick": {"shutdown_secs": 1} | STARTED,
        "deaf": {"ignores": True} | STARTED,
    }
    with served(guests, "--active-interval=200ms", "--idle-interval=300ms", acl=True, ha_delay=1) as it:
        it.cluster.grant(it.cluster.user, "/vms", "VM.Audit", "VM.PowerMgmt")
        it.calls.wait_vm("deaf", lambda vm: True)
        yield it


def test_without_sys_audit_it_is_not_known_that_a_guest_obeyed(blind: Served) -> None:
    assert blind.ending(blind.shutdown("quick", 20)) == "UNKNOWN"


def test_without_sys_audit_a_guest_that_does_not_is_forced_by_the_clock(blind: Served) -> None:
    assert blind.ending(blind.shutdown("deaf", 3)) == "FORCED/TIMEOUT"


# Disarmed


@pytest.fixture
def disarmed() -> Iterator[Served]:
    """HA is disarmed, and ignores what it manages."""
    with served({"web": STARTED, "ct": STARTED | {"kind": "lxc"}}, "--idle-interval=300ms", ha_delay=1) as it:
        it.cluster.disarm_ha("ignore")
        for name in ("web", "ct"):
            it.calls.wait_vm(name, lambda vm: "disarmed" in messages(vm))
        yield it


@pytest.mark.parametrize("name", ["web", "ct"])
def test_what_disarmed_ha_ignores_may_be_left_running_and_may_be_cancelled(disarmed: Served, name: str) -> None:
    disarmed.cluster.set(name, ignores=True)
    assert disarmed.ending(disarmed.shutdown(name, 1, escalation=NEVER)) == "STILL_RUNNING/TIMEOUT"
    operation = disarmed.ask(name, 60)
    disarmed.calls.stub.CancelOperation(pb.CancelOperationRequest(id=operation.id))
    assert disarmed.ending(operation) == "STILL_RUNNING"


@pytest.mark.parametrize("name", ["web", "ct"])
def test_what_disarmed_ha_ignores_is_shut_down_stopped_and_started_without_it(disarmed: Served, name: str) -> None:
    assert disarmed.calls.vm(name).forecast.graceful
    assert disarmed.ending(disarmed.shutdown(name)) == "GRACEFUL"
    assert disarmed.ending(disarmed.calls.stub.PowerOn(pb.PowerOnRequest(vm=name))) == "STARTED"
    assert disarmed.ending(disarmed.calls.stub.PowerOff(pb.PowerOffRequest(vm=name))) == "FORCED/REQUESTED"
    assert disarmed.cluster.show(name)["asked"][-1][1:] == ["stop", {"overrule-shutdown": 1}]


def test_ha_that_is_armed_again_manages_again(disarmed: Served) -> None:
    disarmed.cluster.arm_ha()
    disarmed.calls.wait_vm("web", lambda vm: "always powers off hard" in messages(vm))
    with pytest.raises(grpc.RpcError, match="managed by HA"):
        disarmed.shutdown("web", escalation=NEVER)
