"""The Python of docs/client.md, run against a real provider: what it prints is what the page shows.

The first block is a program. The others stand inside its `async with`, as the page says, and run one after the other.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.rigs.page import Example
from tests.rigs.process import ROOT, Provider

PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n\n^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [Example(code, shown) for code, shown in BLOCK.findall(PAGE)]
END = "--- the block ends ---"


def program() -> str:
    """The page's program, with the other blocks in place of its body after the first one's."""
    first, *others = EXAMPLES
    before, last, after = first.command.partition("        print(operation.verdict.message)\n")
    body = "".join(f"print({END!r})\n{example.command}" for example in others)
    return before + last + textwrap.indent(body, " " * 8) + after


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each block printed."""
    file: Path = tmp_path_factory.mktemp("page") / "program.py"
    file.write_text(program(), encoding="utf-8")
    with Provider("sim") as provider:
        environment = os.environ | {"ADDR": provider.address, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(
            [sys.executable, str(file)], env=environment, capture_output=True, text=True, check=False, timeout=100
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split(END + "\n")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_a_block_of_the_page_prints_what_the_page_shows(number: int, printed: list[str]) -> None:
    assert EXAMPLES[number].is_matched_by(printed[number]), printed[number]


def test_every_block_of_python_is_run() -> None:
    assert PAGE.count("```python") == len(EXAMPLES)
