"""The contract's messages as plain data, and lengths of time for people."""

from datetime import timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from client.words import prefix


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
        common = prefix([each.name for each in field.enum_type.values])
        return None if entry == f"{common}UNSPECIFIED" else entry.removeprefix(common)
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
