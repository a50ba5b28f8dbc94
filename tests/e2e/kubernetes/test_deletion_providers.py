"""A Provider that is in use stays until no resource is bound to its VMs, also when its whole namespace is deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from protos.power.v1 import power_pb2 as pb
from tests.rigs.kubernetes import chart
from tests.rigs.kubernetes.account import KINDS
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.controller import KubernetesController
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Object, Resources, condition

SCRIPT = "guests: {web: {shutdown_time: 500ms, count: 3}}"
IN_USE = "vmpower/in-use"


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    with open_lab(cluster, SCRIPT) as lab:
        yield lab


@pytest.fixture
def account(cluster: Cluster, namespace: str) -> Iterator[Path]:
    """A controller's in this namespace, with the chart's rights in all namespaces."""
    objects = chart.of_kind(chart.render(cluster, namespace, "values.yaml"), *KINDS)
    text = yaml.safe_dump_all(objects)
    cluster.kubectl("apply", "-f", "-", input=text)
    yield cluster.service_account(namespace, "vmpower")
    cluster.kubectl("delete", "-f", "-", input=text)


def is_held(state: Object) -> bool:
    return IN_USE in state["metadata"].get("finalizers", [])


def running(vms: Resources, vm: str) -> None:
    vms.declare(vm, "On")
    vms.wait(vm, lambda state: condition(state, "Bound").get("status") == "True")


def test_a_provider_in_use_goes_when_the_last_resource_that_uses_it_is_gone(lab: Lab) -> None:
    running(lab.vms, "web-0001")
    lab.vms.wait("lab", is_held, kind="vmprov")
    lab.vms.kubectl("delete", "vmprov", "lab", "--wait=false")
    state = lab.vms.wait("lab", lambda state: bool(condition(state, "InUse")), kind="vmprov")
    assert "1 VirtualMachine" in condition(state, "InUse")["message"]
    lab.vms.change("web-0001", powerState="OffGraceful")
    lab.vms.wait_status("web-0001", lambda status: status.get("phase") == "Off")
    lab.vms.kubectl("delete", "vm", "web-0001")
    lab.vms.kubectl("wait", "--for=delete", "vmprov/lab", "--timeout=60s")


def test_a_namespace_that_is_deleted_goes_when_its_vms_are_down(
    lab: Lab, cluster: Cluster, namespace: str, account: Path
) -> None:
    with fresh_namespace(cluster) as tenant:
        trusted = f"--trusted-providers={tenant}/lab={lab.provider.address}"
        controller = KubernetesController(account, trusted, namespace=tenant, lease_namespace=namespace)
        vms = Resources(cluster, tenant, controller.output)
        vms.declare_provider("lab", lab.provider.address)
        with controller:
            running(vms, "web-0002")
            vms.annotate("web-0002", "vmpower/on-delete=OffGraceful")
            vms.wait("web-0002", lambda state: "vmpower/on-delete" in state["metadata"].get("finalizers", []))
            vms.wait("lab", is_held, kind="vmprov")
            cluster.kubectl("delete", "namespace", tenant, "--wait=false")
            # As the namespace controller does, which does not run here.
            vms.kubectl("delete", "vmprov,vm", "--all", "--wait=false")
            vms.kubectl("wait", "--for=delete", "vm/web-0002", "vmprov/lab", "--timeout=60s")
            controller.wait_output("the namespace is being deleted")  # why its Events were not sent
    assert lab.calls.vm("web-0002").power_state == pb.POWER_STATE_OFF
