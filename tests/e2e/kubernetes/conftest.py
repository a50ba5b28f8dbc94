"""A Kubernetes API with our CRDs, one for all tests, and a namespace for each."""

import secrets
from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        cluster.install_crds()
        yield cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh one. What a test leaves of ours in it goes at the end, finalizers or not; the API is up again then."""
    cluster.start_api()
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.start_api()
    ours = ("virtualmachines,providers", "--namespace", name)
    cluster.kubectl("delete", *ours, "--all", "--wait=false")
    for left in cluster.kubectl("get", *ours, "--output", "name").split():
        cluster.kubectl(
            "patch", left, "--namespace", name, "--type", "merge", "--patch", '{"metadata": {"finalizers": null}}'
        )
