"""In a cluster where the resources are another controller's, nothing of it is touched, and vmpower can live beside it.

The cluster is one of its own: CRDs are the whole cluster's."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rigs.kubernetes.chart import CHART
from tests.rigs.kubernetes.cluster import CRDS, Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Object
from tests.rigs.process import ROOT, Provider
from tests.rigs.watching import wait_for_change

pytestmark = pytest.mark.timeout(360)  # CRDS_GO_WITHIN, twice
FOREIGN = ROOT / "tests" / "rigs" / "kubernetes" / "foreign.yaml"
NAMES = ("virtualmachines", "providers")
"""Of the CRDs that both have."""
NOW = "2030-01-01T00:00:00Z"
READY = {"type": "Ready", "status": "True", "reason": "Provisioned", "message": "", "lastTransitionTime": NOW}
THEIRS: Object = {"phase": "Running", "powerState": "On", "ips": ["192.0.2.4"], "conditions": [READY]}
WEB = """
apiVersion: infra.virtrigaud.io/v1beta1
kind: VirtualMachine
metadata: {name: web}
spec: {providerRef: {name: lab}, classRef: {name: small}, powerState: "Off"}
"""
OURS = """
apiVersion: infra.vmpower/v1beta1
kind: Provider
metadata: {name: lab}
spec: {type: sim, runtime: {endpoint: "%s"}}
---
apiVersion: infra.vmpower/v1beta1
kind: VirtualMachine
metadata: {name: web}
spec: {providerRef: {name: lab}, powerState: OffGraceful}
"""
SENTENCE = "are another controller's here"


@pytest.fixture(scope="module")
def alone() -> Iterator[Cluster]:
    """A cluster without CRDs."""
    with Cluster() as cluster:
        yield cluster


@dataclass(frozen=True)
class Theirs:
    """Another controller's cluster, and a namespace with a VM that it has told of."""

    cluster: Cluster
    namespace: str

    def kubectl(self, *args: str, text: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *args, input=text)

    def all_of_theirs(self) -> list[Object]:
        """Their CRDs, and their VM with its status."""
        crds = [self.get("crd", f"{name}.infra.virtrigaud.io") for name in NAMES]
        return [*(crd["spec"] for crd in crds), self.get("virtualmachines.infra.virtrigaud.io", "web")]

    def get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self.kubectl("get", kind, name, "--output", "json"))
        return found


@pytest.fixture
def theirs(alone: Cluster) -> Iterator[Theirs]:
    alone.delete_crds()
    apply_crds(alone, FOREIGN)
    with fresh_namespace(alone) as namespace:
        found = Theirs(alone, namespace)
        found.kubectl("apply", "-f", "-", text=WEB)
        status = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": THEIRS}))
        found.kubectl("patch", "virtualmachines.infra.virtrigaud.io", "web", *status)
        yield found


def apply_crds(cluster: Cluster, crds: Path) -> None:
    cluster.kubectl("create", "-f", str(crds))
    cluster.wait_established("-f", str(crds))


def beside(cluster: Cluster) -> None:
    """Our CRDs in a group of their own, as docs/kubernetes.md has it."""
    for file in sorted(CRDS.glob("*.yaml")):
        text = file.read_text().replace("infra.virtrigaud.io", "infra.vmpower").replace("[vm]", "[vmp]")
        cluster.kubectl("apply", "-f", "-", input=text)
    cluster.wait_established(*(f"crd/{name}.infra.vmpower" for name in (*NAMES, "powerplans", "powerruns")))


def controller(theirs: Theirs, *args: str) -> KubernetesController:
    place = {"namespace": theirs.namespace, "lease_namespace": theirs.namespace}
    return KubernetesController(theirs.cluster.kubeconfig, *args, **place)


def ended(controller: KubernetesController) -> str:
    """What a controller that ends by itself has said."""
    wait_for_change(controller.folder, lambda: not controller.runs(), controller.output, 30)
    return controller.output()


def test_the_controller_says_so_in_one_sentence_and_touches_nothing(theirs: Theirs) -> None:
    before = theirs.all_of_theirs()
    program = controller(theirs)
    with program:
        said = ended(program)
    assert SENTENCE in said
    assert theirs.all_of_theirs() == before


def test_helm_says_so_in_one_sentence_and_touches_nothing(theirs: Theirs) -> None:
    before = theirs.all_of_theirs()
    with pytest.raises(RuntimeError, match=r"of this cluster is another controller's, and is left as it is"):
        theirs.cluster.helm("install", "vmpower", str(CHART), "--namespace", theirs.namespace)
    assert theirs.all_of_theirs() == before
    assert theirs.cluster.helm("list", "--namespace", theirs.namespace, "--short") == ""


def test_vmpower_works_beside_it_in_a_group_of_its_own(theirs: Theirs) -> None:
    before = theirs.all_of_theirs()
    beside(theirs.cluster)
    with Provider("sim") as provider, controller(theirs, "--api-group=infra.vmpower"):
        theirs.kubectl("apply", "-f", "-", text=OURS % provider.address)
        off = "--for=jsonpath={.status.lastPowerOff.outcome}=GRACEFUL"
        theirs.kubectl("wait", "vmp/web", off, "--timeout=60s")
        events = theirs.kubectl("get", "events", "-o", "jsonpath={.items[*].involvedObject.apiVersion}").split()
        theirs.kubectl("delete", "vmp/web", "vmprov/lab")  # a Provider in use is held as long as there is a controller
    assert set(events) == {"infra.vmpower/v1beta1"}
    assert theirs.all_of_theirs() == before


def test_helm_installs_it_beside(theirs: Theirs) -> None:
    before = theirs.all_of_theirs()
    beside(theirs.cluster)
    values = ("--set", "apiGroup=infra.vmpower", "--skip-crds")
    theirs.cluster.helm("install", "vmpower", str(CHART), "--namespace", theirs.namespace, *values)
    try:
        assert theirs.kubectl("get", "vmprov", "-o", "name").split() == ["provider.infra.vmpower/sim"]
        may = ("auth", "can-i", "patch", f"--as=system:serviceaccount:{theirs.namespace}:vmpower")
        assert theirs.kubectl(*may, "virtualmachines.infra.vmpower", "--subresource=status").strip() == "yes"
        refused = theirs.cluster.try_kubectl(*may, "virtualmachines.infra.virtrigaud.io", "--subresource=status")
        assert refused.stdout.strip() == "no"
    finally:
        theirs.cluster.helm("uninstall", "vmpower", "--namespace", theirs.namespace)
    assert theirs.all_of_theirs() == before


def test_crds_that_replace_ours_in_mid_run_end_the_controller(theirs: Theirs) -> None:
    theirs.cluster.delete_crds()
    theirs.cluster.install_crds()
    with Provider("sim") as provider, controller(theirs) as program:
        ours = (OURS % provider.address).replace("infra.vmpower", "infra.virtrigaud.io").replace("OffGraceful", '"On"')
        theirs.kubectl("apply", "-f", "-", text=ours)
        theirs.kubectl("wait", "vm/web", "--for=condition=Ready", "--timeout=60s")
        theirs.kubectl("replace", "-f", str(FOREIGN))
        assert SENTENCE in ended(program)
