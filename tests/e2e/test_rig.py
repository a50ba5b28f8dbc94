"""The rigs themselves: what guests do without a provider, and that nothing is left of a rig."""

import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import libvirt
import pytest

from protos.power.v1 import power_pb2, power_pb2_grpc
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Provider, pidfd

AGENT = libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
ACPI = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN

GUESTS = (
    Guest("web"),
    Guest("legacy", agent="off", shutdown_delay=1),
    Guest("deaf", agent="off", acpi=False),
    Guest("crash", agent="off", crash_on="power_button"),
    Guest("Gäste-Server ☕", agent="refuse", disk=True),
)


@pytest.fixture(scope="module")
def rig() -> Iterator[Libvirtd]:
    with Libvirtd() as rig:
        rig.boot(GUESTS)
        yield rig


def ask(rig: Libvirtd, name: str, signal: int) -> None:
    with rig.connect() as connection:
        connection.lookupByName(name).shutdownFlags(signal)


def ended(process: int) -> bool:
    return bool(select.select([process], [], [], 0)[0])


def own_lines(rig: Libvirtd, name: str) -> list[str]:
    return [line.partition(": ")[2] for line in rig.console(name).splitlines() if line.startswith(f"guest {name}")]


def test_a_guest_goes_down_when_its_agent_is_asked(rig: Libvirtd) -> None:
    ask(rig, "web", AGENT)
    assert rig.wait_stop("web").reason == "shutdown"
    assert own_lines(rig, "web") == ["ready", "agent asked for shutdown", "powering off"]


def test_a_guest_without_agent_goes_down_by_its_power_button_and_takes_its_time(rig: Libvirtd) -> None:
    asked = time.time()
    ask(rig, "legacy", ACPI)
    rig.wait_console("legacy", "power button pressed")
    ask(rig, "legacy", ACPI)
    stop = rig.wait_stop("legacy")
    assert stop.reason == "shutdown"
    assert stop.time.timestamp() - asked >= 1
    assert own_lines(rig, "legacy") == ["ready", *["power button pressed"] * 2, "powering off"]


def test_a_deaf_guest_runs_on_until_its_power_is_cut_though_libvirtd_died_meanwhile(rig: Libvirtd) -> None:
    ask(rig, "deaf", ACPI)
    rig.kill()
    rig.start()
    ask(rig, "deaf", ACPI)  # returns when libvirtd has found the guest again
    with rig.connect() as connection:
        connection.lookupByName("deaf").destroy()
    assert rig.wait_stop("deaf").reason == "destroyed"
    assert own_lines(rig, "deaf") == ["ready"]


def test_a_guest_that_panics_is_a_crash_to_libvirt(rig: Libvirtd) -> None:
    ask(rig, "crash", ACPI)
    assert rig.wait_stop("crash").reason == "crashed"


def test_a_guest_with_a_disk_and_any_name_can_be_snapshotted(rig: Libvirtd) -> None:
    with rig.connect() as connection:
        domain = connection.lookupByName("Gäste-Server ☕")
        domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")
        assert domain.snapshotListNames() == ["one"]


def test_an_agent_that_refuses_says_so(rig: Libvirtd) -> None:
    with pytest.raises(libvirt.libvirtError, match="guest-shutdown has been disabled"):
        ask(rig, "Gäste-Server ☕", AGENT)


def test_libvirtd_is_never_the_machines_own(rig: Libvirtd) -> None:
    with rig.connect() as connection:
        assert {domain.name() for domain in connection.listAllDomains()} == {guest.name for guest in GUESTS}
    assert Path(f"/proc/{rig.pid('Gäste-Server ☕')}").stat().st_uid != 0


def test_nothing_is_left_of_a_rig() -> None:
    with ExitStack() as stack:
        with Libvirtd() as rig:
            rig.define(Guest("transient"), transient=True)
            guest = stack.enter_context(pidfd(rig.pid("transient")))
            assert not ended(guest)
        assert ended(guest)
    assert not rig.folder.exists()


def test_a_provider_serves_at_its_address_again_after_it_was_killed() -> None:
    with Provider("sim") as provider:
        provider.kill()
        provider.start()
        with grpc.insecure_channel(provider.address) as channel:
            info = power_pb2_grpc.PowerServiceStub(channel).GetProviderInfo(power_pb2.GetProviderInfoRequest())
    assert info.type == "sim"


def test_a_provider_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="unrecognized arguments: --no-such-flag"), Provider("sim", "--no-such-flag"):
        pass
