"""The time of a run: moments that do not step when the machine's clock is set."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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


class Deadlines:
    """Moments that may come nearer while they are waited for: each is told by a function."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._armed: dict[asyncio.Timeout, Callable[[], datetime]] = {}

    @asynccontextmanager
    async def limit(self, moment: Callable[[], datetime]) -> AsyncIterator[None]:
        """Until then, as `asyncio.timeout` does it.

        Raises:
            TimeoutError
        """
        async with asyncio.timeout(self._clock.left(moment())) as timeout:
            self._armed[timeout] = moment
            try:
                yield
            finally:
                del self._armed[timeout]

    async def sleep_until(self, moment: Callable[[], datetime]) -> None:
        """Also if it comes nearer."""
        with suppress(TimeoutError):
            async with self.limit(moment):
                await asyncio.get_running_loop().create_future()

    def moved(self) -> None:
        """Some have come nearer."""
        now = asyncio.get_running_loop().time()
        for timeout, moment in self._armed.items():
            if not timeout.expired():
                timeout.reschedule(now + self._clock.left(moment()))
