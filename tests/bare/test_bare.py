"""README's promise, that its commands do all their own set-up: on a bare Debian of each release, with make and Python.

They are typed by chroot, without an init: so `make run` is tried with the sim, and real guests are for `make test`.
"""

import re
from collections.abc import Iterator

import pytest

from tests.rigs.debian.bare import Bare, Ran
from tests.rigs.debian.package import copy_tree

PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
VERDICTS = {"web": "GRACEFUL", "legacy": "GRACEFUL", "deaf": "FORCED", "broken": "GRACEFUL"}

pytestmark = pytest.mark.timeout(3600)  # each release fetches and installs all that the unit tests need


@pytest.fixture(scope="module", params=list(PYTHON))
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """With this tree at /vmpower, as a clone has it."""
    with Bare(request.param) as bare:
        bare.add(copy_tree(tmp_path_factory.mktemp("clone") / "vmpower"), "/vmpower")
        yield bare


def typed(bare: Bare, command: str, capsys: pytest.CaptureFixture[str]) -> Ran:
    """What a command did in the tree; how long it took is for whoever runs this."""
    ran = bare.run(f"cd /vmpower; {command}")
    with capsys.disabled():
        print(f"\n{bare.release}: {command}: {ran.seconds:.0f} s")
    assert ran.status == 0, ran.printed
    return ran


def test_it_has_the_python_of_its_release(bare: Bare, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"Python {PYTHON[bare.release]}." in typed(bare, "python3 -V", capsys).printed


def test_make_run_shows_the_four_verdicts(bare: Bare, capsys: pytest.CaptureFixture[str]) -> None:
    printed = typed(bare, "make run HYPERVISOR=sim", capsys).printed
    found = dict(re.findall(r"^ (\w+) +(GRACEFUL|FORCED) ", printed, re.MULTILINE))
    assert found == VERDICTS, printed


def test_make_unit_passes(bare: Bare, capsys: pytest.CaptureFixture[str]) -> None:
    printed = typed(bare, "make unit", capsys).printed
    assert re.search(r"=+ \d+ passed.* in ", printed), printed
