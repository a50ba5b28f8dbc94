"""The unix socket that clients see, where the kernel is asked who they are (SO_PEERCRED, unix(7)).

gRPC tells nothing of the user behind a unix socket, and takes no socket that another has accepted. So a front accepts
the connection and passes its bytes on to gRPC's own socket, in a directory that only this user may enter. Its end of
that second connection is bound to a name with the user's number, which gRPC tells as the peer's address.
See docs/adr/0016.
"""

import asyncio
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from common.addresses import require_short

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""
_NAME = re.compile(r"uid-(\d+)-\d+", re.A)
LONGEST_NAME = f"uid-{2**32}-{10**9}"
BACKLOG = 1024

log = structlog.get_logger()


@contextmanager
def for_owner_and_group() -> Iterator[None]:
    """A unix socket that is made meanwhile is for its owner and group: 0660."""
    umask = os.umask(0o117)
    try:
        yield
    finally:
        os.umask(umask)


def uid_of(peer: str) -> int | None:
    """The user that a peer's address, as gRPC tells it, has in its name; None for a peer that came past the front."""
    scheme, _, path = peer.partition(":")
    found = _NAME.fullmatch(path.rpartition("/")[2]) if scheme == "unix" else None
    return int(found.group(1)) if found else None


class UnixFront:
    """Serves `path`; what comes there reaches gRPC at `inner`."""

    def __init__(self, path: str, folder: Path) -> None:
        """`folder` is for this front alone; it is made, and no other user may enter it.

        Raises:
            OSError: it cannot be made.
            ValueError: its path is too long for sockets.
        """
        self._path, self._folder = Path(path), folder
        require_short(f"unix:{folder / LONGEST_NAME}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.inner = f"unix:{folder}/grpc"
        self._numbers = count(1)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept clients, once gRPC serves `inner`.

        Raises:
            OSError: the socket cannot be made.
        """
        loop = asyncio.get_running_loop()
        self._path.unlink(missing_ok=True)  # of an earlier process: one that serves has been looked for
        with for_owner_and_group():
            self._server = await loop.create_unix_server(lambda: _Outside(self), str(self._path), backlog=BACKLOG)

    def close(self) -> None:
        """Accept no more; connections end when gRPC's end them."""
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def connect(self, outside: "_Outside", peer: socket.socket) -> "_Inside":
        """A connection to gRPC in the name of the user at the other end of `peer`."""
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        inner, loop = self._named(f"uid-{uid}-{next(self._numbers)}"), asyncio.get_running_loop()
        try:
            await loop.sock_connect(inner, self.inner.removeprefix("unix:"))
            _, inside = await loop.create_unix_connection(lambda: _Inside(outside), sock=inner)
        except BaseException:
            inner.close()
            raise
        return inside

    def _named(self, name: str) -> socket.socket:
        """It keeps its name when there is no file of that name any more."""
        inner = socket.socket(socket.AF_UNIX)
        inner.setblocking(False)
        path = self._folder / name
        path.unlink(missing_ok=True)
        inner.bind(str(path))
        path.unlink()
        return inner


class _End(asyncio.Protocol):
    """One end of the way: what it receives the other sends, no faster than that can."""

    other: "_End | None" = None
    transport: Any = None
    ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Whether this end stays open: until the other has said its last word too."""
        self.ended = True
        if self.other is None:
            return False
        if self.other.ended:
            self.other.transport.close()
            return False
        self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other:
            self.other.transport.close()


class _Inside(_End):
    """gRPC's side."""

    def __init__(self, outside: "_Outside") -> None:
        self.other = outside


class _Outside(_End):
    """The client's side, from which nothing is read until gRPC's is there."""

    def __init__(self, front: UnixFront) -> None:
        self._front = front
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._opening = asyncio.create_task(self._open())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._opening:
            self._opening.cancel()
        super().connection_lost(exc)

    async def _open(self) -> None:
        try:
            self.other = await self._front.connect(self, self.transport.get_extra_info("socket"))
        except OSError as error:
            log.warning("a client was not let in", error=str(error))
            self.transport.abort()
        else:
            self.transport.resume_reading()
