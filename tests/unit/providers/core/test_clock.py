import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from providers.core.clock import Clock, monotonic, system_clock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine:
    """A machine whose clocks a test sets; it was booted at noon."""

    def __init__(self) -> None:
        self.wall = NOON
        self.up = 0.0
        self.clock = Clock(lambda: self.wall, lambda: self.up, "boot-1")

    def run(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.up += seconds


def test_the_machines_clock_tells_the_moment_in_utc() -> None:
    clock, before = system_clock(), datetime.now(UTC)
    now = clock()
    assert abs(now - before) < timedelta(seconds=1)
    assert now.utcoffset() == timedelta(0)


def test_the_machines_clock_knows_its_boot() -> None:
    assert system_clock().boot.id == system_clock().boot.id != ""


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_wall_clock_that_is_set_changes_nothing_until_it_is_noticed(step: timedelta) -> None:
    machine = Machine()
    machine.wall += step
    machine.run(60)
    assert machine.clock() == NOON + timedelta(seconds=60)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_is_told_once_and_times_move_with_it(step: timedelta) -> None:
    machine, told = Machine(), list[timedelta]()
    machine.clock.on_step.append(told.append)
    machine.wall += step
    machine.clock.check()
    machine.clock.check()
    assert (told, machine.clock()) == ([step], NOON + step)


def test_a_wall_clock_that_is_slewed_is_not_set() -> None:
    machine, told = Machine(), list[timedelta]()
    machine.clock.on_step.append(told.append)
    machine.wall += timedelta(seconds=0.4)
    machine.clock.check()
    assert told == []


@pytest.mark.looptime
async def test_it_looks_by_itself() -> None:
    machine, told = Machine(), list[timedelta]()
    machine.clock.on_step.append(told.append)
    following = asyncio.create_task(machine.clock.follow())
    machine.wall += HOUR
    await asyncio.sleep(1.5)
    following.cancel()
    assert told == [HOUR]


@pytest.mark.looptime
async def test_sleep_is_told_for_timers_do_not_count_it() -> None:
    machine, told = Machine(), list[timedelta]()
    machine.clock.on_step.append(told.append)
    following = asyncio.create_task(machine.clock.follow())
    await asyncio.sleep(0.5)
    machine.run(3600)
    await asyncio.sleep(1)
    following.cancel()
    assert told == [timedelta(0)]


@pytest.mark.looptime
async def test_what_has_passed_is_told_by_the_event_loop() -> None:
    began = monotonic()
    await asyncio.sleep(3600)
    assert monotonic() - began == pytest.approx(3600)
