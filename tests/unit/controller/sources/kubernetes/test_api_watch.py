"""Watches of a real HTTP server, and how they end."""

import pytest

from controller.sources.kubernetes import api as module
from controller.sources.kubernetes.api import ApiError
from tests.unit.controller.sources.kubernetes.server import Answer, Called, silence, stream, text, vm


async def test_a_watch_begins_after_a_version_and_asks_for_bookmarks(http: Called) -> None:
    http.answer(stream())
    await http.watch()
    assert http.server.asked[0].path == "/apis/infra.virtrigaud.io/v1beta1/virtualmachines"
    assert http.server.asked[0].query == {
        "watch": "true",
        "resourceVersion": "5",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "240",
    }


async def test_events_and_bookmarks_come_as_they_are_until_the_server_ends_the_watch(http: Called) -> None:
    events = [{"type": "ADDED", "object": vm("6")}, {"type": "BOOKMARK", "object": vm("9")}]
    http.answer(stream(*events))
    assert await http.watch() == events


async def test_an_event_of_a_megabyte_is_taken(http: Called) -> None:
    event = {"type": "ADDED", "object": vm() | {"spec": {"disk": "x" * 1_500_000}}}
    http.answer(stream(event))
    assert await http.watch() == [event]


async def test_an_error_in_the_stream_is_raised_with_its_code_after_the_events_before_it(http: Called) -> None:
    expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (204)"}
    http.answer(stream({"type": "ADDED", "object": vm()}, {"type": "ERROR", "object": expired}))
    watch = http.api.watch("VirtualMachine", "5")
    assert (await anext(watch))["type"] == "ADDED"
    with pytest.raises(ApiError, match="too old resource version") as raised:
        await anext(watch)
    assert raised.value.status == 410


async def test_an_error_in_the_stream_that_says_nothing_of_its_reason_is_raised_too(http: Called) -> None:
    http.answer(stream({"type": "ERROR", "object": {"kind": "Status", "code": 500}}))
    with pytest.raises(ApiError, match="HTTP 500"):
        await http.watch()


async def test_a_watch_that_is_cut_off_in_mid_line_is_an_error_without_an_answer(http: Called) -> None:
    event = {"type": "ADDED", "object": vm()}
    http.answer(stream(event, then="cut"))
    watch = http.api.watch("VirtualMachine", "5")
    assert await anext(watch) == event
    with pytest.raises(ApiError) as raised:
        await anext(watch)
    assert raised.value.status == 0


@pytest.mark.parametrize(
    "line", ['{"type": "MODIF', "[]", "null", '{"type": "ADDED"}', '{"code": 500}', "<html></html>"]
)
async def test_a_line_that_is_no_event_is_an_error_without_an_answer(http: Called, line: str) -> None:
    http.answer(text(line))
    with pytest.raises(ApiError) as raised:
        await http.watch()
    assert raised.value.status == 0


@pytest.mark.parametrize("answer", [silence, stream(then="silent")], ids=["from the start", "after it began"])
async def test_a_silent_watch_is_given_up(http: Called, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.05)
    http.answer(answer)
    with pytest.raises(ApiError, match="does not answer") as raised:
        await http.watch()
    assert raised.value.status == 0


async def test_a_watch_that_nobody_listens_to_any_more_is_hung_up(http: Called) -> None:
    http.answer(stream({"type": "ADDED", "object": vm()}, then="silent"))
    watch = http.api.watch("VirtualMachine", "5")
    await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]  # it is a generator
    await http.server.hung_up.wait()
