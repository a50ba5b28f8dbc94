import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from plans.clock import Clock, Deadlines

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
    deadlines = Deadlines(Clock(lambda: NOW))
    await deadlines.sleep_until(lambda: NOW + timedelta(seconds=7))
    await deadlines.sleep_until(lambda: NOW)
    assert asyncio.get_running_loop().time() == pytest.approx(7)


async def test_who_sleeps_is_woken_sooner_when_the_moment_comes_nearer() -> None:
    ends, deadlines = [NOW + timedelta(seconds=60)], Deadlines(Clock(lambda: NOW))
    sleeping = asyncio.ensure_future(deadlines.sleep_until(lambda: ends[0]))
    await asyncio.sleep(5)
    ends[0] = NOW + timedelta(seconds=7)
    deadlines.moved()
    await sleeping
    assert asyncio.get_running_loop().time() == pytest.approx(7)


async def test_a_moment_that_came_so_near_that_it_has_passed_wakes_at_once() -> None:
    ends, deadlines = [NOW + timedelta(seconds=60)], Deadlines(Clock(lambda: NOW))
    sleeping = asyncio.ensure_future(deadlines.sleep_until(lambda: ends[0]))
    await asyncio.sleep(5)
    ends[0] = NOW
    deadlines.moved()
    await sleeping
    assert asyncio.get_running_loop().time() == pytest.approx(5)


async def test_what_is_done_in_time_is_not_ended_by_its_limit() -> None:
    deadlines = Deadlines(Clock(lambda: NOW))
    async with deadlines.limit(lambda: NOW + timedelta(seconds=2)):
        await asyncio.sleep(1)
    deadlines.moved()
    with pytest.raises(TimeoutError):
        async with deadlines.limit(lambda: NOW + timedelta(seconds=2)):
            await asyncio.sleep(5)
