"""One node as an endpoint of the API: logged in to, and called."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from providers.proxmox.config import Login
from providers.proxmox.transport import Broken, Method, NotConnected, Resource
from providers.shared.tls import Verifying

ANSWER_SECONDS = 35.0
"""How long an answer may take. A node that hands a call to another one gives that 30 s, and then says so itself
(pve-http-server, `proxy_request`), which is worth more than our silence."""
RENEW_SECONDS = 3600.0
"""The age at which a ticket is renewed; it is good for two hours (pve-access-control, `$ticket_lifetime`)."""


class SecondFactor(Exception):
    """The user cannot log in by a password alone."""


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
        """One call: the answer's `data`. Parameters that are None are left out.

        Raises:
            NotConnected: nothing was sent.
            Broken: it is not known what became of it.
            proxmoxer.ResourceException: Proxmox VE refuses it.
        """
        how = {"http": self.http, "tls": self.tls, "headers": self.headers, "timeout": timeout}
        given = {name: value for name, value in (params or {}).items() if value is not None}
        plain = {name: int(value) if isinstance(value, bool) else value for name, value in given.items()}
        resource = Resource(base_url=f"{self.url}/api2/json", **how)(path)
        return await getattr(resource, method.lower())(**plain)


async def log_in(url: str, http: aiohttp.ClientSession, tls: Verifying, login: Login) -> Endpoint:
    """An endpoint that may be called; for a token it is not asked yet.

    Raises:
        NotConnected: it cannot be asked, or did not answer.
        SecondFactor
        proxmoxer.ResourceException: it refuses; 401, if it is the login that it refuses.
    """
    if login.is_token:
        return Endpoint(url, login.name, http, tls, {"Authorization": f"PVEAPIToken={login.name}={login.secret}"})
    form = {"username": login.name, "password": login.secret}
    try:
        told = await Endpoint(url, login.name, http, tls).call("POST", "access/ticket", form, ANSWER_SECONDS)
    except Broken as error:  # a login changes nothing: this endpoint is as good as away
        raise NotConnected(str(error)) from error
    if told.get("NeedTFA"):
        raise SecondFactor
    ticket = str(told["ticket"])
    headers = {"Cookie": f"PVEAuthCookie={ticket}", "CSRFPreventionToken": str(told["CSRFPreventionToken"])}
    return Endpoint(url, login.name, http, tls, headers, renewal=Login(login.name, ticket))
