"""What pages say of the tree is so."""

import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.process import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
OURS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
"""The folders at the top."""
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def paths(page: Path) -> Iterator[str]:
    """What it calls by its path from the top."""
    for code in CODE.findall(page.read_text()):
        if re.fullmatch(r"[\w./-]+", code) and code.partition("/")[0] in OURS and "/" in code:
            yield code


def file_names(page: Path) -> Iterator[str]:
    """Python files that it calls by their names only."""
    yield from (code for code in CODE.findall(page.read_text()) if re.fullmatch(r"\w+\.py", code))


def python_names(page: Path) -> Iterator[str]:
    """Modules, and things in them."""
    for code in CODE.findall(page.read_text()):
        if re.fullmatch(r"\w+(\.\w+)+", code) and code.partition(".")[0] in OURS and not code.endswith((".py", ".md")):
            yield code


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in paths(page) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_python_file_that_a_page_names_exists(page: Path) -> None:
    known = {path.name for folder in OURS for path in (ROOT / folder).rglob("*.py")}
    assert [name for name in file_names(page) if name not in known] == []


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"], ids=title)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    for name in python_names(page):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, fragment in LINK.findall(page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if fragment:
            assert fragment in map(anchor, HEADING.findall(linked.read_text())), fragment
