import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from controller.sources.kubernetes.api import MERGE, ApiError, Object
from controller.sources.kubernetes.finalizers import Finalizers, correction, hold, removal
from controller.sources.kubernetes.resources import is_held
from tests.unit.controller.sources.kubernetes.fakes import AWAY, WEB, FakeApi, key_of, merged, patched, raw

OURS = "vmpower/on-delete"
IN_USE = "vmpower/in-use"
WANTED: Object = {"annotations": {OURS: "OffGraceful"}}
NAMES = st.lists(st.sampled_from([OURS, "a/b", "c/d", "e/f"]), unique=True)


# What is to be changed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({**WANTED}, [OURS]),
        ({**WANTED, "finalizers": ["a/b"]}, ["a/b", OURS]),
        ({"finalizers": [OURS]}, []),
        ({"finalizers": ["a/b", OURS, "c/d"]}, ["a/b", "c/d"]),
        ({"finalizers": [OURS], "annotations": {OURS: "Leave"}}, []),
        ({"finalizers": [OURS], "deletionTimestamp": "now"}, []),
        ({**WANTED, "finalizers": [OURS]}, None),
        ({**WANTED, "finalizers": [OURS], "deletionTimestamp": "now"}, None),
        ({**WANTED, "deletionTimestamp": "now"}, None),
        ({"annotations": {OURS: "offgraceful"}}, None),
        ({"finalizers": ["a/b"]}, None),
        ({}, None),
    ],
)
def test_the_finalizers_follow_the_annotation(before: dict[str, Any], after: list[str] | None) -> None:
    body = correction(raw(**before))
    assert (None if body is None else body["metadata"]["finalizers"]) == after


@pytest.mark.parametrize(
    ("before", "held", "after"),
    [
        ({}, True, [IN_USE]),
        ({"finalizers": ["a/b"]}, True, ["a/b", IN_USE]),
        ({"finalizers": [IN_USE]}, True, None),
        ({"deletionTimestamp": "now"}, True, None),
        ({"finalizers": ["a/b", IN_USE]}, False, ["a/b"]),
        ({"finalizers": ["a/b"]}, False, None),
    ],
)
def test_a_provider_has_our_finalizer_while_it_is_in_use(
    before: dict[str, Any], held: bool, after: list[str] | None
) -> None:
    found = raw("local", kind="Provider", **before)
    patch = hold(found, held)
    if patch is None:
        assert after is None
    else:
        body, content_type = patch
        changed = merged(found, body) if content_type == MERGE else patched(found, body)
        assert changed["metadata"]["finalizers"] == after


def test_a_correction_counts_for_this_version_of_the_object_only() -> None:
    body = correction(raw(**WANTED, resourceVersion="12"))
    assert body is not None
    assert body["metadata"]["resourceVersion"] == "12"


@given(finalizers=NAMES, wanted=st.booleans())
def test_a_correction_leaves_nothing_to_correct_and_the_others_as_they_are(finalizers: list[str], wanted: bool) -> None:
    before = raw(finalizers=finalizers, **(WANTED if wanted else {}))
    after = merged(before, correction(before) or {})
    others = [name for name in finalizers if name != OURS]
    assert (correction(after), is_held(after)) == (None, wanted)
    assert [name for name in after["metadata"]["finalizers"] if name != OURS] == others


@given(before=NAMES.filter(lambda names: OURS in names), now=NAMES)
def test_a_removal_takes_ours_or_is_refused(before: list[str], now: list[str]) -> None:
    operations = removal(raw(finalizers=before))
    try:
        left = patched(raw(finalizers=now), operations)["metadata"]["finalizers"]
    except ApiError as error:
        assert error.status == 422
        assert before.index(OURS) != (now.index(OURS) if OURS in now else None)
    else:
        assert left == [name for name in now if name != OURS]
        assert OURS in now


# Seeing to it


