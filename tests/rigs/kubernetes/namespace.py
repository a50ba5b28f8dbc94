"""A namespace of one's own."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from tests.rigs.kubernetes.cluster import Cluster


@contextmanager
def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    """A new one. What is left of ours in it goes at the end, finalizers or not; the API is up again then."""
    cluster.start_api()
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.start_api()
        _empty(cluster, name)


def _empty(cluster: Cluster, name: str) -> None:
    ours = ("virtualmachines,providers", "--namespace", name)
    cluster.try_kubectl("delete", "powerruns,powerplans", "--namespace", name, "--all")  # where there are CRDs of them
    cluster.kubectl("delete", *ours, "--all", "--wait=false")
    for left in cluster.kubectl("get", *ours, "--output", "name").split():
        cluster.kubectl(
            "patch", left, "--namespace", name, "--type", "merge", "--patch", '{"metadata": {"finalizers": null}}'
        )
