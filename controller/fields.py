"""What the fields of a resource are made of: durations as Go writes them, names as Kubernetes allows them."""

import re
from datetime import timedelta
from typing import Annotated, Any

import durationpy
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, StringConstraints
from pydantic.alias_generators import to_camel

GO_DURATION = re.compile(r"[-+]?(0|([0-9]*[.]?[0-9]+(h|m|s|ms|us|µs|ns))+)")
"""As Go's time.ParseDuration reads them: https://pkg.go.dev/time#ParseDuration"""
MAX_TIMEOUT = timedelta(hours=24)
"""The longest grace period and hook timeout; a longer one is taken for a mistake in the unit."""


def _parse_duration(value: Any) -> Any:
    if not isinstance(value, str):
        if isinstance(value, timedelta):
            return value
        raise ValueError("a duration is text with a unit, such as 120s or 1m30s")
    if not GO_DURATION.fullmatch(value):  # durationpy knows days, and skips what it does not know
        raise ValueError(f"{value!r} is no duration; write it as 120s or 1m30s")
    return durationpy.from_str(value)


def _at_most_a_day(value: timedelta) -> timedelta:
    if value > MAX_TIMEOUT:
        raise ValueError("must be at most 24h")
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be more than 0s")
    return value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("must not be negative; 0s means never")
    return value


GoDuration = Annotated[timedelta, BeforeValidator(_parse_duration), PlainSerializer(durationpy.to_str, return_type=str)]
Timeout = Annotated[GoDuration, AfterValidator(_positive), AfterValidator(_at_most_a_day)]
Interval = Annotated[GoDuration, AfterValidator(_not_negative), AfterValidator(_at_most_a_day)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253, min_length=1)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Model(BaseModel):
    """The base of everything here."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="allow", frozen=True
    )
