"""Nodes of a cluster on loopback, under one CA."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from providers.proxmox.adapter import ProxmoxAdapter
from providers.proxmox.endpoint import client
from providers.proxmox.session import Session
from providers.shared.tls import Verifying, verifying
from tests.unit.providers.proxmox.cluster import Cluster
from tests.unit.providers.proxmox.node import Dead, Make, Node, Silent, as_user, settings


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("127.0.0.1")


@pytest.fixture
async def node(certificate: trustme.LeafCert) -> AsyncIterator[Node]:
    node = Node(certificate)
    await node.start()
    yield node
    await node.stop()


@pytest.fixture
async def second(certificate: trustme.LeafCert) -> AsyncIterator[Node]:
    """Another node of the same cluster."""
    second = Node(certificate)
    await second.start()
    yield second
    await second.stop()


@pytest.fixture
def dead() -> Iterator[Dead]:
    dead = Dead()
    yield dead
    dead.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    silent = Silent()
    yield silent
    silent.close()


@pytest.fixture
async def make(tmp_path: Path, ca_file: Path) -> AsyncIterator[Make]:
    """A session with these endpoints, as a user."""
    made = list[Session]()
    as_user(tmp_path)

    def make(*urls: str, **verified: object) -> Session:
        made.append(Session(settings(tmp_path, *urls, **(verified or {"ca_file": ca_file}))))
        return made[-1]

    yield make
    for session in made:
        await session.close()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def adapter(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProxmoxAdapter:
    """Its session is the cluster."""
    monkeypatch.setattr("providers.proxmox.adapter.Session", lambda _settings: cluster)
    return ProxmoxAdapter(settings(tmp_path, "https://127.0.0.1"))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as http:
        yield http


@pytest.fixture
def tls(node: Node, tmp_path: Path, ca_file: Path) -> Verifying:
    return verifying(settings(tmp_path, node.url, ca_file=ca_file).trust)
