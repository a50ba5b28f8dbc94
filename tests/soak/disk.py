"""A small disk that fills up, and is free again."""

import subprocess
from contextlib import suppress
from pathlib import Path

from tests.soak.ground import Impossible

SIZE = "16m"
"""A journal of some hundred operations needs less than half of it, with the 4 MiB that SQLite's log may grow to."""


class SmallDisk:
    """A tmpfs at `folder`, until it is closed.

    Raises:
        Impossible: it cannot be mounted here, where only root can.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._filler = folder, folder / "filler"
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "vmpower-soak", str(folder)]
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
        if mounted.returncode:
            raise Impossible(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")

    def fill(self) -> None:
        """To the last byte."""
        with suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
