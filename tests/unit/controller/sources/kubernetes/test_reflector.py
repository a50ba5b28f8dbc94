import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import cast

import pytest
from structlog.testing import capture_logs

from controller.source import Key
from controller.sources.kubernetes.api import Api, ApiError, Foreign
from controller.sources.kubernetes.reflector import Gone, Item, Listed, Reflector, Seen
from tests.unit.controller.sources.kubernetes.fakes import AWAY, GONE, WEB, FakeApi, raw

pytestmark = pytest.mark.looptime

LISTED = Listed("VirtualMachine")


class Reflected:
    """A reflector, the API it looks at, and what it tells."""

    def __init__(self) -> None:
        self.api, self.items = FakeApi(), list[Item]()
        self._reflector = Reflector(cast(Api, self.api), "VirtualMachine", self.items.append)

    async def start(self) -> None:
        self.task = asyncio.create_task(self._reflector.run())
        await self.settle()

    async def settle(self, seconds: float = 0.0) -> None:
        """Let happen what needs no more time than that, and a short pause."""
        await asyncio.sleep(seconds + 0.3)

    def told(self) -> list[str]:
        """What was told since the last look, in short."""
        said = [_short(item) for item in self.items]
        self.items.clear()
        return said


def _short(item: Item) -> str:
    match item:
        case Seen(key):
            return f"seen {key.name}"
        case Gone(key):
            return f"gone {key.name}"
    return "listed"


@pytest.fixture
async def it() -> AsyncIterator[Reflected]:
    made = Reflected()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_all_pages_are_told_and_then_that_it_was_all(it: Reflected) -> None:
    it.api.page = 2
    for name in "abcde":
        it.api.put(raw(name))
    await it.start()
    assert it.told() == ["seen a", "seen b", "seen c", "seen d", "seen e", "listed"]
    assert len(it.api.asked("list")) == 3


async def test_an_object_is_told_as_it_is(it: Reflected) -> None:
    it.api.put(raw())
    await it.start()
    assert it.items == [Seen(WEB, it.api.objects[WEB]), LISTED]


async def test_of_other_kinds_nothing_is_told(it: Reflected) -> None:
    it.api.put(raw("local", kind="Provider"))
    await it.start()
    assert it.told() == ["listed"]


async def test_each_change_is_told(it: Reflected) -> None:
    await it.start()
    it.api.put(raw())
    it.api.put(raw(generation=2))
    it.api.delete()
    await it.settle()
    assert it.told() == ["listed", "seen web", "seen web", "gone web"]


async def test_changes_since_the_list_are_watched_for(it: Reflected) -> None:
    it.api.put(raw())
    await it.start()
    assert it.api.asked("watch") == [("VirtualMachine", "101")]


@pytest.mark.parametrize("end", [None, AWAY, ApiError(500, "oh"), ApiError(401, "who?")])
async def test_a_watch_that_ends_is_begun_anew_after_the_last_change(it: Reflected, end: ApiError | None) -> None:
    await it.start()
    it.api.put(raw())
    await it.settle()
    it.api.end(end)
    it.api.put(raw(generation=2))
    await it.settle()
    assert it.told() == ["listed", "seen web", "seen web"]
    assert it.api.asked("watch") == [("VirtualMachine", "100"), ("VirtualMachine", "101")]
    assert len(it.api.asked("list")) == 1


async def test_a_bookmark_is_a_place_to_go_on_from(it: Reflected) -> None:
    await it.start()
    it.api.bookmark()
    await it.settle()
    it.api.end()
    await it.settle()
    assert it.api.asked("watch") == [("VirtualMachine", "100"), ("VirtualMachine", "101")]
    assert it.told() == ["listed"]


async def test_a_version_that_is_forgotten_in_mid_stream_leads_to_another_list(it: Reflected) -> None:
    await it.start()
    it.api.end(GONE)
    it.api.put(raw())
    await it.settle()
    assert it.told() == ["listed", "seen web", "listed"]
    assert it.api.asked("watch") == [("VirtualMachine", "100"), ("VirtualMachine", "101")]


async def test_a_version_that_is_forgotten_when_the_watch_begins_leads_to_another_list(it: Reflected) -> None:
    await it.start()
    it.api.end()
    it.api.put(raw())
    it.api.forget()
    await it.settle(1)
    assert it.told() == ["listed", "seen web", "listed"]
    assert len(it.api.asked("list")) == 2


async def test_another_list_tells_what_is_gone_meanwhile(it: Reflected) -> None:
    for name in ("stays", "goes"):
        it.api.put(raw(name))
    await it.start()
    it.api.end(GONE)
    it.api.delete(Key("VirtualMachine", "default", "goes"))
    it.told()
    await it.settle()
    assert it.told() == ["seen stays", "gone goes", "listed"]


