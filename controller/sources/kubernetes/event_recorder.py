"""Writes Kubernetes Events about the resources: in order, in the background, best effort."""

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
"""How many Events may wait to be sent. More are dropped: the record is the status, an Event is a comment on it."""
MESSAGE = 1024
"""Characters of a message that the API takes."""
TRIES = 5

log = structlog.get_logger()
Create = Callable[[str, client.CoreV1Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Recorded:
    key: Key
    uid: str
    event: Event
    time: datetime


class EventRecorder:
    """Sends Events through `create`, one at a time, so that writes of status come first."""

    def __init__(self, create: Create, identity: str, api_version: str = API_VERSION) -> None:
        self._create, self._identity, self._api_version = create, identity, api_version
        self._waiting: asyncio.Queue[_Recorded] = asyncio.Queue(WAITING)
        self._task: asyncio.Task[None] | None = None

    def record(self, key: Key, uid: str, event: Event) -> None:
        try:
            self._waiting.put_nowait(_Recorded(key, uid, event, datetime.now(UTC)))
        except asyncio.QueueFull:
            log.warning("event dropped: too many wait", resource=str(key), reason=event.reason)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self, patience: float = 3.0) -> None:
        """Send what is queued, for `patience` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._waiting.join()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            recorded = await self._waiting.get()
            try:
                await self._send(recorded)
            finally:
                self._waiting.task_done()

    async def _send(self, recorded: _Recorded) -> None:
        backoff, event = Backoff(0.5, 10.0), self._event(recorded)
        for left in reversed(range(TRIES)):
            try:
                await self._create(recorded.key.namespace, event)
            except ApiError as error:
                if error.status == 409:  # the name is unique: an earlier attempt arrived, only its answer was lost
                    return
                if error.status or not left:  # a refusal is final; only a server that did not answer is asked again
                    log.warning("event not sent", resource=str(recorded.key), error=str(error))
                    return
            else:
                return
            await asyncio.sleep(backoff.next())

    def _event(self, recorded: _Recorded) -> client.CoreV1Event:
        key, event = recorded.key, recorded.event
        return client.CoreV1Event(
            metadata=client.V1ObjectMeta(name=_name(key), namespace=key.namespace),
            involved_object=client.V1ObjectReference(
                api_version=self._api_version, kind=key.kind, namespace=key.namespace, name=key.name, uid=recorded.uid
            ),
            type=event.type,
            reason=event.reason[:128],
            message=event.message[:MESSAGE],
            first_timestamp=recorded.time,
            last_timestamp=recorded.time,
            count=1,
            source=client.V1EventSource(component="vmpower"),
            reporting_component="vmpower",
            reporting_instance=self._identity[:128],
        )


def _name(key: Key) -> str:
    """A unique name that the API accepts: the part before the dot must end with a letter or digit."""
    return f"{key.name[:230].rstrip('-.')}.{time.time_ns():x}"
