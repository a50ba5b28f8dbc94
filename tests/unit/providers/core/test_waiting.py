"""Waiting for events and moments, in virtual time."""

import asyncio
from datetime import timedelta

import pytest

from providers.core.waiting import Waiting
from tests.unit.providers.world import at, now, virtual_clock

pytestmark = pytest.mark.looptime


async def test_a_condition_is_looked_at_when_it_is_woken() -> None:
    waiting, came = Waiting(virtual_clock), list[str]()
    task = asyncio.create_task(waiting.until(lambda: bool(came)))
    await asyncio.sleep(5)
    came.append("it")
    waiting.wake()
    assert (await task, now()) == (True, 5)


async def test_a_deadline_ends_the_wait() -> None:
    assert not await Waiting(virtual_clock).until(lambda: False, lambda: at(7))
    assert now() == 7


async def test_a_deadline_that_moves_is_waited_for_as_it_is_then() -> None:
    waiting, deadline = Waiting(virtual_clock), [at(10)]
    task = asyncio.create_task(waiting.until(lambda: False, lambda: deadline[0]))
    await asyncio.sleep(5)
    deadline[0] = at(30)
    assert (await task, now()) == (False, 30)


async def test_a_length_of_time_does_not_move_with_the_wall_clock() -> None:
    wrong = [timedelta(0)]
    waiting = Waiting(lambda: virtual_clock() + wrong[0])
    task = asyncio.create_task(waiting.within(10, lambda: False))
    await asyncio.sleep(5)
    wrong[0] = timedelta(hours=1)
    waiting.wake()
    assert (await task, now()) == (False, 10)


async def test_the_end_of_what_was_spawned_wakes_it() -> None:
    waiting = Waiting(virtual_clock)
    task = waiting.spawn(asyncio.sleep(3))
    assert await waiting.until(task.done)
    assert now() == 3


async def test_what_was_spawned_can_be_cancelled() -> None:
    waiting = Waiting(virtual_clock)
    task = waiting.spawn(asyncio.sleep(3))
    waiting.cancel_tasks()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
