"""The one session with vCenter: logged in at the first use, and again when it expired."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, TypeVarTuple

import aiohttp
from pyVmomi import vim, vmodl

from providers.core.errors import ConnectionProblem, HypervisorUnavailable
from providers.core.lanes import Lane, Lanes
from providers.shared.http import client
from providers.shared.login import Credentials, SharedLogin, read_login
from providers.shared.remote_clock import RemoteClock
from providers.shared.tls import Trust, verifying
from providers.vsphere.config import VsphereSettings
from providers.vsphere.errors import translate, why
from providers.vsphere.stub import BROKEN, Stub

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

REFUSED_SECONDS = 60.0
"""How long a login that vCenter refused is not tried again: five failures within three minutes lock an account."""
CLOSE_SECONDS = 1.0
IDLE_SECONDS = 10.0
"""How long an unused connection is kept: less than the watch waits (collector.py), or its calls would use two in turn
and keep both."""

STREAMS = 2
"""Calls that wait for updates, held by vCenter until there are any: the watch's, and that of a list beside it."""


class SessionLost(HypervisorUnavailable):
    """vCenter does not know the session, or what it held for it, any more."""


@dataclass(frozen=True, slots=True)
class Link:
    """One logged-in session, and what calls in it need. `lost` is set when it has ended."""

    url: str
    stub: Stub
    trust: Trust
    content: Any
    user: str = ""
    """The account as vCenter writes it in the tasks that it began."""
    key: str = ""
    """The session's, by which vCenter knows it."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    kept: dict[str, Any] = field(default_factory=dict)
    """What is read only once in a session."""

    def vm(self, moid: str) -> Any:
        return vim.VirtualMachine(moid, self.stub)


class Session:
    """Logs in, bounds how many calls are under way, and translates what becomes of them."""

    def __init__(self, settings: VsphereSettings) -> None:
        self._settings = settings
        self._login = SharedLogin(self._open)
        self._credentials = Credentials("vCenter", settings.credentials_dir, read_login, self._refusal, REFUSED_SECONDS)
        self.lanes = Lanes(settings.bounds)
        self._streams = asyncio.Semaphore(STREAMS)
        self._http: aiohttp.ClientSession | None = None
        self.clock = RemoteClock()

    async def call(self, lane: Lane, call: Callable[[Link, *Ts], Awaitable[T]], *args: *Ts, host: str = "") -> T:
        """`call(link, ...)` in its lane, on a connection of its own; once more, if the session had expired. A fault is
        raised as the error that it means. `host`: the one that vCenter will ask; empty: none, or not known."""
        async with self.lanes.place(lane, host):
            try:
                return await self._run(await self.link(), call, *args)
            except SessionLost:
                return await self._run(await self.link(), call, *args)

    async def stream(self, link: Link, call: Callable[[Link, *Ts], Awaitable[T]], *args: *Ts) -> T:
        """`call(link, ...)` that waits for updates, in this session and no other.

        Raises:
            SessionLost: vCenter did nothing; another session may ask.
        """
        async with self._streams:
            return await self._run(link, call, *args)

    async def link(self) -> Link:
        """The session, logged in if need be; callers that come meanwhile share the attempt."""
        return await self._login.get()

    async def close(self) -> None:
        link = self._login.current
        self._login.close()
        if link:
            with suppress(TimeoutError, vmodl.MethodFault, *BROKEN):
                await asyncio.wait_for(link.content.sessionManager.Logout(), CLOSE_SECONDS)
        if self._http:
            await self._http.close()
            self._http = None

    async def _run(self, link: Link, call: Callable[[Link, *Ts], Awaitable[T]], *args: *Ts) -> T:
        try:
            return await call(link, *args)
        except vim.fault.NotAuthenticated as fault:
            self._forget(link)
            raise SessionLost("The session with vCenter has expired; the provider logs in again by itself.") from fault
        except vmodl.MethodFault as fault:
            raise translate(fault) from fault
        except BROKEN as error:
            if isinstance(error, aiohttp.ClientSSLError):
                self._forget(link)  # the next login reads the CA's file anew
            raise self._unreachable(error) from error

    def _forget(self, link: Link) -> None:
        """This session is of no more use; the next call logs in. What is under way in it may still succeed."""
        self._login.forget(link)
        link.lost.set()

    async def _open(self) -> Link:
        account = self._credentials.get()
        self._http = self._http or client(IDLE_SECONDS, trace_configs=[self.clock.trace()])
        try:
            return await _log_in(self._settings, self._http, account)
        except vim.fault.InvalidLogin as fault:
            raise self._credentials.refuse(account) from fault
        except vmodl.MethodFault as fault:
            message = f"vCenter refuses to log in {account[0]} ({why(fault)}); its operator looks into it."
            raise HypervisorUnavailable(message) from fault
        except BROKEN as error:
            raise self._unreachable(error) from error

    def _refusal(self, _account: tuple[str, str]) -> HypervisorUnavailable:
        folder = self._settings.credentials_dir
        return HypervisorUnavailable(
            f"vCenter refuses the user or password in {folder}; the provider's operator mends them. The same ones are "
            f"tried again no more than once in {REFUSED_SECONDS:.0f} s, so that the account is not locked.",
            problem=ConnectionProblem.LOGIN_REFUSED,
        )

    def _unreachable(self, error: Exception) -> HypervisorUnavailable:
        untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
        return HypervisorUnavailable(
            f"vSphere cannot be reached at {self._settings.url} ({reason(error)}); its operator looks after it.",
            problem=ConnectionProblem.CERTIFICATE if untrusted else ConnectionProblem.UNREACHABLE,
        )


def reason(error: Exception) -> str:
    """What the network said."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def _log_in(settings: VsphereSettings, http: aiohttp.ClientSession, account: tuple[str, str]) -> Link:
    stub = Stub(settings.url, http, verifying(settings.trust))
    service: Any = vim.ServiceInstance("ServiceInstance", stub)
    content = await service.RetrieveContent()
    session = await content.sessionManager.Login(*account, None)
    return Link(settings.url, stub, settings.trust, content, str(session.userName), str(session.key))
