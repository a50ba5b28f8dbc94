import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from providers.core.errors import HypervisorUnavailable
from providers.vsphere.session import Link, SessionLost
from providers.vsphere.watch import Feed, open_feed
from tests.unit.providers.vsphere.fake import PC, FakeStub, OneSession, change, link, news

VM = vim.VirtualMachine("vm-1", None)
Said = asyncio.Queue[Any]


@pytest.fixture
def said() -> Said:
    """What the calls that wait for news are answered; without more of it, they wait."""
    return asyncio.Queue()


@pytest.fixture
def stub(said: Said) -> FakeStub:
    stub = FakeStub()
    stub.answers = {
        "CreatePropertyCollector": PC("collector-2", stub),
        "CreateFilter": PC.Filter("filter-1", stub),
        "CreateContainerView": lambda *_: vim.view.ContainerView("view-1", stub),
        "WaitForUpdatesEx": lambda *_: said.get(),
    }
    return stub


@pytest.fixture
def made(stub: FakeStub) -> Link:
    return link(stub)


@pytest.fixture
async def feed(made: Link) -> AsyncIterator[Feed]:
    feed = Feed(OneSession(made), made, "collector-2")
    yield feed
    await feed.close()


def versions(stub: FakeStub) -> list[str]:
    return [version for version, _ in stub.called("WaitForUpdatesEx")]


async def test_parts_of_an_answer_are_put_together(said: Said, feed: Feed) -> None:
    said.put_nowait(news("1", change(VM, "enter", name="web"), truncated=True))
    said.put_nowait(news("2", change(VM, name="shop")))
    assert [update.fields for update in await feed.next()] == [{"name": "web"}, {"name": "shop"}]


async def test_each_call_goes_on_where_the_last_ended(stub: FakeStub, said: Said, feed: Feed) -> None:
    for version in ("1", "2"):
        said.put_nowait(news(version, change(VM, name="web")))
    await feed.next()
    await feed.next()
    await asyncio.sleep(0)
    assert versions(stub) == ["", "1", "2"]


async def test_without_news_it_says_so_and_goes_on_from_where_it_was(stub: FakeStub, said: Said, feed: Feed) -> None:
    for answer in (news("1", change(VM, name="a")), None, None, news("2", change(VM, name="b"))):
        said.put_nowait(answer)
    await feed.next()
    assert [await feed.next(), await feed.next()] == [[], []]
    assert [update.fields for update in await feed.next()] == [{"name": "b"}]
    await asyncio.sleep(0)
    assert versions(stub) == ["", "1", "1", "1", "2"]


async def test_the_next_call_waits_while_the_news_of_the_last_is_worked_on(
    stub: FakeStub, said: Said, feed: Feed
) -> None:
    said.put_nowait(news("1", change(VM, name="web")))
    await feed.next()
    await asyncio.sleep(0)
    assert versions(stub) == ["", "1"]


async def test_a_call_that_still_waits_is_left_when_its_session_is_lost(made: Link, feed: Feed) -> None:
    waiting = asyncio.create_task(feed.next())
    await asyncio.sleep(0)
    made.lost.set()
    with pytest.raises(SessionLost):
        await waiting


@pytest.mark.parametrize(
    ("error", "kind"), [(vim.fault.NotAuthenticated(), SessionLost), (ConnectionResetError(), HypervisorUnavailable)]
)
async def test_what_ends_it_is_told(said: Said, feed: Feed, error: Exception, kind: type[Exception]) -> None:
    said.put_nowait(error)
    with pytest.raises(kind):
        await feed.next()


async def test_the_end_of_a_feed_destroys_its_collector(stub: FakeStub, made: Link) -> None:
    async with open_feed(OneSession(made), made, ""):
        assert not stub.called("DestroyPropertyCollector")
    assert len(stub.called("DestroyPropertyCollector")) == 1


async def test_a_lost_session_has_taken_the_collector_along_itself(stub: FakeStub, made: Link) -> None:
    async with open_feed(OneSession(made), made, ""):
        made.lost.set()
    assert not stub.called("DestroyPropertyCollector")


@pytest.mark.parametrize("error", [ConnectionRefusedError(), vmodl.fault.ManagedObjectNotFound()])
async def test_a_collector_that_cannot_be_taken_along_is_left(stub: FakeStub, made: Link, error: Exception) -> None:
    stub.answers["DestroyPropertyCollector"] = error
    async with open_feed(OneSession(made), made, ""):
        pass
