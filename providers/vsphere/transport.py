"""Connections to vCenter: a single one if it offers HTTP/2, or else as many of HTTP/1.1 as there are calls under way.

The proxy before a vCenter offers HTTP/2 (govmomi issue 3564 measures it), an older one and some hosts do not.
"""

import asyncio
import gzip
import socket
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from providers.shared.tls import Verifying, watch_over
from providers.vsphere.http2 import NAME, Answer, Http2

IDLE_SECONDS = 30
"""How long an unused connection of HTTP/1.1 is kept."""

Trust = Callable[[], Verifying]
"""Makes a context that knows whom to trust; each protocol needs one of its own."""


def http1(tls: Verifying) -> aiohttp.ClientSession:
    """A client of HTTP/1.1, with a connection for each call that is under way. Whoever uses it bounds how long."""
    connector = aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=IDLE_SECONDS, socket_factory=_socket)
    jar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=aiohttp.ClientTimeout())


class Transport:
    """Posts to one URL. What it speaks is found out by the first connection."""

    def __init__(self, url: str, trust: Trust) -> None:
        self._url, self._parts = url, urlsplit(url)
        self._trust = trust
        self._dialling = asyncio.Lock()
        self._http2: Http2 | None = None
        self._http1: aiohttp.ClientSession | None = None
        self._under_way = 0
        self._closed = False

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request, and wait for the answer.

        Raises:
            OSError, aiohttp.ClientError: there will be none.
        """
        self._under_way += 1
        try:
            return await self._post(dict(headers) | {"accept-encoding": "gzip"}, body)
        finally:
            self._under_way -= 1
            await self._shut()

    async def close(self) -> None:
        """Close all connections: now, or as soon as the calls that are under way have come back."""
        self._closed = True
        await self._shut()

    async def _shut(self) -> None:
        if not self._closed or self._under_way:
            return
        if self._http2:
            await self._http2.close()
        if self._http1:
            await self._http1.close()

    async def _post(self, headers: dict[str, str], body: bytes) -> Answer:
        async with self._dialling:
            if self._http1 is None and not (self._http2 and self._http2.usable):
                await self._dial()
        if self._http1:
            return await _by_http1(self._http1, self._url, headers, body)
        assert self._http2  # noqa: S101 - dialled
        return _unpacked(await self._http2.post([*self._pseudo_headers(), *headers.items()], body))

    async def _dial(self) -> None:
        tls = self._trust()
        tls.set_alpn_protocols([NAME, "http/1.1"])
        host, port = self._parts.hostname or "", self._parts.port or 443
        transport, http2 = await asyncio.get_running_loop().create_connection(Http2, host, port, ssl=tls)
        watch_over(transport.get_extra_info("socket"))
        if http2.agreed:
            self._http2 = http2
        else:
            await http2.close()
            self._http1 = http1(self._trust())

    def _pseudo_headers(self) -> list[tuple[str, str]]:
        parts = self._parts
        return [(":method", "POST"), (":scheme", "https"), (":authority", parts.netloc), (":path", parts.path)]


async def _by_http1(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, found, await response.read())


def _unpacked(answer: Answer) -> Answer:
    if answer.headers.get("content-encoding") != "gzip":
        return answer
    try:
        return answer._replace(body=gzip.decompress(answer.body))
    except (EOFError, OSError, zlib.error) as error:
        raise ConnectionError(f"its answer cannot be unpacked ({error})") from error


def _socket(address: Any) -> socket.socket:
    made = socket.socket(*address[:3])
    watch_over(made)
    return made
