"""Every way in which a guest goes off, also in the very moment of its deadline, and what is said of it."""

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, duration, ending, wait_until
from tests.rigs.proxmox.client import Client, Machine

NEVER = pb.ESCALATION_NEVER
KINDS = pytest.mark.parametrize("kind", ["qemu", "lxc"])
DEAF: dict[str, object] = {"ignores": True}
TRIES = 20
SPREAD = 0.1
"""Seconds between the moments at which the guests of the race go off."""


@pytest.mark.parametrize(
    ("behaviour", "signal"),
    [({"agent": "answers"}, pb.SIGNAL_GUEST_AGENT), ({}, pb.SIGNAL_ACPI), ({"kind": "lxc"}, pb.SIGNAL_INIT)],
    ids=["agent", "acpi", "init"],
)
def test_a_guest_that_obeys_is_graceful_by_what_it_heard(
    it: Served, guest: NewGuest, behaviour: dict[str, object], signal: pb.Signal.ValueType
) -> None:
    web = guest(shutdown_secs=1, **behaviour)
    operation = it.calls.end(it.shutdown(web))
    assert (ending(operation), operation.verdict.signal) == ("GRACEFUL", signal)
    assert it.cluster.show(web)["off_cause"] == "guest"


@pytest.mark.parametrize("behaviour", [{}, {"kind": "lxc"}, {"agent": "answers"}], ids=["acpi", "init", "agent"])
def test_a_guest_that_does_not_obey_is_forced_for_the_time(
    it: Served, guest: NewGuest, behaviour: dict[str, object]
) -> None:
    web = guest(**DEAF, **behaviour)
    operation = it.calls.end(it.shutdown(web, 2))
    assert ending(operation) == "FORCED/TIMEOUT"
    assert it.cluster.show(web)["off_at"] >= operation.force_after.ToNanoseconds() / 1e9


def test_an_agent_that_only_answers_pings_is_forced_for_the_time(it: Served, guest: NewGuest) -> None:
    web = guest(agent="deaf")
    assert it.ending(it.shutdown(web, 2)) == "FORCED/TIMEOUT"


@KINDS
def test_a_guest_that_does_not_obey_and_is_not_forced_runs_on(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, **DEAF)
    assert it.ending(it.shutdown(web, 1, escalation=NEVER)) == "STILL_RUNNING/TIMEOUT"
    assert it.cluster.show(web)["power"] == "running"


@KINDS
def test_a_guest_that_goes_off_long_after_it_was_given_up_was_never_forced(
    it: Served, guest: NewGuest, kind: str
) -> None:
    web = guest(kind=kind, shutdown_secs=4)
    assert it.ending(it.shutdown(web, 1, escalation=NEVER)) == "STILL_RUNNING/TIMEOUT"
    assert it.cluster.wait_off(web)["off_cause"] == "guest"


@pytest.mark.parametrize("behaviour", [{}, {"kind": "lxc"}, {"agent": "answers"}], ids=["acpi", "init", "agent"])
def test_a_colleagues_stop_is_out_of_band(it: Served, guest: NewGuest, behaviour: dict[str, object]) -> None:
    web = guest(**DEAF, **behaviour)
    operation = it.ask(web)
    with Client(it.cluster) as client:
        client.log_in("root@pam", it.cluster.root_password)
        Machine(it.cluster, client, web).asks("stop", overrule_shutdown=1)
    assert it.ending(operation) == "OUT_OF_BAND"


def test_a_shutdown_that_somebody_ends_while_it_forces_was_not_obeyed(it: Served, guest: NewGuest) -> None:
    web = guest(stop_secs=2, **DEAF)
    operation = it.ask(web, 1)
    with Client(it.cluster) as client:
        client.log_in("root@pam", it.cluster.root_password)
        (task,) = (
            task for task in Machine(it.cluster, client, web).tasks(source="all") if task["type"] == "qmshutdown"
        )
        log = f"/nodes/{task['node']}/tasks/{task['upid']}"
        wait_until(lambda: any("SIGTERM" in line["t"] for line in client.get(f"{log}/log")))
        client.delete(log)
    assert it.cluster.wait_off(web)["off_cause"] == "pve-forced"
    assert it.ending(operation) == "FORCED/TIMEOUT"


