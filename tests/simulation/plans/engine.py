"""The machine that the engine runs on: processes that are killed and started again, their disk and their clients."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from client.power import PowerClient
from plans.calls import Calls
from plans.clock import Clock
from plans.freeze import freeze
from plans.history import History
from plans.journal import Journal, Runs
from plans.members import Declared
from plans.model import PlanSpec
from plans.run import Run
from protos.power.v1 import power_pb2 as pb
from tests.simulation.network import Network
from tests.simulation.provider import EPOCH
from tests.simulation.universe import Loop, Universe


class SimulatedClient(PowerClient):
    """The real client, over the simulated network. What a provider says of the time is the time of the simulation."""

    def __init__(self, network: Network, wall: Callable[[], datetime]) -> None:
        super().__init__("unix:///simulated")
        self._network, self._now = network, wall

    async def call(self, request: Any, timeout: float = 10.0) -> Any:
        answer = await super().call(request, timeout)
        if isinstance(answer, pb.GetProviderInfoResponse):
            answer.time.FromDatetime(self._now())
        return answer

    def _method(self, request: Message) -> Any:
        name = type(request).__name__.removesuffix("Request")
        return partial(self._network.stream if name.startswith("Watch") else self._network.call, name)


class EngineMachine:
    """Its processes carry out one run, one after the other."""

    def __init__(
        self,
        universe: Universe,
        networks: Mapping[str, Network],
        spec: PlanSpec,
        declared: Sequence[Declared],
        folder: Path,
    ) -> None:
        self._universe, self._networks, self._spec, self._declared = universe, networks, spec, declared
        self._runs = Runs(folder, self._disk)
        self._loop: Loop | None = None
        self._loops: list[Loop] = []
        self._journal: Journal | None = None
        self._run: Run | None = None
        self._name = ""
        self.away: list[tuple[float, float]] = []
        """When no process ran, from and to."""
        self.ended_at: float | None = None

    def start(self) -> None:
        """Start a process, if none runs."""
        if self._loop is not None:
            return
        if self.away:
            self.away[-1] = (self.away[-1][0], self._universe.now)
        self._loop = Loop(self._universe)  # type: ignore[abstract]  # nothing else of it is used
        self._loops.append(self._loop)
        self._universe.loops.append(self._loop)
        self._loop.create_task(self._main()).add_done_callback(self._noted)

    def kill(self) -> None:
        """SIGKILL. Its files are closed, and their lock is free."""
        if self._loop is None or self.ended_at is not None:
            return
        self._loop.kill()
        self._loop, self._run = None, None
        if self._journal:
            self._journal.close()
        self.away.append((self._universe.now, self._universe.now))

    def abort(self) -> None:
        """The power is back. Where no process runs now, nothing is aborted."""
        if self._loop and self._run:
            self._loop.create_task(self._run.abort())

    def shorten(self, seconds: float) -> None:
        """The battery says that it lasts no longer. Where no process runs now, nobody hears it."""
        if self._loop and self._run:
            self._loop.create_task(self._run.shorten(timedelta(seconds=seconds), "the battery"))

    def history(self) -> History | None:
        """The run as it is on disk."""
        return self._runs.read(self._name) if self._name else None

    def bury(self) -> None:
        for loop in self._loops:
            loop.end()
        if self._journal:
            self._journal.close()

    async def _main(self) -> None:
        clients = {name: SimulatedClient(network, self._wall) for name, network in self._networks.items()}
        clock = Clock(self._wall)
        if not self._name and (known := self._runs.all()):
            self._name = known[0].start.run
        if self._name:
            history, self._journal = self._runs.resume(self._name)
        else:
            frozen = await freeze(self._spec, clients, clock, self._declared)
            start = frozen.start("plan", self._spec, clock())
            history, self._journal = await self._runs.create(start)
            self._name = start.run
        self._run = Run(history, self._journal, Calls(clients), clock)
        await self._run.carry_out()
        self.ended_at = self._universe.now

    def _noted(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            self._universe.complain(f"the engine ended: {error!r}")

    def _wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self._universe.now)

    async def _disk(self, call: Callable[[], None]) -> None:
        """A kill may come before the call has its effect, or after."""
        await asyncio.sleep(self._universe.random.uniform(0, 0.002))
        call()
        await asyncio.sleep(self._universe.random.uniform(0, 0.002))
