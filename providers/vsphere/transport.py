"""Connections to vCenter and to its hosts: HTTP/1.1, one for each call that is under way."""

import socket
from typing import Any

import aiohttp

from providers.shared.tls import watch_over

IDLE_SECONDS = 30
"""How long an unused connection is kept."""


def client() -> aiohttp.ClientSession:
    """A client without limits of its own: limiter.py has that of calls, and each call that of its time.

    It must be made in a running event loop. It keeps no cookies: each session with vCenter has its own.
    """
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS, socket_factory=_socket)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout()
    )


def _socket(address: Any) -> socket.socket:
    made = socket.socket(*address[:3])
    watch_over(made)
    return made
