"""Calls against a real server; lost connections in virtual time."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from client.errors import ProviderError
from client.power import PowerClient, has_ended, raise_refusal
from common.backoff import Backoff
from protos.power.v1 import power_pb2 as pb
from tests.unit.client.fake_provider import FakeProvider, serving

WAITING = pb.Operation(id="op-1", state=pb.OPERATION_STATE_WAITING_FOR_GUEST)
ENDED = pb.Operation(id="op-1", state=pb.OPERATION_STATE_SUCCEEDED)
LOST = ProviderError("UNAVAILABLE", "connection reset")


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def client(fake: FakeProvider, tmp_path: Path) -> AsyncIterator[PowerClient]:
    async with serving(fake, tmp_path / "p.sock") as address, PowerClient(address) as client:
        yield client


async def test_an_operation_is_found_by_its_request_id(client: PowerClient, fake: FakeProvider) -> None:
    fake.listed = [pb.Operation(id="op-2", request_id="b"), pb.Operation(id="op-1", request_id="a")]
    found = await client.find_operation("1", "a")
    assert found
    assert found.id == "op-1"
    assert await client.find_operation("1", "c") is None


async def test_a_request_calls_the_method_that_is_named_for_it(client: PowerClient) -> None:
    assert (await client.call(pb.GetVMRequest(vm="1"))).name == "web"
    assert (await client.call(pb.ShutdownRequest(vm="1"))).id == "op-1"


async def test_work_without_a_request_id_is_given_one(client: PowerClient, fake: FakeProvider) -> None:
    await client.call(pb.PowerOnRequest(vm="1"))
    await client.call(pb.PowerOnRequest(vm="1"))
    first, second = (uuid.UUID(request.request_id) for request in fake.requests)
    assert (first.version, first != second) == (4, True)


async def test_the_same_request_sent_again_is_the_same_operation(client: PowerClient, fake: FakeProvider) -> None:
    request = pb.ShutdownRequest(vm="1")
    await client.call(request)
    await client.call(request)
    assert len({request.request_id for request in fake.requests}) == 1


async def test_a_request_id_of_the_callers_own_is_kept(client: PowerClient, fake: FakeProvider) -> None:
    await client.call(pb.PowerOffRequest(vm="1", request_id="monday"))
    assert fake.requests[0].request_id == "monday"


async def test_a_call_ends_in_its_time(client: PowerClient, fake: FakeProvider) -> None:
    fake.silent = True
    with pytest.raises(ProviderError) as caught:
        await client.call(pb.PowerOffRequest(vm="1"), timeout=0.05)
    assert caught.value.code == "DEADLINE_EXCEEDED"


async def test_a_call_that_is_refused_for_a_while_is_sent_again(client: PowerClient, fake: FakeProvider) -> None:
    fake.refuse_for(0.01, calls=2)
    assert (await client.call(pb.PowerOffRequest(vm="1"))).id == "op-1"
    assert len({request.request_id for request in fake.requests}) == 1
    assert len(fake.requests) == 3


async def test_a_call_that_is_refused_for_longer_than_it_may_take_says_for_how_long(
    client: PowerClient, fake: FakeProvider
) -> None:
    fake.refuse_for(30, calls=-1)
    with pytest.raises(ProviderError) as caught:
        await client.call(pb.PowerOffRequest(vm="1"))
    assert (caught.value.code, caught.value.reason, caught.value.retry_after) == (
        "RESOURCE_EXHAUSTED",
        "TOO_MANY_CALLS",
        30,
    )
    assert len(fake.requests) == 1


async def test_all_vms_are_listed_page_by_page(client: PowerClient, fake: FakeProvider) -> None:
    fake.vms = [pb.VM(id=str(number)) for number in range(3)]
    assert [vm.id for vm in await client.list_vms()] == ["0", "1", "2"]


@pytest.mark.parametrize(("limit", "sizes"), [(5, [5, 3, 1]), (2, [2]), (3, [3, 1]), (2500, [1000, 1000, 1000, 1000])])
async def test_no_more_operations_are_asked_for_than_the_limit(
    client: PowerClient, fake: FakeProvider, limit: int, sizes: list[int]
) -> None:
    fake.page, fake.listed = 2, [pb.Operation(id=str(number)) for number in range(7)]
    found = await client.list_operations("web", active_only=True, limit=limit)
    assert [each.id for each in found] == [str(number) for number in range(min(limit, 7))]
    assert [request.page_size for request in fake.requests] == sizes
    assert {(request.vm, request.active_only) for request in fake.requests} == {("web", True)}


@pytest.mark.parametrize("state", pb.OperationState.values())
def test_three_states_are_ends(state: pb.OperationState.ValueType) -> None:
    ends = {pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED}
    assert has_ended(pb.Operation(state=state)) is (state in ends)


class Scripted(PowerClient):
    """Each stream that is opened plays the next script: messages, seconds that pass, an error. Then it is silent."""

    def __init__(self, *scripts: list[Any]) -> None:
        super().__init__("unix:///nowhere.sock")
        self.scripts = list(scripts)
        self.opened: list[float] = []

    async def call(self, request: Any, timeout: float = 0) -> Any:
        return pb.GetProviderInfoResponse(version=str(len(self.opened) + 1))

    async def stream(self, request: Any) -> AsyncGenerator[Any, None]:
        self.opened.append(asyncio.get_running_loop().time())
        for entry in self.scripts.pop(0) if self.scripts else [1e9]:
            if isinstance(entry, ProviderError):
                raise entry
            if isinstance(entry, float):
                await asyncio.sleep(entry)
            else:
                yield entry

    def pauses(self) -> list[float]:
        return [later - sooner for sooner, later in itertools.pairwise(self.opened)]


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are as long as they may be."""
    monkeypatch.setattr("client.power.Backoff", partial(Backoff, chance=lambda: 0.0))


