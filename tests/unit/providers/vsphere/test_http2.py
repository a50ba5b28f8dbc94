import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes, Settings

from providers.vsphere.http2 import Answer, Http2

HEADERS = [(":method", "POST"), (":scheme", "https"), (":authority", "vcenter.example"), (":path", "/sdk")]


class Server(asyncio.Transport):
    """The other end: takes what is written, and says what a test wants."""

    def __init__(self, protocol: Http2, settings: dict[SettingCodes, int] | None = None) -> None:
        super().__init__()
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = Settings(client=False, initial_values=settings or {})
        self.events: list[Event] = []
        self.protocol, self.closed = protocol, False
        protocol.connection_made(self)
        self.h2.initiate_connection()
        self.flush()

    def write(self, data: Any) -> None:
        self.events += self.h2.receive_data(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def seen(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def flush(self) -> None:
        self.protocol.data_received(self.h2.data_to_send())

    def answer(self, stream: int, body: bytes = b"", status: str = "200") -> None:
        self.h2.send_headers(stream, [(":status", status), ("Set-Cookie", "a=b")])
        for at in range(0, len(body), 16_384):
            self.h2.send_data(stream, body[at : at + 16_384])
        self.h2.end_stream(stream)
        self.flush()


@pytest.fixture
async def http2() -> Http2:
    return Http2()


@pytest.fixture
async def server(http2: Http2) -> Server:
    return Server(http2)


async def begun(http2: Http2, *bodies: bytes) -> Sequence[asyncio.Task[Answer]]:
    """Requests that are under way; their streams are 1, 3, 5 and on."""
    tasks = [asyncio.create_task(http2.post(HEADERS, body)) for body in bodies]
    await asyncio.sleep(0)
    return tasks


async def test_an_answer_has_status_headers_and_body(http2: Http2, server: Server) -> None:
    [asked] = await begun(http2, b"ask")
    server.answer(1, b"told", "500")
    assert await asked == Answer(500, {"set-cookie": "a=b"}, b"told")


async def test_a_request_that_is_held_delays_no_other(http2: Http2, server: Server) -> None:
    held, asked = await begun(http2, b"wait", b"ask")
    server.answer(3, b"told")
    assert (await asked).body == b"told"
    assert not held.done()
    server.answer(1, b"news")
    assert (await held).body == b"news"


async def test_a_body_larger_than_the_servers_window_arrives_whole(http2: Http2, server: Server) -> None:
    body, received = bytes(range(256)) * 1000, b""
    await begun(http2, body)
    for _ in range(10):
        for event in server.seen(DataReceived):
            received += event.data
            server.h2.acknowledge_received_data(event.flow_controlled_length, 1)
        server.events = server.seen(StreamEnded)
        server.flush()
    assert received == body
    assert server.seen(StreamEnded)


async def test_a_long_answer_arrives_whole(http2: Http2, server: Server) -> None:
    [asked] = await begun(http2, b"ask")
    server.answer(1, b"0123456789" * 100_000)
    assert (await asked).body == b"0123456789" * 100_000


async def test_the_server_may_go_on_after_many_long_answers(http2: Http2, server: Server) -> None:
    for number in range(20):
        [asked] = await begun(http2, b"ask")
        server.answer(2 * number + 1, b"x" * (1 << 20))
        await asked
    assert server.seen(WindowUpdated)


async def test_a_caller_that_is_cancelled_takes_its_request_back(http2: Http2, server: Server) -> None:
    held, asked = await begun(http2, b"wait", b"ask")
    held.cancel()
    await asyncio.wait({held})
    assert [(event.stream_id, event.error_code) for event in server.seen(StreamReset)] == [(1, ErrorCodes.CANCEL)]
    server.answer(3)
    assert (await asked).status == 200


async def test_no_more_requests_go_at_once_than_the_server_takes(http2: Http2) -> None:
    server = Server(http2, {SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    first, second = await begun(http2, b"first", b"second")
    assert len(server.seen(RequestReceived)) == 1
    server.answer(1)
    await first
    await asyncio.sleep(0)
    server.answer(3)
    assert (await second).status == 200


async def test_a_request_that_is_answered_before_all_of_it_was_sent_gives_its_turn_to_the_next(http2: Http2) -> None:
    server = Server(http2, {SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    first, second = await begun(http2, b"x" * 1_000_000, b"second")
    server.answer(1, status="503")
    assert (await first).status == 503
    await asyncio.sleep(0)
    server.answer(3)
    assert (await second).status == 200


async def test_whoever_waits_for_a_turn_is_told_that_the_connection_is_lost(http2: Http2) -> None:
    Server(http2, {SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    tasks = await begun(http2, b"first", b"second")
    http2.connection_lost(None)
    for task in tasks:
        with pytest.raises(ConnectionError):
            await task


async def test_a_request_that_the_server_ends_fails_alone(http2: Http2, server: Server) -> None:
    ended, asked = await begun(http2, b"end", b"ask")
    server.h2.reset_stream(1)
    server.answer(3)
    with pytest.raises(ConnectionResetError):
        await ended
    assert (await asked).status == 200


async def test_a_server_that_goes_away_ends_all(http2: Http2, server: Server) -> None:
    [asked] = await begun(http2, b"ask")
    server.h2.close_connection()
    server.flush()
    with pytest.raises(ConnectionResetError):
        await asked
    assert not http2.usable


async def test_a_server_that_breaks_the_rules_ends_all(http2: Http2, server: Server) -> None:
    [asked] = await begun(http2, b"ask")
    http2.data_received(bytes.fromhex("000000 01 04 00000000"))  # headers of no stream
    with pytest.raises(ConnectionError, match="proper HTTP/2"):
        await asked


async def test_a_lost_connection_takes_no_more_requests(http2: Http2, server: Server) -> None:
    http2.connection_lost(ConnectionResetError("gone"))
    with pytest.raises(ConnectionError, match="gone"):
        await http2.post(HEADERS, b"ask")


async def test_whoever_closes_it_ends_what_goes_on(http2: Http2, server: Server) -> None:
    [asked] = await begun(http2, b"ask")
    await http2.close()
    assert server.closed
    with pytest.raises(ConnectionAbortedError):
        await asked
