"""What grpc.health.v1 says of a provider.

`""` and `power.v1.PowerService`: SERVING only while the hypervisor answers and the journal can be written.
`liveness`: SERVING while the loop turns (else there is no answer) and a write passes to the journal, be it refused by
the disk. A liveness probe asks for this one: a restart brings back neither a hypervisor nor a disk, but it does bring
back a process that gets no threads or whose write never returns.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.power.v1 import power_pb2
from providers.core.inventory import Inventory

SERVICE = power_pb2.DESCRIPTOR.services_by_name["PowerService"].full_name
LIVENESS = "liveness"
WRITE_EVERY, WRITE_WITHIN = 5.0, 10.0
"""Seconds between writes that show that the process lives, and until one that does not return shows the opposite."""

log = structlog.get_logger()
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Journaled(Protocol):
    """What is told of a journal: why it cannot be written, "" while it can; and each change of that."""

    failure: str
    on_failure: list[Callable[[str], None]]

    async def answers(self) -> bool:
        """Whether a write passes, be it refused by the disk."""


class Health:
    """One state, told by every server that it is added to."""

    def __init__(self) -> None:
        self._connected = False
        self._journal_failure = ""
        self._checker = _Servicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let this server answer."""
        health_pb2_grpc.add_HealthServicer_to_server(self._checker, server)

    def follow(self, inventory: Inventory, journal: Journaled) -> None:
        """The process serves from now on. The inventory tells whether the hypervisor answers, the journal whether it
        can be written."""
        inventory.on_connection.append(self._on_connection)
        journal.on_failure.append(self._on_journal_failure)
        self._connected, self._journal_failure = inventory.connected.is_set(), journal.failure
        self._checker.set(LIVENESS, _SERVING)
        self._report()

    async def watch_life(self, journal: Journaled) -> None:
        """Tell of liveness for as long as this runs."""
        alive = True
        while True:
            if alive != (alive := await _passes(journal)):
                log.info("a write passes again") if alive else log.error("not alive: no write passes to the journal")
                self._checker.set(LIVENESS, _SERVING if alive else _NOT_SERVING)
            await asyncio.sleep(WRITE_EVERY)

    def _report(self) -> None:
        for service in ("", SERVICE):
            serving = self._connected and not self._journal_failure
            self._checker.set(service, _SERVING if serving else _NOT_SERVING)

    def _on_connection(self, connected: bool) -> None:
        log.info("hypervisor connected" if connected else "hypervisor lost")
        self._connected = connected
        self._report()

    def _on_journal_failure(self, reason: str) -> None:
        if reason:
            log.error("not serving: the journal cannot be written; nothing new is begun", reason=reason)
        else:
            log.info("the journal can be written again")
        self._journal_failure = reason
        self._report()


class _Servicer(health_pb2_grpc.HealthServicer):
    """As https://github.com/grpc/grpc/blob/master/doc/health-checking.md has it. gRPC's own servicer holds a lock while
    it writes to a client, which may read nothing, and its watch is no generator, which could be ended with the client's
    certificate."""

    def __init__(self) -> None:
        self._told = dict[str, int]()
        self._changed = asyncio.Event()

    def set(self, service: str, status: int) -> None:
        self._told[service] = status
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        if request.service not in self._told:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return health_pb2.HealthCheckResponse(status=self._told[request.service])

    async def List(self, _request: Any, _context: Any) -> Any:
        told = {service: health_pb2.HealthCheckResponse(status=status) for service, status in self._told.items()}
        return health_pb2.HealthListResponse(statuses=told)  # type: ignore[attr-defined]  # its stubs lack it

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, _context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        last = None
        while True:
            changed, now = self._changed, self._told.get(request.service, _SERVICE_UNKNOWN)
            if now != last:
                last = now
                yield health_pb2.HealthCheckResponse(status=now)
            await changed.wait()


async def _passes(journal: Journaled) -> bool:
    try:
        async with asyncio.timeout(WRITE_WITHIN):
            return await journal.answers()
    except TimeoutError:
        return False
