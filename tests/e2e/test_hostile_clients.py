"""Clients that take all they can get, of one provider at once: it keeps a deadline and answers probes."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import calls
from tests.rigs.process import Provider

SCRIPT = "guests: {deaf: {agent: none, acpi: ignores}, hooked: {agent: none, acpi: ignores}}"
FILES = 1_024
SILENT, SCRAPES, STREAMS, HOOKS = 1_500, 300, 90, 200_000


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def flood() -> Iterator[int]:
    """The port of a server whose answer is `100 Continue` without an end."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    while True:
                        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def connect(family: socket.AddressFamily, address: Any) -> socket.socket:
    """A connection that says nothing; one that is refused is as good."""
    one = socket.socket(family)
    one.setblocking(False)
    with suppress(OSError):
        one.connect(address)
    return one


def test_a_provider_under_all_of_them_keeps_its_deadline_and_answers_probes(tmp_path: Path, flood: int) -> None:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    metrics, health = free_port(), free_port()
    provider = Provider(
        "sim",
        *("--script", str(tmp_path / "script.yaml"), "--http-hook-hosts", "127.0.0.1"),
        *("--metrics-listen", f"127.0.0.1:{metrics}", "--health-listen", f"127.0.0.1:{health}"),
    )
    provider.command = ["prlimit", f"--nofile={FILES}:{FILES}", *provider.command]
    with provider, calls(provider.address) as client, ExitStack() as stack:
        began = time.monotonic()
        operation = client.stub.Shutdown(pb.ShutdownRequest(vm="deaf", timeout=Duration(seconds=5)))
        hook = pb.Hook(http_get=pb.HttpGetHook(url=f"http://127.0.0.1:{flood}/"))
        client.stub.Shutdown(pb.ShutdownRequest(vm="hooked", pre_stop=[hook], timeout=Duration(seconds=60)))
        for _ in range(SCRAPES):
            stack.enter_context(connect(socket.AF_INET, ("127.0.0.1", metrics)))
        for _ in range(SILENT):
            stack.enter_context(connect(socket.AF_UNIX, provider.address.removeprefix("unix://")))
        streams = [client.stub.WatchVMs(pb.WatchVMsRequest()) for _ in range(STREAMS)]
        many = client.stub.Shutdown.future(pb.ShutdownRequest(vm="web", pre_stop=[pb.Hook()] * HOOKS))
        with grpc.insecure_channel(f"127.0.0.1:{health}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ended = client.end(operation, timeout=30)
        assert ended.verdict.outcome == pb.OUTCOME_FORCED
        assert time.monotonic() - began < 6
        assert many.code() is grpc.StatusCode.INVALID_ARGUMENT
        for stream in streams:
            stream.cancel()
        assert provider.stop() == 0
