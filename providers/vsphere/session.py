"""The one session with vCenter: logged in at the first use, and again when it expired."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Concatenate, ParamSpec, TypeVar
from xml.parsers.expat import ExpatError

from pyVmomi import vim, vmodl
from pyVmomi.SoapAdapter import SoapStubAdapter

from providers.blocking import Lane
from providers.errors import HypervisorUnavailable
from providers.vsphere.config import VsphereSettings, login
from providers.vsphere.mapping import translate, why
from providers.vsphere.wire import Gate, Verifying, verifying

P = ParamSpec("P")
T = TypeVar("T")

API_VERSION = "vim.version.version11"
"""That of vSphere 6.5. A newer vCenter speaks it too, and says nothing in it that pyvmomi does not know."""
CALL_SECONDS = 30
"""How long vCenter may take to answer a call; none of ours waits for a guest or a task."""
POLL_SECONDS = 15
"""How long vCenter holds the call that waits for news before it answers that there is none. A vCenter that falls silent
is noticed after so long and CALL_SECONDS."""
IDLE_SECONDS = 30
"""How long an unused connection is kept."""
REFUSED_SECONDS = 60.0
"""How long a login that vCenter refused is not tried again: five failures within three minutes lock an account."""
CLOSE_SECONDS = 1.0

BROKEN = (OSError, HTTPException, ExpatError)
"""What a call raises that found nobody, or nobody who speaks SOAP."""


class SessionLost(HypervisorUnavailable):
    """vCenter does not know the session, or what it held for it, any more."""


@dataclass(frozen=True, slots=True)
class Link:
    """A session: calls go through `stub`, the one call that waits for news through `polls`, its own connection."""

    url: str
    stub: SoapStubAdapter
    polls: SoapStubAdapter
    tls: Verifying
    content: Any
    gate: Gate = field(default_factory=Gate)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    kept: dict[str, Any] = field(default_factory=dict)
    """What need be read only once."""

    def vm(self, moid: str) -> Any:
        """pyvmomi's object for a VM."""
        return vim.VirtualMachine(moid, self.stub)

    def disconnect(self) -> None:
        """Close all connections; one that serves a call just now, when that comes back."""
        _disconnect(self.stub)
        _disconnect(self.polls)


class Session:
    """Logs in, and hands calls to threads."""

    def __init__(self, settings: VsphereSettings) -> None:
        self._settings = settings
        self._lane = Lane("vsphere-login", 1)
        self._opening: asyncio.Task[Link] | None = None
        self._refused: tuple[tuple[str, str], float] | None = None

    async def call(self, lane: Lane, call: Callable[Concatenate[Link, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call(link, ...)` on a thread of `lane`; once more, if the session had expired.

        Raises:
            HypervisorUnavailable, VMNotFound, CommandFailed: what the fault means.
        """
        try:
            return await self.run(await self.link(), lane, _through_gate, call, *args, **kwargs)
        except SessionLost:
            return await self.run(await self.link(), lane, _through_gate, call, *args, **kwargs)

    async def run(
        self, link: Link, lane: Lane, call: Callable[Concatenate[Link, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `call(link, ...)` on a thread of `lane`, in this session and no other.

        Raises:
            SessionLost: vCenter did nothing; another session may ask.
            HypervisorUnavailable, VMNotFound, CommandFailed: what the fault means.
        """
        try:
            return await lane.run(call, link, *args, **kwargs)
        except vim.fault.NotAuthenticated as fault:
            self.forget(link)
            raise SessionLost("The session with vCenter has expired; the provider logs in again by itself.") from fault
        except vmodl.MethodFault as fault:
            raise translate(fault) from fault
        except BROKEN as error:
            raise self._unreachable(error) from error

    async def link(self) -> Link:
        """The session, logged in if need be; callers that come meanwhile share the attempt.

        Raises:
            HypervisorUnavailable
        """
        if self._opening is None or _failed(self._opening):
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    def forget(self, link: Link) -> None:
        """This session is of no more use; the next call logs in."""
        link.lost.set()
        link.disconnect()
        opening = self._opening
        if opening and opening.done() and not _failed(opening) and opening.result() is link:
            self._opening = None

    async def close(self) -> None:
        """Log out."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        if opening.done() and not _failed(opening):
            with suppress(TimeoutError, vmodl.MethodFault, *BROKEN):
                await asyncio.wait_for(self._lane.run(_log_out, opening.result()), CLOSE_SECONDS)

    async def _open(self) -> Link:
        account = self._account()
        try:
            return await self._lane.run(_log_in, self._settings, account)
        except vim.fault.InvalidLogin as fault:
            self._refused = (account, time.monotonic())
            raise self._refusal() from fault
        except vmodl.MethodFault as fault:
            message = f"vCenter refuses to log in {account[0]} ({why(fault)}); its operator looks into it."
            raise HypervisorUnavailable(message) from fault
        except BROKEN as error:
            raise self._unreachable(error) from error

    def _account(self) -> tuple[str, str]:
        """The login as it is in its files now."""
        try:
            account = login(self._settings.credentials_dir)
        except (OSError, ValueError) as error:
            message = f"vCenter's login cannot be read ({error}); the provider's operator mends --credentials-dir."
            raise HypervisorUnavailable(message) from error
        if self._refused and self._refused[0] == account and time.monotonic() < self._refused[1] + REFUSED_SECONDS:
            raise self._refusal()
        return account

    def _refusal(self) -> HypervisorUnavailable:
        folder = self._settings.credentials_dir
        return HypervisorUnavailable(
            f"vCenter refuses the user or password in {folder}; the provider's operator mends them. The same ones are "
            f"tried again no more than once in {REFUSED_SECONDS:.0f} s, so that the account is not locked."
        )

    def _unreachable(self, error: Exception) -> HypervisorUnavailable:
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        return HypervisorUnavailable(
            f"vSphere cannot be reached at {self._settings.url} ({why}); its operator looks after it."
        )


def _through_gate(link: Link, call: Callable[Concatenate[Link, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    with link.gate.turn():
        return call(link, *args, **kwargs)


def _failed(opening: asyncio.Task[Link]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


def _log_in(settings: VsphereSettings, account: tuple[str, str]) -> Link:
    tls = verifying(settings)
    stub = _stub(settings.url, tls, CALL_SECONDS)
    try:
        content: Any = vim.ServiceInstance("ServiceInstance", stub).RetrieveContent()
        content.sessionManager.Login(*account, None)
    except BaseException:
        _disconnect(stub)
        raise
    polls = _stub(settings.url, tls, POLL_SECONDS + CALL_SECONDS)
    polls.cookie = stub.cookie
    return Link(settings.url, stub, polls, tls, content)


def _stub(url: str, tls: Verifying, seconds: int) -> SoapStubAdapter:
    return SoapStubAdapter(
        url=url,
        version=API_VERSION,
        sslContext=tls,
        poolSize=100,  # all that were opened are kept: the lanes bound how many
        connectionPoolTimeout=IDLE_SECONDS,
        httpConnectionTimeout=seconds,
    )


def _log_out(link: Link) -> None:
    try:
        link.content.sessionManager.Logout()
    finally:
        link.disconnect()


def _disconnect(stub: SoapStubAdapter) -> None:
    stub.poolSize = 0
    stub.DropConnections()
