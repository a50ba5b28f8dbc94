"""Real guests, a real libvirtd and a real provider process, through what goes wrong in between."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Provider

GUESTS = (
    Guest("slow", shutdown_delay=7),
    Guest("button", agent="off", shutdown_delay=3),
    Guest("deaf", agent="off", acpi=False),
)


@dataclass
class Rig:
    libvirtd: Libvirtd
    provider: Provider
    calls: Calls

    def shutdown(self, vm: str, seconds: int, **fields: object) -> pb.Operation:
        timeout = Duration(seconds=seconds)
        return self.calls.stub.Shutdown(pb.ShutdownRequest(vm=vm, timeout=timeout, **fields))  # type: ignore[arg-type]

    def asked(self, operation: pb.Operation, line: str) -> pb.Operation:
        """The operation when the guest itself says that it was asked."""
        self.libvirtd.wait_console(operation.vm_name, line, times=self.boots(operation.vm_name))
        return self.calls.stub.GetOperation(pb.GetOperationRequest(id=operation.id))

    def boots(self, name: str) -> int:
        return self.libvirtd.console(name).count(f"guest {name}: ready")

    def boot(self, name: str) -> None:
        """On, and ready to hear."""
        boots = self.boots(name)
        if self.calls.vm(name).power_state == pb.POWER_STATE_OFF:
            self.calls.end(self.calls.stub.PowerOn(pb.PowerOnRequest(vm=name)))
            self.libvirtd.wait_ready(name, boot=boots + 1)
        wanted = [pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI] if name == "slow" else [pb.SIGNAL_ACPI]
        self.calls.wait_vm(name, lambda vm: list(vm.forecast.signals) == wanted)


@pytest.fixture(scope="module")
def running() -> Iterator[Rig]:
    with Libvirtd() as libvirtd:
        libvirtd.boot(GUESTS)
        with (
            Provider("libvirt", "--uri", libvirtd.uri, "--allow-guest-exec") as provider,
            calls(provider.address) as client,
        ):
            yield Rig(libvirtd, provider, client)


@pytest.fixture
def rig(running: Rig) -> Rig:
    for guest in GUESTS:
        running.boot(guest.name)
    return running


def test_a_guest_gets_the_time_that_its_owner_gave_it(rig: Rig) -> None:
    ended = rig.calls.end(rig.shutdown("slow", 60))
    assert (ended.verdict.outcome, ended.verdict.signal) == (pb.OUTCOME_GRACEFUL, pb.SIGNAL_GUEST_AGENT)
    assert ended.verdict.end_time.ToDatetime().timestamp() - ended.create_time.ToDatetime().timestamp() >= 7


def test_a_killed_provider_finds_its_guest_where_it_is(rig: Rig) -> None:
    operation = rig.shutdown("slow", 60)
    before = rig.asked(operation, "guest slow: agent asked for shutdown")
    rig.provider.kill()
    rig.provider.start()
    ended = rig.calls.end(operation)
    assert ended.force_after == before.force_after
    assert (ended.verdict.outcome, ended.verdict.signal) == (pb.OUTCOME_GRACEFUL, pb.SIGNAL_GUEST_AGENT)
    assert rig.libvirtd.console("slow").count("agent asked for shutdown") == rig.boots("slow")


def test_a_killed_provider_forces_at_the_same_moment(rig: Rig) -> None:
    operation = rig.shutdown("deaf", 6)
    before = rig.calls.until(operation, lambda seen: len(seen.steps) > 1)
    rig.provider.kill()
    rig.provider.start()
    ended = rig.calls.end(operation)
    assert ended.force_after == before.force_after
    assert (ended.verdict.outcome, ended.verdict.reason) == (pb.OUTCOME_FORCED, pb.REASON_TIMEOUT)


def test_a_restarted_libvirtd_loses_no_shutdown(rig: Rig) -> None:
    operation = rig.shutdown("button", 60)
    rig.asked(operation, "guest button: power button pressed")
    rig.libvirtd.restart()
    assert rig.calls.end(operation).verdict.outcome == pb.OUTCOME_GRACEFUL


def test_libvirtd_killed_before_the_deadline_and_back_after_it_still_forces(rig: Rig) -> None:
    operation = rig.shutdown("deaf", 3)
    rig.calls.until(operation, lambda seen: len(seen.steps) > 1)
    rig.libvirtd.kill()
    rig.libvirtd.start()
    assert rig.calls.end(operation).verdict.outcome == pb.OUTCOME_FORCED


def test_a_guest_that_was_started_is_asked_until_its_program_succeeds(rig: Rig) -> None:
    rig.calls.end(rig.shutdown("slow", 60))
    boots = rig.boots("slow")
    asked = ["sh", "-c", "echo asked >> /tmp/asked; test $(wc -l < /tmp/asked) -ge 3"]
    probe = pb.Probe(exec=pb.ExecHook(command=asked), timeout=Duration(seconds=120))
    started = rig.calls.end(rig.calls.stub.PowerOn(pb.PowerOnRequest(vm="slow", ready=probe)))
    (ready,) = started.verdict.hooks
    assert (started.verdict.outcome, ready.name, ready.state) == (
        pb.OUTCOME_STARTED,
        "ready",
        pb.HOOK_STATE_SUCCEEDED,
    )
    assert rig.boots("slow") == boots + 1
