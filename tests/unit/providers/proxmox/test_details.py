"""DetailReader in virtual time, of guests that take a while to tell them."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from providers.core.adapter import Change, Changed
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.proxmox.api import Api
from providers.proxmox.details import A_FEW, AT_ONCE, FIRST_SECONDS, FRESH_SECONDS, ROUND_SECONDS, DetailReader
from providers.proxmox.guests import Config, Guest
from providers.proxmox.tasks import Task
from providers.proxmox.tracker import Tracker

pytestmark = pytest.mark.looptime
WEB = Guest("100", "qemu", "web", "pve1", "running")
BACKUP = Task("UPID:b", "pve1", "vzdump", "100", "root@pam", 1000)


class Fake:
    """Nodes whose answers take so many seconds; agents answer, unless they may not be asked."""

    def __init__(self, **seconds: float) -> None:
        self._seconds = seconds
        self.read = Counter[str]()
        self.config_now = Config(agent=True)
        self.refusal: CommandFailed | None = None
        self.tasks_now = list[Task]()
        self.away = False

    async def config(self, guest: Guest) -> Config:
        self.read[guest.id] += 1
        await asyncio.sleep(self._seconds.get(guest.node, 0))
        if self.away:
            raise HypervisorUnavailable("away")
        return self.config_now

    async def ping(self, _guest: Guest) -> bool:
        if self.refusal:
            raise self.refusal
        return True

    async def tasks(self, _node: str, **_which: Any) -> list[Task]:
        return self.tasks_now


class Told:
    def __init__(self, fake: Fake, *guests: Guest) -> None:
        self.news = list[Change]()
        self.tracker = Tracker()
        self.tracker.apply(guests, {})
        self.details = DetailReader(cast(Api, fake), self.tracker, self._tell)

    def _tell(self, changes: Iterable[Change]) -> None:
        self.news += changes


def many(node: str, first: int, count: int) -> list[Guest]:
    return [replace(WEB, id=str(number), name=f"vm-{number}", node=node) for number in range(first, first + count)]


async def test_what_is_read_is_told() -> None:
    told = Told(Fake(), WEB)
    await told.details.read(WEB)
    (change,) = told.news
    assert isinstance(change, Changed)
    assert told.tracker.details("100").answers


async def test_the_first_listing_waits_for_all_that_answer() -> None:
    fake = Fake(pve1=1)
    told = Told(fake, *many("pve1", 100, 20))
    await told.details.first()
    assert all(told.tracker.details(vm_id).config for vm_id in told.tracker.guests)


async def test_the_first_listing_does_not_wait_for_ever() -> None:
    told = Told(Fake(pve1=300), WEB)
    async with asyncio.timeout(FIRST_SECONDS + 1):
        await told.details.first()


async def test_a_node_is_asked_about_a_few_at_once() -> None:
    fake = Fake(pve1=60)
    told = Told(fake, *many("pve1", 100, 30))
    told.details.want(told.tracker.guests)
    await asyncio.sleep(1)
    assert fake.read.total() == AT_ONCE


async def test_a_node_that_hangs_holds_up_no_other_ones_guests() -> None:
    fake = Fake(pve1=60)
    far = many("pve2", 200, 5)
    told = Told(fake, *many("pve1", 100, 30), *far)
    told.details.want(told.tracker.guests)
    await asyncio.sleep(1)
    assert all(told.tracker.details(guest.id).config for guest in far)


async def test_a_guest_that_is_being_read_is_not_read_beside_it() -> None:
    fake = Fake(pve1=60)
    told = Told(fake, WEB)
    for _ in range(3):
        told.details.want(["100"])
        await asyncio.sleep(1)
    assert fake.read["100"] == 1


async def test_idle_polls_go_through_all_guests_a_few_at_a_time() -> None:
    fake = Fake()
    told = Told(fake, *many("pve1", 100, 2 * A_FEW))
    for _ in range(2):
        told.details.sweep(every=15)
        await asyncio.sleep(1)
    assert set(fake.read.values()) == {1}
    assert len(fake.read) == 2 * A_FEW


async def test_all_guests_are_read_again_within_a_bounded_time_however_many_there_are() -> None:
    fake = Fake()
    told = Told(fake, *many("pve1", 100, 4000))
    for _ in range(int(ROUND_SECONDS / 15)):
        told.details.sweep(every=15)
        await asyncio.sleep(15)
    assert set(fake.read.values()) == {1}
    assert len(fake.read) == 4000


async def test_details_are_due_when_there_are_none_or_they_are_old() -> None:
    told = Told(Fake(), WEB)
    due = [told.details.due("100")]
    await told.details.read(WEB)
    due.append(told.details.due("100"))
    await asyncio.sleep(FRESH_SECONDS + 1)
    assert [*due, told.details.due("100")] == [True, False, True]


async def test_what_was_known_stays_when_it_cannot_be_read() -> None:
    fake = Fake()
    told = Told(fake, WEB)
    await told.details.read(WEB)
    fake.away = True
    told.details.want(["100"])
    await asyncio.sleep(1)
    assert told.tracker.details("100").config == Config(agent=True)


async def test_a_guest_that_is_gone_meanwhile_is_left_alone() -> None:
    fake = Fake()
    told = Told(fake, WEB)
    told.tracker.apply([], {})
    told.details.want(["100"])
    await asyncio.sleep(1)
    assert fake.read.total() == 0


async def test_an_agent_that_may_not_be_asked_is_told_with_the_reason() -> None:
    fake = Fake()
    fake.refusal = CommandFailed("it lacks a privilege")
    told = Told(fake, WEB)
    await told.details.read(WEB)
    assert (told.tracker.details("100").answers, told.tracker.details("100").ping_error) == (
        None,
        "it lacks a privilege",
    )


async def test_the_task_behind_a_lock_is_named_with_its_user() -> None:
    fake = Fake()
    fake.tasks_now = [BACKUP]
    locked = replace(WEB, lock="backup")
    told = Told(fake, locked)
    await told.details.read(locked)
    assert told.tracker.details("100").lock_holder == "vzdump by root@pam"
