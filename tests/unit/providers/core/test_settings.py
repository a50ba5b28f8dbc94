from datetime import timedelta
from pathlib import Path

import pytest

from providers.core.adapter import Escalation
from providers.core.lanes import Lane, bounds
from providers.core.settings import Settings


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VMPOWER_LISTEN", "VMPOWER_STATE_DIR", "VMPOWER_CREDENTIALS_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


def load(*args: str) -> Settings:
    return Settings.load("providers.sim", ["--listen", "unix:///run/vmpower.sock", *args])


def test_flags_are_read() -> None:
    settings = load("--default-timeout", "1m30s", "--allow-guest-exec", "--operators", "alice, bob")
    assert settings.default_timeout == timedelta(seconds=90)
    assert settings.allow_guest_exec
    assert settings.operators == ("alice", "bob")


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_DEFAULT_ESCALATION", "ASK")
    monkeypatch.setenv("VMPOWER_HTTP_HOOK_HOSTS", "10.0.0.0/8,web.example")
    assert load().default_escalation is Escalation.ASK
    assert load().http_hook_hosts == ("10.0.0.0/8", "web.example")


def test_files_of_the_credential_directory_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_CREDENTIALS_DIR", str(tmp_path))
    (tmp_path / "VMPOWER_OPERATORS").write_text("alice")
    assert load().operators == ("alice",)


def test_a_flag_counts_before_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_DEFAULT_TIMEOUT", "5s")
    assert load("--default-timeout", "7s").default_timeout == timedelta(seconds=7)


def test_a_variable_counts_before_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_CREDENTIALS_DIR", str(tmp_path))
    monkeypatch.setenv("VMPOWER_OPERATORS", "bob")
    (tmp_path / "VMPOWER_OPERATORS").write_text("alice")
    assert load().operators == ("bob",)


def test_the_defaults_are_those_that_are_promised() -> None:
    settings = load()
    assert (settings.default_timeout, settings.default_escalation) == (timedelta(seconds=60), Escalation.FORCE)
    assert settings.resend_interval == timedelta(seconds=10)
    assert not settings.allow_guest_exec
    assert settings.http_hook_hosts == ()


def test_the_journal_is_kept_where_state_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/lib")
    assert load().state_dir == Path("/var/lib/vmpower")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--default-timeout", "soon"),
        ("--default-timeout", "0s"),
        ("--default-timeout", "25h"),
        ("--default-escalation", "MAYBE"),
        ("--default-escalation", "SAVE"),
        ("--save-timeout", "0s"),
        ("--resend-interval", "-1s"),
        ("--power-timeout", "0s"),
        ("--max-request-bytes", "0"),
        ("--max-request-bytes", "many"),
        ("--log-level", "loud"),
        ("--metrics-listen", "9090"),
        ("--metrics-listen", "127.0.0.1:99999"),
        ("--health-listen", "127.0.0.1:99999"),
        ("--listen", "127.0.0.1:99999"),
    ],
)
def test_a_mistake_is_told_by_flag_and_variable(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(f"{flag}={value}")
    variable = "VMPOWER_" + flag.strip("-").replace("-", "_").upper()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"providers.sim: {flag} ({variable}): ")


def test_an_address_that_is_missing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Settings.load("providers.sim", [])
    assert ended.value.code == 2
    assert "--listen (VMPOWER_LISTEN): is missing" in capsys.readouterr().err


def test_each_kind_of_call_has_a_bound_of_its_own() -> None:
    numbers = ["--max-reads=1", "--max-asks=2", "--max-programs=3", "--max-cuts=4", "--max-starts=5", "--max-saves=8"]
    found = load(*numbers, "--max-per-host=6", "--max-slow=7").bounds
    assert {lane: bound.at_once for lane, bound in found.items()} == dict(zip(Lane, (1, 2, 3, 4, 5, 8), strict=True))
    assert {(bound.per_host, bound.slow) for bound in found.values()} == {(6, 7)}


def test_what_is_not_bounded_by_a_setting_is_as_the_lanes_have_it() -> None:
    assert load().bounds == bounds()
