import asyncio
from pathlib import Path

import pytest

from providers.core.errors import HypervisorUnavailable
from providers.shared.login import Credentials, SharedLogin, read_login


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


def credentials(folder: Path, seconds: float = 60) -> Credentials[tuple[str, str]]:
    """Those in a directory that has a login."""
    (folder / "username").write_text("vmpower")
    (folder / "password").write_text("old")
    return Credentials("Xen", folder, read_login, lambda login: HypervisorUnavailable(f"refuses {login[0]}"), seconds)


def test_a_login_is_refused_for_its_time_and_no_other_is(tmp_path: Path) -> None:
    known = credentials(tmp_path)
    refused = known.refuse(known.get())
    with pytest.raises(HypervisorUnavailable, match="refuses vmpower") as again:
        known.get()
    assert str(again.value) == str(refused)
    (tmp_path / "password").write_text("new")
    assert known.get() == ("vmpower", "new")


def test_after_that_time_it_may_be_tried_again(tmp_path: Path) -> None:
    known = credentials(tmp_path, 0)
    known.refuse(known.get())
    assert known.get() == ("vmpower", "old")


def test_a_login_that_cannot_be_read_names_the_hypervisor_and_the_setting(tmp_path: Path) -> None:
    known = credentials(tmp_path)
    (tmp_path / "password").unlink()
    with pytest.raises(HypervisorUnavailable, match=r"^Xen's login cannot be read .*password.*--credentials-dir"):
        known.get()


def test_a_login_is_read_without_the_line_ends_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "username").write_text("vmpower@vsphere.local\n")
    (tmp_path / "password").write_text(" pässword \n")
    assert read_login(tmp_path) == ("vmpower@vsphere.local", " pässword ")


def test_a_login_without_password_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "username").write_text("vmpower@vsphere.local\n")
    with pytest.raises(OSError, match="password"):
        read_login(tmp_path)
