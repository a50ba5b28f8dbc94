"""The queue of keys that want attention: each at most once, in order, with back-off per key."""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

from common.backoff import Backoff

K = TypeVar("K", bound=Hashable)


class KeyQueue(Generic[K]):
    """First in, first out, so a key that changes all the time waits its turn like any other.

    A key is in the queue at most once and with one worker at most; what is added meanwhile runs again after.
    """

    def __init__(self, first_retry: float = 1.0, longest_retry: float = 300.0) -> None:
        self._retry = (first_retry, longest_retry)
        self._keys: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._taken: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._backoffs: dict[K, Backoff] = {}

    def __len__(self) -> int:
        """How many keys wait for their turn now."""
        return len(self._queued)

    def add(self, key: K) -> None:
        """Give `key` attention as soon as its turn comes."""
        self._stop_timer(key)
        if key in self._taken:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._keys.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Give `key` attention in `seconds`, unless something adds it sooner."""
        self._stop_timer(key)
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(max(seconds, 0.0), self.add, key)

    def add_within(self, key: K, seconds: float) -> None:
        """Give `key` attention in at most `seconds`; calls until then are merged."""
        timer, due = self._timers.get(key), asyncio.get_running_loop().time() + seconds
        if timer is None or timer.when() > due:
            self.add_after(key, seconds)

    def retry(self, key: K) -> None:
        """Give `key` attention after a pause that grows with each retry in a row."""
        self.add_after(key, self._backoffs.setdefault(key, Backoff(*self._retry)).next())

    def forget(self, key: K) -> None:
        """`key` succeeded: its next retry comes after the shortest pause."""
        self._backoffs.pop(key, None)

    def _stop_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def drop(self, key: K) -> None:
        self._stop_timer(key)
        self.forget(key)

    async def get(self) -> K:
        """The next key; call `done` with it afterwards."""
        key = await self._keys.get()
        self._queued.discard(key)
        self._taken.add(key)
        return key

    def done(self, key: K) -> None:
        self._taken.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
