"""One node as an endpoint of the API: logged in to, and called by proxmoxer's addresses and verbs over aiohttp."""

import json
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import aiohttp
from proxmoxer import ProxmoxResource

from providers.core.errors import ConnectionProblem, HypervisorUnavailable
from providers.proxmox.config import Login
from providers.proxmox.errors import Refused
from providers.shared import http
from providers.shared.remote_clock import RemoteClock
from providers.shared.tls import Verifying

CONNECT_SECONDS = 5.0
"""How long a node may take to be found and to shake hands; then the next one is asked."""
IDLE_SECONDS = 4.0
"""How long an unused connection is kept. A node closes it after 5 s (pve-http-server, `timeout`), and a request that it
crosses on the way is lost."""
LINE_OCTETS = 65536
"""The longest status line that is read: it has the whole text of an error."""
ANSWER_SECONDS = 35.0
"""How long an answer may take. A node that hands a call to another one gives that 30 s, and then says so itself
(pve-http-server, `proxy_request`), which is worth more than our silence."""
RENEW_SECONDS = 3600.0
"""The age at which a ticket is renewed; it is good for two hours (pve-access-control, `$ticket_lifetime`)."""
Method = Literal["GET", "POST", "PUT", "DELETE"]


class NotConnected(Exception):
    """There is no connection to a node that proves who it is, so nothing was sent. The message is a clause."""


class Untrusted(NotConnected):
    """Its certificate is not one that is trusted here."""


class Broken(Exception):
    """A request was sent, and no answer of Proxmox VE's came: it may have been done. The message is a clause."""


def client(clock: RemoteClock | None = None) -> aiohttp.ClientSession:
    """`clock` hears the dates of its answers."""
    traces = [clock.trace()] if clock else []
    headers = {"Accept": "application/json"}
    return http.client(IDLE_SECONDS, headers=headers, max_line_size=LINE_OCTETS, trace_configs=traces)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A node that is called as `name`. `renewal` gets a new ticket for the old one; a token needs none."""

    url: str
    name: str
    http: aiohttp.ClientSession
    tls: Verifying
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    renewal: Login | None = None
    born: float = field(default_factory=time.monotonic)

    def due(self) -> Login | None:
        """What to renew its ticket with, if it is time to."""
        return self.renewal if time.monotonic() - self.born > RENEW_SECONDS else None

    async def call(self, method: Method, path: str, params: Mapping[str, Any] | None, timeout: float) -> Any:
        """One request, sent once; the answer's `data`. Parameters that are None are left out.

        Raises:
            NotConnected: nothing was sent.
            Broken: it is not known what became of it.
            Refused: by Proxmox VE.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        plain = {name: int(value) if isinstance(value, bool) else value for name, value in given.items()}
        how = {"http": self.http, "tls": self.tls, "headers": self.headers, "seconds": timeout}
        resource = Resource(base_url=f"{self.url}/api2/json", **how)(path)
        return await getattr(resource, method.lower())(**plain)


class Resource(ProxmoxResource):  # type: ignore[misc]  # proxmoxer has no types
    """An address of the API. proxmoxer builds it, and puts parameters into the query or the body of a request, which is
    awaited here: `http` sends it with these `headers`, and `seconds` bounds its answer.
    """

    def __call__(self, resource_id: Any = None) -> "Resource":
        """The address below this one; proxmoxer's own would block."""
        return Resource(**super().__call__(resource_id)._store)

    async def _request(self, method: str, data: Any = None, params: Any = None) -> Any:
        """What get, post, put and delete are made of: one request, sent once; the `data` of its answer."""
        status, reason, body = await self._send(method, data, params)
        try:
            answer = dict(json.loads(body))
        except (ValueError, TypeError):
            answer = {}
        if status >= HTTPStatus.BAD_REQUEST:
            fields = answer.get("errors")
            raise Refused(status, reason, fields if isinstance(fields, dict) else None)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise Broken("what answers there is not Proxmox VE, but sends us elsewhere")
        if "data" not in answer:
            raise Broken("what answers there is not Proxmox VE")
        return answer["data"]

    async def _send(self, method: str, data: Any, params: Any) -> tuple[int, str, bytes]:
        """Status, its text, and body. `data` goes as JSON, not as a form: there an empty value loses the others of its
        name, and a list of one is none (pve-http-server, `decode_urlencoded`).
        """
        how, seconds = self._store, self._store["seconds"]
        limits = aiohttp.ClientTimeout(CONNECT_SECONDS + seconds, connect=CONNECT_SECONDS, sock_read=seconds)
        request = {"params": params, "json": data, "headers": how["headers"], "ssl": how["tls"], "timeout": limits}
        try:
            async with how["http"].request(method, how["base_url"], allow_redirects=False, **request) as response:
                return response.status, _text(response.reason or ""), await response.read()
        except aiohttp.ClientConnectorCertificateError as error:
            raise Untrusted(_distrust(error.certificate_error)) from error
        except aiohttp.ClientConnectorError as error:
            raise NotConnected(_unreachable(error.os_error)) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise NotConnected("it does not answer") from error
        except TimeoutError as error:
            raise Broken("it does not answer") from error
        except aiohttp.ClientError as error:
            raise Broken("the connection broke") from error


async def log_in(url: str, http: aiohttp.ClientSession, tls: Verifying, login: Login) -> Endpoint:
    """An endpoint that may be called; for a token it is not asked yet.

    Raises:
        NotConnected: it cannot be asked, or did not answer.
        Refused: 401, if it is the login that is refused.
        HypervisorUnavailable: the user cannot log in by a password alone.
    """
    if login.is_token:
        return Endpoint(url, login.name, http, tls, {"Authorization": f"PVEAPIToken={login.name}={login.secret}"})
    form = {"username": login.name, "password": login.secret}
    try:
        told = await Endpoint(url, login.name, http, tls).call("POST", "access/ticket", form, ANSWER_SECONDS)
    except Broken as error:  # a login changes nothing: this endpoint is as good as away
        raise NotConnected(str(error)) from error
    if told.get("NeedTFA"):
        raise HypervisorUnavailable(
            f"Proxmox VE wants a second factor of {login.name}; its operator makes a token instead.",
            problem=ConnectionProblem.LOGIN_REFUSED,
        )
    ticket = str(told["ticket"])
    headers = {"Cookie": f"PVEAuthCookie={ticket}", "CSRFPreventionToken": str(told["CSRFPreventionToken"])}
    return Endpoint(url, login.name, http, tls, headers, renewal=Login(login.name, ticket))


def _text(reason: str) -> str:
    """A status line's text: UTF-8, for which aiohttp takes it, or else Latin-1."""
    octets = reason.encode("utf-8", "surrogateescape")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _distrust(error: Exception) -> str:
    if why := getattr(error, "verify_message", ""):
        return f"its certificate does not verify, {why}: --ca-file or --fingerprint names the right one"
    return str(error)


def _unreachable(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"it does not speak TLS as we do, {error.reason or error}"
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error) or "it ends the connection at once"
