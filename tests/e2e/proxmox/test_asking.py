"""What Proxmox VE is asked, in whose words, and what becomes of that when somebody changes their mind."""

import time
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, duration, ending, wait_for
from tests.rigs.proxmox.client import Client, Machine

ACPI = pb.SIGNAL_ACPI
FORCE, NEVER, ASK = pb.ESCALATION_FORCE, pb.ESCALATION_NEVER, pb.ESCALATION_ASK
WAITING, AWAITING = pb.OPERATION_STATE_WAITING_FOR_GUEST, pb.OPERATION_STATE_AWAITING_DECISION
DEAF: dict[str, object] = {"ignores": True}
CONTAINER: dict[str, object] = {"kind": "lxc"}


def told(it: Served, key: str) -> dict[str, Any]:
    """The parameters of the one request that a guest got."""
    [(_, how, parameters)] = it.cluster.show(key)["asked"]
    assert how == "shutdown"
    return dict(parameters)


def grace(it: Served, operation: pb.Operation) -> float:
    """Seconds from the operation's beginning to its deadline."""
    seen = it.calls.until_state(operation, WAITING)
    return (seen.force_after.ToNanoseconds() - seen.create_time.ToNanoseconds()) / 1e9


def begin(it: Served, key: str, **fields: Any) -> pb.Operation:
    """A shutdown for which nobody names a time."""
    return it.calls.stub.Shutdown(pb.ShutdownRequest(vm=key, **fields))


# The time and what comes after it


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_the_time_that_was_named_reaches_proxmox_ve_with_the_force_after_it(
    it: Served, guest: NewGuest, kind: str
) -> None:
    web = guest(kind=kind)
    assert it.ending(it.shutdown(web, 300)) == "GRACEFUL"
    assert told(it, web) == {"timeout": 300, "forceStop": 1}


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
@pytest.mark.parametrize("escalation", [NEVER, ASK], ids=["never", "ask"])
def test_no_force_is_asked_for_where_none_is_wanted(
    it: Served, guest: NewGuest, kind: str, escalation: pb.Escalation.ValueType
) -> None:
    web = guest(kind=kind)
    assert it.ending(it.shutdown(web, 300, escalation=escalation)) == "GRACEFUL"
    assert told(it, web) == {"timeout": 300}


def test_a_part_of_a_second_is_rounded_up(it: Served, guest: NewGuest) -> None:
    web = guest()
    it.ending(it.shutdown(web, 20.5))
    assert told(it, web)["timeout"] == 21


@pytest.mark.parametrize(
    ("behaviour", "seconds"),
    [
        ({}, 60),
        ({"startup": "order=1,up=5,down=7"}, 7),
        ({"startup": "order=1,down=0"}, 60),
        (CONTAINER, 60),
        (CONTAINER | {"startup": "order=1,down=7"}, 60),
    ],
    ids=["qemu", "down=7", "down=0", "lxc", "lxc down=7"],
)
def test_where_no_time_is_named_none_is_sent_and_the_one_that_proxmox_ve_takes_is_shown(
    it: Served, guest: NewGuest, behaviour: dict[str, object], seconds: float
) -> None:
    web = guest(**behaviour)
    operation = begin(it, web)
    assert grace(it, operation) == pytest.approx(seconds, abs=1)
    assert it.ending(operation) == "GRACEFUL"
    assert told(it, web) == {"forceStop": 1}


def test_proxmox_ve_forces_at_the_time_of_the_guests_startup_order(it: Served, guest: NewGuest) -> None:
    web = guest(startup="order=1,down=2", **DEAF)
    operation = it.calls.end(begin(it, web))
    assert ending(operation) == "FORCED/TIMEOUT"
    assert it.cluster.show(web)["off_cause"] == "pve-forced"


def test_the_best_signal_is_what_proxmox_ve_uses(it: Served, guest: NewGuest) -> None:
    web = guest(agent="answers")
    operation = it.calls.end(it.shutdown(web))
    assert (ending(operation), operation.verdict.signal) == ("GRACEFUL", pb.SIGNAL_GUEST_AGENT)
    assert [signal for _, signal in it.cluster.show(web)["heard"]] == ["agent"]


