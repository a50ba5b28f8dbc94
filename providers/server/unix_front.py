"""The unix socket that clients see, where the kernel is asked who they are (SO_PEERCRED, unix(7)).

gRPC tells nothing of the user behind a unix socket, and takes no socket that another has accepted. So a front accepts
the connection and passes its bytes on to gRPC's own socket, in a directory that only this user may enter. Its end of
that second connection is bound to a name with the user's number, which gRPC tells as the peer's address.
See docs/adr/0016.
"""

import asyncio
import re
import socket
import struct
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from common.addresses import require_short
from common.listening import for_owner_and_group

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""
_NAME = re.compile(r"uid-(\d+)-\d+", re.A)
LONGEST_NAME = f"uid-{2**32}-{10**9}"
BACKLOG = 1024
FILES_EACH = 3
"""File descriptors that a connection takes: the client's, and both ends of that to gRPC."""
STALLED = 60.0
"""Seconds in which an end may read nothing of what is there for it. While it does so the other end is not read from, so
that it is not seen when that one closes."""
TOLD_EVERY = 60.0
"""Seconds between lines of the log about clients that were turned away."""

log = structlog.get_logger()


def uid_of(peer: str) -> int | None:
    """The user that a peer's address, as gRPC tells it, has in its name; None for a peer that came past the front."""
    scheme, _, path = peer.partition(":")
    found = _NAME.fullmatch(path.rpartition("/")[2]) if scheme == "unix" else None
    return int(found.group(1)) if found else None


class UnixFront:
    """Serves `path`; what comes there reaches gRPC at `inner`, whose bounds on what a connection may do count here too:
    one that gRPC ends is ended."""

    def __init__(self, path: str, folder: Path, most: int) -> None:
        """`folder` is for this front alone; it is made, and no other user may enter it. `most` connections are open at
        once, of one user half of them.

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
        self._most, self._open = most, Counter[int]()
        self._told = -TOLD_EVERY
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

    def enter(self, uid: int) -> bool:
        """Whether there is room for one more of this user's connections; `leave` gives its place back."""
        if self._open.total() >= self._most or self._open[uid] >= max(1, self._most // 2):
            self._tell(uid)
            return False
        self._open[uid] += 1
        return True

    def leave(self, uid: int) -> None:
        self._open[uid] -= 1
        if not self._open[uid]:
            del self._open[uid]

    def _tell(self, uid: int) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told >= TOLD_EVERY:
            self._told = now
            log.warning("a client was turned away", uid=uid, open=self._open.total(), of_this_user=self._open[uid])

    async def connect(self, outside: "_Outside", uid: int) -> "_Inside":
        """A connection to gRPC in the name of this user."""
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
    _limit: asyncio.TimerHandle | None = None

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
        self._limit = asyncio.get_running_loop().call_later(STALLED, self.transport.abort)
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._limit:
            self._limit.cancel()
        if self.other:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit:
            self._limit.cancel()
        if self.other:
            transport = self.other.transport
            transport.close()  # once it has what is left for it
            asyncio.get_running_loop().call_later(STALLED, transport.abort)


class _Inside(_End):
    """gRPC's side."""

    def __init__(self, outside: "_Outside") -> None:
        self.other = outside


class _Outside(_End):
    """The client's side, from which nothing is read until gRPC's is there."""

    def __init__(self, front: UnixFront) -> None:
        self._front = front
        self._uid = -1
        self._opening: asyncio.Task[None] | None = None
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._uid = _user_at(self.transport.get_extra_info("socket"))
        if self._front.enter(self._uid):
            self._opening = asyncio.create_task(self._open())
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._opening:
            self._front.leave(self._uid)
        super().connection_lost(exc)

    async def _open(self) -> None:
        """To its end, also when the client has gone meanwhile: were this given up half-way, it would not be known who
        closes the second connection."""
        self.transport.pause_reading()  # not before: Debian 12's Python 3.11.2 reads after connection_made in any case
        try:
            self.other = await self._front.connect(self, self._uid)
        except OSError as error:
            log.warning("a client was not let in", error=str(error))
            self.transport.abort()
            return
        if self._lost:
            self.other.transport.abort()
        else:
            self.transport.resume_reading()


def _user_at(end: socket.socket) -> int:
    """The user at the other end."""
    _, uid, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
