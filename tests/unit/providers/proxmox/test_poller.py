"""The poller in virtual time, with a cluster that is made of rows and tasks."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from providers.core.adapter import VM, Change, Changed, Ended, Listed, OffCause, PowerState, none_active
from providers.core.errors import HypervisorUnavailable
from providers.proxmox.api import Api
from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.guests import Config, Guest
from providers.proxmox.poller import Poller
from providers.proxmox.tasks import Task
from providers.proxmox.tracker import Tracker

pytestmark = pytest.mark.looptime
WEB, CT, FAR = (
    Guest("100", "qemu", "web", "pve1", "running", uptime=1000),
    Guest("101", "lxc", "ct", "pve1", "running", uptime=1000),
    Guest("102", "qemu", "far", "pve2", "running", uptime=1000),
)
SETTINGS = ProxmoxSettings.model_validate(
    {"listen": "unix:///unused", "url": "https://pve1.example", "credentials_dir": "/unused"}
)


def shutdown(guest: Guest) -> Task:
    kind = "qmshutdown" if guest.kind == "qemu" else "vzshutdown"
    return Task(f"UPID:{guest.id}", guest.node, kind, guest.id, "vmpower@pve", 1000)


class Fake:
    """A cluster. `calls` counts; a node in `hung` answers after 30 s that it is away."""

    def __init__(self, *guests: Guest) -> None:
        self.guests_now = {guest.id: guest for guest in guests}
        self.tasks_now = dict[str, Task]()
        self.listed = True
        self.log_now = list[str]()
        self.configs = dict[str, Config]()
        self.hung = set[str]()
        self.calls = Counter[str]()

    def begin(self, task: Task) -> Task:
        self.tasks_now[task.upid] = task
        return task

    def end(self, task: Task, status: str = "OK", seconds: int = 5, *, off: bool = True) -> None:
        self.tasks_now[task.upid] = replace(task, status=status, ended=task.started + seconds)
        if off:
            self.turn_off(task.vm_id)

    def turn_off(self, vm_id: str) -> None:
        self.guests_now[vm_id] = replace(self.guests_now[vm_id], status="stopped", uptime=0)

    async def guests(self) -> list[Guest]:
        self.calls["guests"] += 1
        return list(self.guests_now.values())

    async def tasks(self, node: str, **_which: Any) -> list[Task]:
        self.calls[f"tasks {node}"] += 1
        if node in self.hung:
            await asyncio.sleep(30)
            raise HypervisorUnavailable(f"{node} is away")
        return [task for task in self.tasks_now.values() if task.node == node and self.listed]

    async def task(self, task: Task) -> Mapping[str, Any]:
        self.calls["task"] += 1
        now = self.tasks_now[task.upid]
        return {"status": "running"} if now.runs else {"status": "stopped", "exitstatus": now.status}

    async def log(self, _task: Task) -> list[str]:
        return self.log_now

    async def config(self, guest: Guest) -> Config:
        self.calls["config"] += 1
        return self.configs.get(guest.id, Config())

    async def ping(self, _guest: Guest) -> bool:
        self.calls["ping"] += 1
        return False


class Following:
    """What the poller says, as it comes."""

    def __init__(self, fake: Fake, active_vms: frozenset[str]) -> None:
        self.tracker = Tracker()
        self.poller = Poller(cast(Api, fake), self.tracker, SETTINGS)
        self._active_vms: Callable[[], frozenset[str]] = (lambda: active_vms) if active_vms else none_active
        self._told: asyncio.Queue[Change] = asyncio.Queue()
        self._work = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for changes in self.poller.changes(self._active_vms):
            for change in changes:
                self._told.put_nowait(change)

    async def listed(self) -> Listed:
        change = await self._told.get()
        assert isinstance(change, Listed)
        return change

    async def off(self, guest: Guest) -> VM:
        while True:
            change = await self._told.get()
            if isinstance(change, Changed) and (change.vm.id, change.vm.power_state) == (guest.id, PowerState.OFF):
                return change.vm

    async def stop(self) -> None:
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)


@asynccontextmanager
async def following(fake: Fake, *active_vms: str) -> AsyncIterator[Following]:
    it = Following(fake, frozenset(active_vms))
    try:
        await it.listed()
        yield it
    finally:
        await it.stop()


# How often


async def test_an_idle_cluster_is_read_each_fifteen_seconds() -> None:
    fake = Fake(WEB, FAR)
    async with following(fake):
        await asyncio.sleep(61)
    assert (fake.calls["guests"], fake.calls["tasks pve1"]) == (1 + 4, 0)


async def test_it_is_read_each_two_seconds_while_there_are_operations() -> None:
    fake = Fake(WEB, FAR)
    async with following(fake, "100"):
        await asyncio.sleep(61)
    assert fake.calls["guests"] == 1 + 30


async def test_tasks_are_read_of_the_nodes_where_some_are_followed_alone() -> None:
    fake = Fake(WEB, FAR)
    async with following(fake) as it:
        it.poller.follow(fake.begin(shutdown(WEB)))
        await asyncio.sleep(11)
    assert fake.calls["tasks pve1"] == 5
    assert fake.calls["tasks pve2"] == 0


async def test_guests_without_agents_are_not_looked_at_again_while_there_are_operations() -> None:
    fake = Fake(replace(WEB, uptime=5), replace(CT, uptime=5))
    async with following(fake, "100", "101"):
        await asyncio.sleep(60)
    assert fake.calls["config"] == 2


async def test_an_agent_that_is_still_to_come_is_looked_for_until_its_guest_is_asked() -> None:
    fake = Fake(replace(WEB, uptime=5))
    fake.configs["100"] = Config(agent=True)
    async with following(fake, "100") as it:
        await asyncio.sleep(10)
        looked = fake.calls["ping"]
        assert looked >= 4
        it.poller.follow(fake.begin(shutdown(WEB)))
        await asyncio.sleep(10)
    assert fake.calls["ping"] <= looked + 1


# Ends


async def test_the_end_of_a_shutdown_tells_before_the_rows_do() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        end = it.poller.follow(task := fake.begin(shutdown(WEB)))
        fake.end(task, off=False)
        vm = await it.off(WEB)
    assert (vm.off_cause, end.done()) == (OffCause.GUEST, True)


async def test_a_task_that_is_not_listed_is_asked_for_by_itself() -> None:
    fake = Fake(WEB)
    fake.listed = False
    async with following(fake, "100") as it:
        it.poller.follow(task := fake.begin(shutdown(WEB)))
        fake.end(task)
        await it.off(WEB)
    assert fake.calls["task"] >= 1


async def test_a_container_is_off_when_its_shutdown_has_ended_which_tells_how_long_it_had() -> None:
    fake = Fake(CT)
    async with following(fake, "101") as it:
        it.poller.follow(task := fake.begin(shutdown(CT)))
        fake.turn_off("101")
        await asyncio.sleep(10)
        assert it.tracker.guests["101"].status == "running"
        fake.end(task, seconds=60)
        assert (await it.off(CT)).ended == Ended(after=timedelta(seconds=60))


async def test_a_container_that_went_off_before_a_start_is_told_of_when_its_shutdown_has_ended() -> None:
    fake = Fake(CT)
    task = fake.begin(shutdown(CT))
    fake.turn_off("101")
    async with following(fake, "101") as it:
        assert it.tracker.guests["101"].status == "running"
        fake.end(task, seconds=60)
        assert (await it.off(CT)).ended == Ended(after=timedelta(seconds=60))


# Nodes that keep us waiting


async def test_a_node_that_hangs_delays_no_news_of_another_one() -> None:
    fake = Fake(WEB, FAR)
    fake.hung = {"pve2"}
    async with following(fake, "100", "102") as it:
        for guest in (FAR, WEB):
            it.poller.follow(fake.begin(shutdown(guest)))
        await asyncio.sleep(100)
        fake.end(shutdown(WEB))
        async with asyncio.timeout(4.1):
            await it.off(WEB)


async def test_a_node_that_hangs_is_asked_once_at_a_time() -> None:
    fake = Fake(FAR)
    fake.hung = {"pve2"}
    async with following(fake, "102") as it:
        it.poller.follow(fake.begin(shutdown(FAR)))
        await asyncio.sleep(90)
    assert fake.calls["tasks pve2"] <= 4


async def test_a_start_waits_two_seconds_for_a_node_that_hangs() -> None:
    fake = Fake(FAR)
    fake.hung = {"pve2"}
    async with asyncio.timeout(3), following(fake, "102"):
        pass


async def test_what_a_node_did_while_it_was_away_is_told_when_it_is_back() -> None:
    fake = Fake(FAR)
    async with following(fake, "102") as it:
        it.poller.follow(task := fake.begin(shutdown(FAR)))
        fake.hung = {"pve2"}
        fake.end(task, off=False)
        await asyncio.sleep(60)
        assert it.tracker.guests["102"].status == "running"
        fake.hung.clear()
        assert (await it.off(FAR)).off_cause is OffCause.GUEST
