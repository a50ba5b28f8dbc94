"""One provider process: gRPC with health and reflection, metrics, logs, and an orderly end on SIGTERM."""

import asyncio
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import grpc
import structlog
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from common import logs, service_manager
from common.listening import CannotListen, for_owner_and_group, listening
from common.metrics_server import MetricsServer
from common.probes import PROBES
from protos.power.v1 import power_pb2_grpc
from providers.core.adapter import Adapter
from providers.core.errors import JournalFailed, VmpowerError
from providers.core.inventory import Inventory
from providers.core.journal import Journal
from providers.core.operations import Operations
from providers.core.run import Context
from providers.core.settings import Settings
from providers.server import local_door, metrics, tls
from providers.server.certificates import BadRevocations
from providers.server.health import SERVICE, Health
from providers.server.interceptor import Interceptor
from providers.server.process import asked_to_stop, most_connections, raise_file_limit
from providers.server.service import Service

S = TypeVar("S", bound=Settings)
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
TRANSPORT_LIMIT = 4 << 20
"""Bytes that gRPC reads of one request; what is longer than the settings allow but shorter than this gets an
answer that names the field."""
OPTIONS: dict[str, int] = {
    "grpc.max_receive_message_length": TRANSPORT_LIMIT,
    "grpc.max_concurrent_streams": 1 << 14,  # of one connection: gRPC's clients keep the next until one has ended
    # What waits for its turn gRPC would end as CANCELLED, without a reason: at random from 1,000 on, all from 3,000 on
    # (src/core/server/server.h), and what has waited for 30 s. See docs/adr/0014. More than these wait only where a
    # client breaks off its calls as soon as they have begun; each takes some 8 KiB until it has had its turn.
    "grpc.server.max_pending_requests": 1 << 14,
    "grpc.server.max_pending_requests_hard_limit": 1 << 14,
    "grpc.server_max_unrequested_time_in_server": 24 * 3600,
    "grpc.so_reuseport": 0,  # two providers at one address would each get half of the calls
    "grpc.server_handshake_timeout_ms": 10_000,  # one that connects and says nothing
    "grpc.max_connection_idle_ms": 300_000,  # one without a call; clients connect again by themselves
    "grpc.keepalive_time_ms": 60_000,  # one whose other end is gone without a word
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.http2.ping_timeout_ms": 20_000,  # of which the longer one counts; a minute by default
    "grpc.http2.min_ping_interval_without_data_ms": 1_000,  # so that clients of silent streams may ask for life
}

log = structlog.get_logger()


def run(settings: S, make_adapter: Callable[[S], Adapter]) -> None:
    """Serve until SIGTERM or SIGINT. `make_adapter` is called inside the running event loop."""
    logs.configure(settings.log_level)
    _spare_the_collector()
    try:
        asyncio.run(_serve(settings, make_adapter))
    except (tls.InsecureAddress, BadRevocations, local_door.Unusable, CannotListen, VmpowerError) as error:
        sys.exit(f"cannot start: {error}")


def _spare_the_collector() -> None:
    """What was imported lives as long as the process; looking through it again and again costs a tenth of the CPU when
    many operations begin at once."""
    gc.freeze()
    gc.set_threshold(5_000)


async def _serve(settings: S, make_adapter: Callable[[S], Adapter]) -> None:
    credentials = tls.credentials(settings)
    connections = most_connections(raise_file_limit())
    door = local_door.LocalDoor(settings, secured=credentials is not None, files=connections)
    adapter = make_adapter(settings)
    inventory = Inventory(adapter)
    journal = Journal(settings.state_dir / f"{adapter.type}.journal.db")
    context = Context(adapter, inventory, journal, settings)
    operations = Operations(context)
    scrapes = await _start_metrics(settings, context, operations)
    await operations.resume()  # before the first call, which would not find them
    health = Health()
    health.follow(inventory, journal)
    server = _server(settings, credentials, door, connections)
    power_pb2_grpc.add_PowerServiceServicer_to_server(Service(context, operations), server)
    health.add_to(server)
    health_server = _health_server(settings, health)
    await server.start()
    await door.open()
    await health_server.start()
    works = (inventory.run(), context.clock.follow(), _prune_daily(context), health.watch_life(journal))
    following = [asyncio.create_task(work) for work in works]
    log.info("serving", address=settings.listen, hypervisor=adapter.endpoint, type=adapter.type)
    service_manager.ready()
    await asked_to_stop(settings.drain_timeout.total_seconds())
    log.info("stopping; operations go on at the next start", active=len(operations.active()))
    door.close()
    await server.stop(settings.drain_timeout.total_seconds())
    await health_server.stop(None)
    await scrapes.stop()
    await operations.stop()
    await _cancel(following)
    await journal.close()
    await adapter.close()


def _server(
    settings: Settings, credentials: grpc.ServerCredentials | None, door: local_door.LocalDoor, connections: int
) -> grpc.aio.Server:
    options = OPTIONS | {"grpc.max_allowed_incoming_connections": connections}
    if credentials:
        options |= tls.options(settings)
    server = grpc.aio.server(interceptors=[Interceptor(settings)], options=list(options.items()))
    reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server)
    with listening(settings.listen, "--listen"):
        _bind(server, door.grpc_address, credentials)
    return server


def _health_server(settings: Settings, health: Health) -> grpc.aio.Server:
    """Nothing but health, without TLS, which kubelets do not speak; without an address it listens nowhere."""
    server = grpc.aio.server(options=list(PROBES.items()))
    health.add_to(server)
    if settings.health_listen:
        with listening(settings.health_listen, "--health-listen"):
            _bind(server, settings.health_listen, None)
    return server


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> None:
    with for_owner_and_group():
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)


async def _start_metrics(settings: Settings, context: Context, operations: Operations) -> MetricsServer:
    server = MetricsServer(metrics.registry(context.adapter, context.inventory, operations, context.journal))
    if settings.metrics_listen:
        with listening(settings.metrics_listen, "--metrics-listen"):
            await server.start(settings.metrics_listen)
    return server


async def _prune_daily(context: Context) -> None:
    while True:
        try:
            await context.journal.prune(context.clock() - context.settings.keep_operations)
        except JournalFailed:
            log.exception("ended operations not pruned; tried again tomorrow")
        await asyncio.sleep(24 * 3600)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
