from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.errors import InvalidRequest
from providers.core.extension import Extension, extended
from providers.core.model import Kind, Operation, Request, State, TimeoutOrigin
from tests.unit.providers.world import at


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def operation(**fields: Any) -> Operation:
    request = Request(kind=Kind.SHUTDOWN, vm_id="1", vm_name="web")
    return Operation(**{"id": "op", "request": request, "create_time": at(0), "timeout": seconds(60)} | fields)


WAITING = operation(state=State.WAITING_FOR_GUEST, grace_start=at(10), force_after=at(70))
IN_HOOKS = operation(state=State.RUNNING_HOOKS)
ASKING = WAITING.model_copy(update={"state": State.AWAITING_DECISION})


def test_so_much_longer_is_added_to_force_after() -> None:
    assert extended(WAITING, Extension(by=seconds(30)), at(20))["force_after"] == at(100)


def test_so_much_longer_is_added_to_now_where_force_after_has_passed() -> None:
    assert extended(ASKING, Extension(by=seconds(30)), at(200))["force_after"] == at(230)


def test_a_grace_period_counts_from_its_beginning() -> None:
    assert extended(WAITING, Extension(timeout=seconds(100)), at(20))["force_after"] == at(110)


def test_a_grace_period_that_is_over_already_ends_now() -> None:
    assert extended(WAITING, Extension(timeout=seconds(5)), at(20))["force_after"] == at(20)


def test_a_moment_is_taken_as_it_is() -> None:
    assert extended(WAITING, Extension(until=at(500)), at(20))["force_after"] == at(500)


def test_who_waits_for_a_decision_waits_for_the_guest_again() -> None:
    assert extended(ASKING, Extension(by=seconds(30)), at(200))["state"] is State.WAITING_FOR_GUEST


def test_while_hooks_run_only_the_coming_grace_period_grows() -> None:
    assert extended(IN_HOOKS, Extension(by=seconds(30)), at(5)) == {
        "timeout": seconds(90),
        "timeout_origin": TimeoutOrigin.EXTENSION,
    }


def test_while_hooks_run_a_moment_is_set_at_once() -> None:
    changed = extended(IN_HOOKS, Extension(until=at(500)), at(5))
    assert (changed["force_after"], changed["state"]) == (at(500), State.RUNNING_HOOKS)


@pytest.mark.parametrize(
    ("extension", "field"),
    [
        (Extension(by=seconds(86400)), "extension"),
        (Extension(timeout=seconds(90000)), "timeout"),
        (Extension(until=at(19)), "force_after"),
        (Extension(until=at(20 + 86401)), "force_after"),
    ],
)
def test_what_is_past_or_too_far_off_is_refused_by_its_field(extension: Extension, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        extended(WAITING, extension, at(20))
    assert [violation.field for violation in refused.value.violations] == [field]


@given(
    st.sampled_from([WAITING, IN_HOOKS, ASKING]),
    st.one_of(
        st.integers(1, 86400).map(lambda n: Extension(by=seconds(n))),
        st.integers(1, 86400).map(lambda n: Extension(timeout=seconds(n))),
        st.integers(0, 200000).map(lambda n: Extension(until=at(n))),
    ),
    st.integers(0, 100000),
)
def test_whatever_is_asked_force_after_is_never_past(asked: Operation, extension: Extension, now: int) -> None:
    try:
        changed = extended(asked, extension, at(now))
    except InvalidRequest:
        return
    assert at(now) <= changed.get("force_after", at(now)) <= at(now + 86400)
