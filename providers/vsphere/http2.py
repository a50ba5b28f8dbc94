"""One HTTP/2 connection that carries any number of requests at once: RFC 9113 by the library h2, on asyncio.

No client that does this well was found: httpx lets whoever waits longest read next (httpcore's read lock), so that an
answer stays unread for as long as another request, such as the one that waits for news, is held by the server.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

NAME = "h2"
"""That of the protocol, by ALPN (RFC 7301)."""
WINDOW = 1 << 24
"""Bytes that the server may send before we confirm them."""
OURS = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}


class Answer(NamedTuple):
    """A whole response; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Exchange:
    unsent: bytes
    answer: asyncio.Future[Answer]
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Http2(asyncio.Protocol):
    """The client's end."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._exchanges: dict[int, _Exchange] = {}
        self._room, self._gone = asyncio.Event(), asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._lost: Exception | None = None
        self.agreed = False
        """Whether the handshake chose this protocol; if not, nothing is said, and whoever dialled closes it."""

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._lost is None and self._h2.state_machine.state is not ConnectionState.CLOSED

    async def post(self, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
        """Send a request, and wait for the answer; a caller that is cancelled takes the request back.

        Raises:
            ConnectionError: there will be no answer. Whether the server did what it was asked is not known.
        """
        stream = await self._begin(headers, body)
        try:
            return await self._exchanges[stream].answer
        finally:
            self._end(stream)

    async def close(self) -> None:
        """End the connection, and with it all that goes on."""
        self._fail(ConnectionAbortedError("the connection was closed"))
        if self._transport:
            await self._gone.wait()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done; say how much may be sent to us."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's promise
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        self.agreed = not tls or tls.selected_alpn_protocol() == NAME
        if not self.agreed:
            return
        self._h2.local_settings = Settings(client=True, initial_values=OURS)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Part of what the server has to say."""
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
        except ProtocolError as error:
            self._fail(ConnectionError(f"it speaks no proper HTTP/2 ({type(error).__name__}: {error})"))
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._fail(exc or ConnectionResetError("the server closed the connection"))
        self._gone.set()

    # A request

    async def _begin(self, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        while self._is_full() and self._lost is None:
            self._room.clear()
            await self._room.wait()
        if self._lost:
            raise ConnectionError(*self._lost.args) from self._lost
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, headers, end_stream=not body)
        except ProtocolError as error:
            raise ConnectionError(f"the connection takes no more requests ({error})") from error
        self._exchanges[stream] = _Exchange(body, asyncio.get_running_loop().create_future())
        self._push(stream)
        self._flush()
        return stream

    def _is_full(self) -> bool:
        return self._h2.open_outbound_streams >= self._h2.remote_settings.max_concurrent_streams

    def _push(self, stream: int) -> None:
        """Send as much of the body as the server has room for."""
        exchange = self._exchanges[stream]
        while exchange.unsent and (room := self._h2.local_flow_control_window(stream)) > 0:
            size = min(room, self._h2.max_outbound_frame_size)
            part, exchange.unsent = exchange.unsent[:size], exchange.unsent[size:]
            self._h2.send_data(stream, part, end_stream=not exchange.unsent)

    def _end(self, stream: int) -> None:
        exchange = self._exchanges.pop(stream)
        if (exchange.unsent or exchange.answer.cancelled()) and self.usable:
            with suppress(ProtocolError):  # the server has ended it just now
                self._h2.reset_stream(stream, ErrorCodes.CANCEL)
            self._flush()
        self._room.set()

    # Its answer

    def _take(self, event: Event) -> None:
        match event:
            case RemoteSettingsChanged() | WindowUpdated():
                self._room.set()
                for stream, exchange in self._exchanges.items():
                    if exchange.unsent and not exchange.answer.done():
                        self._push(stream)
            case ConnectionTerminated():
                self._fail(ConnectionResetError(f"the server ends the connection (HTTP/2 error {event.error_code})"))
            case ResponseReceived() | DataReceived() | StreamEnded() | StreamReset():
                self._answer(event)

    def _answer(self, event: ResponseReceived | DataReceived | StreamEnded | StreamReset) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if exchange is None or exchange.answer.done():
            return
        match event:
            case ResponseReceived():
                exchange.headers.update((str(name), str(value)) for name, value in event.headers)
            case DataReceived():
                exchange.body += event.data
            case StreamEnded():
                status = int(exchange.headers.pop(":status"))
                exchange.answer.set_result(Answer(status, exchange.headers, bytes(exchange.body)))
            case StreamReset():
                exchange.answer.set_exception(
                    ConnectionResetError(f"the server ends the request (HTTP/2 error {event.error_code})")
                )

    # The end

    def _fail(self, error: Exception) -> None:
        if self._lost:
            return
        self._lost = error
        for exchange in self._exchanges.values():
            if not exchange.answer.done():
                exchange.answer.set_exception(error)
        self._room.set()
        if self._transport:
            self._flush()
            self._transport.abort()  # there is nothing to wait for: whatever TLS would say at its end, nobody needs

    def _flush(self) -> None:
        if self._transport and not self._transport.is_closing() and (data := self._h2.data_to_send()):
            self._transport.write(data)
