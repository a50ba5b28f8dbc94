"""What others may do with a journal and its folder, before and after."""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from providers.core.private_files import make_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_this_users_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "journal")
    assert mode(tmp_path / "journal") == 0o600


@pytest.mark.parametrize("name", ["journal", "journal-wal", "journal-shm"])
def test_a_file_that_others_could_use_is_tightened_and_that_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("kept")
    (tmp_path / name).chmod(0o666)
    with capture_logs() as logs:
        make_private(tmp_path / "journal")
    assert (mode(tmp_path / name), (tmp_path / name).read_text()) == (0o600, "kept")
    assert [(each["event"], each["was"]) for each in logs] == [("others could use this file; not any more", "0666")]


def test_a_folder_that_others_could_write_to_is_tightened_and_that_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with capture_logs() as logs:
        make_private(tmp_path / "journal")
    assert mode(tmp_path) == 0o755
    assert [each["event"] for each in logs] == ["others could write to this folder; not any more"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="journal"):
        make_private(tmp_path / "journal")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").touch(mode=0o600)
    os.chown(tmp_path / "journal", 12345, -1)
    with pytest.raises(PermissionError, match="is not a file of this user"):
        make_private(tmp_path / "journal")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_left_and_told(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    os.chown(volume, 12345, -1)
    with capture_logs() as logs:
        make_private(volume / "journal")
    assert mode(volume) == 0o777
    assert [each["event"] for each in logs] == ["others may replace files in this folder, whose owner is another"]
