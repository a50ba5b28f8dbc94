import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes, Settings

from providers.vsphere.http2 import WINDOW, Answer, Http2

THEIR_WINDOW = 65_535
"""What a server that says nothing else has room for: RFC 9113, 6.9.2."""
POST = [(":method", "POST"), (":scheme", "https"), (":authority", "vcenter.example"), (":path", "/sdk")]
LONG = bytes(range(256)) * 1000

Heard = TypeVar("Heard", bound=Event)


class Wire(asyncio.Transport):
    """What the client writes is received at once."""

    def __init__(self, client: Http2, receive: Callable[[bytes], None]) -> None:
        super().__init__()
        self._client, self._receive = client, receive
        self._closing, self.gone = False, False

    def write(self, data: Any) -> None:
        assert not self._closing
        self._receive(bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.lose)

    def lose(self, error: Exception | None = None) -> None:
        if not self.gone:
            self._closing = self.gone = True
            self._client.connection_lost(error)


class Request(NamedTuple):
    """A whole one."""

    stream: int
    body: bytes


class Server:
    """The other end, in memory. It confirms no data by itself."""

    def __init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.client = Http2()
        self.wire = Wire(self.client, self._receive)
        self.bodies = defaultdict[int, bytearray](bytearray)
        self.begun = list[int]()
        self.asking = list[asyncio.Task[Answer]]()
        self._events = asyncio.Queue[Event]()
        self._unsent = dict[int, bytes]()

    def connect(self, settings: Mapping[SettingCodes | int, int]) -> None:
        self.h2.local_settings = Settings(client=False, initial_values=dict(settings))
        self.h2.initiate_connection()
        self.client.connection_made(self.wire)
        self.flush()

    def ask(self, body: bytes = b"?") -> asyncio.Task[Answer]:
        """What the client is asked for, in the background."""
        self.asking.append(asyncio.create_task(self.client.post(POST, body)))
        return self.asking[-1]

    async def heard(self, kind: type[Heard]) -> Heard:
        """The next event of this kind; those before it are forgotten."""
        while not isinstance(event := await self._events.get(), kind):
            pass
        return event

    async def asked(self) -> Request:
        stream = (await self.heard(StreamEnded)).stream_id
        return Request(stream, bytes(self.bodies[stream]))

    def answer(self, stream: int, body: bytes = b"!", *headers: tuple[str, str], status: int = 200) -> None:
        self.h2.send_headers(stream, [(":status", str(status)), *headers])
        self._unsent[stream] = body
        self._push()
        self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.say(data)

    def say(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not self.wire.is_closing():
            self.client.data_received(data)

    def _receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.begun.append(event.stream_id)
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data
            elif isinstance(event, WindowUpdated):
                self._push()
            self._events.put_nowait(event)
        self.flush()

    def _push(self) -> None:
        for stream, unsent in list(self._unsent.items()):
            rest = unsent
            while rest and (room := self.h2.local_flow_control_window(stream)) > 0:
                size = min(room, self.h2.max_outbound_frame_size)
                self.h2.send_data(stream, rest[:size], end_stream=size >= len(rest))
                rest = rest[size:]
            self._unsent[stream] = rest
            if not rest:
                del self._unsent[stream]


@pytest.fixture
def settings() -> Mapping[SettingCodes | int, int]:
    """What the server says of itself."""
    return {}


@pytest.fixture
async def server(settings: Mapping[SettingCodes | int, int]) -> AsyncIterator[Server]:
    server = Server()
    server.connect(settings)
    yield server
    await server.client.close()
    await asyncio.gather(*server.asking, return_exceptions=True)


one_at_a_time = pytest.mark.parametrize("settings", [{SettingCodes.MAX_CONCURRENT_STREAMS: 1}], ids=["one-at-a-time"])


async def assert_fails(asking: asyncio.Task[Answer], error: type[Exception], match: str = "") -> None:
    with pytest.raises(error, match=match):
        await asking


# Many at once


async def test_each_of_many_requests_gets_its_own_answer_in_whatever_order_they_come(server: Server) -> None:
    asking = [server.ask(f"{n}".encode()) for n in range(50)]
    requests = [await server.asked() for _ in asking]
    for stream, body in reversed(requests):
        server.answer(stream, b"answer to " + body)
    assert [answer.body for answer in await asyncio.gather(*asking)] == [f"answer to {n}".encode() for n in range(50)]


async def test_a_request_whose_answer_is_held_back_delays_no_other(server: Server) -> None:
    held, other = server.ask(), server.ask()
    await server.asked()
    server.answer((await server.asked()).stream, b"at once")
    assert (await other).body == b"at once"
    assert not held.done()


async def test_an_answer_that_has_begun_delays_no_other(server: Server) -> None:
    held, other = server.ask(), server.ask()
    server.h2.send_headers((await server.asked()).stream, [(":status", "200")])
    server.answer((await server.asked()).stream, b"at once")
    assert (await other).body == b"at once"
    assert not held.done()


@one_at_a_time
async def test_a_server_that_takes_one_request_at_a_time_gets_one_after_the_other(server: Server) -> None:
    asking = [server.ask(f"{n}".encode()) for n in range(5)]
    for n in range(5):
        stream, body = await server.asked()
        assert len(server.begun) == n + 1
        server.answer(stream, body)
    assert [answer.body for answer in await asyncio.gather(*asking)] == [b"0", b"1", b"2", b"3", b"4"]


@one_at_a_time
async def test_a_request_that_is_taken_back_gives_its_turn_to_the_next(server: Server) -> None:
    first, second = server.ask(b"first"), server.ask(b"second")
    await server.asked()
    first.cancel()
    stream, body = await server.asked()
    server.answer(stream)
    assert (body, (await second).body) == (b"second", b"!")


@one_at_a_time
async def test_those_who_wait_for_their_turn_fail_when_the_connection_is_lost(server: Server) -> None:
    asking = [server.ask() for _ in range(3)]
    await server.asked()
    server.wire.lose()
    for each in asking:
        await assert_fails(each, ConnectionError, "the server closed the connection")
    assert len(server.begun) == 1


# What they carry


async def test_a_body_larger_than_the_servers_window_goes_as_far_as_there_is_room(server: Server) -> None:
    server.ask(LONG)
    while len(server.bodies[1]) < THEIR_WINDOW:
        await server.heard(DataReceived)
    assert server.bodies[1] == LONG[:THEIR_WINDOW]


async def test_a_body_larger_than_the_servers_window_arrives_whole_when_room_is_made(server: Server) -> None:
    asking = server.ask(LONG)
    while len(server.bodies[1]) < len(LONG):
        part = await server.heard(DataReceived)
        server.h2.acknowledge_received_data(part.flow_controlled_length, part.stream_id)
        server.flush()
    stream, body = await server.asked()
    server.answer(stream)
    assert (body, (await asking).body) == (LONG, b"!")


async def test_a_body_that_waits_for_room_goes_on_when_the_server_makes_its_windows_larger(server: Server) -> None:
    server.ask(LONG)
    while len(server.bodies[1]) < THEIR_WINDOW:
        await server.heard(DataReceived)
    server.h2.increment_flow_control_window(len(LONG))
    server.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: len(LONG)})
    server.flush()
    assert (await server.asked()).body == LONG


