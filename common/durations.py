"""Durations as Go writes them, and nothing else: `90s`, `1m30s`, `1.5h`, `0`.

Every duration that a person writes (a flag, a manifest, a hooks file, a script of the sim) is read here:
https://pkg.go.dev/time#ParseDuration. There are no days, and a number needs a unit.
"""

import re
from datetime import timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

_UNITS = {"h": 3600 * 10**9, "ms": 10**6, "m": 60 * 10**9, "s": 10**9, "us": 1000, "µs": 1000, "μs": 1000, "ns": 1}
"""Nanoseconds. Go takes both letters that look like a micro sign."""
_PART = rf"([0-9]+[.]?[0-9]*|[.][0-9]+)({'|'.join(_UNITS)})"
_GO = re.compile(rf"[-+]?(0|({_PART})+)")
LONGEST = 2**63 - 1
"""Nanoseconds in the longest duration that Go has."""
MAX_TIMEOUT = timedelta(hours=24)
"""The longest grace period and hook timeout; a longer one is taken for a mistake in the unit."""


@lru_cache(maxsize=1024)  # thousands of resources have the same few
def parse(text: str) -> timedelta:
    """The duration that `text` means, to the microsecond.

    Raises:
        ValueError: it means none; the message says how one is written.
    """
    if not _GO.fullmatch(text):
        raise ValueError(f"{text!r} is no duration; write it as 120s or 1m30s")
    length = sum(Fraction(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    if length > LONGEST:
        raise ValueError(f"{text!r} is too long for a duration")
    return timedelta(microseconds=round(length / 1000)) * (-1 if text.startswith("-") else 1)


def to_text(length: timedelta) -> str:
    """The duration as `parse` reads it, without parts that are zero: `1m30s`."""
    rest, text = abs(length) // timedelta(microseconds=1) * 1000, ""
    for unit in ("h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return ("-" if length < timedelta(0) else "") + text or "0s"


def _from_text(value: Any) -> Any:
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, timedelta):
        return value
    raise ValueError("a duration is text with a unit, such as 120s or 1m30s")


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be more than 0s")
    return value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("must not be negative; 0s means never")
    return value


def _at_most_a_day(value: timedelta) -> timedelta:
    if value > MAX_TIMEOUT:
        raise ValueError("must be at most 24h")
    return value


GoDuration = Annotated[timedelta, BeforeValidator(_from_text), PlainSerializer(to_text, return_type=str)]
"""A pydantic field that is written as Go writes durations."""
Duration = Annotated[GoDuration, AfterValidator(_not_negative)]
Timeout = Annotated[GoDuration, AfterValidator(_positive), AfterValidator(_at_most_a_day)]
Interval = Annotated[Duration, AfterValidator(_at_most_a_day)]
