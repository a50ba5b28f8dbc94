from datetime import timedelta
from pathlib import Path

import pytest

from cli.errors import ExitCode, Failure
from cli.plan_runs import clients_of, folder, resumed, say
from plans.history import History
from plans.journal import Runs
from tests.unit.plans.test_journal import START


def test_records_are_where_the_user_says_or_in_the_users_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert folder(tmp_path / "own") == tmp_path / "own"
    assert folder(None) == tmp_path / "vmpower" / "plans"


def test_a_run_that_needs_a_provider_that_is_not_configured_any_more_is_refused() -> None:
    with pytest.raises(Failure, match="The run needs lab, which") as refused:
        clients_of(History(START), {})
    assert refused.value.code is ExitCode.USAGE


def test_a_record_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure) as refused:
        resumed(Runs(tmp_path), "night-1")
    assert refused.value.code is ExitCode.FAILED


def test_a_line_for_people_has_its_time_and_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    say(START.at + timedelta(seconds=7), "said \x1b[2J")
    told = capsys.readouterr().err
    assert told.endswith(":07 said \\x1b[2J\n")
