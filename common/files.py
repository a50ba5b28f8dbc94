"""Files that are replaced while we run: certificates and keys."""

from collections.abc import Iterable
from pathlib import Path


def stamps(files: Iterable[Path]) -> list[tuple[int, int]]:
    """Differs when one of the files has been written, replaced or removed."""
    return [(stat.st_mtime_ns, stat.st_ino) for stat in (file.stat() for file in files if file.exists())]
