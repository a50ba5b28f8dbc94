"""HTTPS to the nodes of a cluster: how they prove who they are, and when it is certain that nothing was sent."""

import hashlib
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from providers.proxmox.config import ProxmoxSettings


class NotConnected(Exception):
    """There is no connection to a node that proves who it is, so nothing was sent. The message is a clause."""


class Untrusted(NotConnected):
    """It does not prove who it is to the CA that is known here."""


class Verifying(ssl.SSLContext):
    """How a node proves who it is: by a CA, or by being one of `pins` (SHA-256, if there are any)."""

    pins: tuple[str, ...] = ()


def verifying(settings: ProxmoxSettings) -> Verifying:
    """The context that the settings ask for; the CA's file is read now.

    Raises:
        OSError: it cannot be read, or has no certificate.
    """
    context = Verifying(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.pins = settings.fingerprint
    if settings.fingerprint or settings.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif settings.ca_file:
        context.load_verify_locations(settings.ca_file)
    else:
        context.load_default_certs()
    return context


def transport(context: Verifying, connections: int) -> requests.Session:
    """requests, which keeps that many connections. It takes nothing from the environment: no proxy, no .netrc.

    Every request of it is verified, also a login: proxmoxer logs in by a `requests.post` of its own, which knows no
    fingerprint.
    """
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", _Adapter(context, connections))
    return session


class _Connection(HTTPSConnection):
    """Tells what went wrong before anything was sent from what went wrong later, which requests does not."""

    def connect(self) -> None:
        try:
            super().connect()
            self._compare()
        except (OSError, HTTPError) as error:
            kind = Untrusted if isinstance(error, ssl.SSLCertVerificationError) else NotConnected
            raise kind(_why(error)) from error

    def _compare(self) -> None:
        pins = getattr(self.ssl_context, "pins", ())
        if not pins:
            return
        certificate = self.sock.getpeercert(binary_form=True) or b""  # type: ignore[union-attr] # connected just now
        if hashlib.sha256(certificate).hexdigest() not in pins:
            raise NotConnected("its certificate has another fingerprint than --fingerprint says")
        self.is_verified = True


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """Verifies by the one context, where requests would add the CAs of certifi, and other settings for each call."""

    def __init__(self, context: Verifying, connections: int) -> None:
        self._context = context
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:
        self.poolmanager = PoolManager(connections, maxsize=maxsize, block=block, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = {"https": _Pool}

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        return self.poolmanager.connection_from_url(request.url)

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """The context does."""


def _why(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, NewConnectionError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate does not verify, {cause.verify_message}: --ca-file or --fingerprint names the right one"
        )
    if isinstance(cause, TimeoutError | ConnectTimeoutError):
        return "it does not answer"
    if isinstance(cause, ssl.SSLError):
        return f"it does not speak TLS as we do, {cause.reason or cause}"
    return (cause.strerror if isinstance(cause, OSError) else "") or str(cause or error)
