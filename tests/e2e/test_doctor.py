"""`vmpower doctor` names what is wrong between the command, a provider of the sim, and its guests."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from common.addresses import socket_path
from tests.rigs.doctor import doctor, powerless_doctor
from tests.rigs.ports import free_port
from tests.rigs.process import Program, Provider
from tests.rigs.sim import control
from tests.soak.clock import SteppedClock
from tests.unit.providers.server.pki import Authority

GUESTS = {
    "web": {},
    "unplugged": {"agent": "none"},
    "stopped": {"agent": "down"},
    "buttonless": {"acpi": "none"},
    "deaf": {"agent": "none", "acpi": "none"},
    "held": {"power": "paused"},
    "backed-up": {"locked": "a backup"},
}


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    script = tmp_path_factory.mktemp("sim") / "guests.yaml"
    script.write_text(yaml.safe_dump({"guests": GUESTS}))
    with Provider("sim", f"--script={script}") as provider:
        yield provider


# Guests


@pytest.mark.parametrize(
    ("vm", "check", "level"),
    [
        ("unplugged", "AGENT_MISSING", "WARNING"),
        ("stopped", "AGENT_STOPPED", "WARNING"),
        ("buttonless", "ACPI_MISSING", "WARNING"),
        ("deaf", "ACPI_MISSING", "PROBLEM"),
        ("held", "PAUSED", "PROBLEM"),
        ("backed-up", "LOCKED", "PROBLEM"),
    ],
)
def test_what_is_wrong_with_a_guest_is_named(sim: Provider, vm: str, check: str, level: str) -> None:
    found = doctor(sim.address, vm).only(check)
    assert (found["vm"], found["level"]) == (vm, level)
    assert found["commands"]


def test_nothing_is_said_of_a_guest_that_would_go_down_gracefully(sim: Provider) -> None:
    found = doctor(sim.address, "web")
    assert ([each for each in found.all if each["vm"]], found.code) == ([], 0)


def test_a_paused_guest_is_well_after_the_command(sim: Provider) -> None:
    world = sim.folder / "state" / "world.db"
    assert doctor(sim.address, "held").code == 7
    control(world, "resume", "held")
    assert doctor(sim.address, "held").checks == {"GUEST_EXEC_DISABLED"}
    control(world, "pause", "held")


def test_an_unknown_vm_is_a_problem(sim: Provider) -> None:
    found = doctor(sim.address, "WEB")
    assert "Is it web?" in found.only("VM_UNKNOWN")["what"]
    assert found.code == 7


def test_guest_exec_that_is_turned_off_is_a_warning(sim: Provider) -> None:
    found = doctor(sim.address, "web").only("GUEST_EXEC_DISABLED")
    assert (found["level"], "--allow-guest-exec" in found["who"]) == ("WARNING", True)


# The way


def test_a_socket_that_others_may_not_open_is_named(sim: Provider) -> None:
    path = Path(socket_path(sim.address))
    sim.folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    path.chmod(0o600 if os.geteuid() == 0 else 0)
    try:
        found = powerless_doctor(sim.address)
    finally:
        path.chmod(0o660)
        os.chown(path, os.geteuid(), os.getegid())
        sim.folder.chmod(0o700)
    assert "--socket-group" in found.only("SOCKET_PERMISSION")["who"]
    assert found.code == 7


def test_a_folder_of_a_socket_that_others_may_not_enter_is_named(sim: Provider) -> None:
    if os.geteuid() == 0:
        nobody = 65534
        os.chown(sim.folder, nobody, nobody)
    sim.folder.chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        found = powerless_doctor(sim.address)
    finally:
        sim.folder.chmod(0o700)
        os.chown(sim.folder, os.geteuid(), os.getegid())
    assert f"the directory {sim.folder}," in found.only("FOLDER_PERMISSION")["what"]
    assert found.code == 7


def test_a_provider_that_does_not_run_is_named(sim: Provider) -> None:
    assert doctor(f"{sim.address}2").checks == {"SOCKET_MISSING"}


def test_a_host_that_cannot_be_reached_is_a_finding_and_the_other_provider_is_looked_at(
    sim: Provider, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    away = f"127.0.0.1:{free_port()}"
    config.write_text(yaml.safe_dump({"providers": {"lab": {"address": sim.address}, "away": {"address": away}}}))
    found = doctor("", env={"VMPOWER_CONFIG": str(config)})
    assert found.only("NOT_LISTENING")["provider"] == "away"
    assert {each["vm"] for each in found.all if each["check"] == "PAUSED"} == {"held"}


def test_a_clock_that_is_an_hour_off_is_a_problem(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path / "clock")
    with Provider("sim", env=clock.env) as provider:
        clock.set(3600)
        found = doctor(provider.address).only("CLOCK")
    assert found["level"] == "PROBLEM"
    assert found["what"] == "The provider's clock is 1:00:00 ahead of this machine's."


# TLS


class Secured:
    """A provider with mutual TLS, a client of it, and who signed their certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority()
        self.address = f"127.0.0.1:{free_port()}"
        self.config = folder / "config.yaml"
        self._write("ca.pem", self.authority.pem)
        self.server()
        self.client(self.authority)
        tls = {"ca": "ca.pem", "cert": "me.pem", "key": "me.key", "server_name": "provider.example"}
        self.config.write_text(yaml.safe_dump({"providers": {"prod": {"address": self.address, "tls": tls}}}))

    def server(self, name: str = "provider.example", days: float = 30) -> None:
        """Give the provider another certificate, which ends so many days from now."""
        began = timedelta(days=-100)
        made = self.authority.issue(name, dns=[name], begins=began, ends=timedelta(days=days))
        self._write("server.pem", made.cert)
        self._write("server.key", made.key)

    def client(self, authority: Authority, days: float = 30) -> None:
        """Give the client another one."""
        made = authority.issue("operator", begins=timedelta(days=-100), ends=timedelta(days=days))
        self._write("me.pem", made.cert)
        self._write("me.key", made.key)

    def damage(self, name: str, content: bytes = b"no PEM") -> None:
        """Have something else in one of the client's files."""
        self._write(name, content)

    def trust(self, authority: Authority) -> None:
        """What the client trusts."""
        self._write("ca.pem", authority.pem)

    def flags(self) -> list[str]:
        files = {"--tls-cert": "server.pem", "--tls-key": "server.key", "--tls-client-ca": "clients.pem"}
        self._write("clients.pem", self.authority.pem)
        return [f"--listen={self.address}", *(f"{flag}={self.folder / file}" for flag, file in files.items())]

    def _write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    made = Secured(tmp_path)
    program = Program("providers.sim", *made.flags(), f"--state-dir={tmp_path / 'state'}", "--operators=cn:operator")
    with program:
        program.wait_output("hypervisor connected")
        yield made


