"""The one session with the cluster: through whichever node answers, logged in when need be."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import requests
from proxmoxer import ResourceException

from providers.core.errors import HypervisorUnavailable
from providers.core.limiter import Limiter
from providers.proxmox.config import Login, ProxmoxSettings, login
from providers.proxmox.endpoint import ANSWER_SECONDS, Endpoint, Method, SecondFactor, log_in, why
from providers.proxmox.errors import UNSURE, said, translate
from providers.proxmox.tls import NotConnected, Untrusted, transport, verifying

CONNECTIONS = 16
"""Connections to a node that are kept for the next call: as many as it is asked at once about its own guests."""
REFUSED_SECONDS = 30.0
"""How long a user whose login was refused is not tried again with the same password: what stands behind a realm may
lock an account, and Proxmox VE holds each refusal back for 3 s."""


class LoginRefused(HypervisorUnavailable):
    """Proxmox VE takes us for nobody; nothing was done."""


class Unanswered(HypervisorUnavailable):
    """Something was sent that changes something, and no answer came: it may have been done or not."""


class Session:
    """Picks a node, logs in, hands calls to threads."""

    def __init__(self, settings: ProxmoxSettings, connections: int = CONNECTIONS) -> None:
        self._settings, self._connections = settings, connections
        self._urls = deque(settings.url)
        self._transports: dict[str, requests.Session] = {}
        self._openings: dict[str, asyncio.Task[Endpoint]] = {}
        self._logins = Limiter("proxmox-login", len(settings.url))
        self._refused: tuple[Login, float] | None = None

    async def call(
        self,
        lane: Limiter,
        method: Method,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = ANSWER_SECONDS,
    ) -> Any:
        """One call on a thread of `lane`, its answer's `data`: of the node that answered last, or else of the others.

        `path` is as in the API viewer ("nodes/pve1/qemu/100/status/shutdown"); a list may be among
        `params`; `timeout`, in seconds, is for the answer. What changes something is sent once, and again only if
        it is certain that nothing was done.

        Raises:
            Unanswered: it may have been done.
            HypervisorUnavailable, VMNotFound, CommandFailed, Locked: it was not.
        """
        try:
            return await self._ask(lane, method, path, params, timeout)
        except LoginRefused:  # the ticket expired, or the secret is another now
            return await self._ask(lane, method, path, params, timeout)

    async def close(self) -> None:
        """Give back the connections; a ticket just runs out."""
        for opening in self._openings.values():
            opening.cancel()
        self._openings.clear()
        for http in self._transports.values():
            http.close()

    async def _ask(self, lane: Limiter, method: Method, *call: Any) -> Any:
        away = list[str]()
        for url in tuple(self._urls):
            try:
                return await self._ask_one(await self._endpoint(url), lane, method, *call)
            except (NotConnected, requests.RequestException) as error:
                self._put_last(url)
                if isinstance(error, Untrusted):
                    self._distrust(url)
                if method != "GET" and not isinstance(error, NotConnected):
                    raise Unanswered(_unanswered(url, why(error))) from error
                away.append(f"{url} ({why(error)})")
        raise HypervisorUnavailable(f"Proxmox VE cannot be reached at {', '.join(away)}; its operator looks after it.")

    async def _ask_one(self, endpoint: Endpoint, lane: Limiter, method: Method, *call: Any) -> Any:
        try:
            return await lane.run(endpoint.call, method, *call)
        except ResourceException as error:
            if error.status_code == 401:
                self._forget(endpoint)
                raise self._refusal(endpoint.name) from error
            if method != "GET" and error.status_code in UNSURE:
                raise Unanswered(_unanswered(endpoint.url, said(error))) from error
            raise translate(error) from error

    def _distrust(self, url: str) -> None:
        """Read the CA anew at the next call: it may have been renewed."""
        self._openings.pop(url, None)
        self._transports.pop(url, None)

    def _put_last(self, url: str) -> None:
        """The others are asked before it from now on."""
        if self._urls[0] == url:
            self._urls.rotate(-1)

    # Logging in

    async def _endpoint(self, url: str) -> Endpoint:
        """The endpoint, logged in if need be; callers that come meanwhile share the attempt."""
        opening = self._openings.get(url)
        if opening is None or _failed(opening):
            opening = self._openings[url] = asyncio.create_task(self._open(url))
        elif opening.done() and (renewal := opening.result().due()):
            opening = self._openings[url] = asyncio.create_task(self._renew(url, renewal))
        return await asyncio.shield(opening)

    def _forget(self, endpoint: Endpoint) -> None:
        opening = self._openings.get(endpoint.url)
        if opening and opening.done() and not _failed(opening) and opening.result() is endpoint:
            del self._openings[endpoint.url]

    async def _renew(self, url: str, renewal: Login) -> Endpoint:
        try:
            return await self._logins.run(log_in, url, self._transport(url), renewal)
        except ResourceException:  # it expired meanwhile
            return await self._open(url)

    async def _open(self, url: str) -> Endpoint:
        account = self._account()
        http = self._transport(url)
        try:
            return await self._logins.run(log_in, url, http, account)
        except SecondFactor as error:
            message = f"Proxmox VE wants a second factor of {account.name}; its operator makes a token instead."
            raise HypervisorUnavailable(message) from error
        except ResourceException as error:
            if error.status_code != 401:
                raise translate(error) from error
            self._refused = (account, time.monotonic())
            raise self._refusal(account.name) from error

    def _transport(self, url: str) -> requests.Session:
        if url not in self._transports:
            try:
                context = verifying(self._settings)
            except OSError as error:
                message = f"The CA cannot be read ({error}); the provider's operator mends --ca-file."
                raise HypervisorUnavailable(message) from error
            self._transports[url] = transport(context, self._connections)
        return self._transports[url]

    def _account(self) -> Login:
        """The login as it is in its files now."""
        try:
            account = login(self._settings.credentials_dir)
        except (OSError, ValueError) as error:
            message = f"Proxmox VE's login cannot be read ({error}); the provider's operator mends --credentials-dir."
            raise HypervisorUnavailable(message) from error
        if self._refused and self._refused[0] == account and time.monotonic() < self._refused[1] + REFUSED_SECONDS:
            raise self._refusal(account.name)
        return account

    def _refusal(self, name: str) -> LoginRefused:
        folder = self._settings.credentials_dir
        return LoginRefused(
            f"Proxmox VE refuses the login of {name}; the provider's operator mends --credentials-dir ({folder})."
        )


def _failed(opening: asyncio.Task[Endpoint]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


def _unanswered(url: str, what: str) -> str:
    return f"It is not known whether Proxmox VE at {url} did it: {what}. It is looked up before it is asked again."
