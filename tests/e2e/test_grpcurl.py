"""Every command of docs/grpcurl.md, run by the real grpcurl against a real provider: its output is what the page shows.

The page's commands run in one shell, top to bottom, as a reader would type them. A command's exit code
must be 0 unless the next command is `echo $?`. `...` in shown output stands for anything.
"""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.rigs.grpcurl import grpcurl
from tests.rigs.page import Example, examples
from tests.rigs.process import Provider

PAGE = Path(__file__).parents[2] / "docs" / "grpcurl.md"


@cache
def page() -> list[Example]:
    """The page's examples."""
    return examples(PAGE)


def _title(number: int) -> str:
    method = re.search(r"\$ADDR (?:\S+/)?(\w+)", page()[number].command)
    return f"{number + 1}-{method[1] if method else 'echo'}"


@pytest.fixture(scope="module")
def results() -> list[tuple[str, int]]:
    """What each command printed, and its exit code."""
    script = "".join(
        f"{{ {example.command}\n}} 2>&1; status=$?; printf '\\0%s\\0' $status; (exit $status)\n" for example in page()
    )
    with Provider("sim", "--allow-guest-exec") as provider:
        environment = os.environ | {"ADDR": provider.address, "PATH": f"{grpcurl().parent}:{os.environ['PATH']}"}
        shell = subprocess.run(
            ["bash", "-c", script + "true"], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    parts = shell.stdout.split("\0")
    return [(printed, int(status)) for printed, status in zip(parts[::2], parts[1::2], strict=False)]


@pytest.mark.parametrize("number", range(len(page())), ids=_title)
def test_a_command_of_the_page_does_what_the_page_shows(number: int, results: list[tuple[str, int]]) -> None:
    example, (printed, status) = page()[number], results[number]
    assert example.is_matched_by(printed), printed
    code_is_shown = any(following.command == "echo $?" for following in page()[number + 1 : number + 2])
    assert status == 0 or code_is_shown
