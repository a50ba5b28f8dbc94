"""Stand-ins for what a unit test cannot have as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from providers.blocking import Lane
from providers.errors import JournalFailed
from providers.journal import Journal
from providers.model import Operation

P = ParamSpec("P")
T = TypeVar("T")


class Inline(Lane):
    """No thread: virtual time cannot wait for one."""

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)


class InlineJournal(Journal):
    """The real journal and its real file, written on the event loop itself. Its disk can be broken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lane.close()
        self._lane = Inline("journal", 1)
        self.broken = False

    async def save(self, operation: Operation) -> None:
        if self.broken:
            raise JournalFailed("The journal cannot be written (disk full); the operator mends the disk.")
        await super().save(operation)
