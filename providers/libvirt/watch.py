"""libvirt's events as changes: taken from the thread they arrive on, applied in the event loop.

What has no event is looked for: all domains soon after the connection and each minute then; those that a job holds, or
that were found ended, each few seconds.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import libvirt

from providers.core.adapter import Change
from providers.core.errors import HypervisorError, HypervisorUnavailable, Locked, VMNotFound
from providers.libvirt.session import Session, post
from providers.libvirt.states import Domain
from providers.libvirt.tracker import Tracker

Step = Callable[[Tracker], list[Change]]
"""One event, as a call of the tracker. It may raise, which ends the watch."""
Inbox = asyncio.Queue[Step]
Deliver = Callable[[Step], None]
Read = Callable[[str], Awaitable[Domain]]
ReadAll = Callable[[Mapping[str, Domain]], Awaitable[Sequence[Domain]]]
Mark = Callable[[str], Awaitable[str]]

RECHECK_SECONDS = 5.0
"""Between looks at a VM that a job holds: migrations that fail or are cancelled have no event (libvirt 9.0)."""
REFRESH_SECONDS = 60.0
"""Between looks at all VMs: an action changed by `virsh set-lifecycle-action`, a managed save that is removed and the
begin of a block job have no event (libvirt 9.0). The first look is at the first recheck: a libvirtd that was just
started lists a guest that ended meanwhile as running until it has found out, and then sends no event (libvirt 9.0)."""


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


async def changes(
    inbox: Inbox, tracker: Tracker, read: Read, read_all: ReadAll, mark: Mark
) -> AsyncGenerator[Change, None]:
    """Apply step after step. VMs that must be read again, or be marked, are so in tasks: no event waits for an answer.

    Raises:
        HypervisorError
    """
    tasks = {asyncio.create_task(_look_around(inbox, tracker, read_all))}
    inbox.put_nowait(_nothing)  # for those that are unmarked from the beginning
    try:
        while True:
            for change in (await inbox.get())(tracker):
                yield change
            calls = [_reread(inbox, read, vm_id, number) for vm_id, number in tracker.take_stale().items()]
            calls += [_mark(inbox, mark, vm_id) for vm_id in tracker.take_unmarked()]
            for call in calls:
                task = asyncio.create_task(call)
                tasks.add(task)
                task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()


async def _look_around(inbox: Inbox, tracker: Tracker, read_all: ReadAll) -> None:
    try:
        for number in itertools.count():
            await asyncio.sleep(RECHECK_SECONDS)
            inbox.put_nowait(Tracker.recheck)
            if number * RECHECK_SECONDS % REFRESH_SECONDS == 0:
                domains = await read_all(tracker.begin_refresh())
                inbox.put_nowait(partial(Tracker.refreshed, domains=domains))
    except Exception as error:
        inbox.put_nowait(partial(_end, error))


async def _reread(inbox: Inbox, read: Read, vm_id: str, number: int) -> None:
    try:
        domain = await read(vm_id)
    except VMNotFound:
        domain = None
    except HypervisorError as error:
        return inbox.put_nowait(partial(_end, error))
    return inbox.put_nowait(partial(Tracker.read, vm_id=vm_id, number=number, domain=domain))


async def _mark(inbox: Inbox, mark: Mark, vm_id: str) -> None:
    """Mark it; one that refuses (it may not be changed, it has gone off) is left as it is."""
    try:
        run = await mark(vm_id)
    except Locked:
        run = ""
    except HypervisorError:
        return
    inbox.put_nowait(partial(Tracker.marked, vm_id=vm_id, run=run))


def _end(error: Exception, _tracker: Tracker) -> list[Change]:
    raise error


def _nothing(_tracker: Tracker) -> list[Change]:
    return []


def _register(connection: Any, deliver: Deliver) -> list[int]:
    register = connection.domainEventRegisterAny
    return [
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _on_lifecycle, deliver),
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, _on_agent, deliver),
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, _on_iteration, deliver),
        register(None, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, _on_job_completed, deliver),
    ]


def _deregister(connection: Any, callbacks: list[int]) -> None:
    for callback in callbacks:
        connection.domainEventDeregisterAny(callback)


# All are called on the thread of libvirt's event loop, and ask nothing of libvirt there.


def _on_lifecycle(_connection: Any, handle: Any, event: int, detail: int, deliver: Deliver) -> None:
    deliver(partial(Tracker.lifecycle, vm_id=handle.UUIDString(), event=event, detail=detail))


def _on_agent(_connection: Any, handle: Any, state: int, _reason: int, deliver: Deliver) -> None:
    connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
    deliver(partial(Tracker.agent, vm_id=handle.UUIDString(), connected=connected))


def _on_iteration(_connection: Any, handle: Any, _iteration: int, deliver: Deliver) -> None:
    """A round of a migration, or of a save, dump or snapshot that works like one; the first begins it."""
    deliver(partial(Tracker.job, vm_id=handle.UUIDString(), ended=False))


def _on_job_completed(_connection: Any, handle: Any, _stats: object, deliver: Deliver) -> None:
    deliver(partial(Tracker.job, vm_id=handle.UUIDString(), ended=True))