def test_the_power_button_is_pressed_once_whatever_the_policy_repeats(it: Served, guest: NewGuest) -> None:
    web = guest(shutdown_secs=4)
    policy = pb.SignalPolicy(resend_interval=duration(1))
    assert it.ending(it.shutdown(web, signal_policy=policy)) == "GRACEFUL"
    assert (it.asked(web), len(it.cluster.show(web)["heard"])) == (["shutdown"], 1)


def test_the_power_button_is_pressed_beside_an_agent_for_who_prefers_that(it: Served, guest: NewGuest) -> None:
    web = guest(agent="answers", knows=lambda vm: ACPI in vm.forecast.signals)
    operation = it.calls.end(it.shutdown(web, signal_policy=pb.SignalPolicy(order=[ACPI])))
    assert (ending(operation), operation.verdict.signal) == ("GRACEFUL", ACPI)
    assert (it.asked(web), it.cluster.show(web)["heard"][0][1]) == (["powerdown"], "acpi")


@pytest.mark.parametrize(("escalation", "end"), [(NEVER, "STILL_RUNNING/TIMEOUT"), (FORCE, "FORCED/TIMEOUT")])
def test_the_deadline_of_whose_button_was_pressed_is_kept_by_us(
    it: Served, guest: NewGuest, escalation: pb.Escalation.ValueType, end: str
) -> None:
    web = guest(agent="answers", ignores=True, knows=lambda vm: ACPI in vm.forecast.signals)
    policy = pb.SignalPolicy(order=[ACPI])
    assert it.ending(it.shutdown(web, 2, signal_policy=policy, escalation=escalation)) == end


# Another time


@pytest.mark.parametrize("behaviour", [{}, CONTAINER, {"agent": "answers"}], ids=["acpi", "init", "agent"])
def test_an_extended_guest_is_not_asked_twice_and_uses_its_time(
    it: Served, guest: NewGuest, behaviour: dict[str, object]
) -> None:
    web = guest(shutdown_secs=6, **behaviour)
    operation = it.ask(web, 3)
    it.calls.stub.ExtendOperation(pb.ExtendOperationRequest(id=operation.id, extension=duration(600)))
    assert it.ending(operation) == "GRACEFUL"
    assert (it.asked(web), it.cluster.show(web)["off_cause"]) == (["shutdown"], "guest")


@pytest.mark.parametrize("behaviour", [DEAF, CONTAINER | DEAF], ids=["qemu", "lxc"])
def test_the_deadline_of_an_extended_guest_is_kept_by_us(
    it: Served, guest: NewGuest, behaviour: dict[str, object]
) -> None:
    web = guest(**behaviour)
    operation = it.ask(web, 3)
    extended = it.calls.stub.ExtendOperation(pb.ExtendOperationRequest(id=operation.id, extension=duration(3)))
    assert it.ending(operation) == "FORCED/TIMEOUT"
    assert (it.asked(web), it.cluster.show(web)["off_cause"]) == (["shutdown", "stop"], "stop")
    assert it.cluster.show(web)["off_at"] >= extended.force_after.ToNanoseconds() / 1e9


def test_a_time_that_is_cut_short_is_kept_by_us(it: Served, guest: NewGuest) -> None:
    web = guest(**DEAF)
    operation = it.ask(web, 600)
    begun = time.time()
    it.calls.stub.ExtendOperation(pb.ExtendOperationRequest(id=operation.id, timeout=duration(3)))
    assert it.ending(operation) == "FORCED/TIMEOUT"
    assert (it.asked(web), time.time() - begun < 10) == (["shutdown", "stop"], True)


