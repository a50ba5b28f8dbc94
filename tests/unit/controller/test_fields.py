from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from controller.fields import GoDuration, Interval, Name, Timeout


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


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "UPPER", "a/b", "-a", "a" * 254])
def test_a_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)
