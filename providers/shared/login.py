"""Logging in: callers that come meanwhile share one attempt, and a login that was just refused is not tried again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedLogin(Generic[T]):
    """What `attempt` returns, kept until it is forgotten; callers that come meanwhile share the attempt."""

    def __init__(self, attempt: Callable[[], Awaitable[T]]) -> None:
        self._attempt = attempt
        self._task: asyncio.Task[T] | None = None

    @property
    def current(self) -> T | None:
        """What the last attempt returned; None while there is none, it failed, or it was forgotten."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    async def get(self) -> T:
        """What the last attempt returned, or returns.

        Raises:
            Exception: what the attempt raises; the next caller begins another one.
        """
        if self._task is None or (self._task.done() and self.current is None):
            self._task = asyncio.ensure_future(self._attempt())
        return await asyncio.shield(self._task)

    def forget(self, value: T) -> None:
        """`value` is of no more use; the next caller logs in, unless another one has done so already."""
        if self.current is value:
            self._task = None

    def close(self) -> None:
        """Log in no more."""
        if self._task:
            self._task.cancel()
        self._task = None


class Refusals(Generic[T]):
    """The login that was refused last: trying it again at once may lock the account. `seconds`: for how long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: tuple[T, float] | None = None

    def note(self, login: T) -> None:
        self._last = (login, time.monotonic())

    def stands(self, login: T) -> bool:
        """Whether this very login was refused less than `seconds` ago."""
        return self._last is not None and self._last[0] == login and time.monotonic() < self._last[1] + self._seconds
