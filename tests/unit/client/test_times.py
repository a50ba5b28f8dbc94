from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from client.times import duration, moment, timestamp

NOON = datetime(2030, 1, 1, 12, 0, 0, 1, UTC)


def test_a_moment_is_the_same_to_the_microsecond_and_aware() -> None:
    stamp = timestamp(NOON)
    assert stamp
    assert moment(stamp) == NOON


def test_what_is_finer_than_a_microsecond_is_cut_off() -> None:
    assert moment(Timestamp(nanos=1999)).microsecond == 1


def test_a_length_of_time_is_carried_whole() -> None:
    assert duration(timedelta(seconds=90, microseconds=1)) == Duration(seconds=90, nanos=1000)


def test_what_is_left_out_stays_left_out() -> None:
    assert (timestamp(None), duration(None)) == (None, None)
