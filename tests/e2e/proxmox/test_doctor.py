"""`vmpower doctor` before a Proxmox VE: it names what is wrong with its account, its guests and its clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import OFTEN
from tests.e2e.proxmox.served import Served, served
from tests.rigs.doctor import Findings, doctor
from tests.rigs.process import Program, Provider
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import flags
from tests.soak.clock import SteppedClock

GUESTS: dict[str, dict[str, object]] = {
    "web": {"agent": "answers"},
    "unplugged": {},
    "stopped": {"agent": "absent"},
    "deaf": {"acpi": False},
    "held": {},
    "kept": {"ha": "started"},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Served]:
    with served(GUESTS, *OFTEN, acl=True, ha_delay=1) as it:
        it.cluster.grant(it.cluster.user, "/vms", "VM.Audit", "VM.PowerMgmt", "VM.GuestAgent.Unrestricted")
        it.cluster.grant(it.cluster.user, "/nodes", "Sys.Audit")
        it.cluster.lock("held", "backup")
        it.restart()  # else it is ten minutes before it looks again what it may do
        it.calls.wait_vm("stopped", lambda vm: pb.CAUSE_AGENT_STOPPED in causes(vm))
        yield it


def causes(vm: pb.VM) -> list[int]:
    return [cause for problem in vm.forecast.problems for cause in problem.causes]


def found(it: Served, vm: str) -> Findings:
    return doctor(it.provider.address, vm)


@pytest.mark.parametrize(
    ("vm", "check", "command"),
    [
        ("unplugged", "AGENT_MISSING", "qm set {id} --agent enabled=1"),
        ("stopped", "AGENT_STOPPED", "systemctl start qemu-guest-agent"),
        ("deaf", "ACPI_MISSING", "qm set {id} --acpi 1"),
        ("held", "LOCKED", "qm unlock {id}"),
        ("kept", "HA", "ha-manager set vm:{id} --state ignored"),
    ],
)
def test_what_is_wrong_with_a_guest_is_named_with_its_command(
    cluster: Served, vm: str, check: str, command: str
) -> None:
    finding = found(cluster, vm).only(check)
    wanted = command.format(id=cluster.cluster.show(vm)["vmid"])
    assert any(each.startswith(wanted) for each in finding["commands"]), finding


def test_a_paused_guest_is_named(cluster: Served) -> None:
    cluster.cluster.power("web", "pause")
    cluster.calls.wait_vm("web", lambda vm: pb.CAUSE_PAUSED in causes(vm))
    assert found(cluster, "web").only("PAUSED")["level"] == "PROBLEM"
    cluster.cluster.power("web", "resume")


def test_a_privilege_that_is_missing_is_named_with_the_command_that_grants_it(cluster: Served) -> None:
    finding = found(cluster, "web").only("PRIVILEGE_MISSING")
    assert finding["what"] == "The provider's account has no VM.Snapshot on /vms."
    assert (finding["level"], finding["why"]) == ("WARNING", "It is needed for snapshot hooks.")
    assert "pveum role modify vmpower --privs VM.Snapshot --append 1" in finding["commands"]


def test_a_wrong_password_is_named() -> None:
    with Cluster({"web": {}}) as cluster:
        (cluster.credentials / "password").write_text("wrong")
        program = Provider("proxmox", *flags(cluster), f"--credentials-dir={cluster.credentials}")
        try:
            Program.start(program)
            program.wait_output("refuses the login of vmpower@pve;")
            finding = doctor(program.address).only("HYPERVISOR_LOGIN")
        finally:
            program.close()
    assert "--credentials-dir" in finding["who"]
    assert "wrong" not in str(finding)


def test_a_clock_of_the_cluster_that_is_an_hour_off_is_named(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path / "clock")
    clock.set(-3600)
    with Cluster({"web": {}}) as cluster:
        fingerprint = f"--fingerprint={cluster.fingerprint}"  # by which dates do not count
        given = [flag for flag in flags(cluster) if not flag.startswith("--ca-file")]
        with Provider("proxmox", *given, fingerprint, env=clock.env) as provider:
            found = doctor(provider.address)
    assert "1:00:00 ahead of the provider's" in found.only("HYPERVISOR_CLOCK")["what"]
    assert "1:00:00 behind this machine's" in found.only("CLOCK")["what"]
