"""libvirt's events as changes: taken from the thread they arrive on, applied in the event loop."""

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
from providers.libvirt.tracker import Tracker

Step = Callable[[Tracker], list[Change]]
"""One event, as a call of the tracker. It may raise, which ends the watch."""
Inbox = asyncio.Queue[Step]
Deliver = Callable[[Step], None]
Read = Callable[[str], Awaitable[Domain]]


@asynccontextmanager
async def subscribed(session: Session) -> AsyncIterator[Inbox]:
    """An inbox that gets every event of the session's connection from now on, and its loss.

    Raises:
        HypervisorError
    """
    inbox, loop, link = Inbox(), asyncio.get_running_loop(), await session.link()

    def end(lost: asyncio.Future[str]) -> None:
        why = f"The connection to libvirt is lost: {lost.result()}; it is opened again by itself."
        inbox.put_nowait(partial(_end, HypervisorUnavailable(why)))

    def deliver(step: Step) -> None:
        post(loop, partial(inbox.put_nowait, step))

    link.lost.add_done_callback(end)
    callbacks = await session.run(link, _register, deliver)
    try:
        yield inbox
    finally:
        with suppress(HypervisorError):  # a lost connection has forgotten them
            await session.run(link, _deregister, callbacks)


async def changes(inbox: Inbox, tracker: Tracker, read: Read) -> AsyncGenerator[Change, None]:
    """Apply step after step. VMs that must be read again are read in tasks: no event waits for an answer.

    Raises:
        HypervisorError
    """
    reads = set[asyncio.Task[None]]()
    try:
        while True:
            for change in (await inbox.get())(tracker):
                yield change
            for vm_id, number in tracker.take_stale().items():
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
    return inbox.put_nowait(partial(Tracker.read, vm_id=vm_id, number=number, domain=domain))


def _end(error: HypervisorError, _tracker: Tracker) -> list[Change]:
    raise error


def _register(connection: Any, deliver: Deliver) -> list[int]:
    register = connection.domainEventRegisterAny
    return [
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _on_lifecycle, deliver),
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, _on_agent, deliver),
    ]


def _deregister(connection: Any, callbacks: list[int]) -> None:
    for callback in callbacks:
        connection.domainEventDeregisterAny(callback)


# Both are called on the thread of libvirt's event loop, and ask nothing of libvirt there.


def _on_lifecycle(_connection: Any, handle: Any, event: int, detail: int, deliver: Deliver) -> None:
    deliver(partial(Tracker.lifecycle, vm_id=handle.UUIDString(), event=event, detail=detail))


def _on_agent(_connection: Any, handle: Any, state: int, _reason: int, deliver: Deliver) -> None:
    connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
    deliver(partial(Tracker.agent, vm_id=handle.UUIDString(), connected=connected))
