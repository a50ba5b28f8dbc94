from pathlib import Path

import pytest

from controller.config import Settings


def test_flags_say_where_manifests_and_state_are() -> None:
    settings = Settings.load("controller", ["--manifests", "examples/", "--state-dir", ".run/state"])
    assert (settings.manifests, settings.state_dir) == (Path("examples"), Path(".run/state"))


def test_variables_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMPOWER_MANIFESTS", "/etc/vmpower")
    monkeypatch.setenv("VMPOWER_LOG_LEVEL", "debug")
    settings = Settings.load("controller", [])
    assert (settings.manifests, settings.log_level) == (Path("/etc/vmpower"), "debug")


def test_state_is_kept_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert Settings.load("controller", ["--manifests", "m"]).state_dir == Path("/var/state/vmpower/controller")


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ([], "--manifests (VMPOWER_MANIFESTS)"),
        (["--manifests", "m", "--log-level", "loud"], "--log-level"),
        (["--manifests", "m", "--workers", "0"], "--workers"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(
    arguments: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        Settings.load("controller", arguments)
    assert ended.value.code == 2
    assert flag in capsys.readouterr().err
