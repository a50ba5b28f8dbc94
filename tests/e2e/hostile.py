"""All that one client can take of a provider, taken at once, by raw sockets and without end.

with Attack(path, metrics_port) as attack: ...
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self

from tests.rigs.http2 import Connection

SILENT, SCRAPES, STALLED = 1_500, 300, 15_000
BESIDE = 0.05
"""Seconds between rounds of an attack that goes on."""


class Attack:
    """Silent connections at the listener and at the metrics, and stalled streams, until the end of the context."""

    def __init__(self, path: str, metrics: int, *, stalled: int = STALLED, again: bool = True) -> None:
        """`again`: what is refused is tried again, as an attacker would."""
        self._path, self._metrics, self._stalled, self._again = path, metrics, stalled, again
        self._over, self._stack = threading.Event(), ExitStack()
        self.begun = dict[str, int]()

    def __enter__(self) -> Self:
        doings = {
            "silent": lambda: self._hold(socket.AF_UNIX, self._path, SILENT, "silent connections"),
            "metrics": lambda: self._hold(
                socket.AF_INET, ("127.0.0.1", self._metrics), SCRAPES, "silent connections at the metrics"
            ),
            "stalled": self._stall,
        }
        for doing in doings.values():
            thread = threading.Thread(target=doing, daemon=True)
            thread.start()
            self._stack.callback(thread.join)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stack.close()

    def _hold(self, family: socket.AddressFamily, address: Any, count: int, name: str) -> None:
        """So many connections that say nothing."""
        held = list[socket.socket]()
        while not self._over.is_set():
            held = [end for end in held if not (self._again and _closed(end))]
            while len(held) < count and not self._over.is_set():
                if (end := _connected(family, address)) is None:
                    break
                held.append(end)
                self.begun[name] = self.begun.get(name, 0) + 1
            self._over.wait(BESIDE)
        for end in held:
            end.close()

    def _stall(self) -> None:
        """Streams of all VMs of which nothing is ever read."""
        with Connection(self._path, window=0) as connection, suppress(OSError):
            connection.socket.settimeout(30)
            connection.acknowledge()
            for number in range(self._stalled):
                connection.call("/power.v1.PowerService/WatchVMs")
                self.begun["stalled streams"] = number + 1
                if self._over.is_set():
                    break
            self._over.wait()


def _connected(family: socket.AddressFamily, address: Any) -> socket.socket | None:
    end = socket.socket(family)
    end.setblocking(False)
    try:
        end.connect(address)
    except BlockingIOError:
        if family is socket.AF_UNIX:  # its queue of connections is full
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
