"""A controller around fakes, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller import plan_ups
from controller.client import Changed
from controller.models import Resource, Runtime
from controller.plan_host import PlanHost
from controller.runner import Runner
from controller.rush import QUIET
from controller.trust import EVERYBODY, Trust
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import machine, provider
from tests.unit.controller.fakes import FakeClient, FakeSource, clock
from tests.unit.controller.plan_world import Hosting
from tests.unit.controller.site import Site


class Controller:
    """A runner with its fakes. `settle` lets everything happen that needs no time. `elsewhere` has the clients of other
    providers than `local`, by their endpoints."""

    def __init__(self, workers: int, *vms: pb.VM, trust: Trust = EVERYBODY, plans: PlanHost | None = None) -> None:
        self.source, self.client = FakeSource(), FakeClient(*vms)
        self.clock_set_by = timedelta(0)
        self.elsewhere: dict[str, FakeClient] = {}
        self.runner = Runner(
            self.source, self._connect, workers, lambda: clock() + self.clock_set_by, trust, plans=plans
        )
        self._task: asyncio.Task[None] | None = None

    def _connect(self, runtime: Runtime, changed: Changed) -> FakeClient:
        return self.elsewhere.get(runtime.endpoint or "", self.client).connect(runtime, changed)

    async def start(self, *resources: Resource, declare_provider: bool = True) -> None:
        self.source.apply(*([provider()] if declare_provider else []), *(resources or [machine()]))
        self.source.sync()
        self._task = asyncio.create_task(self.runner.run())
        await self.settle()

    async def apply(self, *resources: Resource) -> None:
        self.source.apply(*resources)
        await self.settle()

    async def settle(self, seconds: float = QUIET + 0.01) -> None:
        """Let happen what needs no more time than that; statuses are written when calls are."""
        await asyncio.sleep(seconds)

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


Make = Callable[..., Controller]
Begin = Callable[..., Coroutine[Any, Any, Controller]]


@pytest.fixture
async def make_controller() -> AsyncIterator[Make]:
    """Controllers with these VMs, not yet started."""
    made: list[Controller] = []

    def make(*vms: pb.VM, workers: int = 4, trust: Trust = EVERYBODY, plans: PlanHost | None = None) -> Controller:
        made.append(Controller(workers, *vms, trust=trust, plans=plans))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


@pytest.fixture
async def begin(make_controller: Make) -> Begin:
    """Controllers that run with these resources and one pb.VM named web that is on."""

    async def begin(*resources: Resource) -> Controller:
        made = make_controller()
        await made.start(*resources)
        return made

    return begin


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site()
    monkeypatch.setattr(plan_ups, "follow", site.follow)
    return site


@pytest.fixture
async def hosting(tmp_path: Path) -> AsyncIterator[Hosting]:
    hosting = Hosting(tmp_path / "here")
    yield hosting
    await hosting.end()


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Hosting]:
    """On another disk."""
    hosting = Hosting(tmp_path / "elsewhere")
    yield hosting
    await hosting.end()
