"""`vmpower doctor` on real guests: it names what is wrong, and its command mends it."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.doctor import POWERLESS, Findings, doctor
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Program, Provider

STOPPED = Guest("stopped")
OTHERS = (
    Guest("deaf", agent="off", acpi_feature=False),
    Guest("around", agent="off", on_poweroff="restart"),
    Guest("held", agent="off"),
)
"""What is wrong with them is so from their start on, so that their boot is not waited for."""
KILL_AGENT = '{"execute":"guest-exec","arguments":{"path":"/bin/sh","arg":["-c","killall qemu-ga"]}}'


@pytest.fixture(scope="module")
def guests(rig: Libvirtd) -> Libvirtd:
    rig.define(STOPPED, start=True)
    rig.wait_ready(STOPPED.name)
    for guest in OTHERS:
        rig.define(guest, start=True)
    with rig.connect() as connection:
        connection.lookupByName("held").suspend()
    virsh(rig, "qemu-agent-command", "stopped", KILL_AGENT)
    return rig


@pytest.fixture(scope="module")
def provider(guests: Libvirtd) -> Iterator[Provider]:
    with Provider("libvirt", "--uri", guests.uri) as provider:
        yield provider


@pytest.fixture
def told(provider: Provider) -> Iterator[Calls]:
    with calls(provider.address) as client:
        yield client


def virsh(rig: Libvirtd, *words: str) -> None:
    subprocess.run(["virsh", "-c", rig.uri, *words], check=True, capture_output=True)


def run(command: str) -> None:
    """As a reader would, who copies it into a shell."""
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)


def has(cause: pb.Cause.ValueType) -> Callable[[pb.VM], bool]:
    return lambda vm: any(cause in problem.causes for problem in vm.forecast.problems)


def lacks(cause: pb.Cause.ValueType) -> Callable[[pb.VM], bool]:
    return lambda vm: not has(cause)(vm)


def found(provider: Provider, vm: str) -> Findings:
    return doctor(provider.address, vm)


def test_a_channel_that_is_missing_is_named_and_its_command_gives_it_one(
    rig: Libvirtd, provider: Provider, told: Calls
) -> None:
    finding = found(provider, "deaf").only("AGENT_MISSING")
    assert finding["level"] == "PROBLEM"
    run(finding["commands"][0])
    virsh(rig, "destroy", "deaf")
    virsh(rig, "start", "deaf")
    told.wait_vm("deaf", has(pb.CAUSE_AGENT_STOPPED))


def test_an_agent_that_was_stopped_is_named(provider: Provider, told: Calls) -> None:
    told.wait_vm("stopped", has(pb.CAUSE_AGENT_STOPPED))
    assert "systemctl start qemu-guest-agent" in found(provider, "stopped").only("AGENT_STOPPED")["commands"][0]


def test_a_vm_without_acpi_is_named(provider: Provider) -> None:
    finding = found(provider, "deaf").only("ACPI_MISSING")
    assert (finding["level"], "--features acpi=on" in finding["commands"][0]) == ("PROBLEM", True)


def test_a_paused_vm_is_named_and_its_command_resumes_it(provider: Provider, told: Calls) -> None:
    run(found(provider, "held").only("PAUSED")["commands"][0])
    told.wait_vm("held", lacks(pb.CAUSE_PAUSED))


def test_an_on_poweroff_that_starts_it_again_is_named_and_its_command_mends_it(
    guests: Libvirtd, provider: Provider
) -> None:
    finding = found(provider, "around").only("RESTARTS")
    assert finding["level"] == "PROBLEM"
    run(finding["commands"][0])
    with guests.connect() as connection:  # no event tells of that: the provider sees it within a minute
        assert "<on_poweroff>destroy</on_poweroff>" in connection.lookupByName("around").XMLDesc()


def test_a_libvirt_that_is_stopped_is_named(provider: Provider, guests: Libvirtd) -> None:
    guests.stop()
    try:
        provider.wait_output("libvirt cannot be reached")
        finding = found(provider, "").only("HYPERVISOR_UNREACHABLE")
    finally:
        guests.start()
    assert "libvirt cannot be reached" in finding["what"]
    assert f"virsh -c '{guests.uri}' version" in finding["commands"]


def test_a_socket_of_libvirt_that_the_provider_may_not_open_is_named(rig: Libvirtd) -> None:
    program = Provider("libvirt", "--uri", rig.uri)
    if os.geteuid() == 0:
        program.command[:0] = POWERLESS
    else:
        pytest.skip("the rig's socket is this user's own")
    try:
        Program.start(program)
        program.wait_output("Permission denied")
        finding = doctor(program.address).only("HYPERVISOR_PERMISSION")
    finally:
        program.close()
    assert "usermod --append --groups libvirt" in finding["commands"][0]
