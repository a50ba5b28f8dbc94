from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from common.durations import GoDuration, Interval, Timeout, parse, to_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("0", 0),
        ("-5s", -5),
        ("+5s", 5),
        ("1h2m3s4ms5us", 3723.004005),
        ("7µs", 7e-6),
    ],
)
def test_what_go_takes_is_taken(text: str, seconds: float) -> None:
    assert parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "1d",
        "2m oops 30s",
        "5m-10m",
        " 5s",
        "5s ",
        "5 s",
        "s",
        ".s",
        "1e3s",
        "٣s",
        "5S",
        "5s\n",
        "99999999999999h",
    ],
)
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse(text)


@given(st.timedeltas(timedelta(days=-300), timedelta(days=300)))
def test_what_is_written_is_read_again(length: timedelta) -> None:
    assert parse(to_text(length)) == length


@pytest.mark.parametrize(
    ("text", "seconds"), [("120s", 120), ("2m", 120), ("1m30s", 90), ("500ms", 0.5), ("24h", 86400)]
)
def test_timeouts_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert TypeAdapter(Timeout).validate_python(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("0s", "more than 0s"),
        ("-5s", "more than 0s"),
        ("25h", "at most 24h"),
        ("soon", "no duration"),
        ("", "no duration"),
        ("120", "no duration"),
        ("1d", "no duration"),
        ("5s or 3s", "no duration"),
        (120, "text with a unit"),
        (True, "text with a unit"),
    ],
)
def test_a_bad_timeout_is_refused_with_the_reason(value: object, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(Timeout).validate_python(value)


def test_an_interval_may_be_zero_but_not_negative() -> None:
    assert TypeAdapter(Interval).validate_python("0s") == timedelta(0)
    with pytest.raises(ValidationError, match="not be negative"):
        TypeAdapter(Interval).validate_python("-1s")


@pytest.mark.parametrize("seconds", [0.001, 1.5, 90, 86400])
def test_a_duration_survives_being_written_and_read(seconds: float) -> None:
    adapter: TypeAdapter[timedelta] = TypeAdapter(GoDuration)
    value = timedelta(seconds=seconds)
    assert adapter.validate_python(adapter.dump_python(value, mode="json")) == value
