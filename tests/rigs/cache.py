"""Where everything that is built or downloaded for tests is kept: outside the tree."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def cache() -> Path:
    """The cache's folder; it need not exist yet."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("VMPOWER_CACHE") or home / "vmpower")


@contextlib.contextmanager
def locked(part: str) -> Iterator[Path]:
    """The cache's folder, while no other process is here for the same part of it."""
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{part}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
