"""The Debian package on a small Debian of its own with systemd: installed, used, upgraded, removed, purged."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.debian.machine import HERE, Machine
from tests.rigs.debian.package import copy_tree, make_package
from tests.rigs.polling import poll

PROVIDERS = [f"vmpower-provider@{kind}.service" for kind in ("libvirt", "vsphere", "proxmox", "sim")]
UNITS = [*PROVIDERS, "vmpower-controller.service", "vmpower-host.service", "vmpower-ups.service"]
IN_EVERY_DEBIAN = {"libc6", "libgcc-s1", "libstdc++6"}
"""apt needs them."""
SIM = "unix:///run/vmpower/sim/provider.sock"
FILES = (
    "find / -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' -not -path '/var/cache/*' "
    "-not -path '/var/log/*' -not -path '/var/lib/systemd/*' -not -path '/etc/*-' -not -path '/root/*' | sort"
)
"""What is on a machine, but for what dpkg, apt and systemd note down for themselves."""
PROBE = """
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true
ExecStop=sh -c 'systemctl is-active vmpower-provider@libvirt vmpower-controller > /run/host/%N'
"""
"""A unit that notes, when it is stopped, how ours are."""
HOST_PLAN = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: PowerPlan
metadata: {name: host}
spec:
  budget: {total: 2m}
  tiers:
  - {name: apps, members: [{vms: [sim/web]}]}
  - {name: databases, members: [{vms: [sim/legacy]}]}
  others: Ignore
"""
CONFIGURATION = f"providers: {{sim: {{address: '{SIM}'}}}}"
KEEP = """
[Service]
ExecStop=+cp -r /var/lib/vmpower/host /run/host/records
"""
"""What the host's unit leaves behind, for nothing else of the machine outlives it."""

