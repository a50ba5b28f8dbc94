"""The contract's moments and lengths of time as Python's, and back. What is None is left out of a message."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def moment(stamp: Timestamp) -> datetime:
    """Aware, in UTC."""
    return stamp.ToDatetime(UTC)


def timestamp(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp


def duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    length = Duration()
    length.FromTimedelta(value)
    return length
