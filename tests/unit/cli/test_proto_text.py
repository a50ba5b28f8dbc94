from datetime import timedelta

import pytest

from cli.proto_text import as_dict, short, span, value
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.samples import ended, vm


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


def test_a_message_as_data_has_short_enums_at_every_depth() -> None:
    hook = pb.HookResult(name="h", state=pb.HOOK_STATE_TIMED_OUT)
    data = as_dict(ended(verdict={"hooks": [hook], "signal": pb.SIGNAL_ACPI}))
    assert (data["verdict"]["hooks"][0]["state"], data["verdict"]["signal"]) == ("TIMED_OUT", "ACPI")
    assert (data["kind"], data["escalation"]) == ("SHUTDOWN", None)


def test_labels_are_left_as_they_are() -> None:
    assert as_dict(vm(labels={"key": "POWER_STATE_ON"}))["labels"] == {"key": "POWER_STATE_ON"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.21, "4.2 s"), (59.99, "60.0 s"), (65, "1 min 05 s"), (3600, "1 h 00 min"), (86399, "23 h 59 min")],
)
def test_lengths_of_time_for_people(seconds: float, shown: str) -> None:
    assert span(timedelta(seconds=seconds)) == shown
