"""Tells people what happened, as Events beside the resources: in order, in the background, best effort."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from kubernetes.aio import client

from common.backoff import Backoff
from controller.models import API_VERSION
from controller.source import Event, Key
from controller.sources.kubernetes.api import ApiError

WAITING = 10_000
"""Events that may wait to be sent; more are dropped, for they are a comment and not the record."""
MESSAGE = 1024
"""Characters of a message that the API takes."""
TRIES = 5

log = structlog.get_logger()
Create = Callable[[str, client.CoreV1Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Said:
    key: Key
    uid: str
    event: Event
    time: datetime


class Announcer:
    """Sends what it is given through `create`, one after the other: statuses come first."""

    def __init__(self, create: Create, identity: str) -> None:
        self._create, self._identity = create, identity
        self._waiting: asyncio.Queue[_Said] = asyncio.Queue(WAITING)
        self._task: asyncio.Task[None] | None = None

    def say(self, key: Key, uid: str, event: Event) -> None:
        """Send it when its turn comes."""
        try:
            self._waiting.put_nowait(_Said(key, uid, event, datetime.now(UTC)))
        except asyncio.QueueFull:
            log.warning("event dropped: too many wait", resource=str(key), reason=event.reason)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self, patience: float = 3.0) -> None:
        """Send what is left, for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._waiting.join()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            said = await self._waiting.get()
            try:
                await self._send(said)
            finally:
                self._waiting.task_done()

    async def _send(self, said: _Said) -> None:
        backoff, event = Backoff(0.5, 10.0), self._event(said)
        for left in reversed(range(TRIES)):
            try:
                await self._create(said.key.namespace, event)
            except ApiError as error:
                if error.status == 409:  # it had arrived, and its answer got lost: we alone know its name
                    return
                if error.status or not left:  # an answer will not change; no answer may
                    log.warning("event not sent", resource=str(said.key), error=str(error))
                    return
            else:
                return
            await asyncio.sleep(backoff.next())

    def _event(self, said: _Said) -> client.CoreV1Event:
        key, event = said.key, said.event
        return client.CoreV1Event(
            metadata=client.V1ObjectMeta(name=_name(key), namespace=key.namespace),
            involved_object=client.V1ObjectReference(
                api_version=API_VERSION, kind=key.kind, namespace=key.namespace, name=key.name, uid=said.uid
            ),
            type=event.type,
            reason=event.reason[:128],
            message=event.message[:MESSAGE],
            first_timestamp=said.time,
            last_timestamp=said.time,
            count=1,
            source=client.V1EventSource(component="vmpower"),
            reporting_component="vmpower",
            reporting_instance=self._identity[:128],
        )


def _name(key: Key) -> str:
    """A new one that the API takes: labels of a name end with a letter or digit."""
    return f"{key.name[:230].rstrip('-.')}.{time.time_ns():x}"
