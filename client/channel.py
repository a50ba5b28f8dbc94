"""The connection to one provider: in plain text on this machine, with mutual TLS to any other."""

import ipaddress
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from client.errors import ProviderError
from protos.power.v1.power_pb2_grpc import PowerServiceStub

if TYPE_CHECKING:  # a class of the type stubs only
    from protos.power.v1.power_pb2_grpc import PowerServiceAsyncStub

OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),  # a page of 1000 operations with all their steps
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2000),  # how long one attempt may take: a TLS handshake over a slow line does
    ("grpc.max_reconnect_backoff_ms", 5000),  # gRPC's own 2 min would keep a provider that is back waiting
    ("grpc.keepalive_time_ms", 30_000),  # providers allow a ping each 20 s
    ("grpc.keepalive_timeout_ms", 10_000),  # so a host that vanished without a word is noticed within 40 s
    ("grpc.http2.max_pings_without_data", 0),  # also on streams that are silent for hours
]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for mutual TLS. `server_name` is the name in the server's certificate, where the address differs."""

    ca: Path
    cert: Path
    key: Path
    server_name: str = ""


def is_local(address: str) -> bool:
    """Whether a gRPC target stays on this machine: a unix socket or loopback.

    https://github.com/grpc/grpc/blob/master/doc/naming.md
    """
    scheme, _, rest = address.partition(":")
    if scheme in {"unix", "unix-abstract"}:
        return True
    target = rest if scheme in {"dns", "ipv4", "ipv6"} else address
    host = re.sub(r":\d+$", "", target.rpartition("/")[2]).strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Channel:
    """One gRPC channel, the state of the files it was made from, and how many calls use it."""

    def __init__(self, channel: grpc.aio.Channel, files: list[tuple[int, int]]) -> None:
        self.channel, self.files, self.calls = channel, files, 0
        self.stub: PowerServiceAsyncStub = PowerServiceStub(channel)


class Connection:
    """Opens a channel at the first call, and another one for later calls when the TLS files have changed.

    A stream that is open then goes on over the old channel, which is closed when nothing uses it any more.
    """

    def __init__(self, address: str, tls: Tls | None) -> None:
        if tls is None and not is_local(address):
            raise ValueError(f"{address} is not on this machine, so it needs mutual TLS")
        self._address, self._tls = address, tls
        self._channels: list[_Channel] = []  # the last one is for new calls
        self._closed = False

    @asynccontextmanager
    async def stub(self) -> AsyncIterator["PowerServiceAsyncStub"]:
        """For one call.

        Raises:
            ProviderError: FAILED_PRECONDITION: a TLS file cannot be read (TLS_FILE_UNREADABLE), or this is closed.
        """
        current = self._current()
        current.calls += 1
        try:
            await self._close_unused()
            yield current.stub
        finally:
            current.calls -= 1
            await self._close_unused()

    async def close(self) -> None:
        """Ends the calls that still run: to them the provider is UNAVAILABLE."""
        self._closed = True
        while self._channels:
            await self._channels.pop().channel.close()

    def _current(self) -> _Channel:
        if self._closed:
            raise ProviderError("FAILED_PRECONDITION", "The client is closed; make another one.", "CLIENT_CLOSED")
        files = self._files()
        if not self._channels or self._channels[-1].files != files:
            try:
                self._channels.append(_Channel(self._open(), files))
            except OSError as error:
                if not self._channels:  # in the middle of a renewal the old channel still serves
                    message = f"A TLS file cannot be read: {error}; provide it, or name another."
                    raise ProviderError("FAILED_PRECONDITION", message, "TLS_FILE_UNREADABLE") from error
        return self._channels[-1]

    async def _close_unused(self) -> None:
        while unused := next((each for each in self._channels[:-1] if not each.calls), None):
            self._channels.remove(unused)
            await unused.channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(self._address, OPTIONS)
        ca, key, cert = (file.read_bytes() for file in (self._tls.ca, self._tls.key, self._tls.cert))
        name = self._tls.server_name
        override = [("grpc.ssl_target_name_override", name)] if name else []
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
        return grpc.aio.secure_channel(self._address, credentials, [*OPTIONS, *override])

    def _files(self) -> list[tuple[int, int]]:
        """Changes whenever one of the TLS files does."""
        files = (self._tls.ca, self._tls.key, self._tls.cert) if self._tls else ()
        return [(stat.st_mtime_ns, stat.st_ino) for stat in (file.stat() for file in files if file.exists())]
