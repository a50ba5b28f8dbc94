"""A site whose UPS says what a test has it say, in virtual time."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from plans.model import Nut
from plans.ups.client import Credentials, Login, UpsError
from plans.ups.follow import Seen
from plans.ups.stages import Reading

TRIGGER: dict[str, Any] = {
    "ups": [{"name": "a"}],
    "secretRef": {"name": "ups"},
    "onBattery": {"after": "2m", "tiers": ["apps"]},
    "below": {"charge": 40},
}
"""Of a plan whose first tier is called apps."""


class Site:
    """`follow` stands for that of plans.ups: it logs in, and reads each `pollEvery`. `refusal`: upsd lets nobody in."""

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.logins: list[Login] = []
        self.logged_out = 0
        self._says = Reading(frozenset({"OL"}), 100.0, timedelta(hours=1))
        self._problem = ""
        self._polled = asyncio.Condition()

    async def says(self, words: str, charge: float = 100, minutes: float = 60) -> None:
        """From now on; it has been read once when this returns."""
        self._says, self._problem = Reading(frozenset(words.split()), charge, timedelta(minutes=minutes)), ""
        await self.poll()

    async def poll(self, times: int = 1) -> None:
        for _ in range(times):
            async with self._polled:
                await self._polled.wait()

    async def follow(self, nut: Nut, login: Credentials, ups: str, seen: Callable[[Seen], None]) -> None:
        if self.refusal:
            raise self.refusal
        await self._log_in(login, ups, seen)
        try:
            while True:
                seen(Seen(ups, None, self._problem) if self._problem else Seen(ups, self._says))
                async with self._polled:
                    self._polled.notify_all()
                await asyncio.sleep(nut.poll_every.total_seconds())
        finally:
            self.logged_out += 1

    async def _log_in(self, login: Credentials, ups: str, seen: Callable[[Seen], None]) -> None:
        while True:
            try:
                self.logins.append(await login())
            except UpsError as error:
                seen(Seen(ups, None, str(error)))
                await asyncio.sleep(1)
            else:
                return
