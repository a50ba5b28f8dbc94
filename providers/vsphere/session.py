"""The one session with vCenter: logged in at the first use, and again when it expired."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from pyVmomi import vim, vmodl

from providers.core.errors import HypervisorUnavailable
from providers.shared.tls import verifying
from providers.vsphere.config import VsphereSettings, login
from providers.vsphere.errors import translate, why
from providers.vsphere.stub import BROKEN, Stub
from providers.vsphere.transport import Trust

P = ParamSpec("P")
T = TypeVar("T")

REFUSED_SECONDS = 60.0
"""How long a login that vCenter refused is not tried again: five failures within three minutes lock an account."""
CLOSE_SECONDS = 1.0


class SessionLost(HypervisorUnavailable):
    """vCenter does not know the session, or what it held for it, any more."""


@dataclass(frozen=True, slots=True)
class Link:
    """A session; its calls go through `stub`."""

    url: str
    stub: Stub
    trust: Trust
    content: Any
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    kept: dict[str, Any] = field(default_factory=dict)
    """What need be read only once."""

    def vm(self, moid: str) -> Any:
        """pyvmomi's object for a VM."""
        return vim.VirtualMachine(moid, self.stub)


class Session:
    """Logs in, and says what became of calls."""

    def __init__(self, settings: VsphereSettings) -> None:
        self._settings = settings
        self._opening: asyncio.Task[Link] | None = None
        self._refused: tuple[tuple[str, str], float] | None = None

    async def run(
        self, link: Link, call: Callable[Concatenate[Link, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`call(link, ...)`, in this session and no other.

        Raises:
            SessionLost: vCenter did nothing; another session may ask.
            HypervisorUnavailable, VMNotFound, CommandFailed: what the fault means.
        """
        try:
            return await call(link, *args, **kwargs)
        except vim.fault.NotAuthenticated as fault:
            await self.forget(link)
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

    async def forget(self, link: Link) -> None:
        """This session is of no more use; the next call logs in."""
        opening = self._opening
        if opening and opening.done() and not _failed(opening) and opening.result() is link:
            self._opening = None
        link.lost.set()
        await link.stub.close()

    async def close(self) -> None:
        """Log out."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        if opening.done() and not _failed(opening):
            with suppress(TimeoutError, vmodl.MethodFault, *BROKEN):
                await asyncio.wait_for(_log_out(opening.result()), CLOSE_SECONDS)

    async def _open(self) -> Link:
        account = self._account()
        try:
            return await _log_in(self._settings, account)
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
        return HypervisorUnavailable(
            f"vSphere cannot be reached at {self._settings.url} ({reason(error)}); its operator looks after it."
        )


class Room:
    """Room for a few calls of one kind, so that those that hang (in a dead guest's tools) hold up no other kind."""

    def __init__(self, session: Session, places: int) -> None:
        self._session = session
        self._places = asyncio.Semaphore(places)

    async def call(self, call: Callable[Concatenate[Link, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call(link, ...)`; once more, if the session had expired.

        Raises:
            HypervisorUnavailable, VMNotFound, CommandFailed: what the fault means.
        """
        async with self._places:
            try:
                return await self._session.run(await self._session.link(), call, *args, **kwargs)
            except SessionLost:
                return await self._session.run(await self._session.link(), call, *args, **kwargs)


def reason(error: Exception) -> str:
    """What the network said."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _failed(opening: asyncio.Task[Link]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)


async def _log_in(settings: VsphereSettings, account: tuple[str, str]) -> Link:
    trust = partial(verifying, settings.trust)
    stub = Stub(settings.url, trust)
    try:
        service: Any = vim.ServiceInstance("ServiceInstance", stub)
        content = await service.RetrieveContent()
        await content.sessionManager.Login(*account, None)
    except BaseException:
        await stub.close()
        raise
    return Link(settings.url, stub, trust, content)


async def _log_out(link: Link) -> None:
    try:
        await link.content.sessionManager.Logout()
    finally:
        await link.stub.close()
