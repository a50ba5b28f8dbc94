"""The commands of a page of documentation, and what the page shows for each.

They are in blocks of ```console, after `$ `; all else in such a block is output. `...` in it stands for anything;
a moment, an operation's id and measured seconds stand for any other of their kind. A program of ours that serves goes
on as in a terminal of its own, and the next command is typed when it serves.

pages.py names the test that runs a page.
"""

import doctest
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARYING = {
    "<moment>": re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?"),
    "<time>": re.compile(r"\b\d\d:\d\d:\d\d\b"),
    "<operation>": re.compile(r"\b[0-9a-f]{32}\b"),
    "<seconds> s": re.compile(r"\b\d+\.\d s\b"),
}
"""What is different each time, in the order in which it is looked for."""
SERVES = re.compile(r"python -m (providers\.\w+|controller) (?!.*(--check|--help|&$))", re.DOTALL)
END = "trap 'python -m tests.rigs.serving end $served' EXIT\n"


@dataclass(frozen=True)
class Example:
    """A command and the output that the page shows for it."""

    command: str
    shown: str

    def is_matched_by(self, printed: str) -> bool:
        """Whether that is what the page shows."""
        return doctest.OutputChecker().check_output(_constant(self.shown), _constant(printed), LENIENT)


@dataclass(frozen=True)
class Result:
    """What a command printed, on stdout and stderr, and its exit code."""

    printed: str
    status: int


def examples(page: Path, section: str = "") -> list[Example]:
    """All of them, or those below one heading (`## SECTION`), in the page's order."""
    text = page.read_text(encoding="utf-8")
    if section:
        text = re.split(r"^## ", text.partition(f"\n## {section}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = BLOCK.findall(text)
    typed = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return [_example(text) for text in typed]


def placed(page: Sequence[Example], places: Mapping[str, str]) -> list[Example]:
    """The same with this machine's hosts and folders in the place of the page's.

    Raises:
        ValueError: the page has none of that name any more.
    """
    if missing := [name for name in places if not any(name in example.command for example in page)]:
        raise ValueError(f"no command names {missing}")
    return [Example(_replaced(example.command, places), _replaced(example.shown, places)) for example in page]


def type_all(page: Sequence[Example], folder: Path, environment: Mapping[str, str]) -> list[Result]:
    """Type all commands into one shell, from top to bottom, as a reader would."""
    shell = subprocess.run(
        ["bash", "-c", script(page)], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return results(shell.stdout)


def script(page: Sequence[Example]) -> str:
    """What is typed, for a shell that is elsewhere; what it prints tells `results`."""
    serves = [bool(SERVES.match(example.command)) for example in page]
    commands = [
        _started(number, example.command) if serving else example.command
        for number, (example, serving) in enumerate(zip(page, serves, strict=True), 1)
    ]
    typed = [f"{{ {command}\n}} 2>&1; status=$?; printf '\\0%s\\0' $status; (exit $status)\n" for command in commands]
    return "".join([END if any(serves) else "", *typed, "true"])


def results(printed: str) -> list[Result]:
    """What each command printed, of all that the shell did."""
    parts = printed.split("\0")
    return [Result(text, int(status)) for text, status in zip(parts[::2], parts[1::2], strict=False)]


def require_shown(page: Sequence[Example], number: int, result: Result) -> None:
    """A command printed what the page shows; its exit code is 0 unless the next command is `echo $?`."""
    assert page[number].is_matched_by(result.printed), result.printed
    code_is_shown = any(following.command == "echo $?" for following in page[number + 1 : number + 2])
    assert result.status == 0 or code_is_shown


def _started(number: int, command: str) -> str:
    started = f"python -m tests.rigs.serving start serving-{number}.log {shlex.quote(command)}"
    return f'started=$({started}) && served+=" $started"'


def _replaced(text: str, places: Mapping[str, str]) -> str:
    for name, here in places.items():
        text = text.replace(name, here)
    return text


def _example(text: str) -> Example:
    """A command goes on over lines as long as the shell would ask for more."""
    lines = text.splitlines(keepends=True)
    length = next(n for n in range(1, len(lines) + 1) if _complete("".join(lines[:n])))
    return Example("".join(lines[:length]).rstrip(), "".join(lines[length:]))


def _complete(command: str) -> bool:
    parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    return parsed.returncode == 0 and not parsed.stderr and not command.endswith("\\\n")


def _constant(text: str) -> str:
    for word, pattern in VARYING.items():
        text = pattern.sub(word, text)
    return text
