from datetime import timedelta

from cli.provider_clock import ProviderClock, latest
from tests.unit.cli.samples import BEGAN, running, step


def test_before_anything_was_heard_the_time_is_not_known() -> None:
    assert ProviderClock().now is None


def test_the_time_goes_on_from_what_was_heard() -> None:
    seconds = iter([100.0, 103.5])
    clock = ProviderClock(lambda: next(seconds))
    clock.hear(BEGAN)
    assert clock.now == BEGAN + timedelta(seconds=3.5)


def test_what_was_heard_last_counts() -> None:
    clock = ProviderClock(lambda: 0.0)
    clock.hear(BEGAN + timedelta(hours=1))
    clock.hear(BEGAN)
    assert clock.now == BEGAN


def test_a_clock_that_is_set_goes_on_from_there() -> None:
    seconds = iter([100.0, 103.5])
    clock = ProviderClock(lambda: next(seconds))
    clock.hear(BEGAN)
    clock.set_by(timedelta(hours=1))
    assert clock.now == BEGAN + timedelta(hours=1, seconds=3.5)


def test_a_clock_that_is_not_known_cannot_be_set() -> None:
    clock = ProviderClock()
    clock.set_by(timedelta(hours=1))
    assert clock.now is None


def test_the_latest_moment_of_an_operation_is_that_of_its_last_step() -> None:
    assert latest(running(steps=[step("a", 1), step("b", 2)])) == BEGAN + timedelta(seconds=2)


def test_the_latest_moment_of_a_step_that_was_done_again_is_the_last_time() -> None:
    assert latest(running(steps=[step("a", 1, count=3, last=21)])) == BEGAN + timedelta(seconds=21)


def test_the_latest_moment_of_an_operation_without_steps_is_its_beginning() -> None:
    assert latest(running(steps=[])) == BEGAN
