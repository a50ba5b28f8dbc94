from datetime import timedelta

import pytest

from client.errors import ProviderError
from controller.decisions import BadDecision, answer, choice
from controller.source import Decided, Event, Key
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    FORCING,
    POWER_OFF,
    RUNNING_HOOKS,
    SUCCEEDED,
    machine,
    operation,
)
from tests.unit.controller.fakes import FakeClient

WEB = Key("VirtualMachine", "default", "web")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("force", "force"), (" cancel\n", "cancel"), ("extend=5m", timedelta(minutes=5))],
)
def test_these_are_decisions(text: str, chosen: object) -> None:
    assert choice(text) == chosen


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "write extend=5m, force or cancel"),
        ("Force", "write extend=5m, force or cancel"),
        ("force=5m", "write extend=5m, force or cancel"),
        ("extend", "no duration"),
        ("extend=soon", "no duration"),
        ("extend=0s", "more than 0s"),
        ("extend=25h", "at most 24h"),
    ],
)
def test_what_is_no_decision_is_told_what_is(text: str, why: str) -> None:
    with pytest.raises(BadDecision, match=why):
        choice(text)


async def told(client: FakeClient, about: pb.Operation | None, text: str, by: str = "") -> Event:
    if about is not None:
        client.operations[about.id] = about
    return (await answer(client, about, Decided(WEB, text, by), machine()))[0]


@pytest.mark.looptime
async def test_who_asked_is_told_where_it_is_known() -> None:
    event = await told(FakeClient(), operation(), "force", "kubectl-annotate")
    assert (event.type, event.reason) == ("Normal", "DecisionTaken")
    assert event.message == "force, asked by kubectl-annotate: operation op-1."
    assert "nobody knows by whom" in (await told(FakeClient(), operation(), "force")).message


@pytest.mark.looptime
async def test_an_extension_tells_the_new_deadline() -> None:
    event = await told(FakeClient(), operation(state=AWAITING_DECISION), "extend=5m", "me")
    assert event.message == "extend=5m, asked by me; the guest has until 2030-01-01T12:05:00Z: operation op-1."


@pytest.mark.looptime
async def test_an_extension_while_hooks_run_tells_no_deadline_for_there_is_none_yet() -> None:
    event = await told(FakeClient(), operation(state=RUNNING_HOOKS), "extend=5m", "me")
    assert event.message == "extend=5m, asked by me: operation op-1."


@pytest.mark.looptime
@pytest.mark.parametrize(
    "about",
    [
        None,
        operation(state=SUCCEEDED),
        operation(POWER_OFF, FORCING),
    ],
)
async def test_without_a_shutdown_there_is_nothing_to_decide(about: pb.Operation | None) -> None:
    client = FakeClient()
    event = await told(client, about, "force", "me")
    assert (event.type, event.reason, client.requests) == ("Warning", "DecisionRefused", [])
    assert "No shutdown is under way" in event.message


@pytest.mark.looptime
async def test_what_the_provider_refuses_is_told_in_its_words() -> None:
    client = FakeClient()
    client.failure = ProviderError("INVALID_ARGUMENT", "not within the next 24 h", "INVALID_REQUEST")
    event = await told(client, operation(), "extend=5m", "me")
    assert (event.reason, event.message) == ("DecisionRefused", "extend=5m: not within the next 24 h (asked by me)")


@pytest.mark.looptime
async def test_a_provider_that_is_away_is_asked_again() -> None:
    client = FakeClient()
    client.failure = ProviderError("UNAVAILABLE", "away")
    with pytest.raises(ProviderError):
        await told(client, operation(), "extend=5m")


@pytest.mark.looptime
async def test_what_a_provider_refuses_of_a_decision_is_told_by_the_annotation() -> None:
    client, violations = FakeClient(), [("extension", "is not within the next 24 h")]
    client.failure = ProviderError("INVALID_ARGUMENT", "?", "INVALID_REQUEST", violations=violations)
    event = await told(client, operation(), "extend=24h", "alice")
    why = "metadata.annotations.vmpower/decision: is not within the next 24 h. Mend the resource."
    assert event.message == f"extend=24h: {why} (asked by alice)"
