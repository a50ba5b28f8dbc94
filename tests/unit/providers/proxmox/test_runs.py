"""Which run is which, over starts, moves and migrations; test_poller.py has when they are read."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from providers.core.adapter import Change
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox.api import Api
from providers.proxmox.guests import Guest
from providers.proxmox.runs import RunReader
from providers.proxmox.tasks import Task
from providers.proxmox.tracker import Tracker
from providers.proxmox.visits import Visits

WEB = Guest("100", "qemu", "web", "pve1", "running", uptime=1000)
THERE = replace(WEB, node="pve2", uptime=3)
MIGRATION = Task("UPID:m", "pve1", "qmigrate", "100", "root@pam", 1000, 1060, "OK")


class Fake:
    """Nodes with the processes and tasks that a test wants."""

    def __init__(self) -> None:
        self.numbers: Mapping[str, int] = {"100": 4711}
        self.tasks_now = list[Task]()
        self.error: Exception | None = None

    async def pids(self, _node: str, _kind: str) -> Mapping[str, int]:
        if self.error:
            raise self.error
        return self.numbers

    async def tasks(self, node: str, **_which: Any) -> list[Task]:
        if self.error:
            raise self.error
        return [task for task in self.tasks_now if task.node == node]


class Reading:
    def __init__(self) -> None:
        self.fake, self.tracker, self.news = Fake(), Tracker(), list[Change]()
        self.runs = RunReader(cast(Api, self.fake), self.tracker, self._report, Visits(2))
        self.tracker.apply([WEB], {})

    def _report(self, changes: Iterable[Change]) -> None:
        self.news += changes

    async def run(self) -> str:
        """What the run of the guest is called by now."""
        await self.runs.read()
        vm = self.tracker.vm("100")
        assert vm
        return vm.run_id


@pytest.fixture
async def reading() -> Reading:
    """Its guest's run is known."""
    reading = Reading()
    await reading.run()
    return reading


async def test_a_run_is_its_process_on_its_node(reading: Reading) -> None:
    assert (await reading.run(), len(reading.news)) == ("pve1/4711", 1)


async def test_a_node_that_does_not_tell_processes_leaves_runs_without_names() -> None:
    reading = Reading()
    reading.fake.numbers = {}
    assert (await reading.run(), reading.tracker.unidentified()) == ("", [])


async def test_a_node_that_may_not_be_asked_leaves_runs_without_names() -> None:
    reading = Reading()
    reading.fake.error = CommandFailed("no")
    assert (await reading.run(), reading.tracker.unidentified()) == ("", [])


async def test_what_a_node_that_is_away_cannot_tell_is_asked_again() -> None:
    reading = Reading()
    reading.fake.error = HypervisorUnavailable("away")
    assert await reading.run() == ""
    reading.fake.error = None
    assert await reading.run() == "pve1/4711"


async def test_what_a_node_tells_of_one_guest_names_its_run(reading: Reading) -> None:
    await reading.runs.note(WEB, {"status": "running", "pid": 4712})
    assert await reading.run() == "pve1/4712"


@pytest.mark.parametrize("migration", [MIGRATION, replace(MIGRATION, status="", ended=None)])
async def test_a_guest_that_is_migrated_while_it_runs_goes_on_with_its_run(reading: Reading, migration: Task) -> None:
    reading.fake.tasks_now = [migration]
    reading.tracker.apply([THERE], {})
    assert await reading.run() == "pve1/4711"
    await reading.runs.note(THERE, {"status": "running", "pid": 4711})
    assert await reading.run() == "pve1/4711"


async def test_a_start_on_the_node_that_it_was_migrated_to_is_another_run(reading: Reading) -> None:
    reading.fake.tasks_now = [MIGRATION]
    reading.tracker.apply([THERE], {})
    await reading.run()
    reading.tracker.apply([replace(THERE, status="stopped", uptime=0)], {})
    reading.tracker.apply([replace(THERE, uptime=1)], {})
    reading.fake.numbers = {"100": 90}
    assert await reading.run() == "pve2/90"


@pytest.mark.parametrize(
    "tasks",
    [
        [],
        [MIGRATION, replace(MIGRATION, kind="qmshutdown", started=900)],
        [MIGRATION, replace(MIGRATION, kind="qmstart", started=1100)],
        [replace(MIGRATION, status="no such storage")],
    ],
    ids=["none", "after a shutdown", "before a start there", "failed"],
)
async def test_a_guest_that_was_started_on_another_node_is_in_another_run(reading: Reading, tasks: list[Task]) -> None:
    reading.fake.tasks_now = tasks
    reading.tracker.apply([THERE], {})
    assert await reading.run() == "pve2/4711"


async def test_a_guest_whose_old_node_is_away_was_recovered_which_is_another_run(reading: Reading) -> None:
    reading.tracker.apply([THERE], {})
    reading.fake.error = HypervisorUnavailable("away")
    await reading.runs.note(THERE, {"status": "running", "pid": 90})
    assert await reading.run() == "pve2/90"
