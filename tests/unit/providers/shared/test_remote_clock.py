from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from providers.shared.http import client
from providers.shared.remote_clock import LOOK_EVERY, QUICK_SECONDS, RemoteClock

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Here:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.now, self.clock = 0.0, RemoteClock(lambda: NOON.timestamp() + self.now, lambda: self.now)

    def hear(self, ahead: timedelta, took: float = 0.0) -> None:
        date = (NOON + timedelta(seconds=self.now) + ahead).replace(microsecond=0)
        self.clock.hear(format_datetime(date, usegmt=True), took)


@pytest.fixture
def here() -> Here:
    return Here()


def test_before_the_first_answer_it_is_not_known(here: Here) -> None:
    assert here.clock.ahead is None


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(0), -timedelta(hours=1)])
def test_a_date_tells_the_difference_to_a_second(here: Here, ahead: timedelta) -> None:
    here.hear(ahead)
    assert here.clock.ahead is not None
    assert abs(here.clock.ahead - ahead) <= timedelta(seconds=1)


def test_half_of_the_way_is_taken_for_the_way_back(here: Here) -> None:
    here.now = 2.0
    here.clock.hear(format_datetime(NOON + timedelta(seconds=1), usegmt=True), took=2.0)
    assert here.clock.ahead == timedelta(seconds=0.5)


def test_an_answer_that_took_long_tells_nothing(here: Here) -> None:
    here.hear(timedelta(hours=1), took=QUICK_SECONDS + 1)
    assert here.clock.ahead is None


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Jan 2026 12:00:00 GMT"])
def test_an_answer_without_a_date_tells_nothing(here: Here, date: str) -> None:
    here.clock.hear(date, 0.0)
    assert here.clock.ahead is None


def test_it_is_looked_at_again_after_a_minute(here: Here) -> None:
    here.hear(timedelta(hours=1))
    here.now = LOOK_EVERY / 2
    here.hear(timedelta(0))
    assert here.clock.ahead is not None
    assert here.clock.ahead > timedelta(minutes=59)
    here.now = LOOK_EVERY
    here.hear(timedelta(0))
    assert here.clock.ahead < timedelta(minutes=1)


async def test_the_answers_of_a_client_are_heard() -> None:
    async def answer(_: web.Request) -> web.Response:
        late = datetime.now(UTC) - timedelta(hours=1)
        return web.Response(headers={"Date": format_datetime(late, usegmt=True)})

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    clock = RemoteClock()
    try:
        async with client(trace_configs=[clock.trace()]) as http, http.get(f"http://127.0.0.1:{site.port}/"):
            pass
    finally:
        await runner.cleanup()
    assert clock.ahead is not None
    assert abs(clock.ahead + timedelta(hours=1)) < timedelta(seconds=3)
