"""An HTTP server on loopback that answers as it is told, once each, and remembers what it was asked."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from controller.source import Key
from controller.sources.kubernetes.api import Api, Object
from tests.unit.controller.sources.kubernetes.fakes import WEB

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any
    authorization: str = ""


class HttpServer:
    """`answers` are given in turn; `connection` is the client library's, to this server."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.asked: list[Asked] = []
        self.hung_up = asyncio.Event()
        """A client has left while it was answered."""

    @asynccontextmanager
    async def run(self) -> AsyncIterator[client.ApiClient]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with TestServer(app, host="127.0.0.1") as server, connect(str(server.make_url(""))) as connection:
            yield connection

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        who = request.headers.get("Authorization", "")
        self.asked.append(Asked(request.method, request.path, dict(request.query), request.content_type, body, who))
        try:
            return await self.answers.popleft()(request)
        except asyncio.CancelledError:
            self.hung_up.set()
            raise


def connect(host: str) -> client.ApiClient:
    return client.ApiClient(client.Configuration(host=host))


class Called:
    """Our API over a connection to such a server, each call in its shortest form."""

    def __init__(self, server: HttpServer, connection: client.ApiClient) -> None:
        self.server, self.connection = server, connection
        self.api = Api(connection)

    def answer(self, *answers: Answer) -> None:
        self.server.answers.extend(answers)

    async def items(self, kind: str = "VirtualMachine") -> list[Object]:
        return [item async for found in self.api.list(kind) for item in found["items"]]

    async def watch(self) -> list[Object]:
        return [event async for event in self.api.watch("VirtualMachine", "5")]

    async def patch(self) -> None:
        await self.api.patch(WEB, {"metadata": {}})

    async def patch_status(self) -> None:
        await self.api.patch_status(WEB, [{"op": "add", "path": "/status", "value": {}}])

    async def create_event(self, namespace: str = "default") -> None:
        about = client.V1ObjectReference(kind="VirtualMachine", name="web", namespace=namespace)
        meta = client.V1ObjectMeta(name="web.1")
        await self.api.create_event(
            namespace, client.CoreV1Event(metadata=meta, involved_object=about, reason="Forced")
        )

    async def create(self) -> None:
        await self.api.create(Key("PowerRun", "lab", "night-1"), {"planRef": {"name": "night"}})

    async def delete_object(self) -> None:
        await self.api.delete_object(Key("PowerRun", "lab", "night-1"), "uid-1")

    async def secret(self) -> tuple[str, Mapping[str, str | bytes]]:
        return await self.api.secret("default", "login")

    async def system_uuids(self) -> Collection[str]:
        return await self.api.system_uuids()


def vm(version: str = "6") -> Object:
    return {"metadata": {"name": "web", "namespace": "default", "resourceVersion": version}}


def text(body: str, code: int = 200, content_type: str = "application/json") -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=body, content_type=content_type)

    return answer


def document(body: Any, code: int = 200) -> Answer:
    return text(json.dumps(body), code)


def page(*items: Object, token: str = "", version: str = "7") -> Answer:
    meta = {"resourceVersion": version} | ({"continue": token} if token else {})
    return document({"kind": "VirtualMachineList", "metadata": meta, "items": items})


def refusal(code: int, reason: str = "", message: str = "") -> Answer:
    return document({"kind": "Status", "code": code, "reason": reason, "message": message}, code)


def html(code: int) -> Answer:
    return text("<html><h1>Bad Gateway</h1></html>", code, "text/html")


async def silence(request: web.Request) -> web.StreamResponse:
    """Nothing at all, until the client has had enough."""
    await asyncio.Event().wait()
    raise AssertionError


def stream(*events: Object, then: str = "") -> Answer:
    """Events of a watch, a line each; `then` the stream ends, is `silent`, or is `cut` in the middle of a line."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")
        if then == "silent":
            await silence(request)
        if then == "cut":
            await response.write(b'{"type": "MODIF')
            assert request.transport is not None
            request.transport.close()
        return response

    return answer
