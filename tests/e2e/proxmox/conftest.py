"""A cluster with guests that come and go, and its API by hand."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.served import Served, served
from tests.rigs.proxmox.client import Client, Machine
from tests.rigs.proxmox.cluster import Cluster

NewMachine = Callable[..., Machine]
"""Adds a guest that behaves as the arguments say."""

NewGuest = Callable[..., str]
"""Adds a guest that behaves as the arguments say, and returns its key when the provider `knows` it as the test needs it
(None: at once)."""

OFTEN = ("--active-interval=200ms", "--idle-interval=200ms")
"""For a provider that soon knows of a guest."""
NUMBERS = itertools.count(1)
SCALE = 0.05
"""One of PVE's seconds, in ours."""


def assert_took(seconds: float, shown: Mapping[str, Any]) -> None:
    """A guest was off so many of PVE's seconds after it was first asked, give or take how slow we are."""
    took = shown["off_at"] - shown["heard"][0][0]
    assert seconds * SCALE - 0.01 < took < seconds * SCALE + 1


def denied(path: str, privilege: str) -> str:
    """What PVE says of a privilege that is missing, for `match`."""
    return re.escape(f"403 Permission check failed ({path}, {privilege})")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster({"spare": {}}, time_scale=SCALE, ha_delay=1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    """The cluster's own token, at its first node."""
    with Client(cluster) as client:
        yield client


@pytest.fixture
def machine(cluster: Cluster, client: Client) -> Iterator[NewMachine]:
    """Guests for one test."""
    keys = (f"guest-{n}" for n in itertools.count(1))
    added = list[str]()

    def add(**behaviour: object) -> Machine:
        added.append(next(keys))
        cluster.add(added[-1], **behaviour)
        return Machine(cluster, client, added[-1])

    yield add
    for key in added:
        cluster.remove(key)


# With a provider before it, in real seconds


@pytest.fixture(scope="module")
def it() -> Iterator[Served]:
    with served({"spare": {}}, *OFTEN, ha_delay=1) as it:
        yield it


@pytest.fixture
def guest(it: Served) -> Iterator[NewGuest]:
    """Guests for one test. No key comes twice, for the provider may still know the one before."""
    added = list[str]()

    def add(knows: Callable[[pb.VM], bool] | None = lambda _vm: True, **behaviour: object) -> str:
        added.append(f"web-{next(NUMBERS)}")
        it.cluster.add(added[-1], **behaviour)
        if knows:
            it.calls.wait_vm(str(behaviour.get("name", added[-1])), knows)
        return added[-1]

    yield add
    for key in added:
        it.cluster.remove(key)
