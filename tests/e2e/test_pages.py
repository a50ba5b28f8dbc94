"""Every command of pages about a provider, typed from top to bottom: its output is what the page shows.

Each page has a sim of its own and runs in one shell.
"""

import os
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.rigs.cache import cache as cached
from tests.rigs.grpcurl import grpcurl
from tests.rigs.page import Example, Result, examples, require_shown, type_all
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT, Provider

FOUR = f"--script={ROOT}/examples/sim/guests.yaml"
METRICS = free_port()
PAGES = {
    "grpcurl": [],
    "cli": [FOUR],
    "doctor": [FOUR],
    "sim": [],
    "security": [],
    "monitoring": [FOUR, f"--metrics-listen=127.0.0.1:{METRICS}"],
    "controller": [],
}
"""By name: the flags of its sim, beside --allow-guest-exec."""

pytestmark = pytest.mark.timeout(300)  # the first test of a page runs all of it


@cache
def page(name: str) -> list[Example]:
    """A page's examples."""
    return examples(ROOT / "docs" / f"{name}.md")


@cache
def results(name: str) -> list[Result]:
    """What each command of a page printed."""
    with Provider("sim", "--allow-guest-exec", *PAGES[name]) as provider:
        places = [ROOT, Path(sys.executable).parent, *([grpcurl().parent] if name == "grpcurl" else [])]
        environment = os.environ | {
            "ADDR": provider.address,
            "VMPOWER_PROVIDER": provider.address,
            "VMPOWER_CACHE": str(cached()),
            "METRICS": str(METRICS),
            "WORLD": f"{provider.folder}/state/world.db",
            "PYTHONPATH": str(ROOT),
            "PATH": ":".join([*map(str, places), os.environ["PATH"]]),
        }
        return type_all(page(name), provider.folder, environment)


def _title(case: tuple[str, int]) -> str:
    name, number = case
    words = [word for word in page(name)[number].command.split() if word.isidentifier()]
    return "-".join([name, str(number + 1), *words[:3]])


@pytest.mark.parametrize("case", [(name, number) for name in PAGES for number in range(len(page(name)))], ids=_title)
def test_a_command_of_the_page_does_what_the_page_shows(case: tuple[str, int]) -> None:
    name, number = case
    require_shown(page(name), number, results(name)[number])
