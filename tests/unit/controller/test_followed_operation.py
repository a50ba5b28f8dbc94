"""What is heard of an operation, by its stream and by answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from client.errors import ProviderError
from controller.followed_operation import FollowedOperation
from protos.power.v1 import power_pb2 as pb

RUNNING, SUCCEEDED = pb.OPERATION_STATE_WAITING_FOR_GUEST, pb.OPERATION_STATE_SUCCEEDED


def operation(name: str = "a", state: pb.OperationState.ValueType = RUNNING, reason: str = "") -> pb.Operation:
    return pb.Operation(id=name, vm="web", state=state, reason=reason)


class FakeProvider:
    """Tells what a test has it tell, and breaks a stream when it is told an error."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[pb.Operation | ProviderError | None] = asyncio.Queue()
        self.asked: list[str] = []

    async def stream(self, request: pb.WatchOperationRequest) -> AsyncIterator[pb.Operation]:
        self.asked.append(request.id)
        while (news := await self.told.get()) is not None:
            if isinstance(news, ProviderError):
                raise news
            yield news


class Heard:
    """What was told of an operation that is followed."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.followed = FollowedOperation(
            news=lambda: self.calls.append("news"),
            lost=lambda name: self.calls.append(f"lost {name}"),
            broke=lambda: self.calls.append("broke"),
        )


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def provider() -> Any:
    return FakeProvider()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def tell(provider: FakeProvider, *news: pb.Operation | ProviderError | None) -> None:
    for each in news:
        provider.told.put_nowait(each)
    await settle()


async def test_its_stream_tells_how_it_is(heard: Heard, provider: Any) -> None:
    heard.followed.watch(provider, "a")
    await tell(provider, operation())
    assert (heard.followed.active, heard.followed.ended) == (operation(), None)
    await tell(provider, operation(state=SUCCEEDED), None)
    assert (heard.followed.active, heard.followed.ended) == (None, operation(state=SUCCEEDED))
    assert heard.calls == ["news", "news"]


async def test_a_stream_that_ends_before_it_is_told(heard: Heard, provider: Any) -> None:
    heard.followed.watch(provider, "a")
    await tell(provider, operation(), ProviderError("UNAVAILABLE", "Gone."))
    assert (heard.calls, heard.followed.broken) == (["news", "broke"], True)


async def test_one_that_its_provider_does_not_know_is_lost(heard: Heard, provider: Any) -> None:
    heard.followed.watch(provider, "a")
    await tell(provider, operation(), ProviderError("NOT_FOUND", "No such operation.", "OPERATION_NOT_FOUND"))
    assert (heard.calls, heard.followed.latest) == (["news", "lost a", "broke"], None)


async def test_that_another_one_is_lost_changes_nothing_about_it(heard: Heard, provider: Any) -> None:
    heard.followed.watch(provider, "b")
    await settle()
    heard.followed.hear(operation("a"))
    await tell(provider, ProviderError("NOT_FOUND", "No such operation.", "OPERATION_NOT_FOUND"))
    assert heard.followed.latest == operation("a")


async def test_it_is_followed_once(heard: Heard, provider: Any) -> None:
    for _ in range(2):
        heard.followed.watch(provider, "a")
        await settle()
    assert provider.asked == ["a"]


async def test_a_stream_that_has_ended_is_opened_anew(heard: Heard, provider: Any) -> None:
    heard.followed.watch(provider, "a")
    await tell(provider, None)
    heard.followed.watch(provider, "a")
    await settle()
    assert provider.asked == ["a", "a"]


async def test_of_two_the_later_one_is_followed(heard: Heard, provider: Any) -> None:
    another: Any = FakeProvider()
    heard.followed.watch(another, "a")
    await settle()
    heard.followed.watch(provider, "b")
    await tell(another, operation("a"))
    await tell(provider, operation("b"))
    assert (heard.followed.latest, heard.calls) == (operation("b"), ["news"])


async def test_earlier_news_do_not_undo_its_end(heard: Heard, provider: Any) -> None:
    heard.followed.watch(provider, "a")
    await settle()
    heard.followed.hear(operation(state=SUCCEEDED))
    await tell(provider, operation())
    assert heard.followed.ended == operation(state=SUCCEEDED)


async def test_what_is_closed_tells_no_more(heard: Heard, provider: Any) -> None:
    heard.followed.watch(provider, "a")
    await settle()
    heard.followed.close()
    await tell(provider, operation())
    assert (heard.calls, heard.followed.latest) == ([], None)


# What may have ended unheard


def test_at_first_anything_may_have_ended(heard: Heard) -> None:
    assert heard.followed.unheard


def test_so_may_one_that_another_one_follows(heard: Heard) -> None:
    heard.followed.hear(operation("a"))
    heard.followed.unheard = False
    heard.followed.hear(operation("b"))
    assert heard.followed.unheard


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("b", "a")])
def test_not_so_one_that_goes_on_or_has_ended(heard: Heard, first: str, second: str) -> None:
    heard.followed.hear(operation(first, RUNNING if first == second else SUCCEEDED))
    heard.followed.unheard = False
    heard.followed.hear(operation(second))
    assert not heard.followed.unheard


def test_what_is_dropped_may_end_unheard(heard: Heard) -> None:
    heard.followed.hear(operation())
    heard.followed.unheard = False
    heard.followed.drop()
    assert (heard.followed.latest, heard.followed.unheard) == (None, True)


def test_an_end_that_was_noted_is_looked_for_no_more(heard: Heard) -> None:
    noted, running = operation("a", SUCCEEDED), operation("b")
    heard.followed.note(noted)
    heard.followed.note(running)
    assert heard.followed.not_noted([noted, running]) == [running]


# An answer and the stream


def test_an_answer_counts_where_the_stream_has_told_nothing_since(heard: Heard) -> None:
    known = operation(reason="before")
    heard.followed.hear(known)
    assert heard.followed.newer(known, operation(reason="answer")) == operation(reason="answer")


def test_what_the_stream_has_told_during_the_call_counts_more(heard: Heard) -> None:
    known = operation(reason="before")
    heard.followed.hear(operation(reason="stream"))
    assert heard.followed.newer(known, operation(reason="answer")) == operation(reason="stream")


def test_an_answer_that_is_the_end_counts_most(heard: Heard) -> None:
    heard.followed.hear(operation(reason="stream"))
    assert heard.followed.newer(operation(), operation(state=SUCCEEDED)) == operation(state=SUCCEEDED)


def test_an_answer_about_another_one_counts(heard: Heard) -> None:
    heard.followed.hear(operation("b"))
    assert heard.followed.newer(operation(), operation("a")) == operation("a")
