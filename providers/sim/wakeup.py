"""Wakes the provider that runs a world after another process changed the world's file.

A FIFO beside the file carries a line for each changed guest: its id, or an empty line for the hypervisor itself.
Without a running provider the line is dropped; the next provider reads the file at its start.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from providers.sim.script import SimError


def wake(world: Path, vm_id: str = "") -> None:
    """Tell the provider of this world that a guest was changed; without an id, the hypervisor."""
    try:
        fifo = os.open(_fifo(world), os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # no provider has it open (ENXIO), or none ever had
        return
    try:
        os.write(fifo, f"{vm_id}\n".encode())
    finally:
        os.close(fifo)


class Wakeup:
    """The provider's end of the FIFO; `changed` is called with each line. Its lock keeps a world to one provider.

    Raises:
        SimError: another provider has this world.
    """

    def __init__(self, world: Path, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        with suppress(FileExistsError):
            os.mkfifo(_fifo(world), 0o600)
        # Open for writing too, so that it does not end when a writer closes it.
        self._fifo = os.open(_fifo(world), os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.flock(self._fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fifo)
            raise SimError(
                f"{world}: another provider runs this world; stop it or name another --state-dir or --world."
            ) from error
        self._loop.add_reader(self._fifo, self._read)

    def close(self) -> None:
        """Stop listening, and free the world for another provider."""
        self._loop.remove_reader(self._fifo)
        os.close(self._fifo)

    def _read(self) -> None:
        # Lines are shorter than PIPE_BUF, so each arrives whole.
        for line in os.read(self._fifo, 1 << 16).decode().splitlines():
            self._changed(line)


def _fifo(world: Path) -> Path:
    return world.with_name(f"{world.name}.wakeup")
