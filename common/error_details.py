"""An error as AIP-193 wants it: code, sentence, ErrorInfo and, for bad input, BadRequest; each cut to its room."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from google.protobuf.any import pack
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from common.text import encodable

DOMAIN = "vmpower"
ROOM = 1 << 10
"""Bytes that an error's sentence, its metadata and its violations may each take: they travel as HTTP/2 headers, where a
byte may take three, and gRPC ends a call whose headers are longer than 8 KiB in all, without any of them."""


def status(
    code: int,
    message: str,
    reason: str,
    *,
    metadata: Mapping[str, str] | None = None,
    violations: Sequence[tuple[str, str]] | None = None,
    retry_delay: timedelta | None = None,
) -> Status:
    """`code` is of google/rpc/code.proto; `violations` are fields and what they must be; None: no bad input."""
    told = {key: _cut(value, ROOM // len(metadata)) for key, value in metadata.items()} if metadata else {}
    details: list[Message] = [ErrorInfo(reason=reason, domain=DOMAIN, metadata=told)]
    if violations is not None:
        details.append(_bad_request(violations))
    if retry_delay is not None:
        details.append(RetryInfo(retry_delay=retry_delay))
    return Status(code=code, message=_cut(message), details=[pack(detail) for detail in details])


def _bad_request(violations: Sequence[tuple[str, str]]) -> BadRequest:
    """As many violations as there is room for, and how many there are beside."""
    told = BadRequest()
    for number, (name, what) in enumerate(violations):
        field, description = _cut(name, ROOM // 8), _cut(what, ROOM // 4)
        one = BadRequest.FieldViolation(field=field, description=description)
        if told.ByteSize() + one.ByteSize() > ROOM:
            told.field_violations.add(field="request", description=f"{len(violations) - number} more are not told")
            break
        told.field_violations.append(one)
    return told


def _cut(text: str, room: int = ROOM) -> str:
    """The text, in so many bytes."""
    data = encodable(text).encode()
    return data.decode() if len(data) <= room else f"{data[: room - 3].decode(errors='ignore')}…"
