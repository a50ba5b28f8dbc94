"""gRPC targets: which of them stay on this machine, and so need no TLS."""

import re

LOCAL = re.compile(
    r"^(unix(-abstract)?:|((dns|ipv4|ipv6):(///)?)?(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?$)", re.A
)
"""A unix socket, or loopback by number or name (https://github.com/grpc/grpc/blob/master/doc/naming.md). The custom
resources' rule has the same pattern."""


def is_local(address: str) -> bool:
    """Whether only this machine can reach a gRPC target."""
    return LOCAL.match(address) is not None
