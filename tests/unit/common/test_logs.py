"""What operators find on stderr."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from common import logs

Capture = pytest.CaptureFixture[str]
log = structlog.get_logger()
library = logging.getLogger("some.library")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys: Capture) -> list[dict[str, Any]]:
    """Every line on stderr; nothing may be on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def fail(password: str) -> None:
    raise ValueError("no such login")


def test_an_entry_is_one_line_of_json(capsys: Capture) -> None:
    logs.configure("info")
    log.info("leading", identity="a", count=3)
    (entry,) = lines(capsys)
    time = datetime.fromisoformat(entry.pop("time"))
    assert entry == {"event": "leading", "level": "info", "identity": "a", "count": 3}
    assert timedelta(0) <= datetime.now(UTC) - time < timedelta(minutes=1)


def test_text_of_several_lines_is_one_line(capsys: Capture) -> None:
    logs.configure("info")
    log.info("first\nsecond")
    assert [entry["event"] for entry in lines(capsys)] == ["first\nsecond"]


@pytest.mark.parametrize("logger", [log, library], ids=["ours", "a library's"])
def test_no_name_makes_a_line_of_its_own_or_commands_the_terminal(capsys: Capture, logger: Any) -> None:
    logs.configure("info")
    evil = 'db\n{"event": "forged"}\x1b[2J\x9b\x7f\u202e'
    logger.warning(evil)
    printed = capsys.readouterr().err
    assert (printed.count("\n"), printed.isascii(), printed.strip().isprintable()) == (1, True, True)
    assert json.loads(printed)["event"] == evil


def test_what_json_does_not_know_is_written_as_text(capsys: Capture) -> None:
    logs.configure("info")
    log.info("bad manifest", file=Path("web.yaml"))
    assert lines(capsys)[0]["file"] == "web.yaml"


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_logged(capsys: Capture, level: str, heard: list[str]) -> None:
    logs.configure(level)
    for each in ("debug", "info", "warning", "error"):
        getattr(log, each)("said")
    assert [entry["level"] for entry in lines(capsys)] == heard


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_libraries_are_heard_from_warning_upwards_in_the_same_form(capsys: Capture, level: str) -> None:
    logs.configure(level)
    library.debug("quiet")
    library.info("quiet")
    library.warning("%s is slow", "it")
    (entry,) = lines(capsys)
    assert (entry["event"], entry["level"], "time" in entry) == ("it is slow", "warning", True)


def test_what_a_library_adds_to_its_message_is_kept(capsys: Capture) -> None:
    logs.configure("info")
    library.warning("slow", extra={"seconds": 3})
    assert lines(capsys)[0]["seconds"] == 3


@pytest.mark.parametrize("logger", [log, library], ids=["ours", "a library's"])
def test_an_exception_is_one_line_that_says_where(capsys: Capture, logger: Any) -> None:
    logs.configure("info")
    try:
        fail("hunter2")
    except ValueError:
        logger.exception("a bug")
    (entry,) = lines(capsys)
    (told,) = entry["exception"]
    assert (entry["event"], entry["level"]) == ("a bug", "error")
    assert (told["exc_type"], told["exc_value"]) == ("ValueError", "no such login")
    assert told["frames"][-1]["name"] == "fail"


@pytest.mark.parametrize("logger", [log, library], ids=["ours", "a library's"])
def test_an_exception_tells_no_values_of_variables(capsys: Capture, logger: Any) -> None:
    logs.configure("info")
    try:
        fail("hunter2".upper())
    except ValueError:
        logger.exception("a bug")
    assert "HUNTER2" not in json.dumps(lines(capsys))
