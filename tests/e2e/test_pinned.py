"""What is installed is what was looked at: `make lint` refuses a list that leaves a version, a hash or a place open."""

from pathlib import Path

import pytest

from tests.pinned import FOLDER, problems

HASH = "--hash=sha256:" + "0" * 64
GOOD = f"foo-bar==1.0 ; python_version < '3.14' \\\n    {HASH} \\\n    {HASH}\n"


def said(folder: Path, locked: str, wanted: str = "Foo_Bar\n") -> list[str]:
    (folder / "app.in").write_text(wanted)
    (folder / "app.txt").write_text(locked)
    return list(problems(folder))


def test_all_that_we_install_is_pinned() -> None:
    assert list(problems(FOLDER)) == []


def test_a_version_with_its_hashes_is_pinned(tmp_path: Path) -> None:
    assert said(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    "line",
    [
        "foo-bar==1.0",
        f"foo-bar>=1.0 {HASH}",
        f"foo-bar=={'1.0'} --hash=md5:00",
        "--index-url somewhere",
        "--extra-index-url somewhere",
        "--find-links somewhere",
        "-e .",
        f"foo-bar @ file:///x {HASH}",
    ],
)
def test_what_leaves_something_open_is_refused(tmp_path: Path, line: str) -> None:
    (found,) = said(tmp_path, f"{GOOD}{line}\n")
    assert "is not NAME==VERSION with its hashes" in found


def test_what_is_wanted_and_not_locked_is_refused(tmp_path: Path) -> None:
    assert said(tmp_path, GOOD, "foo-bar\nbaz\n") == ["app.in: baz is not in app.txt; run make lock"]


def test_one_package_in_two_versions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev.in").write_text("foo-bar\n")
    (tmp_path / "dev.txt").write_text(GOOD.replace("1.0", "2.0"))
    assert said(tmp_path, GOOD) == ["foo-bar is 2.0 in dev.txt, 1.0 in app.txt"]
