"""Decisions, and resources with mistakes."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.source import Decided
from controller.sources.kubernetes.api import Object
from tests.unit.controller.sources.kubernetes.fakes import GONE, WEB, raw
from tests.unit.controller.sources.kubernetes.watched import Watched, warnings

pytestmark = pytest.mark.looptime

HELD = ["vmpower/on-delete"]
BRING_DOWN = {"vmpower/on-delete": "OffGraceful"}
NOW = "2030-01-01T12:00:00Z"


# Decisions


def decision(text: str, time: str = NOW, manager: str = "kubectl-annotate", **parts: Any) -> Object:
    fields: Object = {"f:metadata": {"f:annotations": {"f:vmpower/decision": {}}}}
    managed = [{"manager": manager, "time": time, "fieldsV1": fields}]
    return raw(annotations={"vmpower/decision": text}, managedFields=managed, **parts)


async def test_a_decision_is_told_once_with_who_asked(watched: Watched) -> None:
    await watched.start(raw())
    assert await watched.put(decision("force")) == ["decided force by kubectl-annotate"]
    assert await watched.put(decision("force", status={"phase": "ShuttingDown"})) == []


async def test_a_decision_that_is_there_at_the_start_comes_after_its_resource(watched: Watched) -> None:
    await watched.start(decision("cancel"))
    assert watched.told() == ["applied web 1", "decided cancel by kubectl-annotate", "synced"]


async def test_a_decision_with_another_spec_comes_after_it(watched: Watched) -> None:
    await watched.start(raw())
    assert await watched.put(decision("force", generation=2)) == ["applied web 2", "decided force by kubectl-annotate"]


async def test_the_same_words_after_the_first_were_taken_are_another_decision(watched: Watched) -> None:
    await watched.start(decision("extend=5m"))
    assert await watched.put(raw()) == []
    assert await watched.put(decision("extend=5m")) == ["decided extend=5m by kubectl-annotate"]


async def test_what_else_its_writer_writes_makes_no_other_decision(watched: Watched) -> None:
    """All that a field manager wrote bears the time at which it wrote last."""
    await watched.start(decision("cancel"))
    later = decision("cancel", time="2030-01-01T12:05:00Z", generation=2)
    assert await watched.put(later) == ["applied web 2"]


def decided(watched: Watched) -> Decided:
    """The first that was told, of all since the last look."""
    return next(change for change in watched.changes if isinstance(change, Decided))


async def test_the_same_words_after_an_unseen_removal_are_another_decision(watched: Watched) -> None:
    await watched.start(decision("extend=5m"))
    watched.api.end()
    await watched.source.acknowledge(decided(watched))
    watched.told()
    watched.api.put(decision("extend=5m"))
    watched.api.forget()
    await watched.settle(1)
    assert watched.told() == ["decided extend=5m by kubectl-annotate"]


async def test_an_object_of_before_the_removal_bears_no_other_decision(watched: Watched) -> None:
    await watched.start(decision("extend=5m"))
    watched.api.put(decision("extend=5m", status={"phase": "ShuttingDown"}))
    await watched.source.acknowledge(decided(watched))
    await watched.settle()
    assert watched.told().count("decided extend=5m by kubectl-annotate") == 1


async def test_the_same_words_that_are_seen_before_the_removal_is_answered_are_told_once(watched: Watched) -> None:
    await watched.start(decision("extend=5m"))
    watched.api.answers.clear()
    removing = asyncio.create_task(watched.source.acknowledge(decided(watched)))
    await watched.settle()
    watched.told()
    assert await watched.put(decision("extend=5m")) == ["decided extend=5m by kubectl-annotate"]
    watched.api.answers.set()
    await removing
    assert await watched.put(decision("extend=5m", status={"phase": "ShuttingDown"})) == []


async def test_other_words_are_another_decision(watched: Watched) -> None:
    await watched.start(decision("extend=5m"))
    assert await watched.put(decision("cancel")) == ["decided cancel by kubectl-annotate"]


async def test_who_is_deleted_for_good_has_nothing_to_decide(watched: Watched) -> None:
    await watched.start(raw())
    deleted = decision("force", deletionTimestamp=NOW, finalizers=["somebody/else"])
    assert await watched.put(deleted) == ["deleted web"]


async def test_a_leaving_one_can_be_decided_about(watched: Watched) -> None:
    annotations = BRING_DOWN | {"vmpower/decision": "force"}
    await watched.start(raw(annotations=BRING_DOWN, finalizers=HELD, deletionTimestamp=NOW))
    assert await watched.put(raw(annotations=annotations, finalizers=HELD, deletionTimestamp=NOW)) == [
        "decided force by "
    ]


# Mistakes

BAD = {"providerRef": {"name": "local"}, "powerState": "Sideways"}


async def test_a_bad_spec_is_told_as_an_event_and_logged_with_its_field(watched: Watched) -> None:
    with capture_logs() as logs:
        await watched.start(raw(spec=BAD))
    assert watched.events() == [("Warning", "InvalidSpec")]
    assert watched.api.events[0][1].message.startswith("spec.powerState: ")
    assert [(entry["resource"], entry["error"]) for entry in logs if entry["event"] == "not acted upon"] == [
        (str(WEB), watched.api.events[0][1].message)
    ]


async def test_a_bad_spec_keeps_no_other_resource_waiting(watched: Watched) -> None:
    await watched.start(raw("a"), raw(spec=BAD), raw("z"))
    assert watched.told() == ["applied a 1", "rejected web 1", "applied z 1", "synced"]


async def test_what_was_applied_before_a_mistake_stays(watched: Watched) -> None:
    await watched.start(raw())
    assert await watched.put(raw(generation=2, spec=BAD)) == ["rejected web 2"]
    assert await watched.put(raw(generation=3)) == ["applied web 3"]


async def test_a_mistake_is_told_once(watched: Watched) -> None:
    with capture_logs() as logs:
        await watched.start(raw(spec=BAD))
        await watched.put(raw(spec=BAD, annotations={"a": "b"}))
        watched.api.end(GONE)
        await watched.settle()
    assert (warnings(logs).count("not acted upon"), len(watched.api.events)) == (1, 1)


async def test_a_bad_resource_in_the_place_of_a_good_one_takes_it_away(watched: Watched) -> None:
    await watched.start(raw(uid="first"))
    watched.told()
    watched.api.end(GONE)
    watched.api.delete()
    watched.api.put(raw(uid="second", spec=BAD))
    await watched.settle()
    assert watched.told() == ["deleted web", "rejected web 1"]


async def test_a_decision_about_a_resource_with_a_mistake_is_heard(watched: Watched) -> None:
    await watched.start(raw())
    assert await watched.put(decision("force", generation=2, spec=BAD)) == [
        "rejected web 2",
        "decided force by kubectl-annotate",
    ]
