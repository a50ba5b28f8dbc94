"""How a hand that reaches into a world's file tells the running provider where to look.

A FIFO beside the file: a line for each guest that was changed, empty for the hypervisor itself. With no
provider running nobody hears it, and nobody needs to: the file is read at the next start.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from providers.sim.script import SimError


def ring(world: Path, vm_id: str = "") -> None:
    """Tell the provider of this world that a guest, or without an id the hypervisor, was changed."""
    try:
        fifo = os.open(_bell(world), os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # no provider has it open (ENXIO), or none ever had
        return
    try:
        os.write(fifo, f"{vm_id}\n".encode())
    finally:
        os.close(fifo)


class Bell:
    """The provider's end; `heard` is called with each line. Only one provider can have a world's bell.

    Raises:
        SimError: another provider has this world.
    """

    def __init__(self, world: Path, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        with suppress(FileExistsError):
            os.mkfifo(_bell(world), 0o600)
        # Open for writing too, so that it does not end whenever a hand lets go of it.
        self._fifo = os.open(_bell(world), os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.flock(self._fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fifo)
            raise SimError(f"{world}: another provider runs this world; stop it or name another.") from error
        self._loop.add_reader(self._fifo, self._read)

    def close(self) -> None:
        """Hear no more."""
        self._loop.remove_reader(self._fifo)
        os.close(self._fifo)

    def _read(self) -> None:
        # Lines are shorter than PIPE_BUF, so each arrives whole.
        for line in os.read(self._fifo, 1 << 16).decode().splitlines():
            self._heard(line)


def _bell(world: Path) -> Path:
    return world.with_name(f"{world.name}.bell")
