"""A Kubernetes API with our CRDs, one for all tests, and a namespace for each."""

from collections.abc import Iterator

import pytest

from tests.rigs.kubernetes import third_party
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.namespace import fresh_namespace


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        cluster.install_crds()
        yield cluster


@pytest.fixture(scope="session")
def third_party_crds(cluster: Cluster) -> None:
    """Those of cert-manager and of Prometheus' operator, which the chart writes resources of."""
    third_party.install(cluster)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with fresh_namespace(cluster) as name:
        yield name