# Shutdowns that run already


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_shutdown_after_a_cancelled_one_has_its_own_time(it: Served, guest: NewGuest, kind: str) -> None:
    """Proxmox VE goes on waiting for a guest that is not to be forced."""
    web = guest(kind=kind, **DEAF)
    operation = it.ask(web, 600, escalation=NEVER)
    it.calls.stub.CancelOperation(pb.CancelOperationRequest(id=operation.id))
    it.calls.end(operation)
    assert it.ending(it.shutdown(web, 3)) == "FORCED/TIMEOUT"
    assert [parameters for _, how, parameters in it.cluster.show(web)["asked"] if how == "shutdown"] == [
        {"timeout": 600},
        {"timeout": 3, "forceStop": 1},
    ]
    assert it.cluster.show(web)["off_cause"] == "pve-forced"


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_guest_that_a_colleague_shuts_down_is_not_asked_twice(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, shutdown_secs=14)
    with Client(it.cluster) as client:
        client.log_in("root@pam", it.cluster.root_password)
        Machine(it.cluster, client, web).asks("shutdown", timeout=60)
    operation = it.calls.end(it.shutdown(web, 60))
    assert operation.state == pb.OPERATION_STATE_SUCCEEDED
    shown = it.cluster.show(web)
    assert (shown["off_cause"], len(shown["heard"])) == ("guest", 1)


# Another mind


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_force_overrules_the_shutdown_that_is_under_way(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, **DEAF)
    operation = it.ask(web)
    it.calls.stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))
    assert it.ending(operation) == "FORCED/REQUESTED"
    assert it.cluster.show(web)["asked"][-1][1:] == ["stop", {"overrule-shutdown": 1}]


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_power_off_pre_empts(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, **DEAF)
    shutdown = it.ask(web)
    cut = it.calls.stub.PowerOff(pb.PowerOffRequest(vm=web))
    assert (it.ending(cut), it.ending(shutdown)) == ("FORCED/REQUESTED", "FORCED/PREEMPTED")
    assert it.cluster.show(web)["asked"][-1][1:] == ["stop", {"overrule-shutdown": 1}]


@pytest.mark.parametrize(
    "behaviour", [DEAF, CONTAINER | DEAF, DEAF | {"agent": "answers"}], ids=["acpi", "init", "agent"]
)
def test_what_is_cancelled_is_never_forced(it: Served, guest: NewGuest, behaviour: dict[str, object]) -> None:
    web = guest(**behaviour)
    operation = it.ask(web, 3)
    it.calls.stub.CancelOperation(pb.CancelOperationRequest(id=operation.id))
    ended = it.calls.end(operation)
    assert (ending(ended), ended.state) == ("STILL_RUNNING", pb.OPERATION_STATE_CANCELLED)
    wait_for(time.time() + 5)
    assert (it.asked(web), it.cluster.show(web)["power"]) == (["shutdown"], "running")


def test_a_power_on_in_the_middle_calls_off_the_force(it: Served, guest: NewGuest) -> None:
    web = guest(**DEAF)
    operation = it.ask(web, 4)
    started = it.calls.stub.PowerOn(pb.PowerOnRequest(vm=web))
    assert it.ending(started) == "ALREADY_ON"
    assert (it.ending(operation), it.cluster.show(web)["power"]) == ("STILL_RUNNING/TIMEOUT", "running")


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_power_on_brings_up_again_what_is_going_down(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, shutdown_secs=3)
    operation = it.ask(web)
    started = it.calls.stub.PowerOn(pb.PowerOnRequest(vm=web))
    assert (it.ending(operation), it.ending(started)) == ("GRACEFUL", "STARTED")
    assert (it.asked(web), it.cluster.show(web)["power"]) == (["shutdown", "start"], "running")


def test_a_decision_that_comes_after_the_deadline_is_carried_out(it: Served, guest: NewGuest) -> None:
    web = guest(**DEAF)
    operation = it.ask(web, 1, escalation=ASK)
    it.calls.until_state(operation, AWAITING)
    it.calls.stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))
    assert (it.ending(operation), it.asked(web)) == ("FORCED/REQUESTED", ["shutdown", "stop"])


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_reboot_is_a_shutdown_and_a_start(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind)
    operation = it.calls.stub.Reboot(pb.RebootRequest(vm=web, timeout=duration(60)))
    assert it.ending(operation) == "GRACEFUL"
    assert (it.asked(web), it.cluster.show(web)["power"]) == (["shutdown", "start"], "running")
