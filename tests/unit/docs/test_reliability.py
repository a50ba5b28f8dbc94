"""The tests that the page of promises names are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KINDS = (ROOT / "docs" / "reliability.md").read_text().split("## The kinds of faults")[1].split("\n## ")[0]
NAMED = re.findall(r"`([\w/]+\.py)`((?:[:,] `test_\w+…?`)*)", KINDS)
"""Files below tests/e2e, and the names in them, each whole or as it begins (…)."""


@pytest.mark.parametrize(("file", "names"), NAMED)
def test_each_test_that_shows_a_kind_is_there(file: str, names: str) -> None:
    text = (ROOT / "tests" / "e2e" / file).read_text()
    for name, more in re.findall(r"`(test_\w+?)_?(…?)`", names):
        assert re.search(rf"def {name}{'' if more else '[(]'}", text), name


def test_every_kind_of_fault_has_such_tests() -> None:
    rows = [row for row in KINDS.splitlines() if row.startswith("| ") and not row.startswith("| kind")]
    assert len(rows) == 8
    assert all(".py`" in row for row in rows)
