"""The API servers: an address for each node with its own certificate, before the one fakepve.

client -> edge (what a proxy sees: records, 595, closes) -> fakepve (tickets, tokens, failures) -> our answers
                                                                                      \\-> or else fakepve's
"""

import asyncio
import json
import re
import ssl
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web
from aiohttp.typedefs import Handler as Next
from fakepve import server as fake_server
from fakepve.model import PveError

from tests.rigs.proxmox.pve.datacenter import Datacenter
from tests.rigs.proxmox.pve.tasks import Routes

API = "/api2/json"
UNAUTHORIZED = 3  # seconds that pveproxy lets those wait whom it does not know (PVE::APIServer::AnyEvent)
KEEP_ALIVE = 100  # requests on a connection (PVE::Service::pveproxy)
IDLE = 5  # seconds until it closes an idle one

# What PVE 8 asked for where PVE 9 has privileges of the agent's own.
PVE_8 = ("VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted", "VM.GuestAgent.Unrestricted", "VM.GuestAgent.Audit")


class Edge:
    """All that clients see of the cluster."""

    def __init__(self, datacenter: Datacenter, routes: Routes, latency: float) -> None:
        self._dc = datacenter
        self._routes = routes
        pve = datacenter.pve
        pve.network["latency"] = latency / pve.time_scale  # fakepve scales it
        self.requests = list[tuple[str, str, Mapping[str, Any]]]()
        self.calls = Counter[str]()
        self.lost = list[dict[str, Any]]()
        self.silence = dict[str, float]()  # seconds for which a call to a node waits in vain
        self.endpoints = list[Endpoint]()
        self.connections = 0  # that ever brought a request
        self._served = weakref.WeakKeyDictionary[asyncio.BaseTransport, int]()
        if datacenter.release == 8:
            allowed = pve.allowed
            pve.allowed = lambda user, path, privilege: allowed(user, path, in_8(privilege))

    async def listen(self, node: str, host: str, certificate: str) -> None:
        """One more address."""
        endpoint = Endpoint(node, host, certificate, self._application())
        self.endpoints.append(endpoint)
        await endpoint.up()

    def _application(self) -> web.Application:
        application = self._dc.pve._build_app()
        application.middlewares.insert(0, self._outside)
        application.middlewares.append(self._inside)
        return application  # type: ignore[no-any-return]  # fakepve has no types

    @web.middleware
    async def _outside(self, request: web.Request, handler: Next) -> web.StreamResponse:
        """What pveproxy does with any request and with its answer."""
        await self._record(request)
        await self._dc.pause(self.silence.get(_node(request), 0))
        response: web.StreamResponse = await handler(request)
        if lost := self._lost(request):
            response = web.Response(status=lost["status"], reason=lost["message"])
        if response.status == 401:
            await self._dc.pause(UNAUTHORIZED)
        if response.status == 595 or (response.status == 401 and not request.path.endswith("/access/ticket")):
            # Neither comes from an API method, so that there is no JSON to it.
            response = web.Response(status=response.status, reason=response.reason)
        if response.status >= 400 or self._worn_out(request):
            response.force_close()
        return response

    @web.middleware
    async def _inside(self, request: web.Request, handler: Next) -> web.StreamResponse:
        """Our answers go before fakepve's."""
        match = self._dc.pve.resolve(request, API)
        route = self._routes.get((request.method, match.template)) if match else None
        if route is None:
            return await handler(request)

        async def call(_match: object, values: Mapping[str, Any]) -> object:
            return await route(values, request[fake_server.USER])

        values = await received(request)
        try:
            data = await self._dc.pve.answer(request, match, values, request[fake_server.USER], call)
        except PveError as error:
            if self._dc.release == 8:
                error.message = in_8(error.message)
            raise
        return web.json_response({"data": data})

    async def _record(self, request: web.Request) -> None:
        path = request.path.removeprefix(API)
        self.requests.append((request.method, path, await received(request)))
        match = self._dc.pve.resolve(request, API)
        self.calls[f"{request.method} {match.template if match else path}"] += 1

    def _lost(self, request: web.Request) -> dict[str, Any] | None:
        for lost in self.lost:
            if lost["times"] and request.method == lost["method"] and request.path.endswith(lost["suffix"]):
                lost["times"] -= 1
                return lost
        return None

    def _worn_out(self, request: web.Request) -> bool:
        if (transport := request.transport) is None:
            return True
        self.connections += transport not in self._served
        self._served[transport] = self._served.get(transport, 0) + 1
        return self._served[transport] >= KEEP_ALIVE


class Endpoint:
    """The API server of one node, which keeps its port."""

    def __init__(self, node: str, host: str, certificate: str, application: web.Application) -> None:
        self.node = node
        self.host = host
        self.port = 0
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate)
        self._runner = web.AppRunner(application, keepalive_timeout=IDLE, access_log=None)
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    async def up(self) -> None:
        """Listen."""
        if self._site:
            return
        if self._runner.server is None:
            await self._runner.setup()
        self._site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls, backlog=1024)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Listen no more, and cut all connections."""
        if self._site is None:
            return
        site, self._site = self._site, None
        await site.stop()
        for connection in list(self._runner.server.connections if self._runner.server else []):
            if connection.transport:
                connection.transport.abort()


def _node(request: web.Request) -> str:
    """The node that a call is about, or none."""
    _, first, node, *_ = (*request.path.removeprefix(API).split("/"), "", "")
    return str(node) if first == "nodes" else ""


async def received(request: web.Request) -> dict[str, Any]:
    """The parameters that reach PVE's methods (PVE::APIServer::AnyEvent, extract_params)."""
    body = await request.read()
    form = request.content_type != "application/json"
    values: dict[str, Any] = decoded(body.decode()) if form else json.loads(body)
    return values | decoded(request.rel_url.raw_query_string)


def decoded(text: str) -> dict[str, Any]:
    """A form. A name that comes again makes a list; without a value, it takes away what came before it.

    fakepve leaves empty values out, and keeps the others.
    """
    values = dict[str, Any]()
    for pair in filter(None, re.split("[&;]", text)):
        name, value, *_ = (*map(unquote_plus, pair.split("=")), "")
        before = values.pop(name, None)
        if value and before is not None:
            values[name] = [*(before if isinstance(before, list) else [before]), value]
        elif value:
            values[name] = value
    return values


def in_8(text: str) -> str:
    """Privileges of PVE 9 in the words of PVE 8."""
    for name in PVE_8:
        text = text.replace(name, "VM.Monitor")
    return text
