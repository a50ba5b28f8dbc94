"""gRPC targets: which of them stay on this machine, and so need no TLS."""

import re
import socket
from ipaddress import ip_address

LOCAL = re.compile(
    r"^(unix(-abstract)?:|((dns|ipv4|ipv6):(///)?)?(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?$)", re.A
)
"""A unix socket, or loopback by number or name (https://github.com/grpc/grpc/blob/master/doc/naming.md). The custom
resources' rule has the same pattern."""


LONGEST_SOCKET_PATH = 107
"""Bytes of a unix socket's path (unix(7), sun_path)."""


MAX_PORT = 65535
_TARGET = re.compile(r"((dns|ipv4|ipv6):(//[^/]*/)?)?(?P<places>.*)", re.A | re.S)
_PLACE = re.compile(r"(\[[^\[\]]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})", re.A)


def mistake(address: str) -> str:
    """What is wrong with a gRPC target that is to be connected to; empty: nothing. Without a port gRPC would take 443,
    and take one that is too large modulo 65536. What vsock and xds have in place of a host is not looked at."""
    scheme, colon, path = address.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return _of_socket(address) if path.strip("/") else "names no socket; write unix:///path"
    if scheme in ("vsock", "xds"):
        return ""
    found = _TARGET.fullmatch(address)
    places = found["places"].split(",") if found else []
    return (
        ""
        if places and all(map(_has_port, places))
        else f"must be unix:///path, or host:port with a port up to {MAX_PORT}"
    )


def _has_port(place: str) -> bool:
    found = _PLACE.fullmatch(place)
    return found is not None and 0 < int(found["port"]) <= MAX_PORT


def _of_socket(address: str) -> str:
    try:
        require_short(address)
    except ValueError as error:
        return str(error)
    return ""


def is_local(address: str) -> bool:
    """Whether only this machine can reach a gRPC target."""
    return LOCAL.match(address) is not None


def strangers(address: str) -> list[str]:
    """The addresses off this machine that `localhost`, in a gRPC target, has here: none, unless its names are set up
    wrongly, or by an enemy."""
    if not re.search(r"^(dns:(///)?)?localhost(:\d+)?$", address):
        return []
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
    except OSError:
        return []  # the connection fails, and says so
    return sorted(each for each in found if not ip_address(each.partition("%")[0]).is_loopback)


def socket_path(address: str) -> str:
    """The path of a unix socket in the file system, or ""."""
    scheme, _, path = address.partition(":")
    return re.sub("^//(?=/)", "", path) if scheme == "unix" else ""


def require_short(address: str) -> None:
    """Raises ValueError: the kernel takes no path of a unix socket that is so long."""
    if (length := len(socket_path(address).encode())) > LONGEST_SOCKET_PATH:
        raise ValueError(
            f"the socket's path has {length} bytes, {LONGEST_SOCKET_PATH} are possible: name a shorter one"
        )
