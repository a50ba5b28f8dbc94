"""A hypervisor's clock, as its HTTP answers tell it by the way: the header Date (RFC 9110, 6.6.1), in whole seconds."""

import time
from collections.abc import Callable
from datetime import timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace

import aiohttp

QUICK_SECONDS = 2.0
"""An answer that took longer is not looked at: when its server wrote the date is not known well enough."""
LOOK_EVERY = 60.0
"""Seconds between answers that are looked at: clocks drift slowly."""
HALF_SECOND = 0.5
"""The date has no fractions: on average it is so much too early."""


class RemoteClock:
    """By how much it is ahead of this machine's. `wall` are seconds since 1970 here, `seconds` those of a clock that
    does not step."""

    def __init__(self, wall: Callable[[], float] = time.time, seconds: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._seconds = wall, seconds
        self._looked: float | None = None
        self.ahead: timedelta | None = None
        """To a second or two; None: no answer has told it yet."""

    def trace(self) -> aiohttp.TraceConfig:
        """What lets a client's answers be heard."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._begin)
        config.on_request_end.append(self._end)
        return config

    def hear(self, date: str, took: float) -> None:
        """An answer has come, `took` seconds after it was asked for, and has this Date."""
        now = self._seconds()
        recent = self._looked is not None and now - self._looked < LOOK_EVERY
        if took > QUICK_SECONDS or recent:
            return
        try:
            stamp = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        self._looked = now
        self.ahead = timedelta(seconds=stamp + HALF_SECOND - (self._wall() - took / 2))

    async def _begin(self, _: object, context: SimpleNamespace, __: object) -> None:
        context.asked = self._seconds()

    async def _end(self, _: object, context: SimpleNamespace, end: aiohttp.TraceRequestEndParams) -> None:
        self.hear(end.response.headers.get("Date", ""), self._seconds() - context.asked)
