"""What is not to be seen, real guests and a real provider: libvirtd, QEMU and the provider are killed while it happens.

Each guest is for one test, which may end it in any way. The kinds are those of docs/reliability.md.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.test_real_guests import Rig
from tests.rigs.calls import calls
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Provider, wait_for_end

GUESTS = (
    Guest("all", agent="off", acpi=False),
    Guest("unseen", agent="off", acpi=False),
    Guest("leaves", agent="off", shutdown_delay=2),
    Guest("anew", agent="off", shutdown_delay=1),
    Guest("perhaps", shutdown_delay=5),
    Guest("unsent", agent="off", shutdown_delay=1),
    Guest("hung", agent="hang", acpi_feature=False),
)


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with Libvirtd() as libvirtd:
        libvirtd.boot(GUESTS)
        with Provider("libvirt", "--uri", libvirtd.uri) as provider, calls(provider.address) as client:
            yield Rig(libvirtd, provider, client)


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.provider.start()  # whatever became of it in the test before
    return running


def ask(rig: Rig, vm: str, seconds: int, **fields: object) -> pb.Operation:
    """A shutdown whose guest is being asked."""
    operation = rig.shutdown(vm, seconds, **fields)
    return rig.calls.until(operation, lambda seen: any("asking" in step.message for step in seen.steps))


def end_qemu(rig: Rig, vm: str, how: signal.Signals = signal.SIGKILL) -> None:
    pid = rig.libvirtd.pid(vm)
    os.kill(pid, how)
    wait_for_end(pid)


def ending(operation: pb.Operation) -> str:
    return pb.Outcome.Name(operation.verdict.outcome).removeprefix("OUTCOME_")


# Not knowing is a verdict


def test_what_ends_with_libvirtd_and_the_provider_has_an_end_that_is_not_known(rig: Rig) -> None:
    operation = ask(rig, "all", 60)
    rig.provider.kill()
    rig.libvirtd.kill()
    end_qemu(rig, "all")
    rig.libvirtd.start()
    rig.provider.start()
    ended = rig.calls.end(operation)
    assert (ending(ended), "asked by ACPI" in ended.verdict.message) == ("UNKNOWN", True)


def test_a_qemu_that_is_told_to_end_while_libvirtd_is_away_has_an_end_that_is_not_known(rig: Rig) -> None:
    operation = ask(rig, "unseen", 60)
    rig.libvirtd.kill()
    end_qemu(rig, "unseen", signal.SIGTERM)
    rig.libvirtd.start()
    assert ending(rig.calls.end(operation)) == "UNKNOWN"


def test_a_guest_that_leaves_while_libvirtd_is_away_is_graceful(rig: Rig) -> None:
    operation = ask(rig, "leaves", 60)
    rig.asked(operation, "guest leaves: power button pressed")
    rig.libvirtd.kill()
    rig.libvirtd.wait_console("leaves", "powering off")
    rig.libvirtd.start()
    assert ending(rig.calls.end(operation)) == "GRACEFUL"


# A run has an identity


def test_a_guest_that_somebody_started_again_meanwhile_is_not_cut_for_its_last_run(rig: Rig) -> None:
    operation = ask(rig, "anew", 5)
    rig.asked(operation, "guest anew: power button pressed")
    rig.provider.kill()
    rig.libvirtd.wait_stop("anew")
    with rig.libvirtd.connect() as connection:
        connection.lookupByName("anew").create()
    started = rig.libvirtd.pid("anew")
    rig.provider.start()
    ended = rig.calls.end(operation)
    assert (ending(ended), "started again" in ended.verdict.message) == ("UNKNOWN", True)
    rig.libvirtd.wait_ready("anew", boot=2)
    assert rig.calls.vm("anew").power_state == pb.POWER_STATE_ON
    assert rig.libvirtd.pid("anew") == started


# Asked, perhaps


def test_a_signal_whose_answer_was_lost_with_libvirtd_is_told_as_not_known_and_its_guest_is_not_cut(rig: Rig) -> None:
    operation = ask(rig, "perhaps", 60)
    rig.asked(operation, "guest perhaps: agent asked for shutdown")
    rig.libvirtd.kill()
    rig.libvirtd.start()
    ended = rig.calls.end(operation)
    assert (ending(ended), ended.verdict.signal) == ("GRACEFUL", pb.SIGNAL_GUEST_AGENT)
    assert any("is not known" in step.message for step in ended.steps)


def test_a_guest_whose_provider_was_killed_before_it_was_asked_is_asked(rig: Rig) -> None:
    operation = rig.shutdown("unsent", 60)
    rig.provider.kill()
    rig.provider.start()
    assert ending(rig.calls.end(operation)) == "GRACEFUL"
    assert "power button pressed" in rig.libvirtd.console("unsent")


# Look before you cut


def test_a_qemu_that_dies_while_its_agent_is_asked_has_crashed_and_is_not_said_to_run_or_to_be_forced(rig: Rig) -> None:
    operation = ask(rig, "hung", 60, escalation=pb.ESCALATION_NEVER)
    end_qemu(rig, "hung")
    ended = rig.calls.end(operation)
    assert (ending(ended), ended.state) == ("CRASHED", pb.OPERATION_STATE_SUCCEEDED), str(ended)
