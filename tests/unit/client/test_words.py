import re
from datetime import UTC, datetime

import pytest

from client.times import timestamp
from client.words import short, step_text, value
from protos.power.v1 import power_pb2 as pb


def test_people_see_enums_without_their_prefix() -> None:
    assert short(pb.OperationState, pb.OPERATION_STATE_WAITING_FOR_GUEST) == "WAITING_FOR_GUEST"


def test_unspecified_is_nothing() -> None:
    assert short(pb.Reason, pb.REASON_UNSPECIFIED) == ""


def test_a_value_newer_than_this_program_is_shown_as_its_number() -> None:
    state = pb.VM.FromString(b"\x18\x63").power_state
    assert short(pb.PowerState, state) == "99"


def test_each_short_name_is_accepted_for_the_value_it_shows() -> None:
    assert all(value(pb.Reason, short(pb.Reason, number)) == number for number in pb.Reason.values() if number)


def test_unspecified_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="none of FORCE, NEVER, ASK"):
        value(pb.Escalation, "unspecified")


@pytest.mark.parametrize("count", [0, 1])
def test_a_step_that_was_done_once_is_its_message(count: int) -> None:
    assert step_text(pb.OperationStep(message="asking the guest by ACPI", count=count)) == "asking the guest by ACPI"


def test_a_step_that_was_done_again_says_how_often_and_when_last() -> None:
    last = timestamp(datetime(2026, 1, 31, 12, 0, 41, tzinfo=UTC))
    step = pb.OperationStep(message="asking the guest by ACPI", count=5, last_time=last)
    assert re.fullmatch(r"asking the guest by ACPI \(5 times, last at \d\d:\d\d:41\)", step_text(step))


def test_a_step_that_was_done_again_without_a_time_says_how_often() -> None:
    assert step_text(pb.OperationStep(message="asking", count=2)) == "asking (2 times)"
