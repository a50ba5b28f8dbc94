import asyncio

import pytest

from providers.shared.login import Refusals, SharedLogin


class Door:
    """Counts who knocks; opens when it may, and not at all for those in `failing`."""

    def __init__(self) -> None:
        self.knocks, self.may, self.failing = 0, asyncio.Event(), set[int]()

    async def open(self) -> str:
        self.knocks += 1
        mine = self.knocks
        await self.may.wait()
        if mine in self.failing:
            raise ConnectionError(f"attempt {mine}")
        return f"key {mine}"


async def test_those_who_come_meanwhile_share_the_attempt() -> None:
    door = Door()
    login = SharedLogin(door.open)
    asyncio.get_running_loop().call_soon(door.may.set)
    assert list(await asyncio.gather(login.get(), login.get())) == ["key 1", "key 1"]
    assert door.knocks == 1


async def test_what_it_returned_is_kept_until_it_is_forgotten() -> None:
    door = Door()
    door.may.set()
    login = SharedLogin(door.open)
    key = await login.get()
    assert await login.get() is key
    login.forget(key)
    assert await login.get() == "key 2"


async def test_a_value_that_was_replaced_already_forgets_nothing() -> None:
    door = Door()
    door.may.set()
    login = SharedLogin(door.open)
    first = await login.get()
    login.forget(first)
    second = await login.get()
    login.forget(first)
    assert login.current is second


async def test_after_a_failure_the_next_one_tries_again() -> None:
    door = Door()
    door.may.set()
    door.failing = {1}
    login = SharedLogin(door.open)
    with pytest.raises(ConnectionError, match="attempt 1"):
        await login.get()
    assert login.current is None
    assert await login.get() == "key 2"


async def test_a_caller_that_gives_up_takes_the_attempt_from_nobody() -> None:
    door = Door()
    login = SharedLogin(door.open)
    first, second = asyncio.create_task(login.get()), asyncio.create_task(login.get())
    await asyncio.sleep(0)
    first.cancel()
    door.may.set()
    assert await second == "key 1"


async def test_a_login_is_refused_for_its_time_and_no_other_is() -> None:
    refusals = Refusals[str](60)
    assert not refusals.stands("old")
    refusals.note("old")
    assert refusals.stands("old")
    assert not refusals.stands("new")


async def test_after_that_time_it_may_be_tried_again() -> None:
    refusals = Refusals[str](0)
    refusals.note("old")
    assert not refusals.stands("old")
