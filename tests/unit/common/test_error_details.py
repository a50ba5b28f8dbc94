from datetime import timedelta

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from common.error_details import ROOM, status


def info(told: Status) -> ErrorInfo:
    found = ErrorInfo()
    assert told.details[0].Unpack(found)
    return found


def test_an_error_has_its_code_its_sentence_and_a_word_for_programs() -> None:
    told = status(5, "There is none.", "VM_NOT_FOUND", metadata={"vm": "web"})
    assert (told.code, told.message) == (5, "There is none.")
    assert (info(told).reason, info(told).domain, dict(info(told).metadata)) == (
        "VM_NOT_FOUND",
        "vmpower",
        {"vm": "web"},
    )


def test_bad_input_names_each_field() -> None:
    told, bad = status(3, "Bad.", "INVALID", violations=[("vm", "must not be empty")]), BadRequest()
    assert told.details[1].Unpack(bad)
    assert [(each.field, each.description) for each in bad.field_violations] == [("vm", "must not be empty")]


def test_of_too_many_fields_it_is_told_how_many_there_are() -> None:
    told, bad = status(3, "Bad.", "INVALID", violations=[(f"f{n}", "x" * 100) for n in range(50)]), BadRequest()
    assert told.details[1].Unpack(bad)
    assert bad.field_violations[-1].description.endswith("more are not told")


def test_what_is_too_long_is_cut() -> None:
    assert len(status(3, "ä" * ROOM, "INVALID").message.encode()) <= ROOM


def test_it_says_when_to_try_again() -> None:
    told, retry = status(8, "Later.", "TOO_MANY", retry_delay=timedelta(seconds=2)), RetryInfo()
    assert told.details[1].Unpack(retry)
    assert retry.retry_delay.ToSeconds() == 2
