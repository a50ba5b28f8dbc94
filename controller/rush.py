"""Guests are asked first: while calls to providers follow one another, the writes of statuses wait, but not for long.

Both take the API server's, the provider's and our own time, and in a rush a status that is written is a guest that is
asked later.
"""

import asyncio
from math import inf

QUIET = 0.05
"""Seconds without a call after which a rush is over."""
LONGEST = 0.5
"""Seconds of a rush for which statuses wait."""

A_TICK = 0.001
"""Seconds that are none: clocks are not so fine, and a wait may end so much early."""


class Rush:
    """Calls that follow one another, by the loop's clock."""

    def __init__(self) -> None:
        self._since = self._last = -inf

    def note_call(self) -> None:
        """One is made now, or may be."""
        now = asyncio.get_running_loop().time()
        if now > self._last + QUIET:
            self._since = now
        self._last = now

    async def over(self) -> None:
        """Wait until the rush is over, or has lasted for LONGEST."""
        now = asyncio.get_running_loop().time
        while (left := min(self._last + QUIET, self._since + LONGEST) - now()) > A_TICK:  # noqa: ASYNC110 - for nothing to happen
            await asyncio.sleep(left)
