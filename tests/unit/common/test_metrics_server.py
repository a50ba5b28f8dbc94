"""The metrics over HTTP, on loopback; nothing here is in virtual time."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from common.metrics_server import MOST_CONNECTIONS, MetricsServer


@pytest.fixture
async def port() -> AsyncIterator[int]:
    registry = CollectorRegistry()
    Gauge("answer", "of all", registry=registry).set(42)
    server = MetricsServer(registry)
    yield await server.start("127.0.0.1:0")
    await server.stop()


async def test_metrics_are_served(port: int) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert "answer 42.0" in await answer.text()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
async def test_all_addresses_of_ipv6_are_those_of_ipv4_too() -> None:
    server = MetricsServer(CollectorRegistry())
    port = await server.start("[::]:0")
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
    await server.stop()


async def test_silent_connections_begin_no_threads(port: int) -> None:
    before = set(threading.enumerate())  # of these, another test's may end meanwhile
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS)]
    assert set(threading.enumerate()) <= before
    for _, writer in opened:
        writer.close()


async def test_a_connection_too_many_is_closed_at_once(port: int) -> None:
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS + 1)]
    async with asyncio.timeout(5):
        assert await opened[-1][0].read() == b""
    for _, writer in opened:
        writer.close()


async def test_a_silent_connection_is_closed_after_its_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.metrics_server.LONGEST_CONNECTION", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
