"""Both protocols over real TLS on loopback; tests/e2e/vsphere has all of it on a vCenter."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from providers.shared.tls import GONE_SECONDS, Trust, verifying, watch_over
from providers.vsphere import transport as module
from providers.vsphere.transport import Transport

SQUEEZED = {"content-encoding": "gzip"}


class Server:
    """Answers each request with its own body, those of `held` only when they may."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.tls)
        self.port, self.connections, self.headers = 0, 0, dict[str, str]()
        self.squeezes, self.held, self.come = False, asyncio.Event(), asyncio.Event()

    async def answer(self, body: bytes) -> bytes:
        if body == b"held":
            self.come.set()
            await self.held.wait()
        return gzip.compress(body) if self.squeezes else body

    def transport(self, **trust: Any) -> Transport:
        url = f"https://127.0.0.1:{self.port}/sdk"
        return Transport(url, partial(verifying, Trust(**{"ca_file": self.ca} | trust)))


class Http2Server(asyncio.Protocol):
    """One connection of a server."""

    def __init__(self, server: Server) -> None:
        self.server, self.bodies, self.tasks = server, dict[int, bytes](), set[asyncio.Task[None]]()
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.connections += 1
        self.h2.initiate_connection()
        transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.server.headers = {str(name): str(value) for name, value in event.headers}
                self.bodies[event.stream_id] = b""
            elif isinstance(event, StreamEnded):
                self.tasks.add(asyncio.create_task(self._answer(event.stream_id)))
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
        self.transport.write(self.h2.data_to_send())

    async def _answer(self, stream: int) -> None:
        body = await self.server.answer(self.bodies[stream])
        squeezed = list(SQUEEZED.items()) if self.server.squeezes else []
        self.h2.send_headers(stream, [(":status", "200"), *squeezed])
        self.h2.send_data(stream, body, end_stream=True)
        self.transport.write(self.h2.data_to_send())


class _Http1:
    def __init__(self, server: Server) -> None:
        async def handle(request: web.Request) -> web.Response:
            server.headers = {name.lower(): value for name, value in request.headers.items()}
            body = await server.answer(await request.read())
            return web.Response(body=body, headers=SQUEEZED if server.squeezes else {})

        app = web.Application()
        app.router.add_post("/sdk", handle)
        self.server, self.runner = server, web.AppRunner(app)

    async def __aenter__(self) -> int:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self.server.tls).start()
        port: int = self.runner.addresses[0][1]
        return port

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()


class _Http2:
    def __init__(self, server: Server) -> None:
        self.server = server

    async def __aenter__(self) -> int:
        loop, context = asyncio.get_running_loop(), self.server.tls
        self.listener = await loop.create_server(lambda: Http2Server(self.server), "127.0.0.1", 0, ssl=context)
        port: int = self.listener.sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    server.tls.set_alpn_protocols(["h2", "http/1.1"] if request.param == "HTTP/2" else ["http/1.1"])
    serving = _Http2(server) if request.param == "HTTP/2" else _Http1(server)
    async with serving as server.port:
        yield server


@pytest.fixture
async def transport(server: Server) -> AsyncIterator[Transport]:
    transport = server.transport()
    yield transport
    await transport.close()


async def test_a_request_arrives_and_is_answered(server: Server, transport: Transport) -> None:
    answer = await transport.post({"soapaction": "urn:vim25"}, b"ask")
    assert (answer.status, answer.body, server.headers["soapaction"]) == (200, b"ask", "urn:vim25")


async def test_a_request_that_is_held_delays_no_other(server: Server, transport: Transport) -> None:
    held = asyncio.create_task(transport.post({}, b"held"))
    await server.come.wait()
    assert (await transport.post({}, b"ask")).body == b"ask"
    server.held.set()
    assert (await held).body == b"held"


async def test_what_was_squeezed_is_unpacked(server: Server, transport: Transport) -> None:
    server.squeezes = True
    assert (await transport.post({}, b"ask" * 100)).body == b"ask" * 100
    assert "gzip" in server.headers["accept-encoding"]


async def test_what_cannot_be_unpacked_is_no_answer(
    server: Server, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.squeezes = True
    monkeypatch.setattr("gzip.compress", lambda body: b"no gzip")
    with pytest.raises((OSError, aiohttp.ClientError)):
        await transport.post({}, b"ask")


@pytest.mark.parametrize("server", ["HTTP/1.1"], indirect=True)
async def test_a_server_without_http2_hears_none(
    server: Server, transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    await transport.post({}, b"ask")
    assert not caplog.records


async def test_a_peer_that_vanishes_is_noticed_by_the_kernel(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = list[socket.socket]()

    def noted(made: socket.socket) -> None:
        watched.append(made)
        watch_over(made)

    monkeypatch.setattr(module, "watch_over", noted)
    await transport.post({}, b"ask")
    assert watched[-1].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert watched[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == GONE_SECONDS * 1000


async def test_who_closes_it_waits_for_what_is_under_way(server: Server, transport: Transport) -> None:
    held = asyncio.create_task(transport.post({}, b"held"))
    await server.come.wait()
    await transport.close()
    server.held.set()
    assert (await held).body == b"held"


async def test_a_server_that_nobody_vouches_for_is_told_nothing(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await server.transport(ca_file=None).post({}, b"ask")
    assert server.headers == {}


@pytest.mark.parametrize("server", ["HTTP/2"], indirect=True)
async def test_all_share_one_connection_where_they_can(server: Server, transport: Transport) -> None:
    await asyncio.gather(*(transport.post({}, b"ask") for _ in range(20)))
    assert server.connections == 1


@pytest.mark.parametrize("server", ["HTTP/2"], indirect=True)
async def test_a_lost_connection_is_made_anew(server: Server, transport: Transport) -> None:
    await transport.post({}, b"ask")
    assert transport._http2
    await transport._http2.close()
    assert (await transport.post({}, b"ask")).body == b"ask"
    assert server.connections == 2
