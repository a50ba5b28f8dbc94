"""Connections to vCenter and its hosts: how they are verified, and how many there are."""

import hashlib
import hmac
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from providers.vsphere.config import VsphereSettings

WORTH = 0.005
"""Seconds of waiting for vCenter that are worth another connection."""
PATIENCE = 0.1
"""Seconds without any answer after which a call goes beside those that hang."""
KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""A vCenter that vanished without a word is given up after 25 s, also by a call that waits for news."""


class Verifying(ssl.SSLContext):
    """How a server proves who it is. Every connection comes through here, so that none escapes the check.

    pyvmomi can compare a thumbprint too, but it then turns verification off in the context it was given, and a
    second connection of that context is compared with nothing.
    """

    thumbprint = ""

    def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """The handshake, and the comparison with the thumbprint if there is one.

        Raises:
            ssl.SSLCertVerificationError
        """
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        wrapped = super().wrap_socket(sock, *args, **kwargs)
        if self.thumbprint and not self._is_pinned(wrapped.getpeercert(binary_form=True) or b""):
            wrapped.close()
            raise ssl.SSLCertVerificationError("its certificate has another thumbprint than --thumbprint says")
        return wrapped

    def _is_pinned(self, certificate: bytes) -> bool:
        algorithm = "sha1" if len(self.thumbprint) == 40 else "sha256"
        return hmac.compare_digest(hashlib.new(algorithm, certificate).hexdigest(), self.thumbprint)


def verifying(settings: VsphereSettings) -> Verifying:
    """The context that the settings ask for; its files are read now.

    Raises:
        OSError: the CA's file cannot be read, or has no certificate.
    """
    if settings.thumbprint:
        return pinned(settings.thumbprint)
    context = Verifying(ssl.PROTOCOL_TLS_CLIENT)
    if settings.insecure:
        return _unverified(context)
    if settings.ca_file:
        context.load_verify_locations(settings.ca_file)
    else:
        context.load_default_certs()
    return context


def pinned(thumbprint: str) -> Verifying:
    """A context that takes one certificate, whoever signed it and whatever name it bears."""
    context = _unverified(Verifying(ssl.PROTOCOL_TLS_CLIENT))
    context.thumbprint = thumbprint.replace(":", "").lower()
    return context


def _unverified(context: Verifying) -> Verifying:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Gate:
    """How many calls are under way at once, and so how many connections there are: each serves one call at a time.

    One for a vCenter that answers at once, however many calls there are; more for a distant or a slow one. What
    counts is the quickest of the last calls, for others may have been kept waiting on our side. One more goes
    whenever nothing comes back at all. The lanes bound how many.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._extra, self._events = 0, 0, 0
        self._recent: deque[float] = deque(maxlen=8)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and have it while the context lasts."""
        self._enter()
        began = time.monotonic()
        try:
            yield
        finally:
            self._leave(time.monotonic() - began)

    def _enter(self) -> None:
        with self._changed:
            while self._inside > self._extra + min(self._recent, default=0.0) // WORTH:
                seen = self._events
                if not self._changed.wait(PATIENCE) and self._events == seen:
                    self._extra += 1
                    self._events += 1  # of all who wait, one makes room
            self._inside += 1

    def _leave(self, seconds: float) -> None:
        with self._changed:
            self._recent.append(seconds)
            self._inside -= 1
            self._events += 1
            if not self._inside:
                self._extra = 0
            self._changed.notify_all()
