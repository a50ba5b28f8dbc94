import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Changed,
    Ended,
    Listed,
    OffCause,
    PowerState,
    Removed,
    none_active,
)
from providers.core.errors import AmbiguousName, CommandFailed, HypervisorUnavailable, VMNotFound
from providers.core.inventory import SOONEST_RETRY, Inventory, is_off
from tests.unit.providers.fakes import OneVM

pytestmark = pytest.mark.looptime

WEB = VM("1", "web", PowerState.ON)
WEB_OFF = VM("1", "web", PowerState.OFF, Ended(OffCause.GUEST))
DB = VM("2", "db", PowerState.ON)

Told = list[tuple[str, VM | None]]


class Followed(Inventory):
    """An inventory that follows, and what it told."""

    def __init__(self, adapter: OneVM) -> None:
        super().__init__(adapter)
        self.hypervisor = adapter
        self.told: Told = []

    def note(self, vm_id: str, vm: VM | None) -> None:
        self.told.append((vm_id, vm))

    async def hear(self, *news: Change | Exception) -> None:
        for one in news:
            self.hypervisor.news.put_nowait(one)
        await asyncio.sleep(0.001)


@pytest.fixture
async def inventory() -> AsyncIterator[Followed]:
    inventory = Followed(OneVM(WEB, DB))
    following = asyncio.create_task(inventory.run())
    await inventory.connected.wait()
    yield inventory
    following.cancel()


async def test_a_vm_is_found_by_its_id(inventory: Followed) -> None:
    assert inventory.resolve("1") is WEB


async def test_a_vm_is_found_by_its_name(inventory: Followed) -> None:
    assert inventory.resolve("db") is DB


async def test_a_vm_is_found_by_an_alias(inventory: Followed) -> None:
    found = VM("3", "app", PowerState.ON, aliases=("/dc/vm/app",))
    await inventory.hear(Changed(found))
    assert inventory.resolve("/dc/vm/app") is found


async def test_a_vm_that_nobody_has_is_not_found(inventory: Followed) -> None:
    with pytest.raises(VMNotFound, match="No VM has the id or name 'nothing'"):
        inventory.resolve("nothing")


async def test_a_name_that_two_bear_is_ambiguous_and_both_ids_are_told(inventory: Followed) -> None:
    await inventory.hear(Changed(VM("3", "web", PowerState.ON)))
    with pytest.raises(AmbiguousName) as refused:
        inventory.resolve("web")
    assert refused.value.metadata == {"ids": "1,3"}


async def test_an_id_counts_before_a_name(inventory: Followed) -> None:
    await inventory.hear(Changed(VM("3", "1", PowerState.ON)))
    assert inventory.resolve("1").id == "1"


async def test_a_change_is_told_to_those_who_observe_the_vm(inventory: Followed) -> None:
    with inventory.observed(inventory.note, "1"):
        await inventory.hear(Changed(WEB_OFF), Changed(VM("2", "db", PowerState.OFF)))
    assert inventory.told == [("1", WEB_OFF)]


async def test_what_is_observed_by_its_id_is_attended(inventory: Followed) -> None:
    with inventory.observed(inventory.note, "1"):
        assert inventory.active_vms() == {"1"}
    assert inventory.active_vms() == frozenset()


async def test_who_observes_all_attends_to_nothing_in_particular(inventory: Followed) -> None:
    with inventory.observed(inventory.note):
        assert inventory.active_vms() == frozenset()


async def test_the_adapter_is_told_what_is_attended_at_each_moment() -> None:
    class Curious(OneVM):
        async def watch(self, active_vms: ActiveVMs = none_active, /) -> AsyncIterator[Change]:
            self.active_vms = active_vms
            async for change in super().watch(active_vms):
                yield change

    adapter = Curious(WEB)
    inventory = Followed(adapter)
    following = asyncio.create_task(inventory.run())
    await inventory.connected.wait()
    with inventory.observed(inventory.note, "1"):
        assert adapter.active_vms() == {"1"}
    following.cancel()


