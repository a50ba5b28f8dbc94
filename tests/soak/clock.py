"""A wall clock of a process's own that steps, by libfaketime; what counts time within a boot goes on as it is."""

from collections.abc import Mapping
from pathlib import Path

from tests.soak.ground import Impossible

LIBRARIES = Path("/usr/lib")


class SteppedClock:
    """A file that says how many seconds the clock is off. A process that has `env` looks at each reading.

    Raises:
        Impossible: libfaketime is not installed.
    """

    def __init__(self, file: Path) -> None:
        libraries = sorted(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            raise Impossible("libfaketime is not installed; tests/rigs/packages.sh CACHE libfaketime does it")
        self._file = file
        self.env: Mapping[str, str] = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            # Meant for another C library: with this one, each wait for a condition burns some 100 ms of CPU.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nor CLOCK_BOOTTIME then, which test_clock.py looks at
        }
        self.set(0)

    def set(self, offset: int) -> None:
        """From now on it is so many seconds off."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.replace(self._file)
