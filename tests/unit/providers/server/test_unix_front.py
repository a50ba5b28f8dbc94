"""A front on a real socket: bytes pass whole in both directions, and the user has a name."""

import asyncio
import os
import select
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from providers.server.unix_front import UnixFront, uid_of

MOST = 120
MUCH = os.urandom(8 << 20)


class Inner:
    """In gRPC's place: answers with what it is told, once it has been told all."""

    def __init__(self) -> None:
        self.peers: list[str] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append("unix:" + writer.get_extra_info("peername"))
        told = await reader.read()
        writer.write(told)
        await writer.drain()
        writer.close()
        self.ended.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
async def inner(path: Path) -> AsyncIterator[Inner]:
    inner, front = Inner(), UnixFront(str(path), path.parent / "door", MOST)
    server = await asyncio.start_unix_server(inner.serve, front.inner.removeprefix("unix:"))
    await front.start()
    yield inner
    front.close()
    server.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def gone(path: Path) -> bool:
    return not path.exists()


async def exchange(path: Path, told: bytes) -> bytes:
    """What comes back, nothing where the connection is refused."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(told)
        writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_what_a_client_sends_and_is_sent_passes_whole(path: Path, inner: Inner) -> None:
    assert await exchange(path, MUCH) == MUCH


async def test_the_user_at_the_other_end_is_known(path: Path, inner: Inner) -> None:
    await exchange(path, b"hello")
    assert uid_of(inner.peers[0]) == os.geteuid()


async def test_each_connection_has_a_name_of_its_own(path: Path, inner: Inner) -> None:
    await asyncio.gather(*(exchange(path, b"hello") for _ in range(50)))
    assert len(set(inner.peers)) == 50


async def test_a_client_that_vanishes_ends_the_connection_to_grpc(path: Path, inner: Inner) -> None:
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.transport.abort()
    await asyncio.wait_for(inner.ended.wait(), 10)


def is_open(end: socket.socket) -> bool:
    try:
        return bool(end.recv(1))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@asynccontextmanager
async def silent(path: Path, count: int) -> AsyncIterator[list[socket.socket]]:
    """Connections that say nothing, when all of them have been accepted or turned away."""
    with ExitStack() as stack:
        ends = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
        for end in ends:
            end.connect(str(path))
            end.setblocking(False)
        await exchange(path, b"")  # the last of them
        yield ends


async def test_one_user_has_half_of_the_connections_at_the_most(path: Path, inner: Inner) -> None:
    async with silent(path, MOST) as ends:
        assert sum(map(is_open, ends)) == MOST // 2


async def test_a_connection_that_ends_makes_room_for_another(path: Path, inner: Inner) -> None:
    async with silent(path, MOST):
        assert await exchange(path, b"hello") == b""
    async with asyncio.timeout(10):
        while await exchange(path, b"hello") != b"hello":
            pass


async def test_that_clients_are_turned_away_is_said_but_not_for_each(path: Path, inner: Inner) -> None:
    with capture_logs() as logs:
        async with silent(path, MOST):
            pass
    (said,) = logs
    assert (said["event"], said["uid"], said["of_this_user"]) == ("a client was turned away", os.geteuid(), MOST // 2)


async def test_a_client_that_reads_nothing_does_not_keep_its_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.server.unix_front.STALLED", 0.1)

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MUCH)
        await asyncio.Event().wait()

    front = UnixFront(str(path), path.parent / "door", 2)
    server = await asyncio.start_unix_server(talk, front.inner.removeprefix("unix:"))
    await front.start()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(path))
        closed = select.poll()
        closed.register(deaf, select.POLLHUP)
        assert await asyncio.to_thread(closed.poll, 10_000)
    front.close()
    server.close()


async def test_clients_that_vanish_at_once_leave_nothing_behind(path: Path, inner: Inner) -> None:
    for _ in range(3 * MOST):
        with socket.socket(socket.AF_UNIX) as hasty:
            hasty.connect(str(path))
        await asyncio.sleep(0)
    assert await exchange(path, MUCH) == MUCH


async def test_only_owner_and_group_may_open_the_socket(path: Path, inner: Inner) -> None:
    assert mode(path) == 0o660


async def test_grpcs_own_socket_is_where_no_other_user_comes(path: Path) -> None:
    front = UnixFront(str(path), path.parent / "door", MOST)
    assert mode(Path(front.inner.removeprefix("unix:")).parent) == 0o700
    front.close()


async def test_a_socket_that_an_earlier_process_left_is_replaced(path: Path) -> None:
    earlier = await asyncio.start_unix_server(lambda *_: None, str(path))
    earlier.close()
    front = UnixFront(str(path), path.parent / "door", MOST)
    await front.start()
    front.close()
    assert gone(path)


async def test_a_client_that_comes_before_grpc_serves_is_turned_away(path: Path) -> None:
    front = UnixFront(str(path), path.parent / "door", MOST)
    await front.start()
    assert await exchange(path, b"") == b""
    front.close()


def test_a_folder_whose_path_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="107 are possible"):
        UnixFront(str(tmp_path / "s"), tmp_path / ("x" * 90), MOST)
