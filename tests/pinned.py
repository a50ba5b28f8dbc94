"""`python -m tests.pinned`: 1 unless all that is installed is pinned by version and hash, and no place is named.

`pip check` beside it says whether the pins fit one another. Neither asks a network; with one, `pip-audit -r
requirements/app.txt` says which have known holes.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "requirements"
PIN = re.compile(r"([a-z0-9][a-z0-9.-]*)(?:\[[a-z0-9,-]+\])?==([^\s;]+)( ;[^\\]+?)?((?: --hash=sha256:[0-9a-f]{64})+)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def problems(folder: Path) -> Iterator[str]:
    """What is not pinned, in every list of the folder, and what two lists pin to two versions."""
    versions: dict[tuple[str, str], tuple[str, str]] = {}
    for wanted in sorted(folder.glob("*.in")):
        locked = wanted.with_suffix(".txt")
        if not locked.exists():
            yield f"{wanted.name}: there is no {locked.name}; run make lock"
            continue
        pins = dict[str, str]()
        for line in _entries(locked):
            if not (found := PIN.fullmatch(line)):
                yield f"{locked.name}: {line[:60]!r} is not NAME==VERSION with its hashes"
                continue
            name, version, marker, _ = found.groups()
            pins[name] = version
            other, where = versions.setdefault((name, marker or ""), (version, locked.name))
            if other != version:
                yield f"{name} is {version} in {locked.name}, {other} in {where}"
        for line in _entries(wanted):
            if not line.startswith("-c ") and (name := _canonical(line)) not in pins:
                yield f"{wanted.name}: {name} is not in {locked.name}; run make lock"


def _entries(file: Path) -> Iterator[str]:
    """The lines that say something, each as one line."""
    for line in file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if text := " ".join(line.partition("#")[0].split()):
            yield text


def _canonical(line: str) -> str:
    found = NAME.match(line)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else line


if __name__ == "__main__":
    found = list(problems(FOLDER))
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    sys.exit(1 if found else 0)