async def test_a_change_is_told_to_those_who_observe_all(inventory: Followed) -> None:
    with inventory.observed(inventory.note):
        await inventory.hear(Changed(WEB_OFF), Removed("2"))
    assert inventory.told == [("1", WEB_OFF), ("2", None)]


async def test_who_no_longer_observes_is_told_nothing(inventory: Followed) -> None:
    with inventory.observed(inventory.note, "1"):
        pass
    await inventory.hear(Changed(WEB_OFF))
    assert inventory.told == []


async def test_a_vm_that_is_gone_is_not_off(inventory: Followed) -> None:
    await inventory.hear(Removed("1"))
    assert not is_off(inventory.vms.get("1"))


def test_a_vm_whose_host_does_not_answer_is_not_off() -> None:
    assert not is_off(VM("1", "web", PowerState.UNKNOWN))


async def test_a_lost_connection_makes_the_picture_useless_until_it_is_back(inventory: Followed) -> None:
    await inventory.hear(HypervisorUnavailable("gone"))
    with pytest.raises(HypervisorUnavailable, match="The hypervisor fake:// does not answer"):
        inventory.resolve("web")
    await inventory.connected.wait()
    assert inventory.resolve("web") is WEB


async def test_what_changed_during_an_outage_is_told_after_it(inventory: Followed) -> None:
    with inventory.observed(inventory.note):
        await inventory.hear(HypervisorUnavailable("gone"))
        inventory.hypervisor.vms = {"1": WEB_OFF}
        await inventory.connected.wait()
    assert sorted(inventory.told) == [("1", WEB_OFF), ("2", None)]


async def test_what_did_not_change_during_an_outage_is_not_told(inventory: Followed) -> None:
    with inventory.observed(inventory.note):
        await inventory.hear(HypervisorUnavailable("gone"))
        await inventory.connected.wait()
    assert inventory.told == []


async def test_a_second_list_tells_the_differences(inventory: Followed) -> None:
    with inventory.observed(inventory.note):
        await inventory.hear(Listed((WEB_OFF, DB)))
    assert inventory.told == [("1", WEB_OFF)]


async def test_listeners_hear_of_each_loss_and_return_once(inventory: Followed) -> None:
    heard: list[bool] = []
    inventory.on_connection.append(heard.append)
    await inventory.hear(HypervisorUnavailable("gone"))
    await inventory.connected.wait()
    await inventory.hear(Changed(WEB_OFF), Changed(WEB))
    assert heard == [False, True]


class Away(OneVM):
    """A hypervisor that stays away, which shows after `answers_after` seconds."""

    answers_after = 0.0

    async def watch(self, _: ActiveVMs = none_active, /) -> AsyncIterator[Change]:
        self.watches += 1
        await asyncio.sleep(self.answers_after)
        raise HypervisorUnavailable("refused")
        yield


@asynccontextmanager
async def long_away() -> AsyncIterator[tuple[Away, Inventory]]:
    """A hypervisor that is away, and the inventory that has tried it for ten minutes."""
    adapter = Away()
    inventory = Inventory(adapter)
    following = asyncio.create_task(inventory.run())
    await asyncio.sleep(600)
    yield adapter, inventory
    following.cancel()


async def test_a_hypervisor_that_stays_away_is_asked_ever_more_rarely() -> None:
    async with long_away() as (adapter, _):
        assert 20 <= adapter.watches <= 55  # 0.2 s, doubled up to 30 s, each shortened by up to a half


async def test_who_begins_to_wait_for_a_hypervisor_does_not_wait_for_the_end_of_a_long_pause() -> None:
    async with long_away() as (adapter, inventory):
        before = adapter.watches
        waiting = asyncio.create_task(inventory.reconnected())
        await asyncio.sleep(SOONEST_RETRY + 0.1)
        waiting.cancel()
        assert adapter.watches > before


async def test_who_begins_to_wait_while_a_hypervisor_is_tried_has_it_tried_once_more_soon() -> None:
    async with long_away() as (adapter, inventory):
        adapter.answers_after = 20.0
        first = asyncio.create_task(inventory.reconnected())
        await asyncio.sleep(SOONEST_RETRY + 1)
        under_way = adapter.watches
        second = asyncio.create_task(inventory.reconnected())
        await asyncio.sleep(adapter.answers_after + SOONEST_RETRY)
        first.cancel()
        second.cancel()
        assert adapter.watches == under_way + 1


