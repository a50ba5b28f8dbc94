"""Every way in which a guest goes off, and comes back: the adapter on the rig."""

import pytest

from providers.core.adapter import OffCause, PowerState, Reason, Signal
from providers.core.errors import CommandFailed
from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import GRACE, watching
from tests.e2e.vsphere.conftest import Guest
from tests.rigs.vsphere.client import client, machine
from tests.rigs.vsphere.vcenter import VCenter


async def test_a_hard_power_off_is_the_hosts_doing_and_may_be_repeated(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        await adapter.power_off(vm_id)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST
        await adapter.power_off(vm_id)
        await adapter.power_on(vm_id)
        await adapter.power_on(vm_id)
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)


async def test_a_power_off_returns_when_it_is_done(vcenter: VCenter, adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power_off_time="500ms")
    async with watching(adapter):
        await adapter.power_off(vm_id)
        assert vcenter.show("web")["power"] == "poweredOff"


async def test_a_colleagues_power_off_is_the_hosts_doing(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.power("web", "off")
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST
    assert (await adapter.get(vm_id)).off_cause is OffCause.HOST


async def test_a_colleagues_power_off_is_known_also_to_a_watch_that_begins_later(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    vcenter.power("web", "off")
    assert {vm.id: vm.off_cause for vm in await adapter.list()}[vm_id] is OffCause.HOST


async def test_a_guest_that_shuts_down_after_a_colleague_started_it_anew_did_so_by_itself(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.power("web", "off")
        await watch.until_off(vm_id)
        vcenter.power("web", "on")
        await watch.until(lambda vm: vm.id == vm_id and bool(vm.signals))
        await adapter.send_signal(vm_id, Signal.VMWARE_TOOLS, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


async def test_a_crash_is_a_crash_by_event_and_by_state(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.power("web", "crash")
        assert (await watch.until_off(vm_id)).off_cause is OffCause.CRASHED
        assert (await adapter.get(vm_id)).off_cause is OffCause.CRASHED


async def test_a_suspended_vm_is_told_and_resumed_by_a_start(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.power("web", "suspend")
        vm = await watch.until(lambda vm: vm.power_state is PowerState.SUSPENDED)
        assert vm.problems[0].reason is Reason.SUSPENDED
        await adapter.power_on(vm_id)
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)


async def test_a_suspended_vm_can_be_cut_off(vcenter: VCenter, adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power="suspended")
    async with watching(adapter) as watch:
        await adapter.power_off(vm_id)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST


# Tasks


async def test_a_task_that_fails_is_reported_in_vcenters_words(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power="off", faults={"PowerOnVM_Task": ["task:InvalidState"]})
    async with watching(adapter):
        with pytest.raises(CommandFailed, match="InvalidState"):
            await adapter.power_on(vm_id)
        await adapter.power_on(vm_id)


async def test_a_task_that_is_beaten_to_it_is_no_error(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(shutdown_time="100ms", power_off_time="400ms")
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.VMWARE_TOOLS, GRACE)
        await adapter.power_off(vm_id)
        await watch.until_off(vm_id)


async def test_a_template_cannot_be_started(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(template=True, power="off")
    async with watching(adapter):
        with pytest.raises(CommandFailed, match="NotSupported"):
            await adapter.power_on(vm_id)


async def test_a_vm_that_another_task_holds_is_reported_as_such(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(snapshot_time="2s")
    with client(vcenter) as content:
        async with watching(adapter):
            machine(content, vcenter, "web").CreateSnapshot("backup", "", False, False)
            with pytest.raises(CommandFailed, match="Another task holds the VM"):
                await adapter.power_off(vm_id)


# Snapshots


@pytest.mark.parametrize("memory", [True, False])
async def test_a_snapshot_is_there_when_it_is_said_to_be(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest, memory: bool
) -> None:
    vm_id = guest(snapshot_time="200ms")
    async with watching(adapter):
        await adapter.snapshot(vm_id, "whole & <all>", "Grüße", memory)
    assert vcenter.show("web")["snapshots"] == [
        {"name": "whole & <all>", "description": "Grüße", "memory": memory, "quiesced": not memory}
    ]


async def test_a_snapshot_that_fails_is_reported(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(faults={"CreateSnapshot_Task": ["task:ApplicationQuiesceFault"]})
    async with watching(adapter):
        with pytest.raises(CommandFailed, match="brought to rest"):
            await adapter.snapshot(vm_id, "before", "", False)
