"""Addresses: what a server may listen on, and which gRPC targets stay on this machine and so need no TLS."""

import re
from typing import Annotated

from pydantic import AfterValidator

MAX_PORT = 65535
LOCAL = re.compile(
    r"^(unix(-abstract)?:|((dns|ipv4|ipv6):(///)?)?(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?$)", re.A
)
"""A unix socket, or loopback by number or name (https://github.com/grpc/grpc/blob/master/doc/naming.md). The custom
resources' rule has the same pattern."""


def is_local(address: str) -> bool:
    """Whether only this machine can reach a gRPC target."""
    return LOCAL.match(address) is not None


def _with_port(address: str) -> str:
    """gRPC itself takes a port modulo 65536."""
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port, re.A) or int(port) > MAX_PORT:
        raise ValueError(f"must be host:port, the port at most {MAX_PORT}")
    return address


def _none_or_with_port(address: str) -> str:
    return _with_port(address) if address else address


def _unix_or_with_port(address: str) -> str:
    return address if address.startswith("unix:") else _with_port(address)


HostPort = Annotated[str, AfterValidator(_none_or_with_port)]
"""A setting: `host:port`, or empty for none."""
Listen = Annotated[str, AfterValidator(_unix_or_with_port)]
"""A setting: `host:port`, or `unix:///path`."""