@pytest.mark.looptime
@pytest.mark.parametrize("broken", [[WAITING, LOST], [WAITING], [ProviderError("INTERNAL", "RST_STREAM"), WAITING]])
async def test_an_operation_is_followed_to_its_end_through_lost_connections(broken: list[Any]) -> None:
    client = Scripted(broken, [LOST], [WAITING, ENDED, WAITING])
    states = [operation.state async for operation in client.watch_operation("op-1")]
    assert states[-2:] == [WAITING.state, ENDED.state]
    assert len(client.opened) == 3


@pytest.mark.looptime
async def test_an_operation_that_the_provider_does_not_know_is_an_error() -> None:
    unknown = ProviderError("NOT_FOUND", "There is none.", "OPERATION_NOT_FOUND")
    client = Scripted([WAITING, LOST], [unknown])
    with pytest.raises(ProviderError) as caught:
        async for _ in client.watch_operation("op-1"):
            pass
    assert caught.value is unknown


@pytest.mark.looptime
async def test_after_a_lost_connection_everything_is_told_anew() -> None:
    off, done = pb.WatchVMsResponse(removed="1"), pb.WatchVMsResponse(snapshot_complete=True)
    client = Scripted([done, off, LOST], [done])
    messages = client.watch_vms()
    told = [await anext(messages) for _ in range(5)]
    assert told == [
        pb.GetProviderInfoResponse(version="1"), done, off, pb.GetProviderInfoResponse(version="2"), done,
    ]  # fmt: skip
    await messages.aclose()


@pytest.mark.looptime
async def test_a_provider_that_is_slow_to_answer_is_asked_again() -> None:
    slow = ProviderError("DEADLINE_EXCEEDED", "Deadline Exceeded")
    client = Scripted([WAITING, slow], [ENDED])
    assert [operation async for operation in client.watch_operation("op-1")] == [WAITING, ENDED]


@pytest.mark.looptime
async def test_pauses_grow_while_a_connection_does_not_last() -> None:
    client = Scripted(*[[WAITING, LOST]] * 7, [ENDED])
    assert [operation async for operation in client.watch_operation("op-1")][-1] == ENDED
    assert client.pauses() == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0])


@pytest.mark.looptime
async def test_after_a_connection_that_lasted_the_first_pause_is_short() -> None:
    client = Scripted([LOST], [LOST], [WAITING, 60.0, LOST], [LOST], [ENDED])
    assert [operation async for operation in client.watch_operation("op-1")][-1] == ENDED
    assert client.pauses() == pytest.approx([0.2, 0.4, 60.2, 0.4])


def until(count: int) -> tuple[list[ProviderError], Callable[[ProviderError], None]]:
    told: list[ProviderError] = []

    def on_break(error: ProviderError) -> None:
        told.append(error)
        if len(told) == count:
            raise error

    return told, on_break


@pytest.mark.looptime
async def test_a_stream_that_is_refused_for_a_while_is_opened_again() -> None:
    busy = ProviderError("RESOURCE_EXHAUSTED", "10000 streams are under way", "TOO_MANY_CALLS", retry_after=1)
    raise_refusal(busy)


async def test_a_caller_may_go_on_after_a_refusal_and_give_up_when_it_likes() -> None:
    refused = ProviderError("PERMISSION_DENIED", "no", "NOT_ALLOWED")
    told, on_break = until(3)
    with pytest.raises(ProviderError):
        async for _ in Scripted([refused], [refused], [LOST]).watch_vms(on_break):
            pass
    assert told == [refused, refused, LOST]


@pytest.mark.looptime
async def test_a_stream_that_a_provider_ends_for_its_age_goes_on_and_was_not_broken() -> None:
    aged = ProviderError("UNAVAILABLE", "The stream has lasted as long as a connection may.", "STREAM_AGED")
    told, on_break = until(1)
    client = Scripted([WAITING, 3600.0, aged], [WAITING, ENDED])
    states = [operation.state async for operation in client.watch_operation("op-1", on_break)]
    assert (states[-1], len(client.opened), told) == (ENDED.state, 2, [])


@pytest.mark.looptime
async def test_a_stream_that_ends_without_a_verdict_was_broken() -> None:
    told, on_break = until(1)
    with pytest.raises(ProviderError):
        async for _ in Scripted([WAITING]).watch_operation("op-1", on_break):
            pass
    assert told[0].message == "The provider ended the stream; it is asked again."
