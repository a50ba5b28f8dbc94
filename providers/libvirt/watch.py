"""libvirt's events, from the thread they arrive on to the changes they mean."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import libvirt

from providers.core.adapter import Change
from providers.core.errors import HypervisorError, HypervisorUnavailable, VMNotFound
from providers.libvirt.session import Session, post
from providers.libvirt.states import Domain
from providers.libvirt.tracker import Picture

Step = Callable[[Picture], list[Change]]
"""One thing that happened, as what it does to the picture; it may raise what ends the watch."""
Inbox = asyncio.Queue[Step]
Tell = Callable[[Step], None]
Read = Callable[[str], Awaitable[Domain]]


@asynccontextmanager
async def subscribed(session: Session) -> AsyncIterator[Inbox]:
    """An inbox that gets every event of the session's connection from now on, and its loss.

    Raises:
        HypervisorError
    """
    inbox, loop, link = Inbox(), asyncio.get_running_loop(), await session.link()
    link.lost.add_done_callback(lambda lost: inbox.put_nowait(partial(_end, _lost(lost.result()))))
    tell: Tell = lambda step: post(loop, partial(inbox.put_nowait, step))  # noqa: E731 - one line says it
    callbacks = await session.run(link, _register, tell)
    try:
        yield inbox
    finally:
        with suppress(HypervisorError):  # a lost connection has forgotten them
            await session.run(link, _deregister, callbacks)


async def changes(inbox: Inbox, picture: Picture, read: Read) -> AsyncGenerator[Change, None]:
    """Take step after step. VMs that must be read again are read meanwhile: no event waits for an answer.

    Raises:
        HypervisorError
    """
    reads = set[asyncio.Task[None]]()
    try:
        while True:
            for change in (await inbox.get())(picture):
                yield change
            for vm_id, number in picture.take_stale().items():
                task = asyncio.create_task(_reread(inbox, read, vm_id, number))
                reads.add(task)
                task.add_done_callback(reads.discard)
    finally:
        for task in reads:
            task.cancel()


async def _reread(inbox: Inbox, read: Read, vm_id: str, number: int) -> None:
    try:
        domain = await read(vm_id)
    except VMNotFound:
        domain = None
    except HypervisorError as error:
        return inbox.put_nowait(partial(_end, error))
    return inbox.put_nowait(partial(Picture.read, vm_id=vm_id, number=number, domain=domain))


def _end(error: HypervisorError, _picture: Picture) -> list[Change]:
    raise error


def _lost(reason: str) -> HypervisorUnavailable:
    return HypervisorUnavailable(f"The connection to libvirt is lost: {reason}; it is opened again by itself.")


def _register(connection: Any, tell: Tell) -> list[int]:
    register = connection.domainEventRegisterAny
    return [
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _on_lifecycle, tell),
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, _on_agent, tell),
    ]


def _deregister(connection: Any, callbacks: list[int]) -> None:
    for callback in callbacks:
        connection.domainEventDeregisterAny(callback)


# Both are called on the thread of libvirt's event loop, and ask nothing of libvirt there.


def _on_lifecycle(_connection: Any, handle: Any, event: int, detail: int, tell: Tell) -> None:
    tell(partial(Picture.lifecycle, vm_id=handle.UUIDString(), event=event, detail=detail))


def _on_agent(_connection: Any, handle: Any, state: int, _reason: int, tell: Tell) -> None:
    connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
    tell(partial(Picture.agent, vm_id=handle.UUIDString(), connected=connected))
