"""The commands of a page of documentation, and what the page shows for each.

They are in blocks of ```console, after `$ `; all else in such a block is output. `...` in it stands for anything.
"""

import doctest
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A command and the output that the page shows for it."""

    command: str
    shown: str

    def is_matched_by(self, printed: str) -> bool:
        """Whether that is what the page shows."""
        return doctest.OutputChecker().check_output(self.shown, printed, LENIENT)


def examples(page: Path) -> list[Example]:
    """All of them, in the page's order."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
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
