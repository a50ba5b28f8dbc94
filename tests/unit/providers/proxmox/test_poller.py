"""The poller in virtual time, with a cluster that is made of rows and tasks."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from providers.core.adapter import VM, Change, Changed, Ended, Listed, OffCause, PowerState, Removed, none_active
from providers.core.errors import HypervisorUnavailable, VMNotFound
from providers.proxmox.absent import AT_ONCE
from providers.proxmox.api import Api
from providers.proxmox.config import ProxmoxSettings
from providers.proxmox.guests import Config, Guest, Rights
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
        self.ha_ignored = False
        self.granted = Rights({"/": {"Sys.Audit": 1}})
        self.omitted = set[str]()
        """Guests that are not listed."""
        self.numbers = {guest.id: 4000 + int(guest.id) for guest in guests}
        self.away = set[str]()
        self.user = "vmpower@pve"
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
        return [guest for vm_id, guest in self.guests_now.items() if vm_id not in self.omitted]

    async def status(self, guest: Guest, **_how: Any) -> Mapping[str, Any]:
        self.calls["status"] += 1
        now = self.guests_now.get(guest.id)
        if guest.node in self.away:
            raise HypervisorUnavailable(f"{guest.node} is away")
        if now is None or now.node != guest.node:
            raise VMNotFound("no such guest there")
        return {"status": now.status} | ({} if now.status == "stopped" else {"pid": self.numbers[guest.id]})

    async def pids(self, node: str, kind: str) -> Mapping[str, int]:
        self.calls[f"pids {node} {kind}"] += 1
        there = [guest for guest in self.guests_now.values() if (guest.node, guest.kind) == (node, kind)]
        return {guest.id: self.numbers[guest.id] for guest in there if guest.status != "stopped"}

    async def nodes(self) -> frozenset[str]:
        return frozenset({"pve1", "pve2"})

    async def is_free(self, vm_id: str) -> bool:
        self.calls["is_free"] += 1
        return vm_id not in self.guests_now

    async def rights(self) -> Rights:
        return self.granted

    async def ha_ignores(self) -> bool:
        self.calls["ha"] += 1
        return self.ha_ignored

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
        self.poller.rights = fake.granted
        self.poller._rights_read = asyncio.get_running_loop().time()
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

    def news(self) -> list[Change]:
        """What was told since."""
        return [self._told.get_nowait() for _ in range(self._told.qsize())]

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


async def test_guests_without_agents_are_not_looked_at_more_often_while_there_are_operations() -> None:
    fake = Fake(replace(WEB, uptime=5), replace(CT, uptime=5))
    async with following(fake, "100", "101"):
        await asyncio.sleep(14)
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


# Guests that are not listed


async def test_a_guest_that_is_not_listed_for_some_polls_and_runs_is_neither_gone_nor_off() -> None:
    fake = Fake(WEB, CT)
    async with following(fake, "100") as it:
        fake.omitted = {"100", "101"}
        await asyncio.sleep(10)
        fake.omitted.clear()
        await asyncio.sleep(10)
        assert it.news() == []
    assert fake.calls["is_free"] == 0


async def test_a_guest_that_is_not_listed_and_goes_off_is_off() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        fake.omitted = {"100"}
        fake.turn_off("100")
        async with asyncio.timeout(5):
            assert (await it.off(WEB)).ended == Ended(OffCause.GUEST)


async def test_a_guest_whose_configuration_no_node_has_is_gone() -> None:
    fake = Fake(WEB, CT)
    async with following(fake) as it:
        del fake.guests_now["100"]
        await asyncio.sleep(16)
        assert it.news() == [Removed("100")]


async def test_how_a_guest_is_that_is_not_listed_is_not_known_while_its_node_is_away() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        fake.omitted, fake.away = {"100"}, {"pve1"}
        await asyncio.sleep(10)
        [lost] = it.news()
        fake.omitted.clear()
        await asyncio.sleep(10)
        [back] = it.news()
    assert isinstance(lost, Changed)
    assert isinstance(back, Changed)
    assert (lost.vm.power_state, back.vm.power_state) == (PowerState.UNKNOWN, PowerState.ON)


async def test_a_guest_that_is_not_listed_while_it_moves_is_followed() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        fake.omitted = {"100"}
        fake.guests_now["100"] = replace(WEB, node="pve2")
        await asyncio.sleep(5)
        fake.omitted.clear()
        await asyncio.sleep(5)
        news = it.news()
    assert [change for change in news if isinstance(change, Removed)] == []
    assert [change.vm.node for change in news if isinstance(change, Changed)][-1] == "pve2"


async def test_if_all_are_missing_a_few_are_looked_for_at_a_time() -> None:
    many = [replace(WEB, id=str(number)) for number in range(100, 1100)]
    fake = Fake(*many)
    async with following(fake) as it:
        fake.omitted = set(fake.guests_now)
        await asyncio.sleep(16)
        assert it.news() == []
    assert fake.calls["status"] == AT_ONCE


# HA that is disarmed

HA_WEB = replace(WEB, ha="started")


async def test_what_ha_ignores_for_it_is_disarmed_is_not_managed_until_it_is_armed() -> None:
    fake = Fake(HA_WEB, CT)
    async with following(fake, "100") as it:
        fake.ha_ignored = True
        await asyncio.sleep(5)
        disarmed = it.tracker.vm("100")
        fake.ha_ignored = False
        await asyncio.sleep(5)
        armed = it.tracker.vm("100")
    assert disarmed
    assert armed
    assert (disarmed.always_forced, bool(armed.always_forced)) == ("", True)


async def test_ha_is_asked_once_a_poll_and_only_where_it_manages_guests() -> None:
    fake = Fake(HA_WEB, replace(HA_WEB, id="101"), FAR)
    async with following(fake):
        await asyncio.sleep(61)
    assert fake.calls["ha"] == 1 + 4
    without = Fake(WEB)
    async with following(without):
        await asyncio.sleep(61)
    assert without.calls["ha"] == 0


async def test_without_the_right_to_ask_ha_is_taken_to_be_armed() -> None:
    fake = Fake(HA_WEB)
    fake.ha_ignored = True
    async with following(fake) as it:
        it.poller.rights = Rights({"/": {}, "/nodes": {"Sys.Audit": 1}})
        await asyncio.sleep(31)
        vm = it.tracker.vm("100")
    assert vm
    assert vm.always_forced


async def test_a_node_that_tells_that_ha_manages_a_guest_again_is_believed_at_once() -> None:
    fake = Fake(HA_WEB)
    fake.ha_ignored = True
    async with following(fake) as it:
        await asyncio.sleep(16)
        await it.poller.learn(it.tracker.guests["100"], {"status": "running", "ha": {"managed": 1}})
        vm = it.tracker.vm("100")
    assert vm
    assert vm.always_forced


async def test_rights_that_are_granted_later_are_noticed_within_ten_minutes() -> None:
    fake = Fake(HA_WEB)
    fake.granted, fake.ha_ignored = Rights(), True
    async with following(fake) as it:
        fake.granted = Rights({"/": {"Sys.Audit": 1}})
        await asyncio.sleep(631)
        vm = it.tracker.vm("100")
    assert vm
    assert not vm.always_forced


# Runs


async def test_runs_are_named_by_one_call_a_node_and_kind_and_not_again() -> None:
    fake = Fake(WEB, CT, FAR)
    async with following(fake, "100") as it:
        assert [vm.run_id for vm in it.tracker.listed().vms] == ["pve1/4100", "pve1/4101", "pve2/4102"]
        await asyncio.sleep(20)
    assert [fake.calls[f"pids {at}"] for at in ("pve1 qemu", "pve1 lxc", "pve2 qemu", "pve2 lxc")] == [1, 1, 1, 0]


async def test_a_run_that_began_between_two_polls_has_another_name() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        fake.guests_now["100"], fake.numbers["100"] = replace(WEB, uptime=1), 5000
        await asyncio.sleep(3)
        vm = it.tracker.vm("100")
    assert vm
    assert vm.run_id == "pve1/5000"


async def test_configurations_are_read_again_also_while_there_are_operations_all_the_time() -> None:
    fake = Fake(WEB)
    async with following(fake, "100"):
        await asyncio.sleep(61)
    assert fake.calls["config"] == 1 + 3


# Whose end


async def test_a_shutdown_of_ours_is_believed_without_the_right_to_see_those_of_others() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        it.poller.rights = Rights()
        it.poller.follow(fake.begin(shutdown(WEB)))
        fake.turn_off("100")
        assert (await it.off(WEB)).off_cause is OffCause.GUEST


async def test_an_older_shutdown_is_not_believed_without_the_right_to_see_the_starts_of_others() -> None:
    fake = Fake(WEB)
    fake.end(fake.begin(shutdown(WEB)), off=False)
    async with following(fake, "100") as it:
        it.poller.rights = Rights()
        fake.turn_off("100")
        assert (await it.off(WEB)).ended == Ended()


async def test_a_guest_that_was_seen_to_run_and_goes_off_without_any_task_has_left() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        fake.turn_off("100")
        assert (await it.off(WEB)).ended == Ended(OffCause.GUEST)


async def test_without_the_right_to_see_the_tasks_of_others_that_is_not_known() -> None:
    fake = Fake(WEB)
    async with following(fake, "100") as it:
        it.poller.rights = Rights()
        fake.turn_off("100")
        assert (await it.off(WEB)).ended == Ended()


async def test_a_stop_of_ours_cut_a_guest_also_if_no_list_shows_it() -> None:
    fake = Fake(WEB)
    fake.listed = False
    async with following(fake, "100") as it:
        it.poller.follow(task := fake.begin(replace(shutdown(WEB), kind="qmstop")))
        fake.end(task, off=False)
        assert (await it.off(WEB)).off_cause is OffCause.HOST
