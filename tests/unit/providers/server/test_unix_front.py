"""A front on a real socket: bytes pass whole in both directions, and the user has a name."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from providers.server.unix_front import UnixFront, uid_of

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
    inner, front = Inner(), UnixFront(str(path), path.parent / "door")
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
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(told)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


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


async def test_only_owner_and_group_may_open_the_socket(path: Path, inner: Inner) -> None:
    assert mode(path) == 0o660


async def test_grpcs_own_socket_is_where_no_other_user_comes(path: Path) -> None:
    front = UnixFront(str(path), path.parent / "door")
    assert mode(Path(front.inner.removeprefix("unix:")).parent) == 0o700
    front.close()


async def test_a_socket_that_an_earlier_process_left_is_replaced(path: Path) -> None:
    earlier = await asyncio.start_unix_server(lambda *_: None, str(path))
    earlier.close()
    front = UnixFront(str(path), path.parent / "door")
    await front.start()
    front.close()
    assert gone(path)


async def test_a_client_that_comes_before_grpc_serves_is_turned_away(path: Path) -> None:
    front = UnixFront(str(path), path.parent / "door")
    await front.start()
    assert await exchange(path, b"") == b""
    front.close()


def test_a_folder_whose_path_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="107 are possible"):
        UnixFront(str(tmp_path / "s"), tmp_path / ("x" * 90))
