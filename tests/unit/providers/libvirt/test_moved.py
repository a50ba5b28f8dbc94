"""What is remembered of VMs that were migrated away, over restarts of the provider."""

import asyncio
from pathlib import Path

import pytest

from providers.libvirt.moved import MovedVMs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "libvirt.moved"


def test_without_a_file_none_has_moved(file: Path) -> None:
    assert MovedVMs(file).ids == frozenset()


async def test_what_has_moved_is_known_to_the_next_process(file: Path) -> None:
    await MovedVMs(file).note({"a": True, "b": False, "c": True})
    assert MovedVMs(file).ids == {"a", "c"}


async def test_what_is_here_again_is_forgotten_and_the_others_are_kept(file: Path) -> None:
    await MovedVMs(file).note({"a": True, "c": True})
    await MovedVMs(file).note({"a": False})
    assert MovedVMs(file).ids == {"c"}


def test_no_file_is_written_while_none_has_moved(file: Path) -> None:
    asyncio.run(MovedVMs(file).note({"a": False}))
    assert not file.exists()


async def test_what_could_not_be_written_is_written_with_the_next_change(file: Path) -> None:
    file.parent.write_text("in the way")
    moved = MovedVMs(file)
    await moved.note({"a": True})
    file.parent.unlink()
    await moved.note({"b": False})
    assert MovedVMs(file).ids == {"a"}


def test_of_a_file_that_cannot_be_read_nothing_is_known(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"\xff\xfe")
    assert MovedVMs(file).ids == frozenset()