pytestmark = pytest.mark.timeout(300)  # the first test has the package built and the machine booted


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The package of this tree, and one of the next version."""
    work = tmp_path_factory.mktemp("deb")
    tree = copy_tree(work / "tree")
    present = make_package(tree, work)
    settings = tree / "pyproject.toml"
    settings.write_text(re.sub(r'^version = ".*"$', 'version = "99.0"', settings.read_text(), flags=re.MULTILINE))
    return [present, make_package(tree, work)]


@pytest.fixture(scope="module")
def before() -> list[str]:
    """What was on the machine before the package; known when `machine` is."""
    return []


@pytest.fixture(scope="module")
def machine(packages: list[Path], before: list[str]) -> Iterator[Machine]:
    """One with the package of this tree."""
    with Machine() as machine:
        before += machine.run(FILES).stdout.splitlines()
        for name, package in zip(["present.deb", "next.deb"], packages, strict=True):
            (machine.folder / name).hardlink_to(package)
        machine.run("apt-get install -y /run/host/present.deb")
        yield machine


def vmpower(machine: Machine, arguments: str, address: str = SIM) -> str:
    return machine.run(f"vmpower --provider {address} {arguments}").stdout


def test_its_dependencies_are_what_the_machine_has_beyond_the_smallest_one(packages: list[Path]) -> None:
    said = subprocess.run(["dpkg-deb", "-f", packages[0], "Depends"], capture_output=True, text=True, check=True).stdout
    there = {line for line in (HERE / "packages.txt").read_text().splitlines() if not line.startswith("#")}
    assert {each.split()[0] for each in said.split(",")} - IN_EVERY_DEBIAN == there


def test_nothing_is_started_by_the_installation(machine: Machine) -> None:
    assert machine.run("systemctl list-units --all --no-legend 'vmpower*.service'").stdout == ""


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(machine: Machine, unit: str) -> None:
    assert machine.run(f"systemd-analyze verify --man=no {unit}").stdout == ""


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_by_less_than_two_and_a_half_of_ten(machine: Machine, unit: str) -> None:
    said = machine.run(f"systemd-analyze security --offline=true --no-pager {unit} | tail -1").stdout
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert exposure, said
    assert float(exposure[1]) < 2.5


def test_a_provider_serves_when_its_start_has_returned(machine: Machine) -> None:
    machine.run("systemctl start vmpower-provider@sim")
    assert "web" in vmpower(machine, "list")


def test_a_libvirt_provider_runs_within_what_its_unit_allows(machine: Machine) -> None:
    machine.run("sed -i s,qemu:///system,test:///default, /etc/vmpower/provider-libvirt.conf")
    machine.run("systemctl start vmpower-provider@libvirt")
    assert "test" in vmpower(machine, "list", "unix:///run/vmpower/libvirt/provider.sock")


@pytest.mark.parametrize(
    ("kind", "files"), [("vsphere", ["username", "password"]), ("proxmox", ["token-id", "token-secret"])]
)
def test_a_provider_is_handed_its_login_which_no_other_user_can_read(
    machine: Machine, kind: str, files: list[str]
) -> None:
    for file in files:
        machine.run(f"(umask 077; echo 'me@pve!me' > /etc/vmpower/credentials/{kind}/{file})")
    machine.run(f"echo VMPOWER_URL=https://127.0.0.1:9 >> /etc/vmpower/provider-{kind}.conf")
    machine.run(f"systemctl start vmpower-provider@{kind}")
    folder = f"/run/credentials/vmpower-provider@{kind}.service"
    assert machine.run(f"ls {folder}", user=f"vmpower-{kind}").stdout.split() == sorted(files)
    assert "Permission denied" in machine.run(f"ls {folder}", user="vmpower-sim", check=False).stdout


def test_a_provider_without_its_login_does_not_start(machine: Machine) -> None:
    machine.run("mv /etc/vmpower/credentials/vsphere /root; systemctl restart vmpower-provider@vsphere", check=False)
    assert "status=243/CREDENTIALS" in machine.run("systemctl status vmpower-provider@vsphere", check=False).stdout
    machine.run("mv /root/vsphere /etc/vmpower/credentials; systemctl stop vmpower-provider@vsphere")


def test_one_providers_journal_is_closed_to_another_providers_user(machine: Machine) -> None:
    machine.run("systemctl start vmpower-provider@libvirt")
    said = machine.run("cat /var/lib/vmpower/libvirt/libvirt.journal.db", user="vmpower-sim", check=False).stdout
    assert "Permission denied" in said


def test_a_member_of_the_group_may_use_a_provider_and_another_user_may_not(machine: Machine) -> None:
    machine.run("systemctl start vmpower-provider@sim; useradd alice; useradd --groups vmpower bob")
    asked = f"vmpower --provider {SIM} list"
    codes = {user: machine.run(asked, user=user, check=False).returncode for user in ("alice", "bob")}
    assert codes == {"alice": 5, "bob": 0}


def test_a_killed_provider_is_started_again_and_its_operation_goes_on(machine: Machine) -> None:
    machine.run("systemctl start vmpower-provider@sim")
    vmpower(machine, "shutdown deaf --timeout 6s --no-wait")
    machine.run("systemctl kill --signal=KILL vmpower-provider@sim")
    operations = f"vmpower --provider {SIM} operations"
    poll(lambda: re.search(r"deaf.*FORCED", machine.run(operations, check=False).stdout))


def test_the_controller_brings_a_vm_down_as_its_manifest_wants(machine: Machine) -> None:
    machine.run(f"""cat > /etc/vmpower/manifests/web.yaml << END
