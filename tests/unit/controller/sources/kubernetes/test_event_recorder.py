import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from controller.source import Event, Key
from controller.sources.kubernetes import event_recorder as module
from controller.sources.kubernetes.api import ApiError
from controller.sources.kubernetes.event_recorder import EventRecorder
from tests.unit.controller.builders import NOW
from tests.unit.controller.fakes import clock
from tests.unit.controller.sources.kubernetes.fakes import AWAY, WEB, FakeApi

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""Names of objects, RFC 1123: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/"""


class Announced:
    """A recorder, and the API that it tells."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.recorder = EventRecorder(self.api.create_event, "controller-1")

    def record(self, *reasons: str) -> None:
        for reason in reasons:
            self.recorder.record(WEB, "uid-web", Event("Normal", reason, f"about {reason}"))

    async def said(self, *reasons: str, seconds: float = 0.01) -> list[str]:
        """The reasons that have arrived a moment later."""
        self.record(*reasons)
        await asyncio.sleep(seconds)
        return self.arrived()

    def arrived(self) -> list[str]:
        return [event.reason for _, event in self.api.events]


@pytest.fixture
async def it() -> AsyncIterator[Announced]:
    made = Announced()
    yield made
    await made.recorder.close(patience=0)


# What is told


@pytest.mark.looptime
async def test_an_event_is_about_its_resource(it: Announced) -> None:
    it.recorder.record(Key("VirtualMachine", "lab", "web"), "u-1", Event("Warning", "ForcedOff", "Powered off hard."))
    await asyncio.sleep(0.01)
    ((namespace, event),) = it.api.events
    about = event.involved_object
    assert (namespace, event.metadata.namespace, about.namespace) == ("lab", "lab", "lab")
    assert (about.kind, about.name, about.uid) == ("VirtualMachine", "web", "u-1")
    assert about.api_version == "infra.virtrigaud.io/v1beta1"
    assert (event.type, event.reason, event.message) == ("Warning", "ForcedOff", "Powered off hard.")


@pytest.mark.looptime
async def test_an_event_tells_who_says_so(it: Announced) -> None:
    await it.said("Forced")
    event = it.api.events[0][1]
    assert (event.source.component, event.reporting_component) == ("vmpower", "vmpower")
    assert event.reporting_instance == "controller-1"


@pytest.mark.looptime
async def test_the_time_of_an_event_is_when_it_happened_and_not_when_it_arrived(
    it: Announced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda zone: clock()))
    it.api.fail("create_event", AWAY, AWAY)
    await it.said("Forced", seconds=60)
    event = it.api.events[0][1]
    assert (event.first_timestamp, event.last_timestamp) == (NOW, NOW)


@pytest.mark.looptime
async def test_a_message_is_cut_to_what_the_api_takes(it: Announced) -> None:
    it.recorder.record(WEB, "u", Event("Normal", "R" * 200, "m" * 2000))
    await asyncio.sleep(0.01)
    event = it.api.events[0][1]
    assert (len(event.reason), len(event.message)) == (128, 1024)


@pytest.mark.looptime
@pytest.mark.parametrize("name", ["web", "a" * 253, "a" * 229 + "-b", "a" * 229 + ".b", "a" * 220 + "-" * 20 + "b"])
async def test_each_event_has_a_name_that_the_api_takes(it: Announced, name: str) -> None:
    it.recorder.record(Key("VirtualMachine", "default", name), "u", Event("Normal", "Forced", ""))
    await asyncio.sleep(0.01)
    found = it.api.events[0][1].metadata.name
    assert len(found) <= 253
    assert SUBDOMAIN.fullmatch(found)


@pytest.mark.looptime
async def test_events_about_one_resource_have_different_names(it: Announced) -> None:
    await it.said("A", "B", "C")
    assert len({event.metadata.name for _, event in it.api.events}) == 3


# In which order, and how often


@pytest.mark.looptime
async def test_events_arrive_in_the_order_in_which_they_were_said(it: Announced) -> None:
    assert await it.said(*"ABCDE") == list("ABCDE")


@pytest.mark.looptime
async def test_one_that_is_tried_again_stays_in_its_place(it: Announced) -> None:
    it.api.fail("create_event", AWAY, AWAY)
    assert await it.said(*"ABC", seconds=60) == list("ABC")


@pytest.mark.looptime
async def test_nobody_waits_for_an_event_to_arrive(it: Announced) -> None:
    it.record("A")
    assert it.api.calls == []


@pytest.mark.looptime
async def test_without_an_answer_it_is_tried_five_times_and_then_dropped(it: Announced) -> None:
    it.api.fail("create_event", *[AWAY] * 5)
    with capture_logs() as logs:
        assert await it.said("A", "B", seconds=60) == ["B"]
    assert len(it.api.calls) == 5 + 1
    assert [(entry["event"], entry["error"]) for entry in logs] == [("event not sent", str(AWAY))]


@pytest.mark.looptime
async def test_pauses_between_tries_grow(it: Announced) -> None:
    it.api.fail("create_event", *[AWAY] * 4)
    await it.said("A", seconds=60)
    times = it.api.times("create_event")
    assert 0.25 <= times[1] - times[0] <= 0.5
    assert 2 <= times[4] - times[3] <= 4


@pytest.mark.looptime
@pytest.mark.parametrize("code", [403, 404, 422, 500])
async def test_an_answer_that_refuses_is_not_asked_for_twice(it: Announced, code: int) -> None:
    it.api.fail("create_event", ApiError(code, "no"))
    with capture_logs() as logs:
        assert await it.said("A", "B", seconds=60) == ["B"]
    assert len(it.api.calls) == 2
    assert [entry["event"] for entry in logs] == ["event not sent"]


@pytest.mark.looptime
async def test_one_whose_answer_was_lost_is_not_told_twice(it: Announced) -> None:
    it.api.fail("create_event", AWAY, ApiError(409, "already exists"))
    with capture_logs() as logs:
        await it.said("A", seconds=60)
    first, second = (event for _, event in it.api.asked("create_event"))
    assert first.metadata.name == second.metadata.name
    assert [entry["event"] for entry in logs] == []


@pytest.mark.looptime
async def test_when_too_many_wait_the_newest_are_dropped_and_that_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAITING", 2)
    it = Announced()
    with capture_logs() as logs:
        assert await it.said(*"ABCD") == ["A", "B"]
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("event dropped: too many wait", "C"),
        ("event dropped: too many wait", "D"),
    ]
    assert await it.said("E") == ["A", "B", "E"]
    await it.recorder.close()


# The end


@pytest.mark.looptime
async def test_at_the_end_what_waits_is_sent(it: Announced) -> None:
    it.api.fail("create_event", AWAY)
    it.record(*"ABC")
    await it.recorder.close()
    assert it.arrived() == list("ABC")


async def _hang(namespace: str, event: object) -> None:
    await asyncio.Event().wait()


async def _away(namespace: str, event: object) -> None:
    raise AWAY


@pytest.mark.looptime
@pytest.mark.parametrize("create", [_hang, _away])
async def test_the_end_comes_in_time_whatever_the_api_does(create: Callable[..., Awaitable[None]]) -> None:
    recorder = EventRecorder(create, "controller-1")
    for reason in "ABC":
        recorder.record(WEB, "u", Event("Normal", reason, ""))
    began = asyncio.get_running_loop().time()
    await recorder.close()
    assert asyncio.get_running_loop().time() - began == 3
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.looptime
async def test_who_said_nothing_ends_at_once(it: Announced) -> None:
    await it.recorder.close()
    assert asyncio.get_running_loop().time() == 0
