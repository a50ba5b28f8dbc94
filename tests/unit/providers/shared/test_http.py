"""Connections over real TLS on loopback; tests/e2e/vsphere has them to a vCenter."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from providers.shared import http as module
from providers.shared.http import GONE_SECONDS, client
from providers.shared.tls import Trust, Verifying, verifying
from tests.unit.providers.https import Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    async with server.serving():
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as http:
        yield http


@pytest.fixture
def tls(server: Server) -> Verifying:
    return verifying(Trust(ca_file=server.ca))


async def post(http: aiohttp.ClientSession, tls: Verifying, url: str) -> bytes:
    async with http.post(url, data=b"ask", ssl=tls) as answer:
        return await answer.read()


async def test_a_server_that_offers_http2_too_is_spoken_to(
    server: Server, http: aiohttp.ClientSession, tls: Verifying
) -> None:
    assert await post(http, tls, f"{server.url}/sdk") == b"ask"


async def test_a_request_that_is_held_delays_no_other(
    server: Server, http: aiohttp.ClientSession, tls: Verifying
) -> None:
    held = [asyncio.create_task(post(http, tls, f"{server.url}/held")) for _ in range(20)]
    await server.come.wait()
    assert await post(http, tls, f"{server.url}/sdk") == b"ask"
    server.free.set()
    assert await asyncio.gather(*held) == [b"ask"] * 20


async def test_requests_one_after_the_other_share_a_connection(
    server: Server, http: aiohttp.ClientSession, tls: Verifying
) -> None:
    for _ in range(10):
        await post(http, tls, f"{server.url}/sdk")
    assert len(server.peers) == 1


async def test_a_lost_connection_is_made_anew(server: Server, http: aiohttp.ClientSession, tls: Verifying) -> None:
    server.headers = {"connection": "close"}
    for _ in range(2):
        assert await post(http, tls, f"{server.url}/sdk") == b"ask"
    assert len(server.peers) == 2


async def test_a_peer_that_vanishes_is_noticed_by_the_kernel(
    server: Server, tls: Verifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = list[socket.socket]()
    make = module._socket

    def noted(address: Any) -> socket.socket:
        watched.append(make(address))
        return watched[-1]

    monkeypatch.setattr(module, "_socket", noted)
    async with client() as http:
        await post(http, tls, f"{server.url}/sdk")
        assert watched[-1].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert watched[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == GONE_SECONDS * 1000


async def test_a_server_that_is_not_trusted_is_told_nothing(server: Server, http: aiohttp.ClientSession) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await post(http, verifying(Trust()), f"{server.url}/sdk")
    assert server.received == []
