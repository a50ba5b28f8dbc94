"""The CRDs as part of a release: `helm upgrade` upgrades them, and what becomes of them at an uninstall.

The cluster is one of its own: CRDs are the whole cluster's.
"""

import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rigs.kubernetes.chart import CHART, of_kind, render
from tests.rigs.kubernetes.cluster import CRDS, Cluster

pytestmark = pytest.mark.timeout(360)  # CRDS_GO_WITHIN, twice
PLURALS = ("virtualmachines", "providers", "powerplans", "powerruns")
INSTALL = ("--set", "crds.install=true")
OWN = "--take-ownership"
WEB = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {name: web}
spec: {providerRef: {name: sim}}
"""


@pytest.fixture(scope="module")
def alone() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def place(alone: Cluster) -> Iterator[str]:
    """A namespace in a cluster without CRDs. Release and CRDs go at the end."""
    name = f"test-{secrets.token_hex(4)}"
    alone.kubectl("create", "namespace", name)
    yield name
    if crds(alone):
        alone.kubectl("delete", ",".join(PLURALS), "--all", "--namespace", name)
    if alone.helm("list", "--namespace", name, "--short"):
        alone.helm("uninstall", "vmpower", "--namespace", name)
    alone.delete_crds()


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart of an earlier version, in which `kubectl get vm` has no column PAUSED."""
    chart = tmp_path_factory.mktemp("older") / "vmpower"
    shutil.copytree(CHART, chart)
    file = chart / "crds" / "virtualmachines.yaml"
    crd = yaml.safe_load(file.read_text())
    crd["spec"]["versions"][0]["additionalPrinterColumns"] = [one for one in columns(crd) if one["name"] != "PAUSED"]
    file.write_text(yaml.safe_dump(crd))
    return chart


def columns(crd: Any) -> list[dict[str, Any]]:
    """What `kubectl get` shows."""
    return list(crd["spec"]["versions"][0]["additionalPrinterColumns"])


def live(cluster: Cluster, plural: str = "virtualmachines") -> Any:
    return json.loads(cluster.kubectl("get", "crd", f"{plural}.infra.virtrigaud.io", "--output=json"))


def is_upgraded(cluster: Cluster) -> bool:
    return "PAUSED" in [column["name"] for column in columns(live(cluster))]


def helm(cluster: Cluster, verb: str, place: str, *args: str, chart: Path = CHART) -> None:
    cluster.helm(verb, "vmpower", str(chart), "--namespace", place, *args)


def crds(cluster: Cluster) -> list[str]:
    return cluster.kubectl("get", "crd", "--output=name").split()


def test_an_older_crd_that_helm_installed_is_upgraded_once_it_is_the_releases(
    alone: Cluster, place: str, older: Path
) -> None:
    helm(alone, "install", place, chart=older)
    helm(alone, "upgrade", place)
    assert not is_upgraded(alone)
    helm(alone, "upgrade", place, *INSTALL, OWN)
    assert is_upgraded(alone)


def test_an_older_crd_of_a_release_is_upgraded_with_it(alone: Cluster, place: str, older: Path) -> None:
    helm(alone, "install", place, *INSTALL, OWN, chart=older)
    assert not is_upgraded(alone)
    helm(alone, "upgrade", place, "--reuse-values")
    assert is_upgraded(alone)


def test_what_is_upgraded_is_what_controller_crds_has_and_keeps_the_resources(
    alone: Cluster, place: str, older: Path
) -> None:
    helm(alone, "install", place, chart=older)
    alone.kubectl("apply", "--namespace", place, "-f", "-", input=WEB)
    told = ("get", "virtualmachines", "web", "--namespace", place, "--output=jsonpath={.metadata.uid}")
    before = alone.kubectl(*told)
    helm(alone, "upgrade", place, *INSTALL, OWN)
    upgraded = [live(alone, plural)["spec"] for plural in PLURALS]
    alone.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    assert [live(alone, plural)["spec"] for plural in PLURALS] == upgraded
    assert alone.kubectl(*told) == before


def test_crds_of_another_owner_are_not_taken_without_a_word(alone: Cluster, place: str, older: Path) -> None:
    helm(alone, "install", place, chart=older)
    with pytest.raises(RuntimeError, match="invalid ownership metadata"):
        helm(alone, "upgrade", place, *INSTALL)
    assert not is_upgraded(alone)


def test_an_uninstall_leaves_the_crds_and_the_resources(alone: Cluster, place: str) -> None:
    helm(alone, "install", place, *INSTALL, OWN)
    alone.kubectl("apply", "--namespace", place, "-f", "-", input=WEB)
    alone.helm("uninstall", "vmpower", "--namespace", place)
    assert "virtualmachine.infra.virtrigaud.io/web" in alone.kubectl("get", "vm", "-n", place, "--output=name")


def test_an_uninstall_deletes_them_where_the_values_say_so(alone: Cluster, place: str) -> None:
    helm(alone, "install", place, *INSTALL, "--set", "crds.keep=false", OWN)
    alone.kubectl("apply", "--namespace", place, "-f", "-", input=WEB)
    alone.helm("uninstall", "vmpower", "--namespace", place)
    alone.wait_crds_gone(*(f"{plural}.infra.virtrigaud.io" for plural in PLURALS))
    assert crds(alone) == []


def test_a_later_upgrade_that_forgets_the_value_leaves_them(alone: Cluster, place: str) -> None:
    helm(alone, "install", place, *INSTALL, OWN)
    helm(alone, "upgrade", place)
    assert len(crds(alone)) == len(PLURALS)


def test_those_of_the_other_group_are_written_too(alone: Cluster) -> None:
    objects = render(alone, "default", "values.yaml", "--set", "crds.install=true,apiGroup=infra.vmpower")
    found = {one["metadata"]["name"]: one["spec"]["names"].get("shortNames") for one in of_kind(
        objects, "CustomResourceDefinition")}  # fmt: skip
    assert found == {
        "virtualmachines.infra.vmpower": ["vmp"],
        "providers.infra.vmpower": ["vmprov"],
        "powerplans.infra.vmpower": ["pplan"],
        "powerruns.infra.vmpower": ["prun"],
    }
