"""The contract's words as people see them: enum values without their prefix, messages as plain data."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

if TYPE_CHECKING:  # the stubs call it by another name than the library
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper as Enum
else:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper as Enum

V = TypeVar("V", bound=int)

__all__ = ["Enum", "V", "as_dict", "short", "span", "value"]


def _prefix(names: list[str]) -> str:
    return names[0].removesuffix("UNSPECIFIED")


def short(enum: "Enum[V]", number: V) -> str:
    """`SIGNAL_ACPI` as `ACPI`; unspecified is empty, a value newer than this program is its number."""
    if number not in enum.values():
        return str(int(number))
    return enum.Name(number).removeprefix(_prefix(enum.keys())) if number else ""


def value(enum: "Enum[V]", text: str) -> V:
    """The value that people call `text`, in any case, with `-` or `_`.

    Raises:
        ValueError: no value has this name; the message lists those there are.
    """
    names = enum.keys()
    known = {name.removeprefix(_prefix(names)): name for name in names[1:]}
    word = text.strip().upper().replace("-", "_")
    if word not in known:
        raise ValueError(f"{text!r} is none of {', '.join(known)}")
    return enum.Value(known[word])


def as_dict(message: Message) -> dict[str, Any]:
    """The message as proto JSON: every plain field is there, enums are short, and null where unspecified."""
    return _shorten(MessageToDict(message, always_print_fields_with_no_presence=True), message.DESCRIPTOR)


def _shorten(data: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    fields = {field.json_name: field for field in descriptor.fields}
    return {key: _plain(entry, fields[key]) if key in fields else entry for key, entry in data.items()}


def _plain(entry: Any, field: FieldDescriptor) -> Any:
    if isinstance(entry, list):
        return [_plain(item, field) for item in entry]
    if isinstance(entry, str) and field.enum_type is not None:
        prefix = _prefix([each.name for each in field.enum_type.values])
        return None if entry == f"{prefix}UNSPECIFIED" else entry.removeprefix(prefix)
    if isinstance(entry, dict) and field.message_type is not None:
        return _shorten(entry, field.message_type)
    return entry


def span(length: timedelta) -> str:
    """A length of time for people: `4.2 s`, `1 min 05 s`, `2 h 00 min`."""
    seconds = length.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
