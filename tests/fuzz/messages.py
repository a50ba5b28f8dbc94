"""Random requests of the contract: valid enough to come far, strange enough to be worth it.

They are made by descriptor, so that a new field is there by itself.
"""

import random
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

TEXTS = [*("", "web", "hook-1", "-", "\0", "\n", "db[/old]", "\x1b[2J", "\u202e", "é", "\U0001f600", "'; DROP TABLE")]
TEXTS += [*("../../x", "%s%n", "AAA=", "MQAy", "{}", "NaN", "http://", "2026-01-01T00:00:00Z")]
TEXTS += ["x" * 64, "x" * 257, "x" * 5_000, "\u202e" * 2_000]
URLS = [*("", "http://127.0.0.1:1/", "http://[::1]:1/", "http://127.0.0.1:99999/", "http://127.0.0.1:1/\r\nX: y")]
URLS += ["file:///x", "http://["]
"""Of this machine alone: a hook that is let through by mistake must reach nobody."""
NUMBERS = (0, 1, 2, 3, 5, 60, 200, 599, 600, 86_400, 86_401, -1, 2**31 - 1, -(2**31))
LARGE = (*NUMBERS, 2**31, 2**63 - 1, -(2**63), 253_402_300_800, -62_135_596_801, 1_900_000_000)
DEEPEST = 4


class Maker:
    """Makes requests. `names` are of VMs that may be worked on; ids of operations are added as they are heard of."""

    def __init__(self, seed: int, names: Sequence[str]) -> None:
        self._chance, self._names, self._operations = random.Random(seed), names, [""]

    def heard_of(self, operation_id: str) -> None:
        self._operations.append(operation_id)
        del self._operations[:-50]

    def request(self, method: MethodDescriptor) -> bytes:
        """The bytes of a request: mostly a message, sometimes a damaged one, sometimes noise."""
        kind, message = self._chance.random(), GetMessageClass(method.input_type)()
        self._fill(message, 0)
        data = message.SerializeToString()
        if kind < 0.8:
            return data
        return self._damaged(data) if kind < 0.95 else self._chance.randbytes(self._chance.choice((1, 10, 300)))

    def _damaged(self, data: bytes) -> bytes:
        damaged = bytearray(data or b"\0")
        for _ in range(self._chance.randint(1, 4)):
            place = self._chance.randrange(len(damaged) + 1)
            damaged[place : place + self._chance.randint(0, 2)] = self._chance.randbytes(self._chance.randint(0, 3))
        return bytes(damaged)

    def _fill(self, message: Message, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self._chance.random() < (0.95 if field.name in {"vm", "id"} else 0.35):
                self._set(message, field, depth)

    def _set(self, message: Message, field: Any, depth: int) -> None:
        entries: Any = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(self._chance.randint(0, 3)):
                entries[self._text("")] = self._text("")
        elif field.message_type is not None and depth >= DEEPEST:
            return
        elif field.is_repeated:
            for _ in range(self._chance.choice((0, 1, 2, 3, 40))):
                if field.message_type is not None:
                    self._fill(entries.add(), depth + 1)
                else:
                    entries.append(self._scalar(field))
        elif field.message_type is not None:
            entries.SetInParent()
            self._fill(entries, depth + 1)
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(field.name)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._chance.random() < 0.5
        number: int = self._chance.choice(LARGE if field.type == FieldDescriptor.TYPE_INT64 else NUMBERS)
        return abs(number) if field.type == FieldDescriptor.TYPE_UINT32 else number

    def _text(self, name: str) -> str:
        if name == "url":
            return self._chance.choice(URLS)
        known = {"vm": self._names, "id": self._operations}.get(name)
        return self._chance.choice(known if known and self._chance.random() < 0.8 else TEXTS)
