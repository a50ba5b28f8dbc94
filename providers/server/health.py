"""What grpc.health.v1 says of a provider.

`""` and `power.v1.PowerService`: SERVING only while the hypervisor answers. `liveness`: SERVING while the process
serves; a liveness probe asks for this one, for a restart brings no hypervisor back.
"""

import asyncio

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from protos.power.v1 import power_pb2
from providers.core.inventory import Inventory

SERVICE = power_pb2.DESCRIPTOR.services_by_name["PowerService"].full_name
LIVENESS = "liveness"

log = structlog.get_logger()
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """One state, told by every server that it is added to."""

    def __init__(self) -> None:
        self._checker = health.HealthServicer()
        self._updates = set[asyncio.Task[None]]()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let this server answer."""
        health_pb2_grpc.add_HealthServicer_to_server(self._checker, server)

    async def follow(self, inventory: Inventory) -> None:
        """The process serves from now on; whether the hypervisor answers, the inventory says."""
        inventory.on_connection.append(self._on_connection)
        await self._checker.set(LIVENESS, _SERVING)
        await self._report(inventory.connected.is_set())

    async def _report(self, connected: bool) -> None:
        for service in ("", SERVICE):
            await self._checker.set(service, _SERVING if connected else _NOT_SERVING)

    def _on_connection(self, connected: bool) -> None:
        log.info("hypervisor connected" if connected else "hypervisor lost")
        task = asyncio.create_task(self._report(connected))
        self._updates.add(task)
        task.add_done_callback(self._updates.discard)
