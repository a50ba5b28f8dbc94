"""Whatever is in a file, its reader gives a value or refuses it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import READERS

Edit = tuple[int, int, bytes]
"""Where, how many bytes are taken away there, and what is put in."""
EDITS = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 40), st.binary(max_size=40)), min_size=1, max_size=4)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    for place, away, put in edits:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + away :]
    return data


@pytest.mark.parametrize("reader", READERS)
def test_what_is_as_it_should_be_is_read(reader: str) -> None:
    assert READERS[reader].try_on(READERS[reader].good)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=500))
def test_any_bytes_are_read_or_refused(reader: str, data: bytes) -> None:
    READERS[reader].try_on(data)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits=EDITS)
def test_what_was_damaged_is_read_or_refused(reader: str, edits: list[Edit]) -> None:
    READERS[reader].try_on(edited(READERS[reader].good, edits))
