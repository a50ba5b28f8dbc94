"""Files that are replaced while we run: certificates and keys."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


def stamps(files: Iterable[Path]) -> list[tuple[int, int]]:
    """Differs when one of the files has been written, replaced, removed or put out of reach."""
    return [(stat.st_mtime_ns, stat.st_ino) for stat in _stats(files)]


def _stats(files: Iterable[Path]) -> Iterator[os.stat_result]:
    for file in files:
        with suppress(OSError):  # who reads it says why it cannot be read
            yield file.stat()
