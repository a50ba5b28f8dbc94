"""An API server that knows one Lease, under the client library's connection: real calls, virtual time."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kubernetes.aio import client
from kubernetes.aio.client.rest import RESTResponse

from controller.sources.kubernetes.api import ApiError, Object
from tests.unit.controller.sources.kubernetes.fakes import patched

Failure = Callable[[], Awaitable[None]]


@dataclass
class LeaseServer:
    """`connect` as often as there are controllers. `failures` befall the next calls; `outage` befalls all."""

    lease: Object | None = None
    asked: list[tuple[float, str]] = field(default_factory=list)
    failures: deque[Failure] = field(default_factory=deque)
    outage: Failure | None = None
    _version: int = 0

    def connect(self) -> "Connection":
        return Connection(self)

    @property
    def holder(self) -> str:
        return self.spec["holderIdentity"]  # type: ignore[no-any-return]

    @property
    def spec(self) -> Object:
        assert self.lease is not None
        return self.lease["spec"]  # type: ignore[no-any-return]

    def write(self, lease: Object) -> Object:
        """Somebody writes it."""
        self._version += 1
        self.lease = lease | {"metadata": {"name": "vmpower", "resourceVersion": str(self._version)}}
        return self.lease

    async def answer(self, method: str, body: Any) -> tuple[int, Any]:
        self.asked.append((asyncio.get_running_loop().time(), method))
        failure = self.failures.popleft() if self.failures else self.outage
        if failure is not None:
            await failure()
        if method == "POST":
            return (409, {"code": 409}) if self.lease else (201, self.write(body))
        if self.lease is None:
            return 404, {"code": 404, "message": 'leases "vmpower" not found'}
        return self._of_the_lease(self.lease, method, body)

    def _of_the_lease(self, lease: Object, method: str, body: Any) -> tuple[int, Any]:
        match method:
            case "GET":
                return 200, lease
            case "PUT" if body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
                return 409, {"code": 409, "message": "the object has been modified"}
            case "PUT":
                return 200, self.write(body)
        try:
            return 200, self.write(patched(lease, body))
        except ApiError as error:
            return error.status, {"code": error.status, "message": str(error)}


class Connection(client.ApiClient):
    """One controller's. An `outage` may be of this connection alone."""

    def __init__(self, server: LeaseServer) -> None:
        super().__init__(client.Configuration(host="http://api"))
        self._server = server
        self.outage: Failure | None = None

    async def call_api(
        self, method: str, url: str, headers: Any = None, body: Any = None, *_: Any, _request_timeout: Any = None
    ) -> RESTResponse:
        assert url.endswith("/vmpower" if method != "POST" else "/leases")
        async with asyncio.timeout(_request_timeout):
            if self.outage is not None:
                await self.outage()
            status, answer = await self._server.answer(method, json.loads(json.dumps(body)))
        return _Response(status, json.dumps(answer).encode())


class _Response(RESTResponse):
    def __init__(self, status: int, data: bytes) -> None:
        self.status, self.reason = status, ""
        self.data = data  # type: ignore[assignment]  # it is declared as None

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": "application/json"}
