"""Which files of a directory may be manifests, at all levels of it. Hidden files and directories are left alone."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controller.sources.manifests import Problem

SUFFIXES = {".yaml", ".yml", ".json"}
Stamp = tuple[int, int, int]
"""Differs when a file was written or replaced."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that may be manifests, in the order of their names, and what could not be listed."""

    stamps: dict[Path, Stamp] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def listed(root: Path, apart: Path | None = None) -> Listing:
    """What there is below `root`, without the directory `apart`. What has gone since its parent was listed is none."""
    problems, found = list[Problem](), list[Path]()

    def on_error(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            problems.append(_problem(Path(error.filename), f"cannot be listed: {error.strerror}"))

    for folder, folders, names in os.walk(root, onerror=on_error):
        inner = [Path(folder, name) for name in folders if not name.startswith(".")]
        problems += [_problem(path, LINKED) for path in inner if path.is_symlink()]
        folders[:] = [path.name for path in inner if path != apart and not path.is_symlink()]
        found += [Path(folder, name) for name in names if name[0] != "." and _may_be(name)]
    return _stamped(sorted(found), problems)


def alone(file: Path) -> Listing:
    """This file, whatever its name ends with."""
    return _stamped([file], [])


def _stamped(found: list[Path], problems: list[Problem]) -> Listing:
    stamps = dict[Path, Stamp]()
    for path in found:
        try:
            stat = path.stat()
        except OSError as error:
            problems += list(_unread(path, error))
        else:
            stamps[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return Listing(stamps, tuple(problems))


LINKED = "is a link to a directory, which is not followed: put the manifests here, or link each file"


def _may_be(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _unread(path: Path, error: OSError) -> Iterator[Problem]:
    """Of a file that has gone between the listing and now, nothing."""
    if path.is_symlink():
        yield _problem(path, f"is a link that cannot be followed: {error.strerror}")
    elif not isinstance(error, FileNotFoundError):
        yield _problem(path, f"cannot be read: {error.strerror}")


def _problem(path: Path, message: str) -> Problem:
    return Problem(path, 1, "", message)
