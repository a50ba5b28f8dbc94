import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cli.progress import Progress, countdown
from cli.provider_clock import ProviderClock
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.samples import ended, running, step


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(screen: io.StringIO) -> Progress:
    return Progress(Console(file=screen, width=200))


def test_each_step_is_a_line_once(progress: Progress, screen: io.StringIO) -> None:
    first, second = step("asking the guest by GUEST_AGENT"), step("asking the guest by ACPI")
    for steps in ([first], [first], [first, second]):
        progress.show(running(steps=steps))
    assert [line.split(" ", 1)[1] for line in screen.getvalue().splitlines()] == [
        "web asking the guest by GUEST_AGENT",
        "web asking the guest by ACPI",
    ]


def shown(screen: io.StringIO) -> list[str]:
    """The lines, each from its minute on."""
    return [line.partition(":")[2] for line in screen.getvalue().splitlines()]


def test_a_step_that_was_done_often_before_it_is_first_shown_says_so(progress: Progress, screen: io.StringIO) -> None:
    progress.show(running(steps=[step("asking", after=1, count=5, last=41)]))
    (line,) = shown(screen)
    assert line.startswith("00:01 web asking (5 times, last at ")
    assert line.endswith(":00:41)")


def test_a_step_that_is_done_again_is_a_line_with_its_time(progress: Progress, screen: io.StringIO) -> None:
    for steps in ([step("asking")], [step("asking", count=2, last=10)], [step("asking", count=2, last=10)]):
        progress.show(running(steps=steps))
    assert shown(screen) == ["00:00 web asking", "00:10 web asking (2 times)"]


def test_an_operation_that_awaits_a_decision_says_once_how_to_decide(progress: Progress, screen: io.StringIO) -> None:
    for _ in range(2):
        progress.show(running(state=pb.OPERATION_STATE_AWAITING_DECISION, steps=[]))
    said = screen.getvalue()
    assert said.count("web does not go down; decide:") == 1
    for word in ("extend op-web 60s", "force op-web", "cancel op-web"):
        assert f"vmpower {word}" in said


def test_what_has_ended_does_not_go_on(progress: Progress, screen: io.StringIO) -> None:
    progress.show(ended("web", steps=[]))
    progress.show(running("db", steps=[]))
    progress.tell_what_goes_on()
    assert "of db goes on" in screen.getvalue()
    assert "web goes on" not in screen.getvalue()


def test_a_terminal_shows_state_and_countdown(screen: io.StringIO) -> None:
    progress = Progress(Console(file=screen, width=200, force_terminal=True))
    with progress.live():
        progress.show(waiting(timedelta(hours=2, seconds=30)))
    assert "WAITING_FOR_GUEST" in screen.getvalue()
    assert "powered off hard in 2 h 00 min" in screen.getvalue()


def test_a_file_shows_lines_only(progress: Progress, screen: io.StringIO) -> None:
    with progress.live():
        progress.show(waiting(timedelta(hours=2), steps=[]))
    assert screen.getvalue() == ""


def waiting(left: timedelta, **fields: Any) -> pb.Operation:
    operation = running(**fields)
    operation.force_after.FromDatetime(datetime.now(UTC) + left)
    return operation


def counted(operation: pb.Operation) -> str:
    return countdown(operation, datetime.now(UTC), 0)


@pytest.mark.parametrize(
    ("escalation", "said"),
    [
        (pb.ESCALATION_FORCE, "powered off hard in"),
        (pb.ESCALATION_NEVER, "given up in"),
        (pb.ESCALATION_ASK, "you are asked in"),
        (pb.ESCALATION_SAVE, "its memory is saved in"),
    ],
)
def test_the_countdown_tells_what_will_happen(escalation: "pb.Escalation.ValueType", said: str) -> None:
    assert counted(waiting(timedelta(hours=1), escalation=escalation)).startswith(said)


def test_a_countdown_never_goes_below_now() -> None:
    assert counted(waiting(timedelta(seconds=-5))) == "powered off hard now"


