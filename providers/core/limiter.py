"""The only place that hands blocking SDK calls to threads, and bounds how many."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """Room for a few calls of one kind, so that those that hang (a dead guest agent) never hold up another kind.

    A caller that gives up (is cancelled) leaves its place taken until the call returns; the bound holds. The
    threads are daemons, which `concurrent.futures` has none of: a call that hangs must not keep a process
    that was told to stop.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._places = asyncio.Semaphore(threads)

    @property
    def full(self) -> bool:
        """Whether a call would have to wait for another to return."""
        return self._places.locked()

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on a thread of this lane and return, or raise, what it does."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        work = partial(self._work, loop, outcome, partial(call, *args, **kwargs))
        threading.Thread(target=work, name=self._name, daemon=True).start()
        return await outcome

    def _work(self, loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[Any], call: Callable[[], Any]) -> None:
        try:
            settle = partial(outcome.set_result, call())
        except BaseException as error:
            settle = partial(outcome.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended; nobody waits any more
            loop.call_soon_threadsafe(self._end, outcome, settle)

    def _end(self, outcome: asyncio.Future[Any], settle: Callable[[], None]) -> None:
        self._places.release()
        if not outcome.done():
            settle()