async def test_what_was_watched_and_is_gone_meanwhile_is_told_too(it: Reflected) -> None:
    await it.start()
    it.api.put(raw())
    await it.settle()
    it.api.end(GONE)
    it.api.delete()
    it.told()
    await it.settle()
    assert it.told() == ["gone web", "listed"]


async def test_what_was_deleted_while_watched_is_not_gone_again(it: Reflected) -> None:
    it.api.put(raw())
    await it.start()
    it.api.delete()
    await it.settle()
    it.api.end(GONE)
    it.told()
    await it.settle()
    assert it.told() == ["listed"]


async def test_what_was_made_anew_under_its_name_meanwhile_is_gone_first(it: Reflected) -> None:
    it.api.put(raw(uid="first"))
    await it.start()
    it.api.end(GONE)
    it.api.delete()
    it.api.put(raw(uid="second"))
    it.told()
    await it.settle()
    assert it.told() == ["gone web", "seen web", "listed"]


async def test_what_a_list_told_before_it_broke_off_is_gone_if_the_next_one_lacks_it(it: Reflected) -> None:
    it.api.page = 1
    for name in "ab":
        it.api.put(raw(name))
    it.api.fail("list", None, AWAY)
    task = asyncio.create_task(it.start())
    await asyncio.sleep(0.01)
    assert it.told() == ["seen a"]
    it.api.delete(Key("VirtualMachine", "default", "a"))
    await task
    assert it.told() == ["seen b", "gone a", "listed"]


@pytest.mark.parametrize("error", [AWAY, GONE, ApiError(403, "no")])
async def test_a_list_that_breaks_off_is_begun_from_its_first_page(it: Reflected, error: ApiError) -> None:
    it.api.page = 1
    for name in "ab":
        it.api.put(raw(name))
    it.api.fail("list", None, error)
    await it.start()
    assert it.told() == ["seen a", "seen a", "seen b", "listed"]


async def test_pauses_between_failures_grow_up_to_five_seconds(it: Reflected) -> None:
    it.api.fail("list", *[AWAY] * 20)
    await it.start()
    await it.settle(60)
    times = it.api.times("list")
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert 0.1 <= pauses[0] <= 0.2
    assert pauses[2] > pauses[0]
    assert all(2.5 <= pause <= 5 for pause in pauses[5:])


async def test_after_an_event_the_next_pause_is_short_again(it: Reflected) -> None:
    it.api.fail("list", *[AWAY] * 8)
    await it.start()
    await it.settle(30)
    it.api.put(raw())
    await it.settle()
    ended = asyncio.get_running_loop().time()
    it.api.end(AWAY)
    await it.settle()
    assert it.api.times("watch")[-1] - ended <= 0.2


async def test_what_broke_a_watch_is_logged_in_a_sentence(it: Reflected) -> None:
    await it.start()
    with capture_logs() as logs:
        it.api.end(AWAY)
        await it.settle()
    assert [(entry["log_level"], entry["error"], entry["relist"]) for entry in logs] == [("warning", str(AWAY), False)]


async def test_a_watch_that_ends_in_time_is_not_worth_a_word(it: Reflected) -> None:
    await it.start()
    with capture_logs() as logs:
        it.api.end()
        await it.settle()
    assert logs == []


async def test_resources_of_another_controller_are_not_even_listed(it: Reflected) -> None:
    it.api.fail("require_ours", Foreign("another controller's"))
    await it.start()
    with pytest.raises(Foreign):
        await it.task
    assert it.api.asked("list") == []


async def test_resources_that_become_another_controllers_are_left_alone_when_the_watch_ends(it: Reflected) -> None:
    await it.start()
    it.api.fail("require_ours", Foreign("another controller's"))
    it.api.end()
    with pytest.raises(Foreign):
        await it.task


async def test_whose_they_are_is_asked_again_where_the_server_did_not_answer(it: Reflected) -> None:
    it.api.fail("require_ours", AWAY)
    await it.start()
    await it.settle(1)
    assert it.told() == ["listed"]


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("kind", ["PowerPlan", "PowerRun"])
async def test_a_kind_that_an_earlier_version_does_not_have_holds_up_nothing(kind: str, status: int) -> None:
    api, items = FakeApi(), list[Item]()
    api.fail("list", ApiError(status, "no"), ApiError(status, "no"))
    task = asyncio.create_task(Reflector(cast(Api, api), kind, items.append).run())
    with capture_logs() as logs:
        await asyncio.sleep(70)
    task.cancel()
    assert items == [Listed(kind, seen=False), Listed(kind, seen=False), Listed(kind)]
    assert [line["error"] for line in logs] == ["no"]  # told once


@pytest.mark.parametrize("status", [403, 404])
async def test_a_kind_without_which_nothing_can_be_done_is_waited_for(it: Reflected, status: int) -> None:
    it.api.fail("list", *[ApiError(status, "no")] * 100)
    await it.start()
    await it.settle(60)
    assert it.told() == []