class Kept:
    """Finalizers, and the API that they are kept in."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.finalizers = Finalizers(self.api.patch)

    async def keep(self, changed: Object, seconds: float = 0.01) -> None:
        """An object as the API has it now, and a moment for it."""
        self.api.put(changed)
        self.finalizers.keep(key_of(changed), self.api.objects[key_of(changed)])
        await asyncio.sleep(seconds)

    def held(self) -> list[str]:
        found: list[str] = self.api.objects[WEB]["metadata"].get("finalizers", [])
        return found

    def asked(self) -> int:
        return len(self.api.asked("patch"))


@pytest.fixture
async def it() -> AsyncIterator[Kept]:
    made = Kept()
    yield made
    made.finalizers.close()


@pytest.mark.looptime
async def test_who_wants_it_is_held(it: Kept) -> None:
    await it.keep(raw(**WANTED))
    assert it.held() == [OURS]


@pytest.mark.looptime
async def test_who_wants_it_no_more_is_let_go(it: Kept) -> None:
    await it.keep(raw(finalizers=["a/b", OURS]))
    assert it.held() == ["a/b"]


@pytest.mark.looptime
async def test_where_all_is_in_order_nothing_is_written(it: Kept) -> None:
    await it.keep(raw())
    await it.keep(raw(**WANTED, finalizers=[OURS]))
    assert it.asked() == 0


@pytest.mark.looptime
@pytest.mark.parametrize("code", [404, 409])
async def test_an_object_that_has_changed_or_is_gone_is_left_to_its_next_state(it: Kept, code: int) -> None:
    it.api.fail("patch", ApiError(code, "no"))
    await it.keep(raw(**WANTED), seconds=3600)
    assert it.asked() == 1
    await it.keep(raw(**WANTED, generation=2))
    assert it.held() == [OURS]


@pytest.mark.looptime
@pytest.mark.parametrize("error", [AWAY, ApiError(500, "oh"), ApiError(403, "no")])
async def test_any_other_failure_is_logged_and_tried_again(it: Kept, error: ApiError) -> None:
    it.api.fail("patch", error, error, error)
    with capture_logs() as logs:
        await it.keep(raw(**WANTED), seconds=5)
    assert it.held() == [OURS]
    assert [entry["error"] for entry in logs] == [str(error)] * 3


@pytest.mark.looptime
async def test_pauses_between_tries_grow_to_half_a_minute(it: Kept) -> None:
    it.api.fail("patch", *[AWAY] * 100)
    await it.keep(raw(**WANTED), seconds=600)
    times = it.api.times("patch")
    assert times[1] - times[0] <= 0.5
    assert 15 <= times[-1] - times[-2] <= 30


@pytest.mark.looptime
async def test_what_was_begun_is_given_up_when_the_object_changes(it: Kept) -> None:
    it.api.fail("patch", AWAY)
    await it.keep(raw(**WANTED))
    await it.keep(raw(), seconds=3600)
    assert (it.asked(), it.held()) == (1, [])


@pytest.mark.looptime
async def test_what_was_begun_is_given_up_when_the_object_is_gone(it: Kept) -> None:
    it.api.fail("patch", AWAY)
    await it.keep(raw(**WANTED))
    it.finalizers.forget(WEB)
    await asyncio.sleep(3600)
    assert it.asked() == 1


@pytest.mark.looptime
async def test_all_that_was_begun_is_given_up_at_the_end(it: Kept) -> None:
    it.api.fail("patch", AWAY, AWAY)
    await it.keep(raw("a", **WANTED))
    await it.keep(raw("b", **WANTED))
    it.finalizers.close()
    await asyncio.sleep(3600)
    assert it.asked() == 2


@pytest.mark.looptime
async def test_one_object_does_not_wait_for_another(it: Kept) -> None:
    it.api.fail("patch", AWAY)
    await it.keep(raw("slow", **WANTED), seconds=0)
    await asyncio.sleep(0.01)
    await it.keep(raw(**WANTED))
    assert it.held() == [OURS]
