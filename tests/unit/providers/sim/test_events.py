import asyncio
from collections.abc import Callable

import pytest

from providers.core.adapter import Changed, OffCause, PowerState, Removed, Signal
from providers.sim.events import Events
from providers.sim.script import GuestScript, guest_id
from providers.sim.transitions import pause, power_off, press_button, resume
from providers.sim.world import World

Make = Callable[..., World]
WEB = guest_id("web")

pytestmark = pytest.mark.looptime


async def test_a_guest_that_goes_down_is_told_at_that_moment(make_world: Make) -> None:
    world = make_world(web={"shutdown_time": "70s"})
    with Events(world).subscribe() as news:
        world.change(WEB, press_button)
        change = await news.get()
    assert isinstance(change, Changed)
    assert (change.vm.power_state, change.vm.off_cause) == (PowerState.OFF, OffCause.GUEST)
    assert asyncio.get_running_loop().time() == pytest.approx(70, abs=0.01)


async def test_a_shutdown_that_began_before_is_told_too(make_world: Make) -> None:
    world = make_world(web={"shutdown_time": "70s"})
    world.change(WEB, press_button)
    with Events(world).subscribe() as news:
        change = await news.get()
    assert isinstance(change, Changed)
    assert change.vm.power_state is PowerState.OFF


async def test_an_agent_that_comes_up_is_told(make_world: Make) -> None:
    with Events(make_world(web={"power": "booting", "boot_time": "5s"})).subscribe() as news:
        change = await news.get()
    assert isinstance(change, Changed)
    assert Signal.GUEST_AGENT in change.vm.signals


async def test_of_two_ends_the_earlier_is_told_first(make_world: Make) -> None:
    world = make_world(slow={"shutdown_time": "9s"}, fast={"shutdown_time": "4s"})
    with Events(world).subscribe() as news:
        for name in ("slow", "fast"):
            world.change(guest_id(name), press_button)
        told = [await news.get() for _ in range(2)]
    assert [change.vm.name for change in told if isinstance(change, Changed)] == ["fast", "slow"]


async def test_a_pause_delays_what_is_told(make_world: Make) -> None:
    world = make_world(web={"shutdown_time": "5s"})
    with Events(world).subscribe() as news:
        for transition in (press_button, pause, resume):
            world.change(WEB, transition)
            await asyncio.sleep(2)
        told = [await news.get() for _ in range(3)]
    states = [change.vm.power_state for change in told if isinstance(change, Changed)]
    assert states == [PowerState.PAUSED, PowerState.ON, PowerState.OFF]
    assert asyncio.get_running_loop().time() == pytest.approx(7, abs=0.01)


async def test_a_new_guest_is_told(make_world: Make) -> None:
    world = make_world()
    with Events(world).subscribe() as news:
        world.add("1", "new", GuestScript())
        change = await news.get()
    assert isinstance(change, Changed)
    assert change.vm.name == "new"


async def test_a_removed_guest_is_told(make_world: Make) -> None:
    world = make_world(web={})
    with Events(world).subscribe() as news:
        world.remove(WEB)
        assert await news.get() == Removed(WEB)


async def test_what_nobody_can_see_is_not_told(make_world: Make) -> None:
    world = make_world(web={})
    with Events(world).subscribe() as news:
        world.change(WEB, press_button)
        assert news.empty()


async def test_all_subscribers_are_told(make_world: Make) -> None:
    world = make_world(web={})
    events = Events(world)
    with events.subscribe() as one, events.subscribe() as other:
        world.change(WEB, power_off)
        assert one.get_nowait() == other.get_nowait()
