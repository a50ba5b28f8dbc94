"""What stands in the way of a graceful shutdown, before anybody asks for one; and what happens to one then."""

from typing import Any

import grpc
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, ending, wait_until

AGENT, ACPI = pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI
UNAVAILABLE, PAUSED, SUSPENDED = pb.REASON_TOOLS_UNAVAILABLE, pb.REASON_PAUSED, pb.REASON_SUSPENDED


def forecast(it: Served, guest: NewGuest, words: str, **behaviour: object) -> pb.VM:
    """The VM once its problems have these words in them; "": once it has none."""
    wanted = lambda vm: words in messages(vm) if words else not vm.forecast.problems  # noqa: E731
    return it.calls.vm(guest(knows=wanted, **behaviour))


def messages(vm: pb.VM) -> str:
    return " ".join(problem.message for problem in vm.forecast.problems)


@pytest.mark.parametrize(
    ("behaviour", "words", "signals", "reasons"),
    [
        ({"agent": "answers"}, "", [AGENT, ACPI], []),
        ({"agent": "absent"}, "is enabled and does not answer; it can be asked by ACPI only", [ACPI], [0]),
        ({"agent": "hangs"}, "is enabled and does not answer; it can be asked by ACPI only", [ACPI], [0]),
        ({}, "is not enabled; it can be asked by ACPI only", [ACPI], [0]),
        ({"acpi": False}, "ACPI is off in its configuration", [], [UNAVAILABLE]),
        ({"acpi": False, "agent": "absent"}, "ACPI is off in its configuration", [], [UNAVAILABLE]),
        ({"acpi": False, "agent": "answers"}, "", [AGENT], []),
        ({"power": "paused"}, "It is paused", [], [PAUSED]),
        ({"power": "io-error"}, "its storage failed it", [], [PAUSED]),
        ({"power": "guest-panicked"}, "its guest crashed", [], [PAUSED]),
        ({"power": "suspended"}, "Its guest sleeps", [], [SUSPENDED]),
        ({"hibernated": True}, "It is hibernated", [], [SUSPENDED]),
        ({"protection": True, "agent": "answers"}, "It is protected", [AGENT, ACPI], [0]),
    ],
    ids=str,
)
def test_what_stands_in_the_way_is_told(
    it: Served, guest: NewGuest, behaviour: dict[str, object], words: str, signals: list[int], reasons: list[int]
) -> None:
    vm = forecast(it, guest, words, **behaviour)
    assert list(vm.forecast.signals) == signals
    assert [problem.reason for problem in vm.forecast.problems] == reasons
    assert vm.forecast.graceful == bool(signals)


def test_the_startup_order_is_told(it: Served, guest: NewGuest) -> None:
    vm = forecast(it, guest, "", agent="answers", startup="order=1,up=5,down=180")
    assert vm.labels["startup"] == "order=1,up=5,down=180"


def test_an_agent_that_comes_is_noticed(it: Served, guest: NewGuest) -> None:
    web = guest(agent="absent", knows=lambda vm: "does not answer" in messages(vm))
    it.cluster.set(web, agent="answers")
    it.calls.wait_vm(web, lambda vm: AGENT in vm.forecast.signals)


def test_an_agent_that_goes_silent_is_noticed(it: Served, guest: NewGuest) -> None:
    web = guest(agent="answers", knows=lambda vm: AGENT in vm.forecast.signals)
    it.cluster.set(web, agent="hangs")
    it.calls.wait_vm(web, lambda vm: "does not answer" in messages(vm) and list(vm.forecast.signals) == [ACPI])


# What happens then


@pytest.mark.parametrize("agent", ["absent", "hangs"])
def test_a_silent_agent_is_passed_over_and_the_verdict_says_acpi(it: Served, guest: NewGuest, agent: str) -> None:
    web = guest(agent=agent)
    operation = it.calls.end(it.shutdown(web, 30))
    assert (ending(operation), operation.verdict.signal) == ("GRACEFUL", ACPI)
    assert [signal for _, signal in it.cluster.show(web)["heard"]] == ["acpi"]


def test_without_any_signal_force_comes_at_once(it: Served, guest: NewGuest) -> None:
    web = guest(acpi=False)
    assert it.ending(it.shutdown(web, 600)) == "FORCED/TOOLS_UNAVAILABLE"
    assert it.asked(web) == ["stop"]


@pytest.mark.parametrize(
    ("behaviour", "ending"),
    [({"power": "paused"}, "FORCED/PAUSED"), ({"power": "suspended"}, "FORCED/SUSPENDED")],
    ids=["paused", "sleeps"],
)
def test_a_guest_that_cannot_hear_is_not_asked_what_it_would_hear_later(
    it: Served, guest: NewGuest, behaviour: dict[str, object], ending: str
) -> None:
    web = guest(**behaviour)
    assert it.ending(it.shutdown(web, 600)) == ending
    assert (it.asked(web), it.cluster.show(web)["heard"]) == (["stop"], [])


def test_a_paused_guest_that_must_not_be_forced_is_left_as_it_is(it: Served, guest: NewGuest) -> None:
    web = guest(power="paused")
    assert it.ending(it.shutdown(web, 600, escalation=pb.ESCALATION_NEVER)) == "STILL_RUNNING/PAUSED"
    assert (it.asked(web), it.cluster.show(web)["power"]) == ([], "paused")


def test_the_memory_of_a_hibernated_guest_is_not_thrown_away(it: Served, guest: NewGuest) -> None:
    web = guest(hibernated=True)
    operation = it.calls.end(it.shutdown(web, 5))
    assert operation.state == pb.OPERATION_STATE_FAILED
    assert "hibernated" in operation.error.message
    assert (it.asked(web), it.cluster.show(web)["lock"]) == ([], "suspended")


@pytest.mark.parametrize(
    "behaviour",
    [{"power": "paused"}, {"power": "suspended"}, {"hibernated": True}],
    ids=["paused", "sleeps", "hibernated"],
)
def test_a_start_brings_back_what_stands_still(it: Served, guest: NewGuest, behaviour: dict[str, object]) -> None:
    web = guest(**behaviour)
    assert it.ending(it.calls.stub.PowerOn(pb.PowerOnRequest(vm=web))) == "STARTED"
    wait_until(lambda: it.cluster.show(web)["power"] == "running")


@pytest.mark.parametrize("begin", ["Shutdown", "PowerOn", "PowerOff", "Reboot"])
def test_a_template_takes_no_operation(it: Served, guest: NewGuest, begin: str) -> None:
    web = guest(template=True, power="off")
    request: Any = getattr(pb, f"{begin}Request")(vm=web)
    with pytest.raises(grpc.RpcError, match="template") as refused:
        getattr(it.calls.stub, begin)(request)
    assert (refused.value.code(), it.asked(web)) == (grpc.StatusCode.FAILED_PRECONDITION, [])


def test_protection_keeps_no_guest_up(it: Served, guest: NewGuest) -> None:
    assert it.ending(it.shutdown(guest(protection=True))) == "GRACEFUL"
