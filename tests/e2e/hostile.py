"""All that one client can take of a provider, taken at once, by raw sockets and without end.

with Attack(path, metrics_port) as attack: ...
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.rigs.http2 import Connection

SILENT, SCRAPES, STALLED, HANDSHAKES = 1_500, 300, 15_000, 500
BESIDE = 0.05
"""Seconds between rounds of an attack that goes on."""
PATIENCE = 30.0
AHEAD_OF_OTHER_TESTS = (
    "sh",
    "-c",
    'test ! -w /proc/self/autogroup || echo -20 > /proc/self/autogroup; exec nice -n -20 "$@"',
    "sh",
)
"""What a victim's command begins with: what other tests take of the cores is no attack.

Where the kernel groups by sessions, each of them is weighed as one, and nice counts only within it (sched(7),
autogroup).
"""


class Attack:
    """Silent connections at the listener and at the metrics, and stalled streams, until the end of the context."""

    def __init__(
        self,
        address: str | tuple[str, int],
        metrics: int,
        *,
        stalled: int = STALLED,
        again: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`again`: what is refused is tried again, as an attacker would. `tls`: a client's that may call; beside it,
        handshakes are begun and left."""
        self._address, self._metrics, self._stalled, self._again = address, metrics, stalled, again
        self._tls = tls
        self._over, self._stack = threading.Event(), ExitStack()
        self.begun = dict[str, int]()

    def __enter__(self) -> Self:
        doings = [
            lambda: self._hold(self._address, SILENT, "silent connections"),
            lambda: self._hold(("127.0.0.1", self._metrics), SCRAPES, "silent connections at the metrics"),
            self._stall,
        ]
        if self._tls:
            hello = client_hello(self._tls)
            doings.append(lambda: self._hold(self._address, HANDSHAKES, "handshakes", hello))
        for doing in doings:
            thread = threading.Thread(target=doing, daemon=True)
            thread.start()
            self._stack.callback(thread.join)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stack.close()

    def _hold(self, address: str | tuple[str, int], count: int, name: str, first: bytes = b"") -> None:
        """So many connections that say no more than this."""
        held = list[socket.socket]()
        while not self._over.is_set():
            held = [end for end in held if not (self._again and _closed(end))]
            while len(held) < count and not self._over.is_set():
                if (end := connected(address)) is None:
                    break
                with suppress(OSError):
                    end.send(first)
                held.append(end)
                self.begun[name] = self.begun.get(name, 0) + 1
            self._over.wait(BESIDE)
        for end in held:
            end.close()

    def _stall(self) -> None:
        """Streams of all VMs of which nothing is ever read."""
        with Connection(self._address, window=0, tls=self._tls) as connection, suppress(OSError):
            connection.socket.settimeout(30)
            connection.acknowledge()
            for number in range(self._stalled):
                connection.call("/power.v1.PowerService/WatchVMs")
                self.begun["stalled streams"] = number + 1
                if self._over.is_set():
                    break
            self._over.wait()


def client_hello(tls: ssl.SSLContext) -> bytes:
    """What a client says first."""
    said = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        tls.wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    return said.read()


def connected(address: str | tuple[str, int]) -> socket.socket | None:
    end = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    end.setblocking(False)
    try:
        end.connect(address)
    except BlockingIOError:
        if isinstance(address, str):  # its queue of connections is full
            end.close()
            return None
    except OSError:
        end.close()
        return None
    return end


def _closed(end: socket.socket) -> bool:
    """Whether the other side has closed it; what it says is thrown away."""
    try:
        while end.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    end.close()
    return True


@contextmanager
def endless_100_continue() -> Iterator[int]:
    """The port of a server whose answer is `100 Continue` without an end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_flood, args=(listener.accept,), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _flood(accept: Callable[[], tuple[socket.socket, Any]]) -> None:
    with suppress(OSError):
        while True:
            connection, _ = accept()
            with connection, suppress(OSError):
                connection.settimeout(30)
                while True:
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)


@dataclass
class Tried:
    """How long each of many tries took, in seconds; and what went wrong."""

    took: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.took)} tries, the longest {max(self.took, default=0):.2f} s"


@contextmanager
def trying(**what: Callable[[], object]) -> Iterator[dict[str, Tried]]:
    """Each of these again and again, beside the block."""
    over, found = threading.Event(), {name: Tried() for name in what}

    def go_on(name: str, one: Callable[[], object]) -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                one()
            except (grpc.RpcError, OSError) as error:
                found[name].failed.append(str(error))
            found[name].took.append(time.monotonic() - began)
            over.wait(0.1)

    threads = [threading.Thread(target=go_on, args=each, daemon=True) for each in what.items()]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()


def probe(port: int) -> None:
    """As a kubelet does: by a connection of its own."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=PATIENCE)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def serves(port: int) -> bool:
    """Whether a probe is answered."""
    try:
        probe(port)
    except grpc.RpcError:
        return False
    return True
