"""The way to a provider, tried step by step, because gRPC says of all that is wrong with it only that it is."""

import asyncio
import errno
import os
import re
import shlex
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cli import config
from cli.doctor.checks import of
from cli.doctor.finding import Check, Finding, Level
from cli.doctor.tls_files import fault
from client.channel import Tls
from common.addresses import socket_path

CONNECT_SECONDS = 5.0
"""How long the connection and the handshake may take."""
HEAR_SECONDS = 1.0
"""How long a server may take to say something after the handshake: with TLS 1.3 that is when it refuses a client."""
SOON = timedelta(days=14)
"""A certificate that ends within so long is told of."""
PORT = 443
"""gRPC's, where an address names none."""

VERIFY_CHECKS = {
    9: Check.CERTIFICATE_NOT_YET_VALID,
    10: Check.CERTIFICATE_EXPIRED,
    62: Check.CERTIFICATE_NAME,
    64: Check.CERTIFICATE_NAME,
}
"""X509_V_ERR_* of openssl/x509_vfy.h: the dates, and the host's name or address; all others are of who signed it."""
SENTENCES = {
    Check.CERTIFICATE_NOT_YET_VALID: "The provider's certificate is not valid yet, by this machine's clock.",
    Check.CERTIFICATE_EXPIRED: "The provider's certificate has expired.",
    Check.CERTIFICATE_NAME: "The provider's certificate is not for {name}: {said}.",
    Check.CERTIFICATE_CA: "The provider's certificate is not signed by the CA in {ca}: {said}.",
}


class Place(NamedTuple):
    """Where a provider listens."""

    host: str
    port: int


def place(address: str) -> Place | None:
    """The host and port of a gRPC target; None: it is another kind of target.

    https://github.com/grpc/grpc/blob/master/doc/naming.md
    """
    found = re.fullmatch(
        r"(?:(?:dns|ipv4|ipv6):(?:///?)?)?(?:\[(?P<six>[^]]+)\]|(?P<name>[^:/\[\]]+))(?::(?P<port>\d+))?", address
    )
    return Place(found["six"] or found["name"], int(found["port"] or PORT)) if found else None


async def look(address: str, tls: Tls | None, provider: str = "") -> list[Finding]:
    """What is wrong with the way to a provider, or soon will be. Problems keep every call from it."""
    return await asyncio.to_thread(lambda: list(_look(address, tls, provider)))


def blocks(findings: list[Finding]) -> bool:
    """Whether the provider cannot be asked."""
    return any(each.level is Level.PROBLEM for each in findings)


def _look(address: str, tls: Tls | None, provider: str) -> Iterator[Finding]:
    if path := socket_path(address):
        yield from _socket(address, path, provider)
        return
    where = place(address)
    if where is None:
        return  # gRPC knows more kinds of addresses, and says what is wrong with them
    try:
        with socket.create_connection(where, CONNECT_SECONDS) as connection:
            if tls:
                yield from _handshake(connection, where, tls, provider)
            elif _is_silent(connection) and _speaks_tls(where):
                what = f"What answers at {address} wants TLS, and {config.path()} names no certificates for it."
                yield _problem(Check.TLS_MISSING, what, provider, peer=shlex.quote(f"{where.host}:{where.port}"))
    except socket.gaierror as error:
        what = f"{where.host} has no address here: {error.strerror}."
        yield _problem(Check.HOST_UNKNOWN, what, provider, host=shlex.quote(where.host))
    except OSError as error:
        yield _unconnected(address, where, error, provider)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    return context


def _is_silent(connection: socket.socket) -> bool:
    """In plain text a gRPC server speaks first: its settings of HTTP/2."""
    connection.settimeout(HEAR_SECONDS)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    except OSError:
        pass
    return False


