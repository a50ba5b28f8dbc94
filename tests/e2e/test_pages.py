"""Every command of pages about a provider, typed from top to bottom: its output is what the page shows.

Each page runs in one shell, with a sim of its own unless it starts one itself.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.rigs.cache import cache as cached
from tests.rigs.grpcurl import grpcurl
from tests.rigs.nut.programs import libraries, program
from tests.rigs.page import Example, Result, placed, require_shown, type_all
from tests.rigs.pages import typed
from tests.rigs.ports import free_port
from tests.rigs.process import ROOT, Provider

FOUR = f"--script={ROOT}/examples/sim/guests.yaml"
METRICS = free_port()
PAGES: dict[str, list[str] | None] = {
    "grpcurl": [],
    "cli": None,
    "doctor": [FOUR],
    "plans": None,
    "sim": None,
    "security": [],
    "monitoring": [FOUR, f"--metrics-listen=127.0.0.1:{METRICS}"],
    "controller": [],
}
"""By name: the flags of its sim, beside --allow-guest-exec; None: it starts its own."""
HERE = {"sim": ["127.0.0.1:9443"], "plans": ["127.0.0.1:3493", "127.0.0.1 3493"]}
"""A port of a page, as it writes it, for which there is another one here."""
NEEDS: dict[str, list[Callable[[], Path]]] = {
    "grpcurl": [grpcurl],
    "plans": [partial(program, "upsd"), partial(program, "upsc")],
}
"""Programs that the commands of a page are."""

pytestmark = pytest.mark.timeout(300)  # the first test of a page runs all of it


@cache
def page(name: str) -> list[Example]:
    """A page's examples."""
    return typed(f"docs/{name}.md")


@cache
def results(name: str) -> list[Result]:
    """What each command of a page printed."""
    flags = PAGES[name]
    with _own_sim(flags) if flags is not None else _no_sim() as (folder, sims):
        places = [ROOT, Path(sys.executable).parent, *(each().parent for each in NEEDS.get(name, []))]
        environment = os.environ | {
            "VMPOWER_CACHE": str(cached()),
            "METRICS": str(METRICS),
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder),
            "PATH": ":".join([*map(str, places), os.environ["PATH"]]),
        }
        (folder / "examples").symlink_to(ROOT / "examples")
        there = placed(page(name), {"/tmp/": f"{folder}/"}) if flags is None else page(name)
        port = str(free_port())
        here = {written: re.sub(r"\d+$", port, written) for written in HERE.get(name, [])}
        there = placed(there, here)
        if name == "plans":
            there = placed(there, {"/lib/nut/": f"{program('dummy-ups').parent}/"})
            environment |= {"LD_LIBRARY_PATH": libraries()}
        done = type_all(there, folder, environment | sims)
        return [Result(_as_written(result.printed, here), result.status) for result in done]


def _as_written(printed: str, here: Mapping[str, str]) -> str:
    """With the page's own ports."""
    for written, there in here.items():
        printed = printed.replace(there, written)
    return printed


@contextmanager
def _own_sim(flags: list[str]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Its folder, and what tells a shell of it."""
    with Provider("sim", "--allow-guest-exec", *flags) as provider:
        told = {"ADDR": provider.address, "VMPOWER_PROVIDER": provider.address}
        yield provider.folder, told | {"WORLD": f"{provider.folder}/state/world.db"}


@contextmanager
def _no_sim() -> Iterator[tuple[Path, dict[str, str]]]:
    with TemporaryDirectory(prefix="vmp-", dir="/tmp") as folder:
        yield Path(folder), {}


def _title(case: tuple[str, int]) -> str:
    name, number = case
    words = [word for word in page(name)[number].command.split() if word.isidentifier()]
    return "-".join([name, str(number + 1), *words[:3]])


@pytest.mark.parametrize("case", [(name, number) for name in PAGES for number in range(len(page(name)))], ids=_title)
def test_a_command_of_the_page_does_what_the_page_shows(case: tuple[str, int]) -> None:
    name, number = case
    require_shown(page(name), number, results(name)[number])
