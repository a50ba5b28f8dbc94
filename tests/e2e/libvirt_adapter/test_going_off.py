"""Every way in which a real guest goes off, and comes back."""

import asyncio
import os
import signal

import libvirt
import pytest

from providers.core.adapter import OffCause, PowerState, Reason, Removed, Signal
from providers.core.errors import VMNotFound
from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings
from tests.e2e.libvirt_adapter.waiting import GRACE, Run, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.polling import poll


async def test_a_hard_power_off_is_the_hosts_doing_and_may_be_repeated(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("cut", agent="off"))
    async with watching(adapter) as watch:
        await adapter.power_off(vm_id)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST
        await adapter.power_off(vm_id)
        await adapter.power_on(vm_id)
        await adapter.power_on(vm_id)
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)


async def test_a_managed_save_is_resumed_by_a_start_and_discarded_by_a_power_off(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("saved"))
    async with watching(adapter) as watch:
        for end in (adapter.power_on, adapter.power_off):
            with rig.connect() as connection:
                connection.lookupByName("saved").managedSave()
            vm = await watch.until(lambda vm: vm.power_state is PowerState.SUSPENDED)
            assert vm.problems[0].reason is Reason.SUSPENDED
            await end(vm_id)
    assert (await adapter.get(vm_id)).power_state is PowerState.OFF
    assert rig.console("saved").count("ready") == 1


async def test_of_two_that_cut_at_once_one_has_done_it(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("twice", agent="off"))
    other = LibvirtAdapter(LibvirtSettings(listen="unix:///unused", uri=rig.uri))
    cut = await asyncio.gather(adapter.power_off(vm_id), other.power_off(vm_id))
    assert sorted(cut) == [False, True]
    await other.close()


async def test_a_guest_that_has_shut_down_when_it_is_cut_went_by_itself(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    """QEMU takes a moment, or more, to end after its guest."""
    vm_id = run(Guest("going", agent="off"))
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        with rig.connect() as connection:
            domain, down = connection.lookupByName("going"), (libvirt.VIR_DOMAIN_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTOFF)
            await asyncio.to_thread(poll, lambda: domain.state()[0] in down)
        assert not await adapter.power_off(vm_id)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


# Going off in other ways


async def test_a_terminated_qemu_is_the_hosts_doing_by_event_and_by_state(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("sigterm", agent="off"))
    async with watching(adapter) as watch:
        os.kill(rig.pid("sigterm"), signal.SIGTERM)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST
        assert (await adapter.get(vm_id)).off_cause is OffCause.HOST


async def test_a_killed_qemu_is_a_crash(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("sigkill", agent="off"))
    async with watching(adapter) as watch:
        os.kill(rig.pid("sigkill"), signal.SIGKILL)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.CRASHED
    assert (await adapter.get(vm_id)).off_cause is OffCause.CRASHED


async def test_a_panic_on_being_asked_is_a_crash(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("panic", agent="off", crash_on="power_button"))
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.CRASHED


async def test_a_transient_guest_is_off_with_its_cause_and_then_gone(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("passing"), transient=True)
    assert (await adapter.get(vm_id)).labels == {"persistent": "false"}
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.GUEST_AGENT, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST
        assert await watch.next() == Removed(vm_id)
    with pytest.raises(VMNotFound):
        await adapter.get(vm_id)


async def test_a_guest_undefined_while_it_runs_is_gone_when_it_is_off(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("orphan", agent="off"))
    async with watching(adapter) as watch:
        with rig.connect() as connection:
            connection.lookupByName("orphan").undefine()
        await watch.until(lambda vm: vm.labels == {"persistent": "false"})
        await adapter.power_off(vm_id)
        await watch.until_off(vm_id)
        assert await watch.next() == Removed(vm_id)


async def test_a_new_name_is_told_and_an_undefined_guest_is_gone(rig: Libvirtd, adapter: LibvirtAdapter) -> None:
    vm_id = rig.define(Guest("before"))
    async with watching(adapter) as watch:
        with rig.connect() as connection:
            domain = connection.lookupByName("before")
            domain.rename("after")
            assert (await watch.until(lambda vm: vm.id == vm_id)).name == "after"
            domain.undefine()
        assert await watch.next() == Removed(vm_id)
