"""On a real directory."""

import os
from pathlib import Path

import pytest

from controller.sources.files import listed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "manifests"
    root.mkdir()
    return root


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in listed(root).stamps]


def told(root: Path) -> list[tuple[str, str]]:
    return [(str(problem.file.relative_to(root)), problem.message) for problem in listed(root).problems]


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "a.json", "a.YAML", "a.YML", "a.Json"])
def test_the_suffix_counts_in_any_case(root: Path, name: str) -> None:
    (root / name).touch()
    assert names(root) == [name]


def test_files_are_in_the_order_of_their_names_at_all_levels(root: Path) -> None:
    (root / "b").mkdir()
    for name in ("c.yaml", "b/a.yaml", "a.yaml", "notes.txt", ".hidden.yaml"):
        (root / name).touch()
    assert names(root) == ["a.yaml", "b/a.yaml", "c.yaml"]


def test_a_linked_file_is_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").touch()
    (root / "web.yaml").symlink_to(tmp_path / "web.yaml")
    assert names(root) == ["web.yaml"]


def test_a_linked_directory_is_not_followed_and_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "web.yaml").touch()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(root) == []
    ((name, message),) = told(root)
    assert (name, message.startswith("is a link to a directory, which is not followed")) == ("linked", True)


def test_hidden_links_as_a_config_map_has_them_are_left_alone(root: Path) -> None:
    (root / "..2030").mkdir()
    (root / "..2030" / "web.yaml").touch()
    (root / "..data").symlink_to("..2030")
    (root / "web.yaml").symlink_to("..data/web.yaml")
    assert (names(root), told(root)) == (["web.yaml"], [])


def test_a_link_that_leads_nowhere_is_named(root: Path) -> None:
    (root / "web.yaml").symlink_to("gone.yaml")
    assert told(root) == [("web.yaml", "is a link that cannot be followed: No such file or directory")]


def test_a_link_to_itself_is_named(root: Path) -> None:
    (root / "web.yaml").symlink_to("web.yaml")
    ((name, message),) = told(root)
    assert (name, "is a link that cannot be followed" in message) == ("web.yaml", True)


def test_a_directory_that_stands_apart_is_left_alone(root: Path) -> None:
    (root / "state").mkdir()
    (root / "state" / "web.yaml").touch()
    assert listed(root, root / "state").stamps == {}


def test_a_stamp_differs_when_the_file_was_replaced(root: Path) -> None:
    file, other = root / "web.yaml", root / "other"
    file.touch()
    before = listed(root).stamps
    other.touch()
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.rename(file)
    assert listed(root).stamps != before
