"""When a file counts as another one."""

import os
from pathlib import Path

from common.files import stamps


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