async def test_many_that_wait_for_a_hypervisor_have_it_tried_no_more_than_once_a_second() -> None:
    async with long_away() as (adapter, inventory):
        before = adapter.watches
        waiting = []
        for _ in range(1000):
            waiting.append(asyncio.create_task(inventory.reconnected()))
            await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        assert adapter.watches - before <= 10 / SOONEST_RETRY + 1


async def test_a_watch_that_breaks_by_a_bug_is_logged_and_begun_again(inventory: Followed) -> None:
    with capture_logs() as logs:
        await inventory.hear(ZeroDivisionError("in the adapter"))
        await inventory.connected.wait()
    assert logs[0]["event"] == "the watch broke; this is a bug in the adapter"


async def test_a_refresh_reads_the_hypervisor_itself(inventory: Followed) -> None:
    inventory.hypervisor.vms["1"] = WEB_OFF
    with inventory.observed(inventory.note):
        assert await inventory.refresh("1") is WEB_OFF
    assert inventory.told == [("1", WEB_OFF)]


async def test_a_refresh_of_what_is_gone_removes_it(inventory: Followed) -> None:
    del inventory.hypervisor.vms["1"]
    with inventory.observed(inventory.note):
        assert await inventory.refresh("1") is None
    assert inventory.told == [("1", None)]


class Slow(OneVM):
    async def get(self, vm_id: str) -> VM:
        read = self.vms[vm_id]
        await asyncio.sleep(1)
        return read


@pytest.mark.parametrize(("told", "found"), [(WEB_OFF, WEB_OFF), (WEB_OFF, WEB), (WEB, WEB_OFF)])
async def test_where_an_event_comes_while_a_refresh_reads_it_is_read_again(told: VM, found: VM) -> None:
    """The event may be newer than the answer, or older than it and late."""
    inventory = Followed(Slow(WEB))
    following = asyncio.create_task(inventory.run())
    await inventory.connected.wait()
    reading = asyncio.create_task(inventory.refresh("1"))
    await asyncio.sleep(0.5)
    inventory.hypervisor.vms["1"] = found
    await inventory.hear(Changed(replace(told)))
    assert await reading == found
    assert inventory.vms["1"] == found
    following.cancel()


async def test_a_refresh_ends_though_events_keep_coming(inventory: Followed) -> None:
    async def told_of(vm_id: str) -> VM:
        await inventory.hear(Changed(replace(WEB)))
        return WEB_OFF

    inventory.hypervisor.get = told_of  # type: ignore[method-assign]
    assert await inventory.refresh("1") == WEB


async def test_an_error_of_a_refresh_is_the_callers(inventory: Followed) -> None:
    async def refuses(_vm_id: str) -> VM:
        raise CommandFailed("no")

    inventory.hypervisor.get = refuses  # type: ignore[method-assign, assignment]
    with pytest.raises(CommandFailed):
        await inventory.refresh("1")


UUID = "5012ab34-cd56-4789-9abc-def012345678"


@pytest.mark.parametrize("form", [UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}"])
async def test_a_vm_is_found_by_its_uuid_in_every_form(inventory: Followed, form: str) -> None:
    found = VM(UUID, "app", PowerState.ON)
    await inventory.hear(Changed(found))
    assert inventory.resolve(form) is found


async def test_a_vm_that_is_named_as_anothers_id_is_not_taken_for_it(inventory: Followed) -> None:
    found = VM(UUID, "app", PowerState.ON)
    await inventory.hear(Changed(VM("3", UUID.upper(), PowerState.ON)), Changed(found))
    assert inventory.resolve(UUID.upper()) is found


async def test_why_the_hypervisor_is_away_is_kept_until_it_answers(inventory: Followed) -> None:
    assert inventory.failure is None
    lost = HypervisorUnavailable("It is down.")
    await inventory.hear(lost)
    assert inventory.failure is lost
    await asyncio.sleep(1)
    await inventory.hear(Listed((WEB,)))
    assert inventory.failure is None
