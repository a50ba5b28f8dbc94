"""Why a process cannot listen at an address, in the system's words: of all reasons gRPC says only that it cannot."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.addresses import socket_path


class CannotListen(Exception):
    """The process cannot listen at an address; the message says why, and who acts."""


def require_listenable(address: str, flag: str) -> None:
    """Try to listen at a gRPC target (`unix:///path`, `host:port`), as the flag says, before gRPC does.

    Raises:
        CannotListen: that cannot be.
    """
    if trouble := "; ".join(_troubles(address)):
        raise CannotListen(f"{address}: {trouble}; mend that or choose another {flag}.")


@contextmanager
def listening(address: str, flag: str) -> Iterator[None]:
    """Listen at an address within this, as the flag says.

    Raises:
        CannotListen: that cannot be, as was found before, or is by what listens.
    """
    require_listenable(address, flag)
    try:
        yield
    except (OSError, RuntimeError) as error:
        why = str(error) if isinstance(error, OSError) else "gRPC cannot listen there"
        raise CannotListen(f"{address}: {why}; mend that or choose another {flag}.") from error


@contextmanager
def for_owner_and_group() -> Iterator[None]:
    """A unix socket that is made meanwhile is for its owner and group: 0660."""
    umask = os.umask(0o117)
    try:
        yield
    finally:
        os.umask(umask)


def _troubles(address: str) -> Iterator[str]:
    if path := socket_path(address):
        yield from _of_socket(path)
    elif not address.startswith("unix"):
        yield from _of_port(*address.rpartition(":")[::2])


def _of_socket(path: str) -> Iterator[str]:
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        yield f"there is no directory {folder}, its operator makes it"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"this user may not write into {folder}, its operator lets it in"
    else:
        yield from _of_a_server(path)


def _of_a_server(path: str) -> Iterator[str]:
    """gRPC takes over a unix socket that another process serves; two providers would then work on the same VMs."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
            yield "another process serves there, stop it"
        except BlockingIOError:
            yield "another process serves there and takes no connections, stop it"
        except PermissionError:
            yield "another user's process may serve there"
        except (FileNotFoundError, ConnectionRefusedError):
            return


def _of_port(host: str, port: str) -> Iterator[str]:
    """Nothing where one of the host's addresses can be bound: gRPC then listens at that."""
    try:
        places = socket.getaddrinfo(host.strip("[]").encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        yield f"the host {host} has no address here ({error.strerror})"
        return
    refused = [_bound(family, place) for family, _, _, _, place in places]
    if refused and all(refused):
        yield refused[0]


def _bound(family: socket.AddressFamily, place: object) -> str:
    """Why not; empty: it was, or gRPC has to find out, as without IPv6 it listens at all of IPv4."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)  # type: ignore[arg-type]  # what getaddrinfo gave
    except OSError as error:
        return _WORDS.get(error.errno or 0, "")
    return ""


_WORDS = {
    errno.EADDRINUSE: "another process listens there",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EACCES: "this user may not listen at that port",
}
