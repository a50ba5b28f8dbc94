"""Jobs on real guests: migrations that move them, and what refuses a signal while it lasts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import libvirt
import pytest

from providers.core.adapter import VM, OffCause, PowerState, Reason, Signal
from providers.core.errors import CommandFailed, Locked
from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings
from tests.e2e.libvirt_adapter.waiting import GRACE, Run, following, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd

BACKUP = """<domainbackup mode='pull'><server transport='unix' socket='{folder}/nbd'/><disks>
<disk name='vda' backup='yes' type='file'><scratch file='{folder}/scratch'/></disk></disks></domainbackup>"""
SLOW = 1
"""MiB a second: a guest of the rig takes most of a minute to migrate."""


@pytest.fixture(scope="module")
def other() -> Iterator[Libvirtd]:
    """Another host."""
    with Libvirtd() as other:
        yield other


@asynccontextmanager
async def migrating(rig: Libvirtd, name: str, to: Libvirtd) -> AsyncIterator[None]:
    """A slow migration, which is cancelled at the end unless it has failed by then."""
    job = asyncio.create_task(asyncio.to_thread(rig.migrate, name, to, mib_per_second=SLOW))
    try:
        yield
        cancel(rig, name)
    finally:
        with suppress(libvirt.libvirtError):
            await job


def cancel(rig: Libvirtd, name: str) -> None:
    with suppress(libvirt.libvirtError), rig.connect() as connection:
        connection.lookupByName(name).abortJob()


def locked(vm: VM) -> bool:
    return any(problem.reason is Reason.LOCKED and problem.passing for problem in vm.problems)


# Moved


async def test_a_guest_that_was_moved_is_not_started_asked_or_cut_until_it_is_back(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("moves", agent="off"))
    async with watching(adapter) as watch:
        await asyncio.to_thread(rig.migrate, "moves", other)
        vm = await watch.until(lambda vm: vm.power_state is PowerState.UNKNOWN)
        assert (vm.ended, vm.signals) == (None, ())
        assert "moved to another host" in vm.problems[0].message
        for command in (
            adapter.power_on(vm_id),
            adapter.power_off(vm_id),
            adapter.send_signal(vm_id, Signal.ACPI, GRACE),
        ):
            with pytest.raises(CommandFailed, match="Its owner acts there"):
                await command
        assert (await adapter.get(vm_id)).power_state is PowerState.UNKNOWN
        rig.restart()
    async with following(adapter) as watch:  # libvirtd has forgotten why it is off
        vm = await watch.until(lambda vm: vm.id == vm_id)
        assert vm.power_state is PowerState.UNKNOWN
        with pytest.raises(CommandFailed, match="moved"):
            await adapter.power_on(vm_id)
        await asyncio.to_thread(other.migrate, "moves", rig)
        vm = await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


async def test_a_guest_that_was_moved_is_not_started_when_libvirtd_and_the_provider_were_both_restarted(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run, tmp_path: Path
) -> None:
    vm_id = run(Guest("forgotten", agent="off"))
    async with watching(adapter) as watch:
        await asyncio.to_thread(rig.migrate, "forgotten", other)
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.UNKNOWN)
    rig.restart()
    restarted = LibvirtAdapter(LibvirtSettings(listen="unix:///unused", uri=rig.uri, state_dir=tmp_path))
    async with following(restarted) as watch:
        vm = await watch.until(lambda vm: vm.id == vm_id)
        assert vm.power_state is PowerState.UNKNOWN
        with pytest.raises(CommandFailed, match="moved to another host"):
            await restarted.power_on(vm_id)
        await asyncio.to_thread(other.migrate, "forgotten", rig)
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)
    await restarted.close()


async def test_a_moved_guest_is_refused_also_by_a_provider_that_did_not_see_it(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("moved", agent="off"))
    await asyncio.to_thread(rig.migrate, "moved", other)
    assert (await adapter.get(vm_id)).power_state is PowerState.UNKNOWN
    with pytest.raises(CommandFailed, match="Its owner acts there"):
        await adapter.power_on(vm_id)


async def test_a_moved_guest_that_its_owner_starts_here_is_here(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("byhand", agent="off"))
    async with watching(adapter) as watch:
        await asyncio.to_thread(rig.migrate, "byhand", other)
        await watch.until(lambda vm: vm.power_state is PowerState.UNKNOWN)
        with other.connect() as connection:
            connection.lookupByName("byhand").destroy()
        with rig.connect() as connection:
            connection.lookupByName("byhand").create()
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)
        assert await adapter.power_off(vm_id)


async def test_a_migration_to_here_that_fails_leaves_the_guest_there(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("stays", agent="off"))
    await asyncio.to_thread(rig.migrate, "stays", other)
    rig.restart()
    async with watching(adapter) as watch:  # which sees it defined here, and off
        async with migrating(other, "stays", rig):
            vm = await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.UNKNOWN)
            assert "to this host" in vm.problems[0].message
        vm = await watch.until(lambda vm: vm.id == vm_id and not vm.problems[0].passing)
        assert (vm.power_state, vm.ended) == (PowerState.UNKNOWN, None)
        with pytest.raises(CommandFailed, match="moved"):
            await adapter.power_on(vm_id)


# Held


async def test_a_migration_is_named_and_waited_for_and_its_cancellation_is_noticed(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("migrates", agent="off"))
    async with watching(adapter) as watch:
        async with migrating(rig, "migrates", other):
            vm = await watch.until(locked)
            assert (vm.power_state, vm.signals) == (PowerState.ON, ())
            assert "migrated to another host" in next(p.message for p in vm.problems if p.reason is Reason.LOCKED)
        await watch.until(lambda vm: vm.id == vm_id and vm.signals == (Signal.ACPI,) and not locked(vm))
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


async def test_a_signal_that_a_job_refuses_is_locked_and_then_named(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    """No watch has heard of the job."""
    vm_id = run(Guest("surprised", agent="off"))
    async with migrating(rig, "surprised", other):
        await asyncio.to_thread(rig.wait_job, "surprised")
        with pytest.raises(Locked, match="state change lock"):
            await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert locked(await adapter.get(vm_id))


async def test_an_agent_is_asked_also_during_a_migration(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("obeys"))
    async with watching(adapter) as watch, migrating(rig, "obeys", other):
        vm = await watch.until(lambda vm: vm.signals == (Signal.GUEST_AGENT,))
        assert [problem.reason for problem in vm.problems] == [None]
        await adapter.send_signal(vm_id, Signal.GUEST_AGENT, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


async def test_the_power_is_cut_also_during_a_migration(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("forced", agent="off"))
    async with watching(adapter) as watch, migrating(rig, "forced", other):
        await watch.until(locked)
        assert await adapter.power_off(vm_id)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST


async def test_a_backup_does_not_keep_a_guest_from_hearing(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("backed-up", agent="off", disk=True))
    async with watching(adapter) as watch:
        with rig.connect() as connection:
            connection.lookupByName("backed-up").backupBegin(BACKUP.format(folder=f"{rig.folder}/run"), None)
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


async def test_guests_that_are_held_keep_no_other_from_being_read_and_cut(
    rig: Libvirtd, other: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    held, free = run(Guest("holds", agent="off")), run(Guest("free", agent="off"))
    async with migrating(rig, "holds", other):
        await asyncio.to_thread(rig.wait_job, "holds")
        presses = [asyncio.create_task(adapter.send_signal(held, Signal.ACPI, GRACE)) for _ in range(5)]
        await asyncio.sleep(0)
        assert await adapter.power_off(free)
        assert (await adapter.get(free)).power_state is PowerState.OFF
        assert not any(press.done() for press in presses)
    await adapter.power_off(held)
    await asyncio.gather(*presses, return_exceptions=True)