apiVersion: infra.virtrigaud.io/v1beta1
kind: Provider
metadata: {{name: sim}}
spec: {{type: sim, endpoint: a sim, runtime: {{endpoint: "{SIM}"}}}}
---
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {{name: web}}
spec: {{providerRef: {{name: sim}}, powerState: OffGraceful}}
END
systemctl start vmpower-provider@sim vmpower-controller""")
    status = "cat /var/lib/vmpower/controller/default/VirtualMachine/web.yaml"
    poll(lambda: "outcome: GRACEFUL" in machine.run(status, check=False).stdout)
    machine.run("systemctl stop vmpower-controller; rm /etc/vmpower/manifests/web.yaml")


def test_an_upgrade_keeps_settings_and_journals_and_restarts_what_ran(machine: Machine) -> None:
    machine.run("systemctl start vmpower-provider@sim; echo VMPOWER_DRAIN_TIMEOUT=4s >> /etc/vmpower/provider-sim.conf")
    vmpower(machine, "shutdown legacy")
    ran = machine.run("systemctl show --property=MainPID --value vmpower-provider@sim").stdout
    machine.run("systemctl stop vmpower-controller; apt-get install -y /run/host/next.deb")
    assert machine.run("vmpower --version").stdout == "vmpower 99.0\n"
    assert machine.run("systemctl show --property=MainPID --value vmpower-provider@sim").stdout not in {ran, "0\n"}
    assert machine.run("systemctl is-active vmpower-controller", check=False).stdout == "inactive\n"
    assert "VMPOWER_DRAIN_TIMEOUT=4s" in machine.run("cat /etc/vmpower/provider-sim.conf").stdout
    assert re.search(r"legacy.*GRACEFUL", vmpower(machine, "operations"))


def test_a_removal_ends_what_runs_and_keeps_settings_and_journals(machine: Machine) -> None:
    machine.run("systemctl start vmpower-provider@sim; apt-get remove -y vmpower")
    assert machine.run("find /proc -maxdepth 1 -user vmpower-sim").stdout == ""
    machine.run("test -e /etc/vmpower/provider-sim.conf && test -e /var/lib/vmpower/sim/sim.journal.db")


def test_a_purge_leaves_nothing_but_what_its_owner_put_there(machine: Machine, before: list[str]) -> None:
    machine.run("apt-get install -y /run/host/present.deb; systemctl enable vmpower-provider@sim vmpower-controller")
    machine.run("rm -r /etc/vmpower/credentials/*/*; echo '# mine' > /etc/vmpower/manifests/mine.yaml")
    machine.run("apt-get purge -y vmpower")
    left = set(machine.run(FILES).stdout.splitlines()) - set(before)
    assert left == {"/etc/vmpower", "/etc/vmpower/manifests", "/etc/vmpower/manifests/mine.yaml"}


def prepare_host_plan(machine: Machine) -> None:
    machine.run(f"cat > /etc/vmpower/host.yaml << END\n{HOST_PLAN}\nEND")
    machine.run(f'echo "{CONFIGURATION}" > /etc/vmpower/vmpower.yaml')
    machine.run("systemctl start vmpower-provider@sim vmpower-host")


def test_before_the_host_goes_down_its_plan_brings_down_its_vms_in_order(packages: list[Path]) -> None:
    with Machine() as host:
        (host.folder / "vmpower.deb").hardlink_to(packages[0])
        host.run("apt-get install -y /run/host/vmpower.deb; mkdir -p /etc/systemd/system/vmpower-host.service.d")
        host.run(f"cat > /etc/systemd/system/vmpower-host.service.d/keep.conf << END{KEEP}END\nsystemctl daemon-reload")
        prepare_host_plan(host)
        host.shut_down()
        (record,) = (host.folder / "records").glob("*.jsonl")
        events = [json.loads(line) for line in record.read_text().splitlines()]
    ended = [(each["tier"], each["outcome"]) for each in events if each["event"] == "vm ended"]
    assert ended == [("apps", "GRACEFUL"), ("databases", "GRACEFUL")]
    assert events[-1]["event"] == "closed"


def test_stopped_by_hand_the_hosts_unit_brings_nothing_down(packages: list[Path]) -> None:
    with Machine() as host:
        (host.folder / "vmpower.deb").hardlink_to(packages[0])
        host.run("apt-get install -y /run/host/vmpower.deb")
        prepare_host_plan(host)
        host.run("systemctl restart vmpower-host; systemctl stop vmpower-host")
        assert vmpower(host, "operations").splitlines()[1:] == []


def test_at_the_hosts_shutdown_the_guests_go_when_controller_and_provider_have_gone(packages: list[Path]) -> None:
    with Machine() as host:
        (host.folder / "vmpower.deb").hardlink_to(packages[0])
        (host.folder / "probe.service").write_text(PROBE)
        host.run("apt-get install -y /run/host/vmpower.deb")
        host.run("sed -i s,qemu:///system,test:///default, /etc/vmpower/provider-libvirt.conf")
        units = "libvirtd libvirt-guests"
        host.run(f"for unit in {units}; do cp /run/host/probe.service /run/systemd/system/$unit.service; done")
        host.run(f"systemctl daemon-reload; systemctl start {units} vmpower-provider@libvirt vmpower-controller")
        host.shut_down()
        assert (host.folder / "libvirt-guests").read_text().split() == ["inactive", "inactive"]
        assert (host.folder / "libvirtd").read_text().split() == ["inactive", "inactive"]
