"""Every way in which a guest goes off, and comes back: the adapter on the rig."""

from contextlib import aclosing

import pytest

from providers.core.adapter import VM, Listed, OffCause, PowerState, Reason, Signal
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import GRACE, watching
from tests.e2e.vsphere.conftest import Guest
from tests.rigs.polling import poll
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


# Who ended it, where nobody looked


async def found_off(adapter: VsphereAdapter, vm_id: str, *active: str) -> VM:
    """As a watch lists it that begins with these operations under way."""
    async with aclosing(adapter.watch(lambda: frozenset(active))) as changes:
        listed = await anext(changes)
    assert isinstance(listed, Listed)
    [vm] = [vm for vm in listed.vms if vm.id == vm_id]
    assert vm.power_state is PowerState.OFF
    return vm


async def test_a_guest_that_went_unseen_as_it_was_asked_went_by_itself_by_vcenters_events(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    await adapter.send_signal(vm_id, Signal.VMWARE_TOOLS, GRACE)
    poll(lambda: vcenter.show("web")["power"] == "poweredOff")
    assert (await found_off(adapter, vm_id)).ended is None
    assert (await found_off(adapter, vm_id, vm_id)).off_cause is OffCause.GUEST


async def test_a_colleagues_power_off_that_was_not_seen_is_known_by_vcenters_events(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    vcenter.power("web", "off")
    vcenter.forget_tasks()
    assert (await found_off(adapter, vm_id)).ended is None
    assert (await found_off(adapter, vm_id, vm_id)).off_cause is OffCause.HOST


async def test_all_that_is_found_off_is_looked_for_at_once(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    ids = [guest(f"web-{number}", power="off") for number in range(5)]
    vcenter.reset_calls()
    await found_off(adapter, ids[0], *ids)
    assert vcenter.calls()["QueryEvents"] == 1


async def test_a_vm_that_goes_off_while_its_host_is_away_was_not_seen_to_end(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.set("web", connection="disconnected")
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.UNKNOWN)
        vcenter.power("web", "off")
        vcenter.forget_tasks()
        vcenter.set("web", connection="connected")
        vm = await watch.until_off(vm_id)
        assert vm.off_cause is not OffCause.GUEST


# Whose cut


async def test_a_power_off_says_that_it_was_the_one(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest()
    async with watching(adapter):
        assert [await adapter.power_off(vm_id), await adapter.power_off(vm_id)] == [True, False]


async def test_a_power_off_that_the_guest_beat_says_so(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(shutdown_time="100ms", power_off_time="400ms")
    async with watching(adapter):
        await adapter.send_signal(vm_id, Signal.VMWARE_TOOLS, GRACE)
        assert await adapter.power_off(vm_id) is False
        assert (await adapter.get(vm_id)).off_cause is OffCause.GUEST


async def test_a_power_off_whose_answer_was_lost_is_ours_all_the_same(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(faults={"PowerOffVM_Task": ["lost"]})
    async with watching(adapter) as watch:
        with pytest.raises(HypervisorUnavailable):
            await adapter.power_off(vm_id)
        await watch.until_off(vm_id)
        assert await adapter.power_off(vm_id) is True


async def test_a_power_off_that_was_lost_before_a_colleague_cut_it_is_not_ours(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(faults={"PowerOffVM_Task": ["cut"]})
    async with watching(adapter):
        with pytest.raises(HypervisorUnavailable):
            await adapter.power_off(vm_id)
        vcenter.power("web", "off")
        assert await adapter.power_off(vm_id) is False


async def test_a_vm_that_is_read_off_in_the_moment_it_is_cut_was_cut(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter):
        vcenter.power("web", "off")  # the watch hears of it a moment later
        assert (await adapter.get(vm_id)).off_cause is OffCause.HOST


# Runs


async def test_a_run_is_the_same_over_a_reboot_of_its_guest(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        before = await adapter.get(vm_id)
        with client(vcenter) as content:
            machine(content, vcenter, "web").RebootGuest()
        await watch.until(lambda vm: vm.id == vm_id and not vm.signals)
        after = await watch.until(lambda vm: vm.id == vm_id and bool(vm.signals))
    assert before.run_id
    assert after.run_id == before.run_id


async def test_a_vm_that_was_started_again_is_in_another_run(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    before = await adapter.get(vm_id)
    vcenter.power("web", "off")
    assert (await adapter.get(vm_id)).run_id == ""
    vcenter.power("web", "on")
    after = await adapter.get(vm_id)
    assert after.run_id not in ("", before.run_id)


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
