from datetime import timedelta

import pytest

from cli.proto_text import as_dict, span
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.samples import ended, vm


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
