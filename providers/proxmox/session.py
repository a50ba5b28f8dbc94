"""The one session with the cluster: through whichever node answers, logged in when need be."""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from providers.core.errors import ConnectionProblem, HypervisorUnavailable
from providers.proxmox.config import Login, ProxmoxSettings, login
from providers.proxmox.endpoint import (
    ANSWER_SECONDS,
    Broken,
    Endpoint,
    Method,
    NotConnected,
    Untrusted,
    client,
    log_in,
)
from providers.proxmox.errors import UNSURE, Refused, translate
from providers.shared.login import Credentials, SharedLogin
from providers.shared.remote_clock import RemoteClock
from providers.shared.tls import verifying

REFUSED_SECONDS = 30.0
"""How long a user whose login was refused is not tried again with the same password: what stands behind a realm may
lock an account, and Proxmox VE holds each refusal back for 3 s."""


class LoginRefused(HypervisorUnavailable):
    """Proxmox VE does not accept the login; nothing was done."""


class Unanswered(HypervisorUnavailable):
    """Something was sent that changes something, and no answer came: it may have been done or not."""


class Session:
    """Picks a node, logs in, and says what became of calls. Must be made inside a running event loop."""

    def __init__(self, settings: ProxmoxSettings) -> None:
        self._settings = settings
        self.clock = RemoteClock()
        self._http = client(self.clock)
        self._urls = deque(settings.url)
        self._logins = {url: SharedLogin(partial(self._log_in, url)) for url in settings.url}
        self._renewals: dict[str, Login] = {}
        self.user = ""
        """Who we are to Proxmox VE since the last login, as its tasks have it."""
        folder, refusal = settings.credentials_dir, self._refusal
        self._credentials = Credentials("Proxmox VE", folder, login, refusal, REFUSED_SECONDS)

    async def call(
        self, method: Method, path: str, params: Mapping[str, Any] | None = None, timeout: float = ANSWER_SECONDS
    ) -> Any:
        """One call, its answer's `data`: of the node that answered last, or else of the others.

        `path` is as in the API viewer ("nodes/pve1/qemu/100/status/shutdown"); a list may be among
        `params`; `timeout`, in seconds, is for the answer. What changes something is sent once, and again only if
        it is certain that nothing was done.

        Raises:
            Unanswered: it may have been done.
            HypervisorUnavailable, VMNotFound, CommandFailed, Locked: it was not.
        """
        try:
            return await self._ask(method, path, params, timeout)
        except LoginRefused:  # the ticket expired, or the secret is another now
            return await self._ask(method, path, params, timeout)

    async def close(self) -> None:
        """Close the connections, and end what is under way; a ticket just runs out."""
        for shared in self._logins.values():
            shared.close()
        await self._http.close()

    async def _ask(self, method: Method, *call: Any) -> Any:
        away, untrusted = list[str](), False
        for url in tuple(self._urls):
            try:
                return await self._ask_one(url, method, *call)
            except (NotConnected, Broken) as error:
                if self._urls[0] == url:  # the others are asked before it from now on
                    self._urls.rotate(-1)
                if method != "GET" and isinstance(error, Broken):
                    raise Unanswered(_unanswered(url, str(error))) from error
                away.append(f"{url} ({error})")
                untrusted |= isinstance(error, Untrusted)
        problem = ConnectionProblem.CERTIFICATE if untrusted else ConnectionProblem.UNREACHABLE
        message = f"Proxmox VE cannot be reached at {', '.join(away)}; its operator looks after it."
        raise HypervisorUnavailable(message, problem=problem)

    async def _ask_one(self, url: str, method: Method, *call: Any) -> Any:
        shared = self._logins[url]
        if (known := shared.current) and (ticket := known.due()):
            shared.forget(known)
            self._renewals[url] = ticket
        endpoint = await shared.get()
        try:
            return await endpoint.call(method, *call)
        except Untrusted:  # the CA is read anew at the next login: it may have been renewed
            shared.forget(endpoint)
            raise
        except Refused as error:
            if error.status == 401:
                shared.forget(endpoint)
                raise self._refusal(endpoint) from error
            if method != "GET" and error.status in UNSURE:
                raise Unanswered(_unanswered(url, error.said)) from error
            raise translate(error) from error

    async def _log_in(self, url: str) -> Endpoint:
        """By the ticket that is to be renewed, if there is one, or else by the login in its files."""
        tls = verifying(self._settings.trust)
        if ticket := self._renewals.pop(url, None):
            with suppress(Refused):  # it expired meanwhile
                return await log_in(url, self._http, tls, ticket)
        account = self._credentials.get()
        self.user = account.name
        try:
            return await log_in(url, self._http, tls, account)
        except Refused as error:
            raise (self._credentials.refuse(account) if error.status == 401 else translate(error)) from error

    def _refusal(self, account: Login | Endpoint) -> LoginRefused:
        folder = self._settings.credentials_dir
        return LoginRefused(
            f"Proxmox VE refuses the login of {account.name}; the provider's operator mends --credentials-dir "
            f"({folder}).",
            problem=ConnectionProblem.LOGIN_REFUSED,
        )


def _unanswered(url: str, what: str) -> str:
    return f"It is not known whether Proxmox VE at {url} did it: {what}. It is looked up before it is asked again."
