"""How vCenter and its hosts prove who they are, and how one that vanished is noticed."""

import hashlib
import hmac
import socket
import ssl

from providers.vsphere.config import VsphereSettings

GONE_SECONDS = 25
"""A peer that does not confirm what it was sent, or that it still lives, for so long has vanished without a word."""
NOTICING = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (
        socket.IPPROTO_TCP,
        socket.TCP_USER_TIMEOUT,
        GONE_SECONDS * 1000,
    ),  # keepalive sleeps while something is unconfirmed
)
"""Socket options by which the kernel ends a connection to it."""


def watch_over(connection: socket.socket) -> None:
    """Let the kernel notice when the other end of a connection has vanished."""
    for option in NOTICING:
        connection.setsockopt(*option)


class _Verified(ssl.SSLObject):
    """One connection; every one of a `Verifying` is such, so that none escapes the check."""

    def do_handshake(self) -> None:
        """Shake hands, and compare with the thumbprint if there is one.

        Raises:
            ssl.SSLCertVerificationError
        """
        super().do_handshake()
        if not self.context.takes(self.getpeercert(binary_form=True) or b""):  # type: ignore[attr-defined]  # ours
            raise ssl.SSLCertVerificationError("its certificate has another thumbprint than --thumbprint says")


class Verifying(ssl.SSLContext):
    """How a server proves who it is."""

    thumbprint = ""
    sslobject_class = _Verified

    def takes(self, certificate: bytes) -> bool:
        """Whether the certificate, DER, is the pinned one, if one is."""
        algorithm = "sha1" if len(self.thumbprint) == 40 else "sha256"
        digest = hashlib.new(algorithm, certificate).hexdigest()
        return not self.thumbprint or hmac.compare_digest(digest, self.thumbprint)


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
