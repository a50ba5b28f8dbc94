"""A node of a cluster as its clients meet it: HTTPS on loopback, logins, and whatever a test lets it answer."""

import asyncio
import hashlib
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web

from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.session import Session

Make = Callable[..., Session]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
USER, TOKEN, SECRET = "vmpower@pve", "vmpower@pve!power", "11111111-2222-3333-4444-555555555555"


@dataclass(frozen=True)
class Asked:
    """One request, without its login."""

    method: str
    path: str
    query: str
    body: str
    headers: dict[str, str]
    peer: object


def data(value: object) -> web.Response:
    return web.json_response({"data": value})


def failure(status: int, reason: str, errors: dict[str, str] | None = None) -> web.Response:
    """As pveproxy words it."""
    text = json.dumps({"data": None, "message": reason} | ({"errors": errors} if errors else {}))
    return web.Response(status=status, reason=reason, text=text, content_type="application/json")


@dataclass
class Node:
    """Takes `password` and `secret`, and what `tickets` holds; answers with `answer`, or else with the path."""

    certificate: trustme.LeafCert
    password: str = "first"
    secret: str = SECRET
    logins: list[tuple[str, str]] = field(default_factory=list)
    tickets: set[str] = field(default_factory=set)
    asked: list[Asked] = field(default_factory=list)
    answer: Answer | None = None
    login_answer: Answer | None = None
    url: str = ""

    def __post_init__(self) -> None:
        self.ended = asyncio.Event()
        self._transports = set[asyncio.Transport]()

    @property
    def fingerprint(self) -> str:
        pem = self.certificate.cert_chain_pems[0].bytes().decode()
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    async def start(self, *, tls: bool = True) -> None:
        app = web.Application(middlewares=[self._seen])
        app.router.add_post("/api2/json/access/ticket", self._login)
        app.router.add_route("*", "/api2/json/{path:.*}", self._call)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(context)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context if tls else None)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.ended.set()
        for transport in self._transports:
            with suppress(AttributeError):  # Python 3.11.2, Debian 12's, aborts no TLS transport that has ended
                transport.abort()  # a client that closes says so only to the next event loop
        await self._runner.cleanup()

    async def hang(self, _request: web.Request) -> web.StreamResponse:
        """An answer that does not come."""
        await self.ended.wait()
        return data(None)

    async def cut(self, request: web.Request) -> web.StreamResponse:
        """The connection breaks when the request has come."""
        assert request.transport
        request.transport.abort()
        return data(None)

    @web.middleware
    async def _seen(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        assert request.transport
        self._transports.add(request.transport)
        return await handler(request)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        form = await request.json()
        name, password = str(form["username"]), str(form["password"])
        self.logins.append((name, password))
        if self.login_answer:
            return await self.login_answer(request)
        if password != self.password and password not in self.tickets:
            return failure(401, "authentication failure")
        ticket = f"PVE:{name}:{len(self.logins)}"
        self.tickets.add(ticket)
        return data({"username": name, "ticket": ticket, "CSRFPreventionToken": f"csrf-{ticket}"})

    async def _call(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return web.Response(status=401, reason="No ticket")
        path, body, peer = request.match_info["path"], await request.text(), request.get_extra_info("peername")
        self.asked.append(Asked(request.method, path, request.query_string, body, dict(request.headers), peer))
        return await self.answer(request) if self.answer else data(path)

    def _knows(self, request: web.Request) -> bool:
        if request.headers.get("Authorization") == f"PVEAPIToken={TOKEN}={self.secret}":
            return True
        ticket = request.cookies.get("PVEAuthCookie", "")
        guarded = request.method == "GET" or request.headers.get("CSRFPreventionToken") == f"csrf-{ticket}"
        return ticket in self.tickets and guarded


class Silent:
    """Takes connections, and never says a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()


class Dead:
    """A port that refuses connections, and that nobody else gets meanwhile."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        self._socket.close()


def as_user(folder: Path, password: str = "first") -> None:
    """Write the login of a user."""
    (folder / "username").write_text(USER)
    (folder / "password").write_text(password)


def as_token(folder: Path, secret: str = SECRET) -> None:
    """Write the login of a token."""
    (folder / "token-id").write_text(TOKEN)
    (folder / "token-secret").write_text(secret)


def settings(folder: Path, *urls: str, **verified: object) -> ProxmoxSettings:
    """Those of a provider whose login is in `folder`."""
    fields = {"listen": "unix:///x", "url": ",".join(urls), "credentials_dir": folder}
    return ProxmoxSettings.model_validate(fields | verified)
