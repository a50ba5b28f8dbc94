"""The contract's words as people see them: enums without their prefix, steps with how often they were done."""

from typing import TYPE_CHECKING, TypeVar

from client.times import moment
from protos.power.v1 import power_pb2 as pb

if TYPE_CHECKING:  # the stubs call it by another name than the library
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper as Enum
else:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper as Enum

V = TypeVar("V", bound=int)

__all__ = ["Enum", "V", "prefix", "short", "step_text", "value"]


def prefix(names: list[str]) -> str:
    """`SIGNAL_`, of an enum's names in their order."""
    return names[0].removesuffix("UNSPECIFIED")


def short(enum: "Enum[V]", number: V) -> str:
    """`SIGNAL_ACPI` as `ACPI`; unspecified is empty, a value newer than this program is its number."""
    if number not in enum.values():
        return str(int(number))
    return enum.Name(number).removeprefix(prefix(enum.keys())) if number else ""


def value(enum: "Enum[V]", text: str) -> V:
    """The value that people call `text`, in any case, with `-` or `_`.

    Raises:
        ValueError: no value has this name; the message lists those there are.
    """
    names = enum.keys()
    known = {name.removeprefix(prefix(names)): name for name in names[1:]}
    word = text.strip().upper().replace("-", "_")
    if word not in known:
        raise ValueError(f"{text!r} is none of {', '.join(known)}")
    return enum.Value(known[word])


def step_text(step: pb.OperationStep) -> str:
    """`asking the guest by ACPI (5 times, last at 12:00:41)`, in the reader's own time zone."""
    if step.count <= 1:
        return step.message
    last = f", last at {moment(step.last_time).astimezone():%H:%M:%S}" if step.HasField("last_time") else ""
    return f"{step.message} ({step.count} times{last})"
