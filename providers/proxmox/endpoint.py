"""One node as an endpoint of the API: logged in to, and called. All of it blocks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import requests
from proxmoxer import ProxmoxResource
from proxmoxer.backends.https import ProxmoxHTTPApiTokenAuth
from requests.auth import AuthBase

from providers.proxmox.config import Login
from providers.proxmox.tls import NotConnected

CONNECT_SECONDS = 5.0
"""How long a node may take to shake hands; then the next one is asked."""
ANSWER_SECONDS = 35.0
"""How long an answer may take. A node that hands a call to another one gives that 30 s, and then says so itself
(pve-http-server, `proxy_request`), which is worth more than our silence."""
RENEW_SECONDS = 3600.0
"""The age at which a ticket is renewed; it is good for two hours (pve-access-control, `$ticket_lifetime`)."""
Method = Literal["GET", "POST", "PUT", "DELETE"]


class Strange(requests.RequestException):
    """What answers is not Proxmox VE's API."""


class SecondFactor(Exception):
    """The user cannot log in by a password alone."""


class Ticket(AuthBase):
    """What a user got for a password: a cookie, and a header for all that changes something."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.cookie, self._csrf = str(told["ticket"]), str(told["CSRFPreventionToken"])

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put both on a request."""
        request.headers["Cookie"] = f"PVEAuthCookie={self.cookie}"
        if request.method != "GET":
            request.headers["CSRFPreventionToken"] = self._csrf
        return request


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A node that is called as `name`. `renewal` gets a new ticket for the old one; a token needs none."""

    url: str
    name: str
    http: requests.Session
    auth: AuthBase = field(repr=False)
    renewal: Login | None = None
    born: float = field(default_factory=time.monotonic)

    def due(self) -> Login | None:
        """What to renew its ticket with, if it is time to."""
        return self.renewal if time.monotonic() - self.born > RENEW_SECONDS else None

    def call(self, method: Method, path: str, params: Mapping[str, Any] | None, timeout: float) -> Any:
        """One call: the answer's `data`.

        Raises:
            NotConnected: nothing was sent.
            requests.RequestException: it is not known what became of it.
            proxmoxer.ResourceException: Proxmox VE refuses it.
        """
        return _call(_Door(self.http, self.auth, timeout), self.url, method, path, params)


def log_in(url: str, http: requests.Session, login: Login) -> Endpoint:
    """An endpoint that may be called; for a token it is not asked yet.

    Raises:
        NotConnected: it cannot be asked, or did not answer.
        SecondFactor
        proxmoxer.ResourceException: it refuses; 401, if it is the login that it refuses.
    """
    if login.is_token:
        user, _, token = login.name.rpartition("!")
        return Endpoint(url, login.name, http, ProxmoxHTTPApiTokenAuth(user, token, login.secret))
    door, answer = _Door(http, None, ANSWER_SECONDS), {"username": login.name, "password": login.secret}
    try:
        told = _call(door, url, "POST", "access/ticket", answer)
    except requests.RequestException as error:  # a login changes nothing: this endpoint is as good as away
        raise NotConnected(why(error)) from error
    if told.get("NeedTFA"):
        raise SecondFactor
    ticket = Ticket(told)
    return Endpoint(url, login.name, http, ticket, renewal=Login(login.name, ticket.cookie))


def why(error: NotConnected | requests.RequestException) -> str:
    """A clause for people. What requests says itself may be long, and quotes addresses."""
    if isinstance(error, NotConnected | Strange):
        return str(error)
    return "it does not answer" if isinstance(error, requests.Timeout) else "the connection broke"


def _call(door: "_Door", url: str, method: Method, path: str, params: Mapping[str, Any] | None) -> Any:
    resource = ProxmoxResource(base_url=f"{url}/api2/json/{path}", session=door, serializer=_Json)
    plain = {name: int(value) if isinstance(value, bool) else value for name, value in (params or {}).items()}
    return getattr(resource, method.lower())(**plain)


@dataclass(frozen=True, slots=True)
class _Door:
    """What proxmoxer takes for a session. Theirs has one timeout for all calls, and follows redirects."""

    http: requests.Session
    auth: AuthBase | None
    timeout: float

    def request(self, method: str, url: str, data: Any = None, params: Any = None) -> requests.Response:
        """One request, sent once.

        Its data as JSON, not as a form: there an empty value loses the others of its name, and a list of one is none
        (pve-http-server, `decode_urlencoded`).
        """
        timeout = (CONNECT_SECONDS, self.timeout)
        answer = self.http.request(
            method, url, params, json=data, auth=self.auth, timeout=timeout, allow_redirects=False, headers=ACCEPT
        )
        if 300 <= answer.status_code < 400:
            raise Strange("what answers there is not Proxmox VE, but sends us elsewhere")
        return answer


ACCEPT = {"Accept": "application/json"}


class _Json:
    """What proxmoxer reads answers by. Theirs takes any page for an answer."""

    @staticmethod
    def loads(response: requests.Response) -> Any:
        """The `data` of a call that succeeded."""
        try:
            return response.json()["data"]
        except (ValueError, TypeError, KeyError) as error:
            raise Strange("what answers there is not Proxmox VE") from error

    @staticmethod
    def loads_errors(response: requests.Response) -> dict[str, Any] | None:
        """What is wrong with each parameter, if that is what is wrong."""
        try:
            return dict(response.json()["errors"])
        except (ValueError, TypeError, KeyError):
            return None
