"""The Helm chart as it is rendered.

objects = render(cluster, "vmpower", "ci/values-separate.yaml")
roles = of_kind(objects, "Role", "ClusterRole")
"""

from typing import Any

import yaml

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.process import ROOT

CHART = ROOT / "deploy" / "helm" / "vmpower"
VALUES = ("values.yaml", "ci/values-sidecar.yaml", "ci/values-separate.yaml", "ci/values-cert-manager.yaml")
Object = dict[str, Any]


def render(cluster: Cluster, namespace: str, values: str = "values.yaml", *args: str) -> list[Object]:
    """What a release named vmpower consists of, without the CRDs.

    Raises:
        RuntimeError: Helm refuses; the message has what it said.
    """
    files = ("--values", str(CHART / values))
    text = cluster.helm("template", "vmpower", str(CHART), "--namespace", namespace, *files, *args)
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Those of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[Object]) -> list[Object]:
    """The Pods that the Deployments would make."""
    return [_pod(one["metadata"], one["spec"]["template"]) for one in of_kind(objects, "Deployment")]


def containers(objects: list[Object]) -> list[Object]:
    """All containers of all pods."""
    return [container for pod in pods(objects) for container in pod["spec"]["containers"]]


def selects(selector: Object, pod: Object) -> bool:
    """Whether labels to match are all the pod's."""
    return bool(selector["matchLabels"].items() <= pod["metadata"]["labels"].items())


def _pod(metadata: Object, template: Object) -> Object:
    same = {"name": metadata["name"], "namespace": metadata["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": same | template["metadata"], "spec": template["spec"]}
