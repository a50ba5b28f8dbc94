"""Ports on loopback for programs that cannot tell which one they took."""

import socket


def free_port() -> int:
    """One that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
