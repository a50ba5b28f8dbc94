"""One provider process: gRPC with health and reflection, metrics, logs, and an orderly end on SIGTERM."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from protos.power.v1 import power_pb2, power_pb2_grpc
from providers import metrics, tls
from providers.adapter import Adapter
from providers.config import Settings
from providers.errors import JournalFailed, VmpowerError
from providers.gate import Gate
from providers.inventory import Inventory
from providers.journal import Journal
from providers.operations import Operations
from providers.run import Context
from providers.service import Service

S = TypeVar("S", bound=Settings)
SERVICE = power_pb2.DESCRIPTOR.services_by_name["PowerService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
TRANSPORT_LIMIT = 4 << 20
"""Bytes that gRPC reads of one request; what is longer than the settings allow but shorter than this gets an
answer that names the field."""
OPTIONS = [
    ("grpc.max_receive_message_length", TRANSPORT_LIMIT),
    ("grpc.so_reuseport", 0),  # two providers at one address would each get half of the calls
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),  # so that clients of silent streams may ask for life
]

log = structlog.get_logger()
_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # a request may hold a password


class AddressInUse(Exception):
    """The server cannot listen there."""


def run(settings: S, make_adapter: Callable[[S], Adapter]) -> None:
    """Serve until SIGTERM or SIGINT. `make_adapter` is called inside the running event loop."""
    _configure_logs(settings.log_level)
    try:
        asyncio.run(_serve(settings, make_adapter))
    except (tls.InsecureAddress, AddressInUse, VmpowerError) as error:
        sys.exit(f"cannot start: {error}")


async def _serve(settings: S, make_adapter: Callable[[S], Adapter]) -> None:
    credentials = tls.credentials(settings)
    adapter = make_adapter(settings)
    inventory = Inventory(adapter)
    journal = Journal(settings.state_dir / f"{adapter.type}.journal.db")
    context = Context(adapter, inventory, journal, settings)
    operations = Operations(context)
    _start_metrics(settings, context, operations)
    await operations.resume()  # before anybody can call, who would miss them
    server = await _start_server(settings, credentials, context, operations)
    following = [asyncio.create_task(inventory.run()), asyncio.create_task(_prune_daily(context))]
    log.info("serving", address=settings.listen, hypervisor=adapter.endpoint, type=adapter.type)
    await _asked_to_stop()
    log.info("stopping; operations go on at the next start", active=len(operations.active()))
    await server.stop(settings.drain_timeout.total_seconds())
    await operations.stop()
    await _cancel(following)
    await journal.close()
    await adapter.close()


async def _start_server(
    settings: Settings, credentials: grpc.ServerCredentials | None, context: Context, operations: Operations
) -> grpc.aio.Server:
    server = grpc.aio.server(interceptors=[Gate(settings)], options=OPTIONS)
    power_pb2_grpc.add_PowerServiceServicer_to_server(Service(context, operations), server)
    checker = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server)
    await _follow_health(checker, context.inventory)
    _require_unserved(settings.listen)
    umask = os.umask(0o117)  # a unix socket is for its owner and group: 0660
    try:
        if credentials is None:
            server.add_insecure_port(settings.listen)
        else:
            server.add_secure_port(settings.listen, credentials)
    except RuntimeError as error:
        raise AddressInUse(f"{settings.listen}: {error}; free it or choose another --listen.") from error
    finally:
        os.umask(umask)
    await server.start()
    return server


def _require_unserved(address: str) -> None:
    """gRPC takes over a unix socket without asking; two providers would then work on the same VMs.

    Raises:
        AddressInUse: somebody serves there.
    """
    scheme, _, path = address.partition(":")
    if scheme != "unix":
        return
    with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError, ConnectionRefusedError):
        probe.connect(path.removeprefix("//"))
        raise AddressInUse(f"{address}: another process serves there; stop it or choose another --listen.")


async def _follow_health(checker: health.HealthServicer, inventory: Inventory) -> None:
    """SERVING only while the hypervisor answers."""
    statuses = {True: health_pb2.HealthCheckResponse.SERVING, False: health_pb2.HealthCheckResponse.NOT_SERVING}
    updates = set[asyncio.Task[None]]()

    async def report(connected: bool) -> None:
        for service in ("", SERVICE):
            await checker.set(service, statuses[connected])

    def on_connection(connected: bool) -> None:
        log.info("hypervisor connected" if connected else "hypervisor lost")
        task = asyncio.create_task(report(connected))
        updates.add(task)
        task.add_done_callback(updates.discard)

    await report(inventory.connected.is_set())
    inventory.on_connection(on_connection)


def _start_metrics(settings: Settings, context: Context, operations: Operations) -> None:
    if settings.metrics_listen:
        host, _, port = settings.metrics_listen.rpartition(":")
        registry = metrics.registry(context.inventory, operations)
        try:
            start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            raise AddressInUse(f"{settings.metrics_listen}: {error}; choose another --metrics-listen.") from error


async def _prune_daily(context: Context) -> None:
    while True:
        try:
            await context.journal.prune(context.clock() - context.settings.keep_operations)
        except JournalFailed:
            log.exception("ended operations not pruned; tried again tomorrow")
        await asyncio.sleep(24 * 3600)


async def _asked_to_stop() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def _configure_logs(level: str) -> None:
    """One JSON object a line on stderr."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.ExceptionRenderer(_traceback),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
