"""Asking again and again, for what reports nothing by itself: an API without events, a hypervisor's guest agent.

Tests poll here and nowhere else. A file is waited for by `watching.py`, a process by its pidfd, a VM or an
operation by the contract's watches.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.02
"""Seconds from an answer to the next question: little beside what tests wait for, much beside what an answer costs."""


def poll(ask: Callable[[], T | None], timeout: float = 60) -> T:
    """Ask until the answer is true, and return it.

    Raises:
        TimeoutError: it is not; the message has the last answer.
    """
    deadline = time.monotonic() + timeout
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout} s still {answer!r}")
        time.sleep(INTERVAL)
    return answer


async def poll_async(ask: Callable[[], Awaitable[T | None]], timeout: float = 60) -> T:
    """The same for a coroutine; the event loop goes on meanwhile."""
    async with asyncio.timeout(timeout):
        while not (answer := await ask()):  # noqa: ASYNC110 - what is asked here sets no event
            await asyncio.sleep(INTERVAL)
    return answer
