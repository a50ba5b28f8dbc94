import asyncio

import pytest

from controller.queue import KeyQueue

pytestmark = pytest.mark.looptime


async def take(queue: KeyQueue[str], count: int) -> list[str]:
    return [await asyncio.wait_for(queue.get(), 1) for _ in range(count)]


async def is_empty(queue: KeyQueue[str]) -> bool:
    try:
        await asyncio.wait_for(queue.get(), 0.001)
    except TimeoutError:
        return True
    return False


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_key_is_in_the_queue_once() -> None:
    queue = KeyQueue[str]()
    for key in "aaba":
        queue.add(key)
    assert await take(queue, 2) == ["a", "b"]
    assert await is_empty(queue)


async def test_a_key_that_a_worker_has_is_given_to_no_other() -> None:
    queue = KeyQueue[str]()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert await is_empty(queue)
    queue.done("a")
    assert await take(queue, 1) == ["a"]


async def test_a_hot_key_waits_its_turn() -> None:
    queue = KeyQueue[str]()
    for key in ("hot", "b", "c"):
        queue.add(key)
    hot = await queue.get()
    queue.add("hot")
    queue.done(hot)
    assert await take(queue, 3) == ["b", "c", "hot"]


async def test_a_retry_comes_after_a_pause_that_grows() -> None:
    queue, pauses = KeyQueue[str](1, 300), []
    for _ in range(12):
        began = now()
        queue.retry("a")
        queue.done(await queue.get())
        pauses.append(now() - began)
    assert 0.5 <= pauses[0] <= 1
    assert 1 <= pauses[1] <= 2
    assert all(150 <= pause <= 300 for pause in pauses[9:])


async def test_what_did_well_begins_its_retries_anew() -> None:
    queue = KeyQueue[str](1, 300)
    for _ in range(5):
        queue.retry("a")
        queue.done(await queue.get())
    queue.forget("a")
    began = now()
    queue.retry("a")
    await queue.get()
    assert now() - began <= 1


async def test_news_comes_before_a_retry_and_instead_of_it() -> None:
    queue = KeyQueue[str]()
    queue.add_after("a", 100)
    queue.add("a")
    queue.done(await queue.get())
    assert now() == 0
    await asyncio.sleep(200)
    assert await is_empty(queue)


async def test_what_was_dropped_does_not_come_back() -> None:
    queue = KeyQueue[str]()
    queue.add_after("a", 10)
    queue.drop("a")
    await asyncio.sleep(20)
    assert await is_empty(queue)


async def test_within_a_time_is_before_a_retry_that_comes_later() -> None:
    queue = KeyQueue[str]()
    queue.add_after("a", 300)
    queue.add_within("a", 5)
    await queue.get()
    assert now() == 5
