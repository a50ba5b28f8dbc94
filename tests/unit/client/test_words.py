import pytest

from client.words import short, value
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
