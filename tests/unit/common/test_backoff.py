from hypothesis import given
from hypothesis import strategies as st

from common.backoff import Backoff


@given(st.floats(0.1, 10), st.floats(10, 1000), st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_a_pause_lies_between_half_of_it_and_all_of_it(first: float, longest: float, count: int, chance: float) -> None:
    backoff = Backoff(first, longest, lambda: chance)
    pause = [backoff.next() for _ in range(count)][-1]
    expected = min(first * 2 ** (count - 1), longest)
    assert expected / 2 <= pause <= expected


def test_a_backoff_that_was_reset_begins_anew() -> None:
    backoff = Backoff(1, 100, lambda: 0)
    assert [backoff.next(), backoff.next()] == [1, 2]
    backoff.reset()
    assert backoff.next() == 1
