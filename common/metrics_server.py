"""Serves the metrics over HTTP from the event loop: no connection costs a thread, and none holds a place for long.

No thread is begun per connection, for whoever reaches the port without a certificate could then take all that the
process may have, and the journal's writes with them.
"""

import asyncio
import socket
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from common.version import version

MOST_CONNECTIONS = 32
"""At the same time; further ones are closed at once."""
LONGEST_CONNECTION = 15.0
"""Seconds; then a connection is closed, whatever it does. Prometheus gives up after 10 s by default."""


def build_info(**labels: str) -> Metric:
    """What runs here: always 1, with the version as a label, and these."""
    labels = {"version": version(), **labels}
    family = GaugeMetricFamily("vmpower_build_info", "What runs here; always 1", labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family


class MetricsServer:
    """One listening socket."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._server: asyncio.Server | None = None
        self._open = set[asyncio.BaseTransport]()
        self._http = web.Server(self._answer, access_log=None, keepalive_timeout=LONGEST_CONNECTION)

    async def start(self, address: str) -> int:
        """Listen at `host:port`; return the port.

        Raises:
            OSError: it cannot be listened at.
        """
        host, _, port = address.rpartition(":")
        loop, host = asyncio.get_running_loop(), host.strip("[]")
        if host == "::" and socket.has_dualstack_ipv6():  # all addresses of IPv4 too, which asyncio would leave out
            everywhere = socket.create_server((host, int(port)), family=socket.AF_INET6, dualstack_ipv6=True)
            self._server = await loop.create_server(self._protocol, sock=everywhere)
        else:
            self._server = await loop.create_server(self._protocol, host, int(port))
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for transport in tuple(self._open):
            transport.close()
        await self._http.shutdown(timeout=1)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405)
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _protocol(self) -> asyncio.BaseProtocol:
        return _Bounded(self._http(), self._open)


class _Bounded(asyncio.Protocol):
    """Passes a connection on to aiohttp's protocol, for at most LONGEST_CONNECTION."""

    def __init__(self, inner: asyncio.Protocol, opened: set[asyncio.BaseTransport]) -> None:
        self._inner, self._opened = inner, opened
        self._end: Callable[[], object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._refused = len(self._opened) >= MOST_CONNECTIONS
        if self._refused:
            return transport.close()
        self._opened.add(transport)
        self._end = asyncio.get_running_loop().call_later(LONGEST_CONNECTION, _abort, transport).cancel
        return self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._refused:
            return
        self._opened.discard(self._transport)
        if self._end:
            self._end()
        self._inner.connection_lost(error)


def _abort(transport: asyncio.BaseTransport) -> None:
    """Without waiting for what is still to be sent to a client that reads nothing."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
