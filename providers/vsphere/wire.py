"""Connections to vCenter and its hosts: how they are verified, and how many there are."""

import hashlib
import hmac
import socket
import ssl
import threading
from typing import Any

from providers.vsphere.config import VsphereSettings

PATIENCE = 0.01
"""Seconds without an answer after which another connection helps more than it costs."""
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
    """Lets calls through one after the other, and one more at once whenever none has come back for a moment.

    A connection serves one call at a time, so this is how many connections there are: one for a vCenter that
    answers at once, however many calls there are, and more as it takes longer. The lanes bound how many.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._room, self._left = 0, 1, 0

    def __enter__(self) -> None:
        with self._changed:
            while self._inside >= self._room:
                left = self._left
                if not self._changed.wait(PATIENCE) and self._left == left:
                    self._room += 1
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._left += 1
            if not self._inside:
                self._room = 1
            self._changed.notify()
