"""One provider on a simulated machine: processes that are killed and started again, their disk and their clock."""

import asyncio
import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from providers.core.clock import Clock
from providers.core.inventory import Inventory
from providers.core.journal import Journal
from providers.core.limiter import Limiter
from providers.core.operations import Operations
from providers.core.run import Context
from providers.core.settings import Settings
from providers.core.store import Store
from providers.server.service import Service
from tests.simulation.hypervisor import Connection, Delegating, Hypervisor
from tests.simulation.universe import Loop, Universe

P = ParamSpec("P")
T = TypeVar("T")
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
WRITES = {"commit", "prune"}


class Disk(Limiter):
    """The journal's thread and its disk: each call takes time, and a kill may come before or after its effect, or in
    the middle of it."""

    def __init__(self, machine: "ProviderMachine") -> None:
        super().__init__("journal", 1)
        self._writing: Callable[[], object] | None = None
        self._machine = machine
        self._turn = asyncio.Lock()

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        machine, chance = self._machine, self._machine.universe.random
        name = getattr(call, "__name__", "") or getattr(getattr(call, "func", None), "__name__", "")
        async with self._turn:
            self._writing = partial(call, *args, **kwargs) if name in WRITES and not machine.disk_full else None
            await asyncio.sleep(chance.uniform(0, machine.disk_takes))
            self._writing = None
            if name in WRITES and machine.disk_full:
                raise sqlite3.OperationalError("database or disk is full")
            result = call(*args, **kwargs)
            await asyncio.sleep(chance.uniform(0, machine.disk_takes))
            return result

    def tear(self, store: Store) -> None:
        """Its process is killed, as by a power cut: of a write that was under way any part is on disk, but not all."""
        path, write = self._machine.journal_path, self._writing
        log = path.with_name(f"{path.name}-wal")
        if write is None or not log.exists():
            store.close()
            return
        before, began = path.read_bytes(), log.stat().st_size
        write()
        written = log.read_bytes()
        store.close()
        if len(written) > began:
            part = random.Random(self._machine.universe.steps).randrange(began, len(written))
            path.write_bytes(before)
            log.write_bytes(written[:part])


class ProviderMachine:
    """The machine that the provider runs on. Its processes share a disk and a clock, and nothing else."""

    def __init__(self, universe: Universe, hypervisor: Hypervisor, folder: Path) -> None:
        self.universe, self.hypervisor = universe, hypervisor
        self.journal_path = folder / "journal.db"
        self.settings = Settings(listen="unix:///nowhere", state_dir=folder, allow_guest_exec=True)
        self.clock_is_off = timedelta(0)
        self.boot = 1
        self.disk_full = False
        self.disk_takes = 0.001
        self.process: Process | None = None
        self.starts = 0

    def start(self) -> None:
        """Start a process, if none runs."""
        if self.process is None:
            self.starts += 1
            self.process = Process(self)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.die()
            self.process = None

    def reboot(self) -> None:
        """The machine is switched off and on: another boot, and its hypervisor does not notice."""
        self.kill()
        self.boot += 1

    def set_clock(self, by: timedelta) -> None:
        """Set the wall clock; a process that runs notices within a second (`Clock.follow`, which looks each second)."""
        self.clock_is_off += by
        if process := self.process:
            self.universe.after(self.universe.random.uniform(0, 1), process.look_at_clock)

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.universe.now) + self.clock_is_off


class Process:
    """A provider; of its gRPC edge, what serves the calls."""

    def __init__(self, machine: ProviderMachine) -> None:
        universe = machine.universe
        self.loop = Loop(universe)  # type: ignore[abstract]  # nothing else of it is used
        universe.loops.append(self.loop)
        self.connection = (Delegating if machine.hypervisor.delegates else Connection)(machine.hypervisor)
        clock = Clock(machine.wall, lambda: universe.now, f"boot-{machine.boot}")
        asyncio._set_running_loop(self.loop)
        try:
            self.disk = Disk(machine)
            self.journal = Journal(machine.journal_path, self.disk)
            self.inventory = Inventory(self.connection)
            self.context = Context(self.connection, self.inventory, self.journal, machine.settings, clock)
            self.operations = Operations(self.context)
            self.service = Service(self.context, self.operations)
            self.serving = asyncio.Event()
            self.spawn(self._serve())
        finally:
            asyncio._set_running_loop(None)

    def spawn(self, work: Any) -> "asyncio.Task[Any]":
        return self.loop.create_task(work)

    async def _serve(self) -> None:
        await self.operations.resume()
        self.serving.set()
        self.spawn(self.inventory.run())

    def look_at_clock(self) -> None:
        if self.loop.alive:
            self.loop.call_soon(self.context.clock.check)

    def die(self) -> None:
        self.loop.kill_for_good()
        self.connection.alive = False
        self.disk.tear(self.journal._store)  # what was committed is there
