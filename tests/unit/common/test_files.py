"""When a file counts as another one, and how one is replaced."""

import os
from pathlib import Path

import pytest

from common.files import replace, stamps


def test_a_file_that_did_not_change_has_the_same_stamp(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("one")
    assert stamps([file]) == stamps([file]) != []


def test_a_file_that_was_written_has_another_stamp(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("one")
    before = stamps([file])
    os.utime(file, ns=(1, 1))
    assert stamps([file]) != before


def test_a_file_that_went_away_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("one")
    before = stamps([file])
    file.unlink()
    assert stamps([file]) != before


def test_a_file_that_may_not_be_looked_at_counts_as_away(tmp_path: Path) -> None:
    class OutOfReach(type(tmp_path)):  # type: ignore[misc]  # as for another user than root
        def stat(self, **_: object) -> os.stat_result:
            raise PermissionError(13, "Permission denied")

    assert stamps([OutOfReach(tmp_path / "cert.pem")]) == stamps([tmp_path / "none"]) == []


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path, on_disk: bool) -> None:
    file = tmp_path / "state"
    file.write_text("old")
    replace(file, "new", on_disk=on_disk)
    assert ([each.name for each in tmp_path.iterdir()], file.read_text()) == (["state"], "new")


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    with pytest.raises(OSError, match="state"):
        replace(folder, "new", on_disk=True)
    assert [each.name for each in tmp_path.iterdir()] == ["state"]