def _speaks_tls(where: Place) -> bool:
    """Whether it takes part in a handshake, whoever it is: nothing is sent to it afterwards."""
    context = _context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(where, CONNECT_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=where.host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it refuses us in the words of TLS
    except OSError:
        return False


def _unconnected(address: str, where: Place, error: OSError, provider: str) -> Finding:
    said = "nothing answers" if isinstance(error, TimeoutError) else error.strerror or str(error)
    what = f"No provider answers at {address}: {said}."
    check = Check.NOT_LISTENING if error.errno == errno.ECONNREFUSED else Check.HOST_UNREACHABLE
    return _problem(check, what, provider, host=shlex.quote(where.host), address=shlex.quote(address))


def _socket(address: str, path: str, provider: str) -> Iterator[Finding]:
    words = {"address": shlex.quote(address), "file": shlex.quote(path)}
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(path)
    except FileNotFoundError:
        yield _problem(Check.SOCKET_MISSING, f"There is no socket {path}.", provider, **words)
    except PermissionError:
        closed = _closed_folder(path)
        what = f"You may not enter {closed}, where the socket {path} is." if closed else f"You may not open {path}."
        words["file"] = shlex.quote(str(closed or path))
        yield _problem(Check.SOCKET_PERMISSION, what, provider, **words)
    except ConnectionRefusedError:
        yield _problem(Check.NOT_LISTENING, f"No process listens on the socket {path}.", provider, **words)
    except OSError as error:
        yield _problem(Check.NO_ANSWER, f"The socket {path} does not answer: {error.strerror or error}.", provider)


def _closed_folder(path: str) -> Path | None:
    """The first folder on the way to a file that may not be entered."""
    folders = reversed(Path(path).absolute().parents)
    return next((folder for folder in folders if not os.access(folder, os.X_OK)), None)


def _handshake(connection: socket.socket, where: Place, tls: Tls, provider: str) -> Iterator[Finding]:
    if found := fault(tls):
        words = {"file": shlex.quote(str(found.file)), "cert": shlex.quote(str(tls.cert))}
        yield _problem(found.check, found.what, provider, **words)
        return
    context = _context()
    try:
        context.load_verify_locations(tls.ca)
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        what = f"OpenSSL refuses the TLS files {tls.ca}, {tls.cert} and {tls.key}: {error.strerror or error}."
        yield _problem(Check.TLS_FILES, what, provider, file=shlex.quote(str(tls.cert)))
        return
    name = tls.server_name or where.host
    words = {"peer": shlex.quote(f"{where.host}:{where.port}"), "file": shlex.quote(str(tls.ca))}
    try:
        with context.wrap_socket(connection, server_hostname=name) as secured:
            yield from _ends_soon(secured.getpeercert() or {}, provider, words)
            yield from _refusal(secured, tls, provider)
    except ssl.SSLCertVerificationError as error:
        check = VERIFY_CHECKS.get(error.verify_code, Check.CERTIFICATE_CA)
        what = SENTENCES[check].format(name=name, ca=tls.ca, said=error.verify_message.rstrip("."))
        yield _problem(check, what, provider, **words)
    except ssl.SSLError as error:
        what = f"There is no TLS with what answers at {where.host}:{where.port}: {error.reason or error}."
        yield _problem(Check.TLS_FAILED, what, provider, **words)


def _ends_soon(certificate: Mapping[str, object], provider: str, words: dict[str, str]) -> Iterator[Finding]:
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    if ends - datetime.now(UTC) < SOON:
        what = f"The provider's certificate ends soon: {ends:%Y-%m-%d %H:%M} UTC."
        yield of(Check.CERTIFICATE_ENDS_SOON, Level.WARNING, what, provider=provider, **words)


def _refusal(secured: ssl.SSLSocket, tls: Tls, provider: str) -> Iterator[Finding]:
    """The server speaks first in HTTP/2, unless it refuses."""
    secured.settimeout(HEAR_SECONDS)
    try:
        if secured.recv(1):
            return
        said = "it ends the connection"
    except TimeoutError:
        return
    except (ssl.SSLError, ConnectionError) as error:
        said = str(getattr(error, "reason", None) or error.strerror or error)
    what = f"The provider refuses your certificate in {tls.cert}: {said}."
    yield _problem(Check.OWN_CERTIFICATE_REFUSED, what, provider, file=shlex.quote(str(tls.cert)))


def _problem(check: Check, what: str, provider: str, **words: str) -> Finding:
    return of(check, Level.PROBLEM, what, provider=provider, **words)
