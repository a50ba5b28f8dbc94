"""One plan over QEMU guests, a vCenter and a Proxmox VE cluster at once: in order, by the hypervisors' own records."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import yaml

from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import ROOT, Provider
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import provider as of_proxmox
from tests.rigs.vsphere.provider import provider as of_vsphere
from tests.rigs.vsphere.vcenter import VCenter

pytestmark = pytest.mark.timeout(300)
PLAN = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: PowerPlan
metadata: {name: outage}
spec:
  budget: {total: 4m, reserve: 10s}
  tiers:
  - name: batch
    members: [{providerRef: {name: pve}, labels: {tags: batch}}, {vms: [vcenter/ci]}]
    minimum: 5s
  - {name: apps, members: [{vms: [vcenter/web, lab/front]}], minimum: 10s}
  - {name: databases, members: [{vms: [lab/db, pve/cache]}], minimum: 10s}
  bringUp: {}
"""
DEAF_SECONDS = 6
GUESTS = (
    Guest("front", agent="off", shutdown_delay=1),
    Guest("db", shutdown_delay=3),
    Guest("ours", agent="off", shutdown_delay=1),
)
"""On the last one vmpower is said to run."""
CLUSTER = {
    "batch": {"tags": "batch;night", "agent": "answers", "shutdown_secs": 2},
    "container": {"tags": "batch", "kind": "lxc", "shutdown_secs": 1},
    "cache": {"agent": "absent", "shutdown_secs": 2},
}
VMS: dict[str, dict[str, object]] = {"ci": {"ignores": True}, "web": {"shutdown_time": "2s"}}


@dataclass
class Hypervisors:
    """All three, with their providers."""

    libvirtd: Libvirtd
    vcenter: VCenter
    cluster: Cluster
    providers: dict[str, Provider]

    def off_at(self, vm: str) -> float:
        """Seconds since 1970 at which the hypervisor itself has the VM's end."""
        provider, name = vm.split("/")
        if provider == "lab":
            return self.libvirtd.wait_stop(name).time.timestamp()
        told = self.vcenter.show(name) if provider == "vcenter" else self.cluster.show(name)
        return float(told["off_at"])

    def asked_at(self, vm: str) -> float:
        """Seconds since 1970 at which the hypervisor was first called to ask it; of vSphere and Proxmox VE."""
        provider, name = vm.split("/")
        if provider == "vcenter":
            return float(self.vcenter.show(name)["asked_at"][0]["time"])
        return float(self.cluster.show(name)["asked"][0][0])


@pytest.fixture(scope="module")
def hypervisors() -> Iterator[Hypervisors]:
    with ExitStack() as stack:
        libvirtd = stack.enter_context(Libvirtd())
        vcenter = stack.enter_context(VCenter(VMS))
        cluster = stack.enter_context(Cluster(CLUSTER))
        libvirtd.boot(GUESTS)
        providers = {
            "lab": Provider("libvirt", "--uri", libvirtd.uri),
            "vcenter": of_vsphere(vcenter, f"--default-timeout={DEAF_SECONDS}s"),
            "pve": of_proxmox(cluster),
        }
        for provider in providers.values():
            stack.enter_context(provider)
        yield Hypervisors(libvirtd, vcenter, cluster, providers)


@dataclass
class Outcome:
    """What the command printed and returned, and the record of the run."""

    code: int
    printed: str
    record: dict[str, Any]


@pytest.fixture(scope="module")
def outcome(hypervisors: Hypervisors, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("plan")
    config = {name: {"address": provider.address} for name, provider in hypervisors.providers.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump({"providers": config}))
    (folder / "plan.yaml").write_text(PLAN)
    environment = {"VMPOWER_CONFIG": str(folder / "config.yaml"), "XDG_STATE_HOME": str(folder)}
    with hypervisors.libvirtd.connect() as connection:
        own = connection.lookupByName("ours").UUIDString()
    run = vmpower("run", str(folder / "plan.yaml"), "--self", own, environment=environment)
    record = json.loads(vmpower("report", "-o", "json", environment=environment).stdout)
    return Outcome(run.returncode, run.stdout + run.stderr, record)


def vmpower(*args: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "cli", "plan", *args]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=280
    )


TIERS = {
    "batch": ("pve/batch", "pve/container", "vcenter/ci"),
    "apps": ("vcenter/web", "lab/front"),
    "databases": ("lab/db", "pve/cache"),
}


def test_who_was_forced_shows_in_the_exit_code(outcome: Outcome) -> None:
    assert outcome.code == 3, outcome.printed


def test_each_tier_is_off_by_its_hypervisors_record_before_the_next_is_asked(
    hypervisors: Hypervisors, outcome: Outcome
) -> None:
    batch_off = max(map(hypervisors.off_at, TIERS["batch"]))
    apps_off = max(map(hypervisors.off_at, TIERS["apps"]))
    assert batch_off <= hypervisors.asked_at("vcenter/web")
    assert apps_off <= hypervisors.asked_at("pve/cache")
    assert apps_off <= hypervisors.off_at("lab/db")


def test_each_verdict_is_what_the_hypervisor_has(hypervisors: Hypervisors, outcome: Outcome) -> None:
    verdicts = sorted(each["outcome"] for each in outcome.record["events"] if each["event"] == "vm ended")
    assert verdicts == ["FORCED", *["GRACEFUL"] * 7], outcome.printed
    assert hypervisors.vcenter.show("ci")["off_cause"] == "power_off"
    assert hypervisors.vcenter.show("web")["off_cause"] == "guest"
    assert {hypervisors.cluster.show(name)["off_cause"] for name in CLUSTER} == {"guest"}
    assert "guest db: agent asked for shutdown" in hypervisors.libvirtd.console("db")


def test_the_deaf_one_has_the_time_that_the_forecast_gave_it(hypervisors: Hypervisors, outcome: Outcome) -> None:
    assert hypervisors.off_at("vcenter/ci") - hypervisors.asked_at("vcenter/ci") >= DEAF_SECONDS - 0.5


def test_the_vm_that_it_runs_on_goes_last(hypervisors: Hypervisors, outcome: Outcome) -> None:
    others = max(hypervisors.off_at(vm) for tier in TIERS.values() for vm in tier)
    assert others < hypervisors.off_at("lab/ours")


def test_all_are_off_within_the_budget(hypervisors: Hypervisors, outcome: Outcome) -> None:
    last = hypervisors.off_at("lab/ours")
    assert last <= datetime.fromisoformat(outcome.record["start"]["ends"]).timestamp()
