"""How long writes of statuses wait for calls, in virtual time."""

import asyncio

import pytest

from controller.rush import LONGEST, QUIET, Rush

pytestmark = pytest.mark.looptime


async def waited(rush: Rush) -> float:
    """Seconds until the rush is over."""
    now = asyncio.get_running_loop().time
    began = now()
    await rush.over()
    return now() - began


async def test_without_a_call_nothing_waits() -> None:
    assert await waited(Rush()) == 0


async def test_a_call_is_waited_for_until_it_is_quiet() -> None:
    rush = Rush()
    rush.note_call()
    assert await waited(rush) == pytest.approx(QUIET)


async def test_long_after_a_call_nothing_waits() -> None:
    rush = Rush()
    rush.note_call()
    await asyncio.sleep(2 * QUIET)
    assert await waited(rush) == 0


async def calls(rush: Rush, seconds: float) -> None:
    """One after the other, with less than a pause between them."""
    async with asyncio.timeout(seconds):
        while True:
            rush.note_call()
            await asyncio.sleep(QUIET / 2)


async def test_calls_that_go_on_are_waited_for_so_long_at_most() -> None:
    rush = Rush()
    going_on = asyncio.create_task(calls(rush, 10))
    await asyncio.sleep(0)
    assert await waited(rush) == pytest.approx(LONGEST)
    assert await waited(rush) == 0
    going_on.cancel()


async def test_after_a_pause_another_rush_is_waited_for() -> None:
    rush = Rush()
    rush.note_call()
    await asyncio.sleep(10)
    rush.note_call()
    assert await waited(rush) == pytest.approx(QUIET)
