"""Connections to libvirt, and its event loop.

A session is one connection with its own few threads. There are several, because libvirtd reads no more
from a client that has five calls under way (max_client_requests): a power-off behind five agent calls
that hang would wait a minute with them (measured: 31 s).
"""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import libvirt

from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.core.limiter import Limiter
from providers.libvirt.errors import problem, translate, unreachable
from providers.libvirt.states import without_credentials
from providers.shared.login import SharedLogin

P = ParamSpec("P")
T = TypeVar("T")

KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3
"""A libvirtd that hangs is given up after 20 s: what libvirt's own tools use."""
CLOSE_SECONDS = 1.0
"""How long a connection may take to be closed; one that hangs is left to the process's end."""


@asynccontextmanager
async def in_time(seconds: float) -> AsyncIterator[None]:
    """For a call that may take so long; one that takes longer holds its thread until libvirt returns.

    Raises:
        CommandFailed: it took longer. It is not sent again: another one would hang like it.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        message = f"libvirt has not answered within {seconds:g} s; the hypervisor's operator looks at this VM's QEMU."
        raise CommandFailed(message) from error


@dataclass(frozen=True, slots=True)
class Link:
    """An open connection. `lost` is done, with the reason, as soon as it is not."""

    connection: Any
    lost: asyncio.Future[str]


class Session:
    """One connection, opened at its first use and anew at the first use after it was lost."""

    def __init__(self, uri: str, purpose: str, threads: int) -> None:
        self._uri = uri
        self._limiter = Limiter(f"libvirt-{purpose}", threads)
        self._opened = SharedLogin(self._open)

    @property
    def full(self) -> bool:
        return self._limiter.full

    async def call(self, call: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call(connection, ...)` on a thread, over the connection there is or a new one.

        Raises:
            HypervisorUnavailable, VMNotFound, CommandFailed: what libvirt's error means.
        """
        return await self.run(await self.link(), call, *args, **kwargs)

    async def run(self, link: Link, call: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, over this connection and no other."""
        try:
            return await self._limiter.run(call, link.connection, *args, **kwargs)
        except libvirt.libvirtError as error:
            alive = _alive(link)
            if not alive:
                _mark(link.lost, "a call found it broken")
            raise translate(error, alive) from error

    async def link(self) -> Link:
        """The connection, opened if need be; callers that come meanwhile share the attempt.

        Raises:
            HypervisorUnavailable
        """
        if (link := self._opened.current) and not _alive(link):
            self._opened.forget(link)
        return await self._opened.get()

    async def close(self) -> None:
        link = self._opened.current
        self._opened.close()
        if link and _alive(link):
            with suppress(TimeoutError, libvirt.libvirtError):
                await asyncio.wait_for(self._limiter.run(_close, link.connection), CLOSE_SECONDS)

    async def _open(self) -> Link:
        lost = asyncio.get_running_loop().create_future()
        try:
            connection = await self._limiter.run(_connect, self._uri, lost)
        except libvirt.libvirtError as error:
            where = without_credentials(self._uri)
            raise HypervisorUnavailable(unreachable(where, str(error)), problem=problem(error)) from error
        lost.add_done_callback(lambda _: _forget(connection))
        return Link(connection, lost)


@functools.cache
def start_event_loop() -> None:
    """Run libvirt's own event loop, which serves every connection of the process, on a thread of its own.

    It must be there before the first connection is opened. libvirt's errors come as exceptions; that it
    also prints them on stderr is turned off.
    """
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()


def _run_event_loop() -> NoReturn:
    while True:
        libvirt.virEventRunDefaultImpl()


def _connect(uri: str, lost: asyncio.Future[str]) -> Any:
    start_event_loop()
    connection = libvirt.open(uri)
    _where_supported(connection.setKeepAlive, KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
    _where_supported(connection.registerCloseCallback, _on_close, lost)
    return connection


def _on_close(_connection: Any, reason: int, lost: asyncio.Future[str]) -> None:
    """Called on the thread of libvirt's event loop."""
    post(lost.get_loop(), lambda: _mark(lost, _CLOSE_REASONS.get(reason, f"reason {reason}")))


_CLOSE_REASONS = {
    libvirt.VIR_CONNECT_CLOSE_REASON_ERROR: "an I/O error",
    libvirt.VIR_CONNECT_CLOSE_REASON_EOF: "libvirtd ended",
    libvirt.VIR_CONNECT_CLOSE_REASON_KEEPALIVE: "libvirtd does not answer",
    libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT: "we closed it",
}


def _mark(lost: asyncio.Future[str], reason: str) -> None:
    if not lost.done():
        lost.set_result(reason)


def post(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Call `callback` in the event loop, from any thread; nothing happens once the loop is closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)


def _where_supported(call: Callable[..., object], *args: object) -> None:
    try:
        call(*args)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


def _forget(connection: Any) -> None:
    """Drop the callback, which would keep the connection from ever being freed."""
    with suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()


def _close(connection: Any) -> None:
    _forget(connection)
    connection.close()


def _alive(link: Link) -> bool:
    if link.lost.done():
        return False
    try:
        return bool(link.connection.isAlive())
    except libvirt.libvirtError:
        return False
