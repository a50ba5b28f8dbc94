"""The only place that hands blocking SDK calls to threads, and bounds how many."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """A few threads for one kind of call, so that calls that hang (a dead guest agent) never hold up another kind.

    A caller that gives up (is cancelled) leaves its thread busy until the call returns; the bound holds.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-")

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on a thread of this lane and return, or raise, what it does."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Take no more calls; those that hang are left to the process's end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
