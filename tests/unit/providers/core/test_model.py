from datetime import timedelta

import pytest
from pydantic import ValidationError

from providers.core.adapter import GuestCredentials, Signal
from providers.core.model import Delivery, Hook, HttpGetHook, Kind, Operation, Request, Sent, State
from tests.unit.providers.world import at

REQUEST = Request(
    kind=Kind.SHUTDOWN,
    vm_id="1",
    vm_name="web",
    hooks=(
        Hook(name="call", handler=HttpGetHook(url="http://web/", headers={"X": "s3cret"}, header_names=("X",))),
        Hook(name="again", handler=HttpGetHook(url="http://web/")),
    ),
    credentials=GuestCredentials("admin-user", "hunter2"),
)
OPERATION = Operation(id="op", request=REQUEST, create_time=at(0), timeout=timedelta(seconds=60))


def test_the_last_three_states_are_final() -> None:
    assert [state for state in State if state.final] == [State.SUCCEEDED, State.FAILED, State.CANCELLED]


def test_secrets_are_neither_written_nor_shown() -> None:
    said = OPERATION.model_dump_json() + repr(OPERATION) + str(OPERATION)
    for secret in ("s3cret", "hunter2", "admin-user"):
        assert secret not in said


def test_what_is_written_is_read_back_without_its_secrets() -> None:
    read = Operation.model_validate_json(OPERATION.model_dump_json())
    assert read.request.credentials is None
    assert read.request.hooks[0].handler == HttpGetHook(url="http://web/", header_names=("X",))


def test_an_operation_does_not_change() -> None:
    with pytest.raises(ValidationError):
        OPERATION.state = State.FAILED  # type: ignore[misc]


def test_one_of_the_signals_that_were_sent_is_changed_whatever_else_has_changed_of_it() -> None:
    button = Sent(number=2, time=at(5), signal=Signal.ACPI)
    agent = Sent(number=1, time=at(0), signal=Signal.GUEST_AGENT, handed_over=at(60))
    operation = OPERATION.model_copy(update={"sent": (agent.model_copy(update={"handed_over": None}), button)})
    assert operation.sent_but(agent.number, delivery=Delivery.REFUSED) == (
        Sent(number=1, time=at(0), signal=Signal.GUEST_AGENT, delivery=Delivery.REFUSED),
        button,
    )


def test_hooks_are_left_until_they_have_a_result() -> None:
    assert [hook.name for hook in OPERATION.hooks_left] == ["call", "again"]
