import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cli.progress import Progress, countdown
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


@pytest.mark.parametrize(
    ("escalation", "said"),
    [
        (pb.ESCALATION_FORCE, "powered off hard in"),
        (pb.ESCALATION_NEVER, "given up in"),
        (pb.ESCALATION_ASK, "you are asked in"),
    ],
)
def test_the_countdown_tells_what_will_happen(escalation: "pb.Escalation.ValueType", said: str) -> None:
    assert countdown(waiting(timedelta(hours=1), escalation=escalation)).startswith(said)


def test_a_countdown_never_goes_below_now() -> None:
    assert countdown(waiting(timedelta(seconds=-5))) == "powered off hard now"


def test_there_is_no_countdown_before_the_hooks_have_ended() -> None:
    assert countdown(waiting(timedelta(hours=1), state=pb.OPERATION_STATE_RUNNING_HOOKS)) == ""
