"""The options that several commands share, and how their text becomes a value."""

from datetime import timedelta
from enum import StrEnum

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli.errors import usage
from client.words import Enum, V, value
from common import durations
from protos.power.v1 import power_pb2 as pb


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def duration(text: str | timedelta) -> timedelta:
    """`90s`, `1m30s`; a bare number is refused: its unit would be a guess."""
    if isinstance(text, timedelta):
        return text
    try:
        return durations.parse(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no duration; write 90s or 1m30s.") from None


def moment(text: str | Timestamp) -> Timestamp:
    """An RFC 3339 time, as 2026-01-31T12:00:00Z."""
    if isinstance(text, Timestamp):
        return text
    try:
        stamp = Timestamp()
        stamp.FromJsonString(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no RFC 3339 time; write 2026-01-31T12:00:00Z.") from None
    return stamp


def escalation(text: str, option: str = "--escalation") -> "pb.Escalation.ValueType":
    """`force`, `never`, `ask` or `save`; empty is the provider's default.

    Raises:
        Failure: it is none of these.
    """
    return word(pb.Escalation, text, option) if text else pb.ESCALATION_UNSPECIFIED


def signals(text: str) -> list["pb.Signal.ValueType"]:
    """`agent,acpi` or the contract's names, separated by commas.

    Raises:
        Failure: one of them is no signal.
    """
    brief = {"agent": "guest_agent", "tools": "vmware_tools"}
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    return [word(pb.Signal, brief.get(name, name), "--signal") for name in names]


def word(enum: "Enum[V]", text: str, option: str) -> V:
    """The enum's value that `text` names.

    Raises:
        Failure: none; names the option and the words there are.
    """
    try:
        return value(enum, text)
    except ValueError as error:
        raise usage(f"{option}: {error}.") from None
