"""A PowerRun over QEMU guests, a vCenter and a Proxmox VE cluster at once, in order by the hypervisors' own records."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e import test_plan_on_all as on_all
from tests.e2e.test_plan_on_all import TIERS, Hypervisors
from tests.rigs.kubernetes.account import controller_account
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Object, Resources, condition, made

hypervisors = on_all.hypervisors
PLAN = on_all.PLAN.replace("  bringUp:", "  others: Last\n  bringUp:")
OTHERS = "lab/ours"
"""The VM that no tier names."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def status(cluster: Cluster, hypervisors: Hypervisors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Object]:
    """The PowerRun's, when it is over."""
    with (
        fresh_namespace(cluster) as namespace,
        _controller(cluster, namespace, tmp_path_factory.mktemp("s")) as program,
    ):
        resources = Resources(cluster, namespace, program.output)
        for name, provider in hypervisors.providers.items():
            resources.declare_provider(name, provider.address)
        for name in hypervisors.providers:
            resources.wait(name, lambda state: condition(state, "Ready").get("status") == "True", "vmprov")
        resources.kubectl("apply", "--filename", "-", input=PLAN)
        run = made("PowerRun", "tonight", {"planRef": {"name": "outage"}, "reason": "a test"})
        resources.kubectl("create", "--filename", "-", input=json.dumps(run))
        yield resources.wait_status("tonight", lambda found: found.get("phase") in {"Held", "Refused"}, "powerrun", 240)


def _controller(cluster: Cluster, namespace: str, state: Path) -> KubernetesController:
    account = controller_account(cluster, namespace)
    flags = ("--state-dir", str(state))
    return KubernetesController(account, *flags, namespace=namespace, lease_namespace=namespace)


def test_each_tier_is_off_by_its_hypervisors_record_before_the_next_is_asked(
    hypervisors: Hypervisors, status: Object
) -> None:
    batch_off, apps_off, databases_off = (max(map(hypervisors.off_at, TIERS[tier])) for tier in TIERS)
    assert batch_off <= hypervisors.asked_at("vcenter/web")
    assert apps_off <= hypervisors.asked_at("pve/cache")
    assert databases_off < hypervisors.off_at(OTHERS) <= datetime.fromisoformat(status["ends"]).timestamp()


def test_its_status_has_each_verdict_as_the_hypervisors_have_it(hypervisors: Hypervisors, status: Object) -> None:
    told = {tier["name"]: {vm["vm"]: vm["outcome"] for vm in tier["vms"]} for tier in status["tiers"]}
    expected = {name: dict.fromkeys(vms, "GRACEFUL") for name, vms in TIERS.items()}
    expected["batch"]["vcenter/ci"] = "FORCED"
    assert told == expected | {"(others)": {OTHERS: "GRACEFUL"}}
    assert hypervisors.vcenter.show("ci")["off_cause"] == "power_off"