def test_there_is_no_countdown_before_the_hooks_have_ended() -> None:
    assert counted(waiting(timedelta(hours=1), state=pb.OPERATION_STATE_RUNNING_HOOKS)) == ""


NOW = datetime.now(UTC)
DAYS = timedelta(days=10)
SKEWS = [-DAYS, timedelta(minutes=-10), timedelta(0), timedelta(minutes=10), DAYS]
"""By how much the provider's clock is ahead of this machine's."""


def of_a_provider(ahead: timedelta, *after: float) -> pb.Operation:
    """A shutdown with a minute from NOW by this machine's clock, whose steps come so many seconds after NOW."""
    operation = pb.Operation(
        id="op", vm_name="web", kind=pb.OPERATION_KIND_SHUTDOWN, state=pb.OPERATION_STATE_WAITING_FOR_GUEST
    )
    operation.create_time.FromDatetime(NOW + ahead)
    operation.force_after.FromDatetime(NOW + ahead + timedelta(seconds=60))
    for seconds in after:
        operation.steps.add(message="asking").time.FromDatetime(NOW + ahead + timedelta(seconds=seconds))
    return operation


@pytest.mark.parametrize("ahead", SKEWS)
def test_what_is_left_is_counted_by_the_providers_clock(screen: io.StringIO, ahead: timedelta) -> None:
    seconds = iter([0.0, 5.0, 5.0, *[15.0] * 99])
    console = Console(file=screen, width=200, force_terminal=True)
    progress = Progress(console, ProviderClock(lambda: next(seconds)))
    progress.show(of_a_provider(ahead))
    progress.show(of_a_provider(ahead, 5))
    with progress.live():
        pass
    assert "powered off hard in 45.0 s" in screen.getvalue()


def test_what_is_left_stays_when_the_providers_clock_is_set(screen: io.StringIO) -> None:
    seconds = iter([0.0, 5.0, 5.0, *[15.0] * 99])
    console = Console(file=screen, width=200, force_terminal=True)
    progress = Progress(console, ProviderClock(lambda: next(seconds)))
    progress.show(of_a_provider(timedelta(0)))
    progress.show(of_a_provider(timedelta(0), 5))
    progress.show(of_a_provider(timedelta(hours=1), 5))
    with progress.live():
        pass
    assert "powered off hard in 45.0 s" in screen.getvalue()
    assert screen.getvalue().count("asking") == 1


def test_of_a_long_story_whose_middle_is_dropped_the_new_steps_are_lines(
    progress: Progress, screen: io.StringIO
) -> None:
    first, *rest = [step(f"did {number}") for number in range(5)]
    progress.show(running(steps=[first, *rest]))
    progress.show(running(steps=[first, *rest[1:], step("did 5")]))
    assert shown(screen)[-1] == "00:00 web did 5"
    assert len(shown(screen)) == 6


def test_news_of_before_a_lost_connection_came_back_is_not_taken_for_now(screen: io.StringIO) -> None:
    progress = Progress(Console(file=screen, width=200, force_terminal=True), ProviderClock(lambda: 0.0))
    progress.show(of_a_provider(DAYS))
    progress.show(of_a_provider(DAYS, 5), late=True)
    with progress.live():
        pass
    assert "powered off hard in at most 55.0 s" in screen.getvalue()


@pytest.mark.parametrize("ahead", [-DAYS, DAYS])
def test_a_clock_that_cannot_be_right_is_not_counted_by(ahead: timedelta) -> None:
    assert countdown(of_a_provider(ahead, 5), None, 2.0) == "powered off hard in at most 53.0 s"


def test_a_clock_that_may_be_right_is_counted_by() -> None:
    assert countdown(waiting(timedelta(hours=2, minutes=30)), None, 0.0).startswith("powered off hard in 2 h")


def test_what_is_left_at_most_never_goes_below_now() -> None:
    assert countdown(of_a_provider(-DAYS, 5), None, 90.0) == "powered off hard now"
