"""HTTP/2 by hand: a client that does what no library of gRPC does, such as to read nothing, or to answer no ping.

RFC 9113 (frames), RFC 7541 (headers).
"""

import socket
import ssl
import struct
from contextlib import suppress
from itertools import count
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
CANCEL = 8
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    if len(value) >= 127:
        raise ValueError("too long for one byte of length")
    return bytes([len(value)]) + value


def request(path: str) -> bytes:
    """The headers of a call, each written out and none remembered."""
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    pairs += [("content-type", "application/grpc"), ("te", "trailers")]
    return b"".join(b"\0" + _text(name.encode()) + _text(value.encode()) for name, value in pairs)


class Connection:
    """One that has said hello. `window`: bytes that the server may send on each stream before it is asked for more.
    `tls`: what is proved to each other first."""

    def __init__(
        self, address: str | tuple[str, int], *, window: int = 65_535, tls: ssl.SSLContext | None = None
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.connect(address)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        self._streams = count(1, 2)

    def call(self, path: str, message: bytes = b"", *, broken_off: bool = False) -> None:
        """Begin a call with one message, and send no more; `broken_off`: than that it is of no interest any more."""
        stream, data = next(self._streams), b"\0" + struct.pack(">I", len(message)) + message
        head = frame(HEADERS, END_HEADERS, stream, request(path))
        reset = frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)) if broken_off else b""
        self.socket.sendall(head + frame(DATA, END_STREAM, stream, data) + reset)

    def acknowledge(self) -> None:
        """Accept the server's settings."""
        self.socket.sendall(frame(SETTINGS, 1, 0, b""))

    def read_what_is_there(self) -> None:
        """Read what the server has said so far, and look at none of it."""
        with suppress(BlockingIOError):
            while self.socket.recv(65_536, socket.MSG_DONTWAIT):
                pass

    def wait_until_closed(self, timeout: float) -> None:
        """Read and answer nothing until the server closes the connection.

        Raises:
            TimeoutError: it does not.
        """
        self.socket.settimeout(timeout)
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionResetError:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
