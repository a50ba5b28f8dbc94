"""A site whose UPS says what a test has it say, in virtual time; and a plan that it triggers."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from controller.models import PowerPlan
from controller.source import UpsSecret, key_of
from plans.history import History
from plans.model import Nut
from plans.ups.client import Credentials, Login, UpsError
from plans.ups.follow import Seen
from plans.ups.stages import Reading
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.fakes import FakeSource
from tests.unit.controller.plan_world import FakeWorld, Guests
from tests.unit.controller.plan_world import plan as any_plan

TRIGGER: dict[str, Any] = {
    "ups": [{"name": "a"}],
    "secretRef": {"name": "ups"},
    "onBattery": {"after": "2m", "tiers": ["apps"]},
    "below": {"charge": 40},
}
"""Of a plan whose first tier is called apps."""


NIGHT = key_of(any_plan())
SECRET = UpsSecret("vmpower", "word")


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

    def will_say(self, words: str) -> None:
        """From the next reading on."""
        self._says = Reading(frozenset(words.split()), 30, timedelta(minutes=5))

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


def plan(**changes: Any) -> PowerPlan:
    """Its tiers are `apps` and `databases`."""
    nut = TRIGGER | changes.pop("nut", {})
    return any_plan(**{"bringUp": {}, "triggers": [{"nut": nut}]} | changes)


def source(*, shared: bool = False) -> FakeSource:
    return FakeSource(shared=shared, ups=SECRET)


def lab(app: float | None = 5, db: float | None = 5) -> Guests:
    return Guests(app=app, db=db)


def asked(guests: Guests, kind: type[Any] = pb.ShutdownRequest) -> list[str]:
    return [request.vm for request in guests.sent(kind)]


def told(world: FakeWorld, *reasons: str) -> list[str]:
    """The Events of the plan with these reasons; without any, all reasons."""
    events = [event for key, event in world.source.events if key == NIGHT]
    if not reasons:
        return [event.reason for event in events]
    return [event.message for event in events if event.reason in reasons]


async def runs(world: FakeWorld) -> list[History]:
    return await world.host.runs.histories()
