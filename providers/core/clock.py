"""Time, so that tests can run in virtual time: that of the wall, injected, and that of the event loop."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the moment now, in UTC."""


def system_clock() -> datetime:
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds by the running event loop's clock, which never goes back."""
    return asyncio.get_running_loop().time()
