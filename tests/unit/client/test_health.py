"""The health check of a container."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from client.health import behind, trouble, troubles

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Served:
    """Health, served at `address`."""

    def __init__(self) -> None:
        self.health = HealthServicer()
        self.server = grpc.server(ThreadPoolExecutor(1))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.server.stop(None).wait()


def test_a_program_that_serves_is_healthy(served: Served) -> None:
    served.health.set("", SERVING)
    assert trouble(served.address) == ""


def test_a_program_that_cannot_do_its_work_is_not_healthy(served: Served) -> None:
    served.health.set("", NOT_SERVING)
    assert "NOT_SERVING" in trouble(served.address)


def test_a_program_that_does_not_listen_is_not_healthy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        assert "UNAVAILABLE" in trouble(f"127.0.0.1:{taken.getsockname()[1]}")


def test_a_program_that_accepts_and_says_nothing_is_not_healthy_once_the_timeout_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "DEADLINE_EXCEEDED" in trouble(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.1)


def test_without_an_address_it_says_what_to_set() -> None:
    assert "VMPOWER_HEALTH_LISTEN" in trouble("")


@pytest.mark.parametrize(("status", "code"), [(SERVING, 0), (NOT_SERVING, 1)])
def test_its_exit_code_is_what_a_container_engine_asks_for(served: Served, status: int, code: int) -> None:
    served.health.set("", status)
    environment = os.environ | {"VMPOWER_HEALTH_LISTEN": served.address}
    command = [sys.executable, "-m", "client.health"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == code


def test_each_of_several_programs_is_asked(served: Served) -> None:
    served.health.set("", NOT_SERVING)
    assert len(troubles([served.address, served.address])) == 2


def test_programs_that_serve_have_no_troubles(served: Served) -> None:
    served.health.set("", SERVING)
    assert troubles([served.address]) == []


def test_each_pod_behind_a_name_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    four, six = ("192.0.2.1", 9440), ("2001:db8::1", 9440, 0, 0)
    pods = [
        (family, socket.SOCK_STREAM, 6, "", pod) for family, pod in ((socket.AF_INET, four), (socket.AF_INET6, six))
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pods)
    assert behind("vmpower.vmpower.svc:9440") == ["192.0.2.1:9440", "[2001:db8::1]:9440"]


def test_a_name_that_no_program_has_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "vmpower.vmpower.svc:9440: Name or service not known" in troubles(["vmpower.vmpower.svc:9440"])[0]


@pytest.mark.parametrize(("status", "code"), [(SERVING, 0), (NOT_SERVING, 1)])
def test_its_exit_code_is_what_helm_test_asks_for(served: Served, status: int, code: int) -> None:
    served.health.set("", status)
    command = [sys.executable, "-m", "client.health", served.address]
    assert subprocess.run(command, capture_output=True, check=False).returncode == code
