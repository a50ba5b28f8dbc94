import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.sim.guest import Guest
from providers.sim.script import GuestScript, Script, guest_id
from providers.sim.transitions import create
from providers.sim.world import World

START = datetime(2030, 1, 1, tzinfo=UTC)


def virtual_clock() -> datetime:
    return START + timedelta(seconds=asyncio.get_running_loop().time())


@pytest.fixture
def make_guest() -> Callable[..., Guest]:
    """A guest called web at the moment 0.0 that follows the given fields."""

    def make(**fields: Any) -> Guest:
        return create(guest_id("web"), "web", GuestScript.model_validate(fields), 0.0)

    return make


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """A world in memory, in virtual time, whose guests follow the given scripts."""
    worlds = []

    def make(faults: dict[str, Any] | None = None, **guests: dict[str, Any]) -> World:
        world = World(None, virtual_clock)
        world.populate(Script.model_validate({"guests": guests, "faults": faults or {}}))
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.close()
