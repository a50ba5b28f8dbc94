"""Every command of docs/grpcurl.md, run by the real grpcurl against a real provider: its output is what the page shows.

The page's commands run in one shell, top to bottom, as a reader would type them. A command's exit code
must be 0 unless the next command is `echo $?`. `...` in shown output stands for anything.
"""

import doctest
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.rigs.grpcurl import grpcurl
from tests.rigs.process import Provider

PAGE = Path(__file__).parents[2] / "docs" / "grpcurl.md"
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Example:
    """A command and the output that the page shows for it."""

    command: str
    shown: str


@cache
def examples() -> list[Example]:
    """All of them, in the page's order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    typed = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return [_example(text) for text in typed]


def _example(text: str) -> Example:
    """A command goes on over lines as long as the shell would ask for more."""
    lines = text.splitlines(keepends=True)
    length = next(n for n in range(1, len(lines) + 1) if _complete("".join(lines[:n])))
    return Example("".join(lines[:length]).rstrip(), "".join(lines[length:]))


def _complete(command: str) -> bool:
    parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
    return parsed.returncode == 0 and not command.endswith("\\\n")


def _title(number: int) -> str:
    method = re.search(r"\$ADDR (?:\S+/)?(\w+)", examples()[number].command)
    return f"{number + 1}-{method[1] if method else 'echo'}"


@pytest.fixture(scope="module")
def results() -> list[tuple[str, int]]:
    """What each command printed, and its exit code."""
    script = "".join(
        f"{{ {example.command}\n}} 2>&1; status=$?; printf '\\0%s\\0' $status; (exit $status)\n"
        for example in examples()
    )
    with Provider("sim", "--allow-guest-exec") as provider:
        environment = os.environ | {"ADDR": provider.address, "PATH": f"{grpcurl().parent}:{os.environ['PATH']}"}
        shell = subprocess.run(
            ["bash", "-c", script + "true"], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    parts = shell.stdout.split("\0")
    return [(printed, int(status)) for printed, status in zip(parts[::2], parts[1::2], strict=False)]


@pytest.mark.parametrize("number", range(len(examples())), ids=_title)
def test_a_command_of_the_page_does_what_the_page_shows(number: int, results: list[tuple[str, int]]) -> None:
    example, (printed, status) = examples()[number], results[number]
    checker = doctest.OutputChecker()
    assert checker.check_output(example.shown, printed, LENIENT), printed
    code_is_shown = any(following.command == "echo $?" for following in examples()[number + 1 : number + 2])
    assert status == 0 or code_is_shown
