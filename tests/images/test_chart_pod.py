"""The pod of the chart's sidecar form in the image that the Dockerfile makes, beside a real API server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.rigs.docker.engine import Engine
from tests.rigs.docker.pod import Pod, passes
from tests.rigs.kubernetes import chart
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.namespace import fresh_namespace
from tests.rigs.kubernetes.resources import Resources
from tests.rigs.polling import poll

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
NO_DISK = ("PersistentVolumeClaim", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Pod")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        cluster.install_crds()
        yield cluster


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    with fresh_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def objects(cluster: Cluster, namespace: str) -> list[chart.Object]:
    """Those of the default values; all but what only a cluster with nodes has are applied."""
    settings = f"watchNamespace={namespace},bindAddress=127.0.0.1"
    objects = chart.render(cluster, namespace, "values.yaml", "--set", settings)
    applied = [one for one in objects if one["kind"] not in NO_DISK]
    cluster.kubectl("apply", "--namespace", namespace, "-f", "-", input=yaml.safe_dump_all(applied))
    return objects


@pytest.fixture(scope="module")
def spec(objects: list[chart.Object]) -> dict[str, Any]:
    (pod,) = chart.pods(objects)
    return dict(pod["spec"])


@pytest.fixture(scope="module")
def pod(
    engine: Engine, image: str, cluster: Cluster, namespace: str, objects: list[chart.Object], spec: dict[str, Any]
) -> Iterator[Pod]:
    api = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    server = urlsplit(api["server"])
    token = cluster.kubectl("create", "token", spec["serviceAccountName"], "--namespace", namespace)
    account = {"token": token.strip(), "ca.crt": Path(api["certificate-authority"]).read_text(), "namespace": namespace}
    environment = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    (known,) = (one["data"] for one in objects if one["metadata"]["name"] == "vmpower-cli")
    with Pod(engine, spec, {"kube-api": account, "cli": known}, environment) as pod:
        yield pod


def test_the_chart_names_the_image_that_the_dockerfile_makes(spec: dict[str, Any], image: str) -> None:
    assert {container["image"] for container in spec["containers"]} == {image}


def test_each_container_passes_its_probes(pod: Pod, spec: dict[str, Any]) -> None:
    for container in spec["containers"]:
        for probe in PROBES:
            poll(lambda probe=container[probe]: passes(probe), 120)  # type: ignore[misc]


def test_each_container_runs_with_the_rights_that_the_chart_gives(pod: Pod) -> None:
    for container in pod.containers.values():
        told = container.python("print(open('/proc/1/status').read())")
        assert "Uid:\t65532" in told
        assert "CapBnd:\t0000000000000000" in told
        assert "NoNewPrivs:\t1" in told


def test_no_container_writes_beyond_its_volumes(pod: Pod) -> None:
    script = "import os; print([path for path in ('/', '/usr', '/opt/vmpower', '/etc') if os.access(path, os.W_OK)])"
    assert [container.python(script) for container in pod.containers.values()] == ["[]", "[]"]


def test_it_brings_a_vm_down(pod: Pod, cluster: Cluster, namespace: str) -> None:
    vms = Resources(cluster, namespace, lambda: "\n".join(one.logs() for one in pod.containers.values()))
    text = {
        "apiVersion": "infra.virtrigaud.io/v1beta1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web"},
        "spec": {"providerRef": {"name": "sim"}, "powerState": "OffGraceful"},
    }
    vms.kubectl("apply", "-f", "-", input=yaml.safe_dump(text))
    status = vms.wait_status("web", lambda status: "lastPowerOff" in status)
    assert status["lastPowerOff"]["outcome"] == "GRACEFUL"


def test_the_command_line_in_the_controllers_container_knows_the_provider(pod: Pod) -> None:
    assert "web" in pod.containers["controller"].execute("vmpower", "list")


def test_the_release_is_found_well_by_the_command_that_helm_test_runs(pod: Pod, objects: list[chart.Object]) -> None:
    (test,) = chart.of_kind(objects, "Pod")
    (container,) = test["spec"]["containers"]
    places = [f"127.0.0.1:{address.rpartition(':')[2]}" for address in container["args"]]
    assert pod.containers["controller"].execute(*container["command"], *places) == ""
