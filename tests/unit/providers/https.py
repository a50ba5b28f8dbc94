"""A server over real TLS on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme
from aiohttp import web


class Server:
    """Answers each request by `body` and `headers`, or else by the request's own; `/held` only when it may, `/cut`
    without the last byte, `/moved` by a redirection.

    It offers HTTP/2, as the proxy before a vCenter does, and speaks none.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.set_alpn_protocols(["h2", "http/1.1"])
        authority.issue_cert("127.0.0.1").configure_cert(self.tls)
        self.url, self.body, self.headers = "", b"", dict[str, str]()
        self.received, self.peers = list[bytes](), set[object]()
        self.free, self.come = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve meanwhile."""
        app = web.Application()
        app.router.add_post("/{path}", self._handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        yield
        self.free.set()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport
        self.peers.add(request.transport.get_extra_info("peername"))
        self.received.append(await request.read())
        if request.path == "/held":
            self.come.set()
            await self.free.wait()
        if request.path == "/moved":
            raise web.HTTPTemporaryRedirect("/sdk")
        if request.path == "/cut":
            cut = web.StreamResponse(headers={"content-length": str(len(self.body))})
            await cut.prepare(request)
            await cut.write(self.body[:-1])
            request.transport.close()
            return cut
        return web.Response(body=self.body or self.received[-1], headers=self.headers)
