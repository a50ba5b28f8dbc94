"""`vmpower doctor` before a vCenter: it names what is wrong with its account, its certificate and its guests."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trustme

from tests.rigs.doctor import Findings, doctor
from tests.rigs.polling import poll
from tests.rigs.process import Program, Provider
from tests.rigs.vsphere.provider import flags, provider
from tests.rigs.vsphere.vcenter import VCenter

POWER = "VirtualMachine.Interact.PowerOff"
SNAPSHOT = "VirtualMachine.State.CreateSnapshot"


@pytest.fixture(scope="module")
def guests() -> Iterator[VCenter]:
    with VCenter({"web": {}, "stopped": {"tools": "not_running"}, "bare": {"tools": "not_installed"}}) as vcenter:
        yield vcenter


@pytest.fixture(scope="module")
def served(guests: VCenter) -> Iterator[Provider]:
    guests.deny(web=[POWER, SNAPSHOT], stopped=[SNAPSHOT], bare=[SNAPSHOT])
    with provider(guests) as process:
        poll(lambda: "PRIVILEGE_MISSING" in doctor(process.address).checks)
        yield process


def test_tools_that_do_not_run_are_named(served: Provider) -> None:
    finding = doctor(served.address, "stopped").only("AGENT_STOPPED")
    assert "systemctl start open-vm-tools" in finding["commands"][0]


def test_tools_that_are_missing_are_named_with_the_path_of_their_vm(served: Provider) -> None:
    finding = doctor(served.address, "bare").only("AGENT_MISSING")
    assert "govc vm.guest.tools -mount /DC0/vm/bare" in finding["commands"][1]


def test_privileges_that_are_missing_are_named_with_the_vms(served: Provider) -> None:
    found = [each for each in doctor(served.address, "web").all if each["check"] == "PRIVILEGE_MISSING"]
    assert [(each["what"], each["level"]) for each in found] == [
        (f"The provider's account has no {POWER} on web.", "PROBLEM"),
        (f"The provider's account has no {SNAPSHOT} on all VMs.", "WARNING"),
    ]
    assert f"govc role.update -a vmpower {POWER}" in found[0]["commands"]


def unserved(vcenter: VCenter, sentence: str, *changes: str) -> Findings:
    """What is found where the provider says this, and does not serve. Of a flag that comes twice, the last counts."""
    with launched(vcenter, *changes) as program:
        program.wait_output(sentence)
        return doctor(program.address)


@contextmanager
def launched(vcenter: VCenter, *changes: str) -> Iterator[Provider]:
    program = Provider("vsphere", *flags(vcenter), *changes)
    try:
        Program.start(program)
        yield program
    finally:
        program.close()


def test_a_wrong_password_is_named(guests: VCenter) -> None:
    wrong = guests.folder / "wrong"
    wrong.mkdir()
    (wrong / "username").write_text(guests.username)
    (wrong / "password").write_text("Falsch-1!")
    found = unserved(guests, "refuses the user or password", f"--credentials-dir={wrong}")
    assert "--credentials-dir" in found.only("HYPERVISOR_LOGIN")["who"]
    assert "Falsch" not in str(found)


def test_a_ca_that_did_not_sign_vcenters_certificate_is_named(guests: VCenter) -> None:
    other = guests.folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    found = unserved(guests, "cannot be reached", f"--ca-file={other}")
    assert "--ca-file" in found.only("HYPERVISOR_CERTIFICATE")["who"]


def test_a_vcenter_that_is_away_is_named(guests: VCenter) -> None:
    found = unserved(guests, "cannot be reached", "--url=https://127.0.0.1:1")
    assert "vSphere cannot be reached" in found.only("HYPERVISOR_UNREACHABLE")["what"]