async def test_a_request_without_a_body_arrives_whole(server: Server) -> None:
    server.ask(b"")
    assert (await server.asked()).body == b""


async def test_an_answer_in_many_frames_arrives_whole(server: Server) -> None:
    asking = server.ask()
    server.answer((await server.asked()).stream, LONG)
    assert (await asking).body == LONG


async def test_an_answer_larger_than_our_window_arrives_whole_because_we_make_room(server: Server) -> None:
    asking = server.ask()
    stream, _ = await server.asked()
    server.answer(stream, bytes(WINDOW + 1))
    assert len((await asking).body) == WINDOW + 1
    while (await server.heard(WindowUpdated)).stream_id != stream:
        pass


async def test_the_status_is_a_number_of_its_own(server: Server) -> None:
    asking = server.ask()
    server.answer((await server.asked()).stream, b"no", status=503)
    assert await asking == Answer(503, {}, b"no")


async def test_the_names_of_headers_come_in_lower_case(server: Server) -> None:
    asking = server.ask()
    server.answer((await server.asked()).stream, b"", ("Set-Cookie", "A=B"), ("CONTENT-TYPE", "text/xml"))
    assert (await asking).headers == {"set-cookie": "A=B", "content-type": "text/xml"}


# One that comes to nothing


async def test_a_caller_that_is_cancelled_takes_its_request_back(server: Server) -> None:
    asking = server.ask()
    stream, _ = await server.asked()
    asking.cancel()
    reset = await server.heard(StreamReset)
    assert (reset.stream_id, reset.error_code) == (stream, ErrorCodes.CANCEL)


