import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from plans.clock import Clock

pytestmark = pytest.mark.looptime
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Wall:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


async def test_a_wall_clock_that_is_set_changes_nothing() -> None:
    wall = Wall()
    clock = Clock(wall)
    wall.now += timedelta(hours=1)
    await asyncio.sleep(5)
    assert clock() == NOW + timedelta(seconds=5)


async def test_it_sleeps_until_a_moment_and_not_at_all_until_one_that_has_passed() -> None:
    clock = Clock(lambda: NOW)
    await clock.sleep_until(NOW + timedelta(seconds=7))
    await clock.sleep_until(NOW)
    assert asyncio.get_running_loop().time() == pytest.approx(7)
