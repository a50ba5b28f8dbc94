"""docs/install.md, typed from top to bottom: the wheel's part by a user with pipx, the package's by a Debian's root."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.rigs.cache import cache as cached
from tests.rigs.debian.machine import Machine
from tests.rigs.debian.package import copy_tree, make_package
from tests.rigs.page import Example, Result, examples, require_shown, script, type_all
from tests.rigs.page import results as printed_by
from tests.rigs.process import ROOT

PAGE = ROOT / "docs" / "install.md"
SECTIONS = ["The wheel", "The package"]

pytestmark = pytest.mark.timeout(300)  # the first test of a section types all of it


@cache
def section(name: str) -> list[Example]:
    """A section's examples."""
    return examples(PAGE, name)


@cache
def results(name: str) -> list[Result]:
    """What each command of a section printed."""
    with TemporaryDirectory(prefix="vmp-") as folder:
        tree = copy_tree(Path(folder) / "tree")
        return _with_pipx(tree, Path(folder) / "home") if name == SECTIONS[0] else _on_a_debian(tree)


def _with_pipx(tree: Path, home: Path) -> list[Result]:
    """pipx finds the libraries in the cache, and asks no network."""
    made = subprocess.run(
        [ROOT / "tests/rigs/wheels.sh", cached(), sys.executable], stdout=subprocess.PIPE, text=True, check=True
    )
    environment = os.environ | {
        "HOME": str(home),
        "VMPOWER_CACHE": str(cached()),
        "PATH": f"{home}/.local/bin:/usr/bin:/bin",
        "PIPX_DEFAULT_PYTHON": os.path.realpath(sys.executable),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{made.stdout.strip()} /usr/share/python-wheels",
    }
    return type_all(section(SECTIONS[0]), tree, environment)


def _on_a_debian(tree: Path) -> list[Result]:
    with Machine() as machine:
        shutil.copy(make_package(tree, tree), machine.folder)
        return printed_by(machine.run(f"cd /run/host\n{script(section(SECTIONS[1]))}").stdout)


def _title(case: tuple[str, int]) -> str:
    name, number = case
    words = [word for word in section(name)[number].command.split() if word.isidentifier()]
    return "-".join([name.split()[-1], str(number + 1), *words[:3]])


@pytest.mark.parametrize(
    "case", [(name, number) for name in SECTIONS for number in range(len(section(name)))], ids=_title
)
def test_a_command_of_the_page_does_what_the_page_shows(case: tuple[str, int]) -> None:
    name, number = case
    require_shown(section(name), number, results(name)[number])


def test_every_command_of_the_page_is_in_a_section_that_is_typed() -> None:
    assert examples(PAGE) == [example for name in SECTIONS for example in section(name)]
