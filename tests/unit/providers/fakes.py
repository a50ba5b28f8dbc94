"""Stand-ins for what a unit test cannot have as it is."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from providers.core.adapter import VM, ActiveVMs, Change, Grace, Listed, Signal, none_active, unsupported
from providers.core.errors import VMNotFound
from providers.core.journal import Journal
from providers.core.lanes import Lanes, bounds
from providers.core.limiter import Limiter
from providers.core.model import Operation

P = ParamSpec("P")
T = TypeVar("T")


class Inline(Limiter):
    """No thread: virtual time cannot wait for one."""

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)


class InlineJournal(Journal):
    """The real journal and its real file, written on the event loop itself. Its disk can be broken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Inline("journal", 1))
        self.broken = False
        commit = self._store.commit

        def unless_broken(batch: Iterable[Operation]) -> None:
            if self.broken:
                raise sqlite3.OperationalError("database or disk is full")
            commit(batch)

        self._store.commit = unless_broken  # type: ignore[method-assign]


class OneVM:
    """The least hypervisor: one VM that only a test changes, and calls that a test replaces."""

    type = "fake"
    tells_late = True
    version = "1"
    endpoint = "fake://"
    signals = tuple(Signal)

    def __init__(self, *vms: VM) -> None:
        self.vms = {vm.id: vm for vm in vms}
        self.lanes = Lanes(bounds())
        self.news: asyncio.Queue[Change | Exception] = asyncio.Queue()
        self.watches = 0

    async def get(self, vm_id: str) -> VM:
        if vm_id not in self.vms:
            raise VMNotFound(f"There is no {vm_id}.")
        return self.vms[vm_id]

    async def list(self) -> Sequence[VM]:
        return tuple(self.vms.values())

    async def watch(self, _: ActiveVMs = none_active, /) -> AsyncIterator[Change]:
        self.watches += 1
        yield Listed(tuple(self.vms.values()))
        while True:
            news = await self.news.get()
            if isinstance(news, Exception):
                raise news
            yield news

    async def power_on(self, vm_id: str) -> None:
        raise NotImplementedError

    async def power_off(self, vm_id: str) -> bool:
        raise NotImplementedError

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        raise NotImplementedError

    guest_exec = unsupported
    snapshot = unsupported
    save = unsupported

    async def close(self) -> None:
        pass


def open_files() -> set[str]:
    """The paths of all that this process has open."""
    found = set[str]()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # what listed them is closed again
            found.add(str(file.readlink()))
    return found
