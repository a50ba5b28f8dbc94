"""The time of a run: moments that do not step when the machine's clock is set."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def _wall() -> datetime:
    return datetime.now(UTC)


class Clock:
    """The wall clock as it was when this was made; from then on the event loop's counts."""

    def __init__(self, wall: Callable[[], datetime] = _wall) -> None:
        self._seconds = asyncio.get_running_loop().time
        self._wall, self._began = wall(), self._seconds()

    def __call__(self) -> datetime:
        return self._wall + timedelta(seconds=self._seconds() - self._began)

    def left(self, until: datetime) -> float:
        """The seconds until then; 0 if it has passed."""
        return max(0.0, (until - self()).total_seconds())

    async def sleep_until(self, moment: datetime) -> None:
        await asyncio.sleep(self.left(moment))
