import asyncio
from collections.abc import AsyncIterator

import pytest

from plans.model import Nut
from plans.ups.client import Login, UpsError
from plans.ups.follow import NotLetIn, Seen, follow
from tests.unit.plans.ups.fake import FakeUpsd


class Following:
    """`follow`, and what it tells."""

    def __init__(self, ups: str, login: Login) -> None:
        written = {"ups": [{"name": ups}], "user": "vmpower", "passwordFile": "unused", "pollEvery": "100ms"}
        self._told = asyncio.Queue[Seen]()
        self.login: Login | None = login
        self.work = asyncio.ensure_future(follow(Nut.model_validate(written), self._read, ups, self._told.put_nowait))

    async def _read(self) -> Login:
        if self.login is None:
            raise UpsError("the password cannot be read")
        return self.login

    async def next(self) -> Seen:
        return await asyncio.wait_for(self._told.get(), 10)

    async def until_problem(self, there: bool) -> Seen:
        """The next that has one, or has none."""
        while bool((seen := await self.next()).problem) is not there:
            pass
        return seen

    async def close(self) -> None:
        self.work.cancel()
        await asyncio.gather(self.work, return_exceptions=True)


@pytest.fixture
async def following(upsd: FakeUpsd, login: Login) -> AsyncIterator[Following]:
    following = Following(await upsd.start(), login)
    yield following
    await following.close()


async def test_it_tells_each_reading(following: Following) -> None:
    first, second = await following.next(), await following.next()
    assert (first.reading, first.problem) == (second.reading, "")
    assert first.reading is not None


async def test_with_a_connection_that_is_cut_it_logs_in_again(following: Following, upsd: FakeUpsd) -> None:
    await following.next()
    upsd.cut()
    assert (await following.until_problem(True)).reading is None
    await following.until_problem(False)
    assert upsd.asked.count("LOGIN lab") == 2


async def test_while_data_is_stale_it_stays_logged_in(following: Following, upsd: FakeUpsd) -> None:
    await following.next()
    upsd.answers["GET VAR lab ups.status"] = "ERR DATA-STALE"
    assert (await following.until_problem(True)).reading is None
    upsd.answers["GET VAR lab ups.status"] = 'VAR lab ups.status "OB"'
    await following.until_problem(False)
    assert (upsd.asked.count("LOGIN lab"), "LOGOUT" in upsd.asked) == (1, False)


async def test_cancelled_it_logs_out(following: Following, upsd: FakeUpsd) -> None:
    await following.next()
    await following.close()
    assert upsd.asked[-1] == "LOGOUT"


async def test_a_login_that_is_refused_from_the_first_ends_it(upsd: FakeUpsd, login: Login) -> None:
    upsd.answers["LOGIN"] = "ERR ACCESS-DENIED"
    with pytest.raises(NotLetIn, match="upsd answers 'ACCESS-DENIED'"):
        await Following(await upsd.start(), login).work


async def test_a_login_that_is_refused_later_is_lost_contact(following: Following, upsd: FakeUpsd) -> None:
    await following.next()
    upsd.answers["LOGIN"] = "ERR ACCESS-DENIED"
    upsd.cut()
    while "ACCESS-DENIED" not in (await following.until_problem(True)).problem:
        pass
    assert not following.work.done()


async def test_the_login_is_read_anew_for_each_session(following: Following, upsd: FakeUpsd) -> None:
    await following.next()
    following.login = Login("vmpower", "another")
    upsd.cut()
    await following.until_problem(True)
    await following.until_problem(False)
    assert [line for line in upsd.asked if line.startswith("PASSWORD")][-1] == 'PASSWORD "another"'


async def test_a_login_that_cannot_be_read_is_lost_contact(following: Following, upsd: FakeUpsd) -> None:
    await following.next()
    following.login = None
    upsd.cut()
    await following.until_problem(True)
    while (seen := await following.next()).problem != "the password cannot be read":
        assert seen.reading is None
