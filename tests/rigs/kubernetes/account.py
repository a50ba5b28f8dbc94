"""The controller as the chart would have it: its ServiceAccount, and no rights but those that the chart grants."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.rigs.kubernetes import chart
from tests.rigs.kubernetes.cluster import Cluster

KINDS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def grants(
    cluster: Cluster, namespace: str, secrets: Sequence[str] = (), values: Sequence[str] = ()
) -> list[chart.Object]:
    """The chart's objects about who may do what, for a controller of this namespace that may read these secrets; with
    further values of the chart."""
    settings = [f"watchNamespace={namespace}", *values]
    if secrets:
        settings += [
            f"guestCredentials[0].namespace={namespace}",
            f"guestCredentials[0].secrets={{{','.join(secrets)}}}",
        ]
    objects = chart.render(cluster, namespace, "values.yaml", "--set", ",".join(settings))
    return chart.of_kind(objects, *KINDS)


def controller_account(cluster: Cluster, namespace: str, secrets: Sequence[str] = ()) -> Path:
    """Apply them; the kubeconfig of the ServiceAccount. Its name for the API is `user_of(namespace)`."""
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(grants(cluster, namespace, secrets)))
    return cluster.service_account(namespace, "vmpower")


def user_of(namespace: str) -> str:
    """The controller's name in the audit log."""
    return f"system:serviceaccount:{namespace}:vmpower"
