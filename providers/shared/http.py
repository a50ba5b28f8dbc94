"""Connections to hypervisors: HTTP/1.1, one for each call that is under way."""

import socket
from typing import Any

import aiohttp

GONE_SECONDS = 25
"""A peer that does not confirm what it was sent, or that it still lives, for so long has vanished without a word."""
NOTICING = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    # keepalive sleeps while something is unconfirmed
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE_SECONDS * 1000),
)
"""Socket options by which the kernel ends a connection to it."""


def client(idle_seconds: float = 30.0, **options: Any) -> aiohttp.ClientSession:
    """A client that bounds neither the number of calls nor their time; an unused connection is kept `idle_seconds`.

    It must be made in a running event loop. It keeps no cookies, and heeds no proxy or .netrc of the environment.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=idle_seconds, socket_factory=_socket)
    http = aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(), **options
    )
    http._retry_connection = False  # it would send a DELETE or PUT again that may have been done
    return http


def _socket(address: Any) -> socket.socket:
    made = socket.socket(*address[:3])
    for option in NOTICING:
        made.setsockopt(*option)
    return made
