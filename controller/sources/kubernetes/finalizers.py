"""Keeps our finalizers on VirtualMachines whose owner wants the VM brought down first and on Providers that are in use,
and on no others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from common.backoff import Backoff
from controller.source import Key
from controller.sources.kubernetes.api import JSON_PATCH, MERGE, ApiError, Object, Operations
from controller.sources.kubernetes.resources import FINALIZER, IN_USE, is_deleted, is_held, wants_hold

log = structlog.get_logger()
Patch = Callable[[Key, Object], Awaitable[object]]


def correction(raw: Object) -> Object | None:
    """A merge patch that adds or removes our finalizer, None where nothing is to be changed. It replaces the whole
    list, so it names the version that it is about: the API refuses it when the object has changed."""
    held, wanted, meta = is_held(raw), wants_hold(raw), raw["metadata"]
    present = meta.get("finalizers", [])
    if held == wanted or (wanted and is_deleted(raw)):  # none can be added to what is deleted
        return None
    finalizers = [*present, FINALIZER] if wanted else [name for name in present if name != FINALIZER]
    return {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers}}


def removal(raw: Object, finalizer: str = FINALIZER) -> Operations:
    """A JSON patch that removes our finalizer, also from a newer version of the object."""
    path = f"/metadata/finalizers/{raw['metadata']['finalizers'].index(finalizer)}"
    return [{"op": "test", "path": path, "value": finalizer}, {"op": "remove", "path": path}]


def hold(raw: Object, held: bool) -> tuple[Any, str] | None:
    """A patch, and its content type, that makes a Provider held or not; None where nothing is to be changed."""
    meta = raw["metadata"]
    present = meta.get("finalizers", [])
    if held == (IN_USE in present) or (held and is_deleted(raw)):  # none can be added to what is deleted
        return None
    if not held:
        return removal(raw, IN_USE), JSON_PATCH
    return {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": [*present, IN_USE]}}, MERGE


class Finalizers:
    """Writes corrections in the background: one task an object, until it is written or the object has changed."""

    def __init__(self, patch: Patch) -> None:
        self._patch = patch
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def keep(self, key: Key, raw: Object) -> None:
        """Correct one object as it is now; a task for an older version of it is cancelled."""
        self.forget(key)
        body = correction(raw)
        if body is not None:
            task = asyncio.create_task(self._write(key, body))
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key) if self._tasks.get(key) is task else None)

    def forget(self, key: Key) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for key in list(self._tasks):
            self.forget(key)

    async def _write(self, key: Key, body: Object) -> None:
        backoff = Backoff(0.5, 30.0)
        while True:
            try:
                await self._patch(key, body)
            except ApiError as error:
                if error.status in {404, 409}:  # the watch brings the newer version, or its end
                    return
                log.warning("finalizer not written; to be tried again", resource=str(key), error=str(error))
            else:
                return
            await asyncio.sleep(backoff.next())
