"""What an uninstall does to VMs and to resources with finalizers, which no controller takes away any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rigs.kubernetes.chart import CHART
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.release import Release
from tests.rigs.kubernetes.resources import Object, Resources, condition

GUESTS = "guests: {web: {shutdown_time: 500ms, count: 2}}"
FREE = ("--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


def install(cluster: Cluster, namespace: str) -> None:
    values = f"watchNamespace={namespace},providerDefaults.state.ephemeral=true"
    names = "providers[0].name=lab,providers[0].type=sim"
    cluster.helm("install", "vmpower", str(CHART), "--namespace", namespace, "--set", f"{values},{names}")


def is_held(state: Object) -> bool:
    return "vmpower/in-use" in state["metadata"].get("finalizers", [])


def is_bound(state: Object) -> bool:
    return condition(state, "Bound").get("status") == "True"


@contextmanager
def left_by_an_uninstall(cluster: Cluster, folder: Path) -> Iterator[Resources]:
    """What is left of a release that was uninstalled while VMs were bound; web-0001 has vmpower/on-delete."""
    with fresh_namespace(cluster) as namespace:
        vms = Resources(cluster, namespace, lambda: "")
        install(cluster, namespace)
        with Release(cluster, namespace, sim(folder)):
            for name in ("web-0001", "web-0002"):
                vms.declare(name, "On")
                vms.wait(name, is_bound)
            vms.annotate("web-0001", "vmpower/on-delete=OffGraceful")
            vms.wait("web-0001", lambda state: "vmpower/on-delete" in state["metadata"].get("finalizers", []))
            vms.wait("lab", is_held, kind="vmprov")
        cluster.helm("uninstall", "vmpower", "--namespace", namespace)
        yield vms


def sim(folder: Path) -> dict[str, list[str]]:
    """The flags of a provider whose guests outlive it."""
    (folder / "guests.yaml").write_text(GUESTS)
    return {"provider-lab": [f"--script={folder}/guests.yaml", f"--world={folder}/world.db"]}


@pytest.fixture(scope="module")
def left(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resources]:
    """Both resources have been deleted since."""
    with left_by_an_uninstall(cluster, tmp_path_factory.mktemp("sim")) as vms:
        vms.kubectl("delete", "vm", "--all", "--wait=false")
        yield vms


def test_a_resource_without_finalizers_goes_at_once_when_it_is_deleted(left: Resources) -> None:
    left.kubectl("wait", "--for=delete", "vm/web-0002", "--timeout=60s")


def test_a_resource_with_on_delete_stays_until_there_is_a_controller_again(left: Resources) -> None:
    state = left.wait("web-0001", lambda state: "deletionTimestamp" in state["metadata"])
    assert (state["metadata"]["finalizers"], state["status"]["powerState"]) == (["vmpower/on-delete"], "On")


def test_a_provider_in_use_stays_until_there_is_a_controller_again(left: Resources) -> None:
    assert "deletionTimestamp" in left.wait("lab", is_held, kind="vmprov")["metadata"]


def test_by_hand_both_can_be_let_go(cluster: Cluster, tmp_path: Path) -> None:
    with left_by_an_uninstall(cluster, tmp_path) as vms:
        vms.kubectl("delete", "vm", "web-0001", "--wait=false")
        vms.kubectl("patch", "vm", "web-0001", *FREE)
        vms.kubectl("patch", "vmprov", "lab", *FREE)
        vms.kubectl("wait", "--for=delete", "vm/web-0001", "vmprov/lab", "--timeout=60s")


def test_the_next_install_brings_vms_down_and_an_upgrade_writes_the_provider_anew(
    cluster: Cluster, tmp_path: Path
) -> None:
    with left_by_an_uninstall(cluster, tmp_path) as vms:
        vms.kubectl("delete", "vm", "--all", "--wait=false")
        install(cluster, vms.namespace)
        with Release(cluster, vms.namespace, sim(tmp_path)):
            vms.kubectl("wait", "--for=delete", "vm/web-0001", "vmprov/lab", "--timeout=60s")
            where = ("--namespace", vms.namespace, "deploy/vmpower", "--container=controller")
            rows = cluster.kubectl("exec", *where, "--", "vmpower", "list").splitlines()[1:]
            assert {row.split()[0]: row.split()[2] for row in rows} == {"web-0001": "OFF", "web-0002": "ON"}
        cluster.helm("upgrade", "vmpower", str(CHART), "--namespace", vms.namespace, "--reuse-values")
        assert "deletionTimestamp" not in vms.wait("lab", lambda state: True, kind="vmprov")["metadata"]
        cluster.helm("uninstall", "vmpower", "--namespace", vms.namespace)
