"""Connections that say nothing, ask nothing or answer nothing, at a real provider: none keeps its place."""

import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from common.probes import PROBES
from protos.power.v1 import power_pb2 as pb
from providers.server.interceptor import MOST_OF_ONE
from tests.e2e.hostile import PATIENCE, serves
from tests.rigs.calls import Calls, calls
from tests.rigs.http2 import Connection
from tests.rigs.polling import poll
from tests.rigs.ports import free_port
from tests.rigs.process import Provider
from tests.rigs.usage import rss

SHORT = {"handshake": "grpc.server_handshake_timeout_ms", "idle": "grpc.max_connection_idle_ms"}
LONG_MS, SHORT_MS = 3_600_000, 1_000
FILES = 400
BROKEN_OFF = 40_000
UNHEARD = 2.0
"""Seconds without room for one more call, after which a client takes it that nobody hears it."""


def provider(*args: str, **milliseconds: int) -> Provider:
    """One whose bounds in time are these, and all others are an hour."""
    told = {"handshake": LONG_MS, "idle": LONG_MS, "ping": LONG_MS} | milliseconds
    options = {name: told[key] for key, name in SHORT.items()}
    options |= {"grpc.keepalive_time_ms": told["ping"], "grpc.keepalive_timeout_ms": told["ping"]}
    options |= {"grpc.http2.ping_timeout_ms": told["ping"]}
    program = (
        f"from providers.server import server; assert server.OPTIONS.keys() >= {options}.keys(); "
        f"server.OPTIONS |= {options}; from providers.sim.__main__ import main; main()"
    )
    made = Provider("sim", *args)
    made.command = [sys.executable, "-c", program, *made.command[3:]]
    return made


def path(running: Provider) -> str:
    return running.address.removeprefix("unix://")


@pytest.fixture(params=["", "front"])
def door(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """gRPC's own socket, and the front that knows its users."""
    return (f"--operator-uids={os.geteuid()}",) if request.param else ()


def test_a_connection_that_says_nothing_is_closed(door: tuple[str, ...]) -> None:
    with provider(*door, handshake=SHORT_MS) as running, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(path(running))
        silent.settimeout(PATIENCE)
        while silent.recv(65_536):
            pass


def test_a_connection_without_a_call_is_closed(door: tuple[str, ...]) -> None:
    with provider(*door, idle=SHORT_MS) as running, Connection(path(running)) as idle:
        idle.acknowledge()
        idle.wait_until_closed(PATIENCE)


def test_a_connection_whose_other_end_answers_no_ping_is_closed_with_its_streams(door: tuple[str, ...]) -> None:
    with provider(*door, ping=SHORT_MS) as running, Connection(path(running)) as frozen:
        frozen.acknowledge()
        frozen.call("/power.v1.PowerService/WatchVMs")
        frozen.wait_until_closed(PATIENCE)


@pytest.fixture
def cramped() -> Iterator[Provider]:
    """A provider that knows its socket's users and may have few files."""
    made = Provider("sim", f"--operator-uids={os.geteuid()}")
    made.command = ["prlimit", f"--nofile={FILES}:{FILES}", *made.command]
    with made:
        yield made


def closed(ends: list[socket.socket]) -> int:
    hung_up = select.poll()
    for end in ends:
        hung_up.register(end, select.POLLHUP)
    return len(hung_up.poll(0))


def test_more_connections_than_files_leave_the_provider_as_it_was(cramped: Provider) -> None:
    """Of the files 256 are kept, a connection takes three, and a user has half of them."""
    most = (FILES - 256) // 3 // 2
    with ExitStack() as stack, calls(cramped.address) as client:
        assert client.vm("web").name == "web"
        ends = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(FILES)]
        for end in ends:
            end.connect(path(cramped))
        poll(lambda: closed(ends) >= FILES - most)
        assert len(list(Path(f"/proc/{cramped.process.pid}/fd").iterdir())) < FILES
        assert client.end(client.stub.PowerOff(pb.PowerOffRequest(vm="web"))).verdict.outcome == pb.OUTCOME_FORCED
    assert "a client was turned away" in cramped.output()
    assert cramped.stop() == 0


def test_watches_of_health_do_not_keep_probes_out_for_long() -> None:
    port = free_port()
    with Provider("sim", "--health-listen", f"127.0.0.1:{port}"), ExitStack() as stack:
        for _ in range(PROBES["grpc.max_allowed_incoming_connections"] + 1):
            held = stack.enter_context(Connection(("127.0.0.1", port)))
            held.acknowledge()
            held.call("/grpc.health.v1.Health/Watch")
        poll(lambda: serves(port), timeout=10)


def break_off(client: Connection, *, listens: bool) -> None:
    """One that does not listen is not heard for long either: gRPC reads no more of a connection while too much of what
    it has to say there is not taken."""
    client.acknowledge()
    for _ in range(BROKEN_OFF):
        if not select.select([], [client.socket], [], PATIENCE if listens else UNHEARD)[1]:
            assert not listens
            return
        client.call("/power.v1.PowerService/GetProviderInfo", broken_off=True)
        if listens:
            client.read_what_is_there()


@pytest.mark.parametrize("listens", [True, False])
def test_calls_that_are_broken_off_at_once_take_little_memory_and_hold_up_nothing(listens: bool) -> None:
    with Provider("sim") as running, calls(running.address) as client:
        for _ in range(4):
            with Connection(path(running)) as hasty, suppress(ConnectionError):
                break_off(hasty, listens=listens)
            assert client.vm("web").name == "web"
        most = rss(running.process.pid, peak=True)
        print(f"{4 * BROKEN_OFF} calls broken off: {most} MiB at the most")
        assert most < 512


def forecasts(client: Calls) -> str:
    """How a page is answered, by its code."""
    try:
        client.stub.ForecastShutdown(pb.ForecastShutdownRequest(), timeout=PATIENCE)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_an_answer_that_is_not_read_keeps_its_place_until_its_connection_ends(tmp_path: Path) -> None:
    (script := tmp_path / "script.yaml").write_text("guests: {many: {count: 1000}}")
    with Provider("sim", "--script", str(script)) as running, calls(running.address) as client:
        with Connection(path(running), window=0) as deaf:
            deaf.acknowledge()
            for _ in range(2 * MOST_OF_ONE["pages"]):
                deaf.call("/power.v1.PowerService/ForecastShutdown")
            poll(lambda: forecasts(client) == "RESOURCE_EXHAUSTED")
        poll(lambda: forecasts(client) == "OK")