async def test_a_caller_that_is_cancelled_disturbs_no_other(server: Server) -> None:
    cancelled, other = server.ask(), server.ask()
    await server.asked()
    stream, _ = await server.asked()
    cancelled.cancel()
    await server.heard(StreamReset)
    server.answer(stream)
    assert (await other).body == b"!"


async def test_an_answer_to_a_request_that_was_taken_back_meanwhile_disturbs_no_other(server: Server) -> None:
    cancelled, other = server.ask(), server.ask()
    late, stream = (await server.asked()).stream, (await server.asked()).stream
    server.answer(late, LONG)
    cancelled.cancel()
    server.answer(stream)
    assert (await other).body == b"!"


async def test_a_request_that_the_server_ends_fails(server: Server) -> None:
    asking = server.ask()
    server.h2.reset_stream((await server.asked()).stream, ErrorCodes.REFUSED_STREAM)
    server.flush()
    await assert_fails(asking, ConnectionResetError, "the server ends the request")


async def test_a_request_that_the_server_ends_disturbs_no_other(server: Server) -> None:
    ended, other = server.ask(), server.ask()
    server.h2.reset_stream((await server.asked()).stream)
    server.answer((await server.asked()).stream)
    await assert_fails(ended, ConnectionResetError)
    assert ((await other).body, server.client.usable) == (b"!", True)


@one_at_a_time
async def test_a_request_that_is_answered_before_it_was_sent_whole_gives_its_turn_to_the_next(server: Server) -> None:
    early, second = server.ask(LONG), server.ask(b"second")
    await server.heard(RequestReceived)
    server.answer(1, b"too long", status=413)
    assert (await early).status == 413
    stream, _ = await server.asked()
    server.answer(stream)
    assert (await second).body == b"!"


# The end of the connection


async def test_a_server_that_ends_the_connection_fails_all(server: Server) -> None:
    asking = [server.ask(), server.ask()]
    await server.asked()
    server.h2.close_connection()
    server.flush()
    for each in asking:
        await assert_fails(each, ConnectionResetError, "the server ends the connection")
    assert not server.client.usable


async def test_an_answer_that_comes_together_with_the_end_of_the_connection_counts(server: Server) -> None:
    answered, other = server.ask(), server.ask()
    stream, _ = await server.asked()
    server.h2.send_headers(stream, [(":status", "200")])
    server.h2.send_data(stream, b"!", end_stream=True)
    server.h2.close_connection()
    server.flush()
    await assert_fails(other, ConnectionResetError, "the server ends the connection")
    assert (await answered).body == b"!"


async def test_a_server_that_speaks_something_else_fails_all(server: Server) -> None:
    asking = [server.ask(), server.ask()]
    await server.asked()
    server.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    for each in asking:
        await assert_fails(each, ConnectionError, "no proper HTTP/2")
    assert not server.client.usable


@pytest.mark.parametrize("error", [None, ConnectionResetError("cut"), TimeoutError("no answer from the kernel's peer")])
async def test_a_connection_that_is_lost_fails_all(server: Server, error: Exception | None) -> None:
    asking = [server.ask(), server.ask()]
    await server.asked()
    server.wire.lose(error)
    for each in asking:
        await assert_fails(each, type(error or ConnectionResetError()))
    assert not server.client.usable


async def test_a_connection_that_is_lost_takes_no_more_requests(server: Server) -> None:
    server.wire.lose(ConnectionResetError("cut"))
    await assert_fails(server.ask(), ConnectionError, "cut")


async def test_whoever_closes_the_connection_fails_all(server: Server) -> None:
    asking = [server.ask(), server.ask()]
    await server.asked()
    await server.client.close()
    for each in asking:
        await assert_fails(each, ConnectionAbortedError, "closed")


async def test_closing_returns_when_the_connection_is_gone(server: Server) -> None:
    await server.client.close()
    assert server.wire.gone


async def test_a_connection_that_was_closed_takes_no_more_requests(server: Server) -> None:
    await server.client.close()
    await assert_fails(server.ask(), ConnectionError, "closed")