def look(secured: Secured) -> set[str]:
    found = doctor("", env={"VMPOWER_CONFIG": str(secured.config)})
    return found.checks - {"GUEST_EXEC_DISABLED", "AGENT_MISSING"}


def test_a_provider_with_tls_that_the_configuration_does_not_give_any_is_told_as_that(secured: Secured) -> None:
    assert doctor(secured.address).checks == {"TLS_MISSING"}


def test_what_tls_lacks_is_named(secured: Secured) -> None:
    assert look(secured) == set()
    secured.trust(Authority("another"))
    assert look(secured) == {"CERTIFICATE_CA"}
    secured.trust(secured.authority)
    secured.client(Authority("another"))
    assert look(secured) == {"OWN_CERTIFICATE_REFUSED"}
    secured.client(secured.authority, days=-1)
    assert look(secured) == {"OWN_CERTIFICATE_EXPIRED"}
    secured.client(secured.authority)
    secured.server(days=-1)
    assert look(secured) == {"CERTIFICATE_EXPIRED"}
    secured.server(days=3)
    assert look(secured) == {"CERTIFICATE_ENDS_SOON"}
    secured.server()
    secured.damage("ca.pem")
    assert look(secured) == {"TLS_FILES"}
    secured.trust(secured.authority)
    secured.damage("me.key", Authority().issue("operator").key)
    assert look(secured) == {"TLS_KEY"}
    secured.client(secured.authority)
    secured.server("elsewhere.example")
    assert look(secured) == {"CERTIFICATE_NAME"}
