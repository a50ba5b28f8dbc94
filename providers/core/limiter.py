"""The only place that hands blocking calls to threads, and bounds how many."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

IDLE_SECONDS = 5.0
"""How long a thread waits for its next call before it ends: starting one costs more than most calls do."""


class Limiter:
    """Places for a few calls of one kind, so that those that hang (a dead guest agent) never hold up another kind.

    A caller that gives up (is cancelled) leaves its place taken until the call returns; the bound holds. The
    threads are daemons, which `concurrent.futures` has none of: a call that hangs must not keep a process
    that was told to stop.
    """

    def __init__(self, name: str, threads: int, *, stays: bool = False) -> None:
        """`stays`: a thread that was once begun waits for its next call until `close`, so that calls go on where the
        machine has no more threads to give."""
        self._name, self._idle_seconds = name, None if stays else IDLE_SECONDS
        self._places = asyncio.Semaphore(threads)
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    @property
    def full(self) -> bool:
        """Whether a call would have to wait for another to return."""
        return self._places.locked()

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on a thread and return, or raise, what it does.

        Raises:
            RuntimeError: the machine has no more threads.
        """
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        try:
            self._reserve_thread()
        except BaseException:
            self._places.release()
            raise
        self._calls.put(partial(self._carry_out, loop, outcome, partial(call, *args, **kwargs)))
        return await outcome

    def close(self) -> None:
        """Let a thread that stays end when it has nothing to do; one that is begun after that ends by itself."""
        self._idle_seconds = IDLE_SECONDS
        self._calls.put(None)

    def _reserve_thread(self) -> None:
        with self._lock:
            if self._idle:
                self._idle -= 1
                return
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=self._idle_seconds)
            except queue.Empty:
                with self._lock:
                    if self._idle:  # else a caller has just reserved this thread
                        self._idle -= 1
                        return
            else:
                if call is not None:
                    call()

    def _carry_out(
        self, loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[Any], call: Callable[[], Any]
    ) -> None:
        try:
            settle = partial(outcome.set_result, call())
        except BaseException as error:
            settle = partial(outcome.set_exception, error)
        with self._lock:
            self._idle += 1
        with suppress(RuntimeError):  # the loop has ended: the result has no receiver
            loop.call_soon_threadsafe(self._end, outcome, settle)

    def _end(self, outcome: asyncio.Future[Any], settle: Callable[[], None]) -> None:
        self._places.release()
        if not outcome.done():
            settle()
