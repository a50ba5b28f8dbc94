"""Time, so that tests can run in virtual time: that of the wall, which may be set, and those that nobody sets."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Linux's name for the time since it was booted (random(4))."""
TOLERANCE = timedelta(seconds=0.5)
"""A wall clock that differs by less was not set: reading two clocks takes time, and NTP slews both alike."""
LOOK_EVERY = 1.0
"""Seconds between looks at the wall clock."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of this machine. `began` is when it was, by the wall clock as it is set now."""

    id: str
    began: datetime


class Clock:
    """Times of the wall clock that are counted by one that does not step: a grace period is as long as it was told to
    be, though the wall clock is set meanwhile, and also if the machine sleeps.

    Called, it returns the moment now, in UTC. That the wall clock was set is noticed by `check`; from then on the times
    are those of the new wall clock, and what was noted before has to be moved by as much.
    """

    def __init__(self, wall: Callable[[], datetime], elapsed: Callable[[], float], boot_id: str) -> None:
        self._wall, self._elapsed = wall, elapsed
        self.boot = Boot(boot_id, wall() - timedelta(seconds=elapsed()))
        self.on_step: list[Callable[[timedelta], None]] = []
        """Told by how much all times that were noted have to be moved; 0: the machine slept, so timers are late."""

    def __call__(self) -> datetime:
        return self.boot.began + timedelta(seconds=self._elapsed())

    def check(self) -> None:
        """Tell of a wall clock that was set."""
        step = self._wall() - self()
        if abs(step) >= TOLERANCE:
            log.warning("the wall clock was set; what is waited for keeps its length", seconds=step.total_seconds())
            self.boot = Boot(self.boot.id, self.boot.began + step)
            self._tell(step)

    async def follow(self) -> None:
        """Check until cancelled; also wake what waits after the machine slept, which the event loop's timers do not
        count."""
        behind = self._elapsed() - monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.check()
            before, behind = behind, self._elapsed() - monotonic()
            slept = behind - before
            if slept > LOOK_EVERY:
                log.info("the machine slept", seconds=slept)
                self._tell(timedelta(0))

    def _tell(self, step: timedelta) -> None:
        for listener in self.on_step:
            listener(step)


def since_boot() -> float:
    """Seconds since this machine was booted: CLOCK_BOOTTIME counts suspend and cannot be set (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    return BOOT_ID.read_text().strip()


def system_clock() -> Clock:
    """This machine's."""
    return Clock(lambda: datetime.now(UTC), since_boot, boot_id())


def monotonic() -> float:
    """Seconds by the running event loop's clock, which never goes back."""
    return asyncio.get_running_loop().time()
