"""For all tests."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.side_by_side import SideBySide

# libvirt forks to begin ssh, also in a test, and gRPC's handlers of a fork may hang there or break the calls under way.
# It is asked as gRPC is imported; the programs that tests start see to it themselves.
with pytest.MonkeyPatch.context() as environment:
    environment.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
    import grpc  # noqa: F401

# How long an example takes is the machine's doing: six tests run on it at once.
settings.register_profile("vmpower", deadline=None)
settings.load_profile("vmpower")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    return SideBySide(config, log)


@pytest.fixture(autouse=True)
def a_loop_that_is_closed() -> Iterator[None]:
    """looptime asks for the current loop around every test, also of one that is not async; the one it would
    make stays open, and that warning is an error."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
