from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from kubernetes.aio.leaderelection import leaderelection

from tests.unit.controller.sources.kubernetes.replicas import Replicas
from tests.unit.controller.sources.kubernetes.server import Called, HttpServer
from tests.unit.controller.sources.kubernetes.watched import Watched


@pytest.fixture
async def http() -> AsyncIterator[Called]:
    """Our API over a connection to a server on loopback."""
    server = HttpServer()
    async with server.run() as connection:
        yield Called(server, connection)


@pytest.fixture
async def replicas(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicas]:
    """Controllers that share a Lease; the clock on the wall is the loop's, until a test sets it."""
    made = Replicas()
    monkeypatch.setattr(leaderelection, "time", SimpleNamespace(time=made.wall))
    yield made
    await made.close()


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """A source around a fake API and a fake lease."""
    made = Watched(monkeypatch)
    yield made
    await made.stop()
