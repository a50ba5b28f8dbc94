"""A small disk is full, and free again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.disk import SmallDisk
from tests.soak.ground import Impossible


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        disk = SmallDisk(tmp_path)
    except Impossible as why:
        pytest.skip(str(why))
    yield disk
    disk.close()


def test_nothing_can_be_written_to_a_full_disk(tmp_path: Path, disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        (tmp_path / "file").write_bytes(b"x" * 4096)


def test_a_disk_that_is_free_again_can_be_written_to(tmp_path: Path, disk: SmallDisk) -> None:
    disk.fill()
    disk.free()
    (tmp_path / "file").write_bytes(b"x" * 4096)
    assert (tmp_path / "file").stat().st_size == 4096
