import asyncio

import pytest

from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox.visits import Visits

pytestmark = pytest.mark.looptime


async def lasting(seconds: float, done: list[float]) -> None:
    await asyncio.sleep(seconds)
    done.append(seconds)


async def failing(error: Exception) -> None:
    raise error


async def test_what_is_quick_is_done_when_the_visits_are_made() -> None:
    done = list[float]()
    await Visits(2).make({"a": lasting(1, done), "b": lasting(1.5, done)})
    assert done == [1, 1.5]


async def test_what_is_slow_goes_on_and_holds_up_nothing() -> None:
    done, visits = list[float](), Visits(2)
    async with asyncio.timeout(2.5):
        await visits.make({"a": lasting(30, done), "b": lasting(1, done)})
    assert (done, visits.busy("a"), visits.busy("b")) == ([1], True, False)
    await asyncio.sleep(30)
    assert (done, visits.busy("a")) == ([1, 30], False)


async def test_a_node_that_is_away_is_no_error() -> None:
    await Visits(2).make({"a": failing(HypervisorUnavailable("away"))})


async def test_any_other_error_is_raised() -> None:
    with pytest.raises(CommandFailed):
        await Visits(2).make({"a": failing(CommandFailed("refused"))})


async def test_nothing_to_do_is_done_at_once() -> None:
    visits = Visits(2)
    await visits.make({})
    assert not visits.busy("a")
