"""Who has a place, who waits, and whose turn is next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from providers.core.lanes import CALLER, PATIENCE, Bound, Call, Lane, Lanes, urgent

pytestmark = pytest.mark.looptime


class Hypervisor:
    """Answers calls when it is told to, and notes in which order they came."""

    def __init__(self, at_once: int = 2, per_host: int = 8, slow: int = 0) -> None:
        self.lanes = Lanes({lane: Bound(at_once, per_host, slow) for lane in Lane})
        self.came = list[str]()
        self.under_way = 0
        self.most = 0
        self._answers = dict[str, asyncio.Event]()
        self._calls = dict[str, asyncio.Task[None]]()

    def call(self, name: str, lane: Lane = Lane.ASK, host: str = "", caller: str = "") -> asyncio.Task[None]:
        self._answers[name] = asyncio.Event()
        self._calls[name] = asyncio.create_task(self._call(name, lane, host, caller))
        return self._calls[name]

    async def _call(self, name: str, lane: Lane, host: str, caller: str) -> None:
        CALLER.set(caller)
        async with self.lanes.place(lane, host):
            self.came.append(name)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                await self._answers[name].wait()
            finally:
                self.under_way -= 1

    async def answer(self, name: str) -> None:
        self._answers[name].set()
        await self._calls[name]
        await settle()

    async def answer_all(self) -> None:
        for event in self._answers.values():
            event.set()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def hypervisor(at_once: int = 2, per_host: int = 8, slow: int = 0) -> AsyncIterator[Hypervisor]:
    made = Hypervisor(at_once, per_host, slow)
    yield made
    await made.answer_all()


async def test_no_more_calls_are_under_way_than_may_be() -> None:
    async with hypervisor(at_once=2) as it:
        for number in range(10):
            it.call(str(number))
        await settle()
        assert it.came == ["0", "1"]
        await it.answer_all()
        assert it.most == 2
        assert len(it.came) == 10


@pytest.mark.parametrize("lane", [lane for lane in Lane if lane is not Lane.ASK])
async def test_calls_that_hang_hold_up_no_other_lane(lane: Lane) -> None:
    async with hypervisor() as it:
        for number in range(50):
            it.call(str(number))
        it.call("other", lane)
        await settle()
        assert "other" in it.came


async def test_one_host_has_no_more_than_its_part_and_holds_up_no_other() -> None:
    async with hypervisor(at_once=3, per_host=2) as it:
        for number in range(5):
            it.call(f"a{number}", host="a")
        it.call("b0", host="b")
        await settle()
        assert it.came == ["a0", "a1", "b0"]


async def test_a_call_that_concerns_no_host_is_bounded_by_the_total_alone() -> None:
    async with hypervisor(at_once=3, per_host=1) as it:
        for number in range(3):
            it.call(str(number))
        await settle()
        assert len(it.came) == 3


async def test_callers_take_turns() -> None:
    async with hypervisor(at_once=1) as it:
        for number in range(4):
            it.call(f"many{number}", caller="many")
        it.call("one", caller="one")
        await settle()
        for name in ("many0", "many1", "one"):
            await it.answer(name)
        assert it.came[:4] == ["many0", "many1", "one", "many2"]


async def test_the_hosts_of_one_caller_take_turns() -> None:
    async with hypervisor(at_once=1) as it:
        for number in range(3):
            it.call(f"a{number}", host="a")
        it.call("b0", host="b")
        await settle()
        for name in ("a0", "a1", "b0"):
            await it.answer(name)
        assert it.came == ["a0", "a1", "b0", "a2"]


async def test_a_slow_call_gives_its_place_to_the_next_one() -> None:
    async with hypervisor(at_once=2, slow=50) as it:
        for number in range(50):
            it.call(f"hangs{number}")
        await asyncio.sleep(24.5 * PATIENCE)
        it.call("hears")
        await asyncio.sleep(PATIENCE)
        assert "hears" in it.came
        assert it.most <= 52


async def test_no_more_calls_are_slow_than_may_be() -> None:
    async with hypervisor(at_once=2, slow=3) as it:
        for number in range(20):
            it.call(str(number))
        await asyncio.sleep(30 * PATIENCE)
        assert it.most == 5
        await it.answer("0")
        assert it.under_way == 5
        await asyncio.sleep(PATIENCE)
        assert it.most == 5


async def test_a_slow_call_counts_at_its_host_no_more() -> None:
    async with hypervisor(at_once=4, per_host=1, slow=4) as it:
        it.call("hangs", host="a")
        it.call("hears", host="a")
        await asyncio.sleep(PATIENCE / 2)
        assert it.came == ["hangs"]
        await asyncio.sleep(PATIENCE)
        assert it.came == ["hangs", "hears"]


async def test_one_that_gives_up_while_it_waits_takes_no_place() -> None:
    async with hypervisor(at_once=1) as it:
        it.call("first")
        await settle()
        given_up, next_one = it.call("given up"), it.call("next")
        await settle()
        given_up.cancel()
        await it.answer("first")
        assert it.came == ["first", "next"]
        assert not next_one.done()


async def test_one_that_gives_up_as_it_gets_its_place_gives_it_back() -> None:
    async with hypervisor(at_once=1) as it:
        async with it.lanes.place(Lane.ASK):
            given_up = it.call("given up")
            await settle()
        given_up.cancel()
        it.call("next")
        await settle()
        assert it.came == ["next"]


async def test_one_that_gives_up_in_the_moment_when_a_place_is_free_blocks_nobody() -> None:
    async with hypervisor(at_once=1) as it:
        it.call("first")
        await settle()
        given_up, _ = it.call("given up"), it.call("next")
        await settle()
        given_up.cancel()
        it._answers["first"].set()
        await settle()
        assert it.came == ["first", "next"]


async def test_a_call_that_fails_gives_its_place_back() -> None:
    lanes = Lanes({Lane.CUT: Bound(1, 8)})
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with lanes.place(Lane.CUT):
                raise ZeroDivisionError
    assert lanes.under_way(Lane.CUT) == 0


async def test_it_is_told_how_many_wait_of_each_caller() -> None:
    async with hypervisor(at_once=1) as it:
        for number in range(3):
            it.call(f"a{number}", caller="a")
        it.call("b", caller="b")
        await settle()
        assert it.lanes.waiting(Lane.ASK, Lane.START) == {"a": 2, "b": 1}
        assert it.lanes.full(Lane.ASK)
        await it.answer_all()
        assert not it.lanes.waiting(*Lane)
        assert not it.lanes.full(Lane.ASK)


async def test_a_host_is_full_before_the_lane_is() -> None:
    async with hypervisor(at_once=3, per_host=1) as it:
        it.call("a", host="h1")
        await settle()
        assert it.lanes.full(Lane.ASK, "h1")
        assert not it.lanes.full(Lane.ASK, "h2")
        assert not it.lanes.full(Lane.ASK)
        await it.answer_all()


async def test_what_is_read_before_a_cut_does_not_wait_behind_other_reads() -> None:
    async with hypervisor() as it:
        for number in range(50):
            it.call(str(number), Lane.READ)
        await settle()
        with urgent():
            it.call("before a cut", Lane.READ)
        it.call("another", Lane.READ)
        await settle()
        assert it.came == ["0", "1", "before a cut"]
        assert it.lanes.under_way(Lane.CUT) == 1


# What is told of calls


async def test_a_call_that_has_ended_is_told_with_what_it_waited_and_what_it_took() -> None:
    lanes, told = Lanes({Lane.ASK: Bound(1, 1)}), list[Call]()
    lanes.on_call.append(told.append)

    async def call(seconds: float) -> None:
        async with lanes.place(Lane.ASK):
            await asyncio.sleep(seconds)

    await asyncio.gather(call(2), call(3))
    assert [(each.waited, each.took, each.failed) for each in told] == [(0, 2, False), (2, 3, False)]


async def test_what_is_read_to_cut_counts_among_the_cuts() -> None:
    lanes, told = Lanes({lane: Bound(1, 1) for lane in Lane}), list[Call]()
    lanes.on_call.append(told.append)
    with urgent():
        async with lanes.place(Lane.READ):
            pass
    assert told[0].lane is Lane.CUT


async def test_a_call_that_raises_has_failed() -> None:
    lanes, told = Lanes({Lane.ASK: Bound(1, 1)}), list[Call]()
    lanes.on_call.append(told.append)
    with pytest.raises(OSError, match="gone"):
        async with lanes.place(Lane.ASK):
            raise OSError("gone")
    assert told[0].failed


async def test_a_call_that_is_given_up_has_not_failed() -> None:
    hypervisor, told = Hypervisor(), list[Call]()
    hypervisor.lanes.on_call.append(told.append)
    call = hypervisor.call("a")
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert [each.failed for each in told] == [False]
