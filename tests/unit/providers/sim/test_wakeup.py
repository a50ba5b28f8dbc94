import asyncio
from pathlib import Path

import pytest

from providers.sim.script import SimError
from providers.sim.wakeup import Wakeup, wake


async def test_a_provider_hears_which_guest_was_changed(tmp_path: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    wakeup = Wakeup(tmp_path / "world.db", heard.put_nowait)
    wake(tmp_path / "world.db", "web")
    assert await asyncio.wait_for(heard.get(), 5) == "web"
    wakeup.close()


async def test_two_wakeups_are_two_guests(tmp_path: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    wakeup = Wakeup(tmp_path / "world.db", heard.put_nowait)
    wake(tmp_path / "world.db", "web")
    wake(tmp_path / "world.db")
    assert [await asyncio.wait_for(heard.get(), 5) for _ in range(2)] == ["web", ""]
    wakeup.close()


def test_waking_where_no_provider_ever_was_is_no_error(tmp_path: Path) -> None:
    wake(tmp_path / "world.db", "web")


async def test_waking_after_the_provider_is_gone_is_no_error(tmp_path: Path) -> None:
    Wakeup(tmp_path / "world.db", lambda _line: None).close()
    wake(tmp_path / "world.db", "web")


async def test_one_world_has_one_provider(tmp_path: Path) -> None:
    wakeup = Wakeup(tmp_path / "world.db", lambda _line: None)
    with pytest.raises(SimError, match="another provider runs this world"):
        Wakeup(tmp_path / "world.db", lambda _line: None)
    wakeup.close()


async def test_the_next_provider_may_have_the_world(tmp_path: Path) -> None:
    Wakeup(tmp_path / "world.db", lambda _line: None).close()
    Wakeup(tmp_path / "world.db", lambda _line: None).close()
