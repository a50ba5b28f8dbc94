"""Waiting for events, never by polling, and the tasks that run beside what waits."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, TypeVar

from providers.core.clock import monotonic

T = TypeVar("T")
RESOLUTION = 1e-6
"""Seconds; less than this is rounding, and no time to wait for."""


class Waiting:
    """Conditions that are evaluated again whenever `wake` is called, and tasks whose ends call it."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self._wakers: dict[asyncio.Future[None], None] = {}
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def wake(self) -> None:
        """Let each `until` evaluate its condition again."""
        for waker in self._wakers:
            _set(waker)

    async def until(self, condition: Callable[[], bool], deadline: Callable[[], datetime] | None = None) -> bool:
        """Wait until the condition holds (True) or the deadline, which may move, has passed (False)."""
        while not condition():
            left = None if deadline is None else (deadline() - self.now()).total_seconds()
            if left is not None and left <= 0:
                return False
            await self._woken(left)
        return True

    async def within(self, seconds: float, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds (True) or so much time has passed (False), whatever the wall clock says."""
        end = monotonic() + seconds
        while not condition():
            if (left := end - monotonic()) < RESOLUTION:
                return False
            await self._woken(left)
        return True

    async def _woken(self, seconds: float | None) -> None:
        """Wait for `wake`, at most so long; a future costs a fraction of an Event and a timeout."""
        loop = asyncio.get_running_loop()
        waker = loop.create_future()
        self._wakers[waker] = None
        timer = None if seconds is None else loop.call_later(seconds, _set, waker)
        try:
            await waker
        finally:
            self._wakers.pop(waker, None)
            if timer:
                timer.cancel()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something beside what waits."""
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # read here, so that asyncio does not warn of one that is of no interest
        self.wake()

    def cancel_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()


def _set(waker: asyncio.Future[None]) -> None:
    if not waker.done():
        waker.set_result(None)
