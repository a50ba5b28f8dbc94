"""Programs that serve on loopback, and ports for them."""

import contextlib
import http.client
import random
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.rigs.polling import INTERVAL
from tests.rigs.process import Process

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A free port that stays free while its server is down.

    The kernel hands the ephemeral ones to clients, even to one that tries to reach that very port.
    """
    first = int(EPHEMERAL.read_text().split()[0])
    for port in random.sample(range(10000, first), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port between 10000 and {first}")


class Server(Process):
    """A program that answers HTTP on a port of 127.0.0.1: `start` returns when GET `path` is OK."""

    def __init__(self, command: list[str], log: Path, port: int, path: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(command, log)
        self._port = port
        self._path = path
        self._tls = tls

    def start(self) -> None:
        """Start it and wait until it is well.

        Raises:
            RuntimeError: it ended, or is not well in time; the message has the end of its log.
        """
        super().start()
        self.until(self.is_well)

    def is_well(self) -> bool:
        """Whether it says so now."""
        with contextlib.closing(self._connection()) as connection:
            try:
                connection.request("GET", self._path)
                return connection.getresponse().status == http.HTTPStatus.OK
            except (OSError, http.client.HTTPException):
                return False

    def until(self, holds: Callable[[], bool], timeout: float = 60) -> None:
        """Ask again and again whether something `holds` that only this program can bring about.

        Raises:
            RuntimeError: it ended, or that does not hold in time; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout
        while not holds():
            if self._ends_within(INTERVAL):
                raise RuntimeError(f"{self.command[0]} ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]}: not what it should be after {timeout} s:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.output().splitlines()[-30:])

    def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(seconds)
        return self.process.poll() is not None

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=5, context=self._tls)
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