@KINDS
def test_a_guest_that_somebody_stops_before_it_is_asked_is_out_of_band(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, lock="backup", knows=is_locked)
    operation = it.calls.until_state(it.shutdown(web), pb.OPERATION_STATE_WAITING_FOR_GUEST)
    it.cluster.power(web, "off-by-guest")
    assert (it.ending(operation), it.asked(web)) == ("OUT_OF_BAND", [])


def is_locked(vm: pb.VM) -> bool:
    return any(problem.reason == pb.REASON_LOCKED for problem in vm.forecast.problems)


@KINDS
def test_a_guest_that_is_off_already_is_not_asked(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, power="off")
    assert (it.ending(it.shutdown(web)), it.asked(web)) == ("ALREADY_OFF", [])


def test_a_guest_that_somebody_starts_anew_when_it_is_off_went_down_gracefully_all_the_same(
    it: Served, guest: NewGuest
) -> None:
    web = guest(shutdown_secs=2)
    operation = it.ask(web)
    it.cluster.wait_off(web)
    it.cluster.power(web, "on")
    assert it.ending(operation) == "GRACEFUL"
    wait_until(lambda: it.cluster.show(web)["power"] == "running")
    assert it.asked(web) == ["shutdown"]


@pytest.mark.parametrize(
    ("behaviour", "causes"),
    [
        ({}, {"guest", "pve-forced"}),
        ({"kind": "lxc"}, {"guest", "pve-forced"}),
        ({"agent": "answers"}, {"guest", "stop"}),
    ],
    ids=["acpi", "init", "agent"],
)
def test_a_guest_that_goes_off_at_the_very_deadline_is_graceful_or_forced_and_never_an_error(
    it: Served, guest: NewGuest, behaviour: dict[str, object], causes: set[str]
) -> None:
    """Proxmox VE looks once a second: of a QEMU guest that goes off in the last one it says that it has forced it. Two
    go off long before it and long after it, however busy the machine is."""
    takes = [2 + SPREAD * (n - TRIES / 2) for n in range(TRIES)]
    webs = [guest(None, shutdown_secs=seconds, **behaviour) for seconds in (*takes, 0.2, 30)]
    for web in webs:
        it.calls.wait_vm(web, lambda _vm: True)
    operations = {web: it.shutdown(web, 2) for web in webs}
    endings = {web: it.ending(operation) for web, operation in operations.items()}
    truth = {web: it.cluster.show(web)["off_cause"] for web in webs}
    assert set(endings.values()) <= {"GRACEFUL", "FORCED/TIMEOUT"}
    assert set(truth.values()) <= causes
    assert [web for web in webs if endings[web] == "GRACEFUL" and truth[web] != "guest"] == []
    assert {"GRACEFUL", "FORCED/TIMEOUT"} == set(endings.values())


@KINDS
def test_a_crash_is_not_taken_for_force(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, **DEAF)
    operation = it.ask(web)
    it.cluster.power(web, "crash")
    assert not it.ending(operation).startswith("FORCED")


@KINDS
def test_a_start_that_fails_is_told_in_proxmox_ves_words(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, power="off", start_error="no space left on device")
    operation = it.calls.end(it.calls.stub.PowerOn(pb.PowerOnRequest(vm=web)))
    assert (operation.state, operation.error.reason) == (pb.OPERATION_STATE_FAILED, "COMMAND_FAILED")
    assert "no space left on device" in operation.error.message


@KINDS
def test_a_stop_that_takes_its_time_is_waited_for(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, stop_secs=3)
    assert it.ending(it.calls.stub.PowerOff(pb.PowerOffRequest(vm=web))) == "FORCED/REQUESTED"
    assert it.cluster.show(web)["off_cause"] == "stop"


@KINDS
def test_a_reboot_of_a_deaf_guest_forces_it_and_starts_it(it: Served, guest: NewGuest, kind: str) -> None:
    web = guest(kind=kind, **DEAF)
    operation = it.calls.stub.Reboot(pb.RebootRequest(vm=web, timeout=duration(2)))
    assert it.ending(operation) == "FORCED/TIMEOUT"
    assert (it.asked(web), it.cluster.show(web)["power"]) == (["shutdown", "start"], "running")
