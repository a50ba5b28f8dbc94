"""The connection to one provider: in plain text on this machine, with mutual TLS to any other."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from client.errors import ProviderError
from common.addresses import is_local, mistake, strangers
from common.files import stamps
from common.pem import File, require_fit

OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),  # a page of 1000 operations with all their steps
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2000),  # how long one attempt may take: a TLS handshake over a slow line does
    ("grpc.max_reconnect_backoff_ms", 5000),  # gRPC's own 2 min would keep a provider that is back waiting
    ("grpc.keepalive_time_ms", 2_000),  # providers allow one each second; of one that allows fewer, gRPC asks less
    ("grpc.keepalive_timeout_ms", 2_500),  # so a process that froze, or a host that vanished, is noticed within 5 s
    ("grpc.http2.ping_timeout_ms", 2_500),  # by default 60 s, and counts as well as the one before
    ("grpc.http2.max_pings_without_data", 0),  # also on streams that are silent for hours
]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for mutual TLS. `server_name` is the name in the server's certificate, where the address differs."""

    ca: Path
    cert: Path
    key: Path
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Pem:
    """What these files hold, from wherever it was read: `ca`, `cert` and `key` in PEM."""

    ca: bytes = field(default=b"", repr=False)
    cert: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    server_name: str = ""


def require_secure(address: str, tls: Tls | Pem | None) -> None:
    """Raises ValueError: the address is none, or is another machine's and needs `tls`."""
    if wrong := mistake(address):
        raise ValueError(f"{address}: {wrong}")
    if tls is None and not is_local(address):
        raise ValueError(f"{address} is not on this machine, so it needs mutual TLS")


def open_channel(address: str, tls: Tls | Pem | None) -> grpc.aio.Channel:
    """A channel that connects at its first call.

    Raises:
        OSError: a TLS file cannot be read.
        BadFile: what is in one cannot serve; gRPC would say of that only that no connection can be made.
        ProviderError: without TLS, `localhost` is not this machine alone.
    """
    if tls is None:
        if elsewhere := strangers(address):
            message = f"localhost is {', '.join(elsewhere)} here; the machine's administrator mends /etc/hosts."
            raise ProviderError("FAILED_PRECONDITION", message, "LOCALHOST_ELSEWHERE")
        return grpc.aio.insecure_channel(address, OPTIONS)
    ca, key, cert = _read(tls) if isinstance(tls, Tls) else (tls.ca, tls.key, tls.cert)
    override = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), [*OPTIONS, *override])


def _read(tls: Tls) -> tuple[bytes, bytes, bytes]:
    ca, key, cert = (File(path, path.read_bytes()) for path in (tls.ca, tls.key, tls.cert))
    require_fit(key, cert, ca)
    return ca.pem, key.pem, cert.pem


def versions(tls: Tls | Pem | None) -> list[tuple[int, int]]:
    """Differs when one of the files has been written or replaced, or when it is other PEM."""
    if isinstance(tls, Pem):
        return [(hash(tls), 0)]
    return stamps((tls.ca, tls.key, tls.cert) if tls else ())
