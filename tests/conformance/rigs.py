"""Servers that the suite can start by itself; the only file here that knows how any of them comes about."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conformance.target import Known, Target

TARGETS = Path(__file__).parent / "targets"


@contextmanager
def _provider(name: str, roles: str, *flags: str | Path) -> Iterator[Target]:
    """A provider process on a socket of its own whose hypervisor answers; pytest captures its log."""
    with tempfile.TemporaryDirectory(prefix="vmpower-") as folder:
        address = f"unix://{folder}/socket"
        command = [sys.executable, "-m", f"providers.{name}", "--listen", address, "--state-dir", folder]
        with Popen([*command, *flags]) as process:
            try:
                _wait_until_serving(address)
                yield Target(address=address, known=Known.load(TARGETS / f"{roles}.yaml"))
            finally:
                process.terminate()


def _wait_until_serving(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for answer in health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=30):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return


def _sim() -> AbstractContextManager[Target]:
    return _provider("sim", "sim", "--allow-guest-exec", "--script", TARGETS / "sim-guests.yaml")


RIGS: Mapping[str, Callable[[], AbstractContextManager[Target]]] = {"sim": _sim}


def start(name: str) -> AbstractContextManager[Target]:
    """A server that runs until the context is left."""
    return RIGS[name]()
