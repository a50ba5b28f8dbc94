"""The way to a provider, tried step by step, because gRPC says of all that is wrong with it only that it is."""

import asyncio
import errno
import grp
import os
import re
import shlex
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from cli.doctor.checks import of
from cli.doctor.finding import Check, Finding, Level
from client.channel import Tls
from common.addresses import socket_path
from common.pem import BadFile, File, KeyOfAnother, require_fit

CONNECT_SECONDS = 5.0
"""How long the connection and the handshake may take."""
HEAR_SECONDS = 1.0
"""How long a server may take to say something: after the handshake, for with TLS 1.3 that is when it refuses a client;
before one, for that tells HTTP/2 from TLS."""
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
            else:
                yield from _without_tls(connection, address, where, provider)
    except socket.gaierror as error:
        what = f"{where.host} has no address here: {error.strerror}."
        yield _problem(Check.HOST_UNKNOWN, what, provider, host=shlex.quote(where.host))
    except OSError as error:
        yield _unconnected(address, where, error, provider)


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
        yield _forbidden(path, provider)
    except ConnectionRefusedError:
        yield _problem(Check.NOT_LISTENING, f"No process listens on the socket {path}.", provider, **words)
    except OSError as error:
        yield _problem(Check.NO_ANSWER, f"The socket {path} does not answer: {error.strerror or error}.", provider)


def _forbidden(path: str, provider: str) -> Finding:
    """The kernel says the same of a socket, and of each directory on the way to it (path_resolution(7))."""
    for folder in reversed(Path(path).parents):
        if not os.access(folder, os.X_OK, effective_ids=True):
            what = f"You may not enter the directory {folder}, in which the socket {path} is."
            return _problem(Check.FOLDER_PERMISSION, what, provider, file=shlex.quote(str(folder)))
    words = {"file": shlex.quote(path)}
    with suppress(OSError, KeyError):
        words["group"] = shlex.quote(grp.getgrgid(Path(path).stat().st_gid).gr_name)
    return _problem(Check.SOCKET_PERMISSION, f"You may not open the socket {path}.", provider, **words)


def _without_tls(connection: socket.socket, address: str, where: Place, provider: str) -> Iterator[Finding]:
    """A server of HTTP/2 speaks first (RFC 9113, 3.4), one of TLS waits for the client."""
    connection.settimeout(HEAR_SECONDS)
    try:
        with suppress(ConnectionError):  # gRPC meets that too, and says so
            connection.recv(1)
    except TimeoutError:
        if _speaks_tls(connection):
            what = f"What listens at {address} speaks TLS, and the configuration has no `tls` for it."
            yield _problem(Check.TLS_MISSING, what, provider, peer=_peer(where))


def _speaks_tls(connection: socket.socket) -> bool:
    """Whether a greeting is answered in TLS, be it by a refusal."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is asked or believed
    try:
        with context.wrap_socket(connection):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _peer(where: Place) -> str:
    """As openssl takes it."""
    return shlex.quote(f"{where.host}:{where.port}")


def _handshake(connection: socket.socket, where: Place, tls: Tls, provider: str) -> Iterator[Finding]:
    for finding in _own_files(tls, provider):
        yield finding
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(tls.ca)
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        what = f"The TLS files do not fit together: {error.strerror or error}."
        yield _problem(Check.TLS_FILES, what, provider, file=shlex.quote(str(tls.cert)))
        return
    name = tls.server_name or where.host
    words = {"peer": _peer(where), "file": shlex.quote(str(tls.ca))}
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


def _own_files(tls: Tls, provider: str) -> Iterator[Finding]:
    files = list[File]()
    for path in (tls.ca, tls.cert, tls.key):
        try:
            files.append(File(path, path.read_bytes()))
        except OSError as error:
            what = f"The TLS file {path} cannot be read: {error.strerror or error}."
            yield _problem(Check.TLS_FILES, what, provider, file=shlex.quote(str(path)))
            return
    ca, cert, key = files
    try:
        require_fit(key, cert, ca)
    except BadFile as error:
        check = Check.TLS_KEY if isinstance(error, KeyOfAnother) else Check.TLS_FILES
        what, words = str(error), {"file": shlex.quote(str(error.file)), "cert": shlex.quote(str(tls.cert))}
        yield _problem(check, f"{what[0].upper()}{what[1:]}.", provider, **words)
        return
    ends = x509.load_pem_x509_certificate(cert.pem).not_valid_after_utc
    if ends <= datetime.now(UTC):
        what = f"Your certificate in {tls.cert} has expired: {ends:%Y-%m-%d %H:%M} UTC."
        yield _problem(Check.OWN_CERTIFICATE_EXPIRED, what, provider, file=shlex.quote(str(tls.cert)))


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
