"""Files that are replaced while we run: by others, as certificates and keys are, and by us."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


def stamps(files: Iterable[Path]) -> list[tuple[int, int]]:
    """Differs when one of the files has been written, replaced, removed or put out of reach."""
    return [(stat.st_mtime_ns, stat.st_ino) for stat in _stats(files)]


def replace(path: Path, text: str, *, on_disk: bool) -> None:
    """Write beside, then rename over: it is there as a whole, or as it was. `on_disk`: also after a loss of power.

    Raises:
        OSError
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if on_disk:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    if on_disk:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _stats(files: Iterable[Path]) -> Iterator[os.stat_result]:
    for file in files:
        with suppress(OSError):  # who reads it says why it cannot be read
            yield file.stat()
