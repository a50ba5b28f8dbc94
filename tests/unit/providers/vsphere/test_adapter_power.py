"""Switching and snapshots: what vCenter begins a task for."""

import asyncio

import pytest
from pyVmomi import vim, vmodl

from providers.core.adapter import OffCause
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.vsphere.adapter import VsphereAdapter
from providers.vsphere.properties import Task
from tests.unit.providers.vsphere.conftest import ID, OFF, TASK, VM, WEB, VCenter, Watch
from tests.unit.providers.vsphere.fake import USER, change

pytestmark = pytest.mark.looptime


async def test_a_power_off_returns_when_its_task_has_ended(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    switching = asyncio.create_task(adapter.power_off(ID))
    vcenter.task("running")
    vcenter.say(change(VM, name="shop"))
    await watch.next()
    assert not switching.done()
    vcenter.say(change(VM, runtime_powerState="poweredOff"))
    vcenter.task("success")
    await asyncio.wait_for(switching, 30)
    assert (await watch.next()).vm.off_cause is OffCause.HOST


async def test_a_power_off_that_was_done_is_ours(adapter: VsphereAdapter, watch: Watch, vcenter: VCenter) -> None:
    vcenter.task("success")
    assert await asyncio.wait_for(adapter.power_off(ID), 30)


async def test_a_power_off_that_came_too_late_is_not_ours(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["PowerOffVM_Task"] = vim.fault.InvalidPowerState(existingState="poweredOff")
    assert not await asyncio.wait_for(adapter.power_off(ID), 30)


async def test_a_power_off_whose_guest_was_faster_is_not_ours(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.task("error", info_error=vim.fault.InvalidPowerState(existingState="poweredOff"))
    assert not await asyncio.wait_for(adapter.power_off(ID), 30)


@pytest.mark.parametrize(("user", "ours"), [(USER, True), ("VSPHERE.LOCAL\\colleague", False), ("", False)])
async def test_a_power_off_whose_answer_was_lost_is_ours_if_vcenter_names_us(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter, user: str, ours: bool
) -> None:
    vcenter.answers["PowerOffVM_Task"] = [
        ConnectionResetError(),
        vim.fault.InvalidPowerState(existingState="poweredOff"),
    ]
    with pytest.raises(HypervisorUnavailable):
        await adapter.power_off(ID)
    vcenter.task("success", info_reason=vim.TaskReasonUser(userName=user))
    vcenter.say(change(VM, **OFF))
    assert await asyncio.wait_for(adapter.power_off(ID), 30) is ours


async def test_a_power_off_that_was_given_up_on_and_done_later_is_ours(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["PowerOffVM_Task"] = [TASK, vim.fault.InvalidPowerState(existingState="poweredOff")]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(adapter.power_off(ID), 30)
    vcenter.task("success", info_reason=vim.TaskReasonUser(userName=USER))
    vcenter.say(change(VM, **OFF))
    assert await asyncio.wait_for(adapter.power_off(ID), 30)


async def test_a_power_off_that_was_refused_did_nothing(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["PowerOffVM_Task"] = [
        vim.fault.NoPermission(privilegeId="VirtualMachine.Interact.PowerOff"),
        vim.fault.InvalidPowerState(existingState="poweredOff"),
    ]
    with pytest.raises(CommandFailed):
        await adapter.power_off(ID)
    vcenter.task("success", info_reason=vim.TaskReasonUser(userName=USER))
    vcenter.say(change(VM, **OFF))
    assert not await asyncio.wait_for(adapter.power_off(ID), 30)


@pytest.mark.parametrize(("method", "wanted"), [("power_on", "poweredOn"), ("power_off", "poweredOff")])
async def test_a_task_that_found_the_vm_as_wanted_is_no_error(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter, method: str, wanted: str
) -> None:
    vcenter.task("error", info_error=vim.fault.InvalidPowerState(existingState=wanted))
    await asyncio.wait_for(getattr(adapter, method)(ID), 30)


async def test_a_task_that_failed_is_an_error_in_vspheres_words(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.task("error", info_error=vim.fault.InvalidState(msg="Not now."))
    with pytest.raises(CommandFailed, match="Not now"):
        await asyncio.wait_for(adapter.power_on(ID), 30)


@pytest.mark.parametrize(("method", "call"), [("power_on", "PowerOnVM_Task"), ("power_off", "PowerOffVM_Task")])
async def test_switching_the_power_is_one_call(
    adapter: VsphereAdapter, vcenter: VCenter, watch: Watch, method: str, call: str
) -> None:
    vcenter.calls.clear()
    vcenter.task("success")
    await asyncio.wait_for(getattr(adapter, method)(ID), 30)
    assert [name for name, _ in vcenter.calls if name != "WaitForUpdatesEx"] == [call]


@pytest.mark.parametrize(
    ("method", "call", "state"),
    [("power_on", "PowerOnVM_Task", "poweredOn"), ("power_off", "PowerOffVM_Task", "poweredOff")],
)
async def test_a_vm_that_is_as_wanted_needs_no_task(
    adapter: VsphereAdapter, vcenter: VCenter, watch: Watch, method: str, call: str, state: str
) -> None:
    vcenter.answers[call] = vim.fault.InvalidPowerState(existingState=state)
    await asyncio.wait_for(getattr(adapter, method)(ID), 30)


async def test_a_vm_in_another_state_is_an_error(adapter: VsphereAdapter, vcenter: VCenter, watch: Watch) -> None:
    vcenter.answers["PowerOffVM_Task"] = vim.fault.InvalidPowerState(existingState="suspended")
    with pytest.raises(CommandFailed, match="InvalidPowerState"):
        await asyncio.wait_for(adapter.power_off(ID), 30)


@pytest.mark.parametrize("memory", [True, False])
async def test_a_snapshot_is_with_memory_or_of_file_systems_at_rest_and_complete_when_its_task_is(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter, memory: bool
) -> None:
    vcenter.task("success")
    await asyncio.wait_for(adapter.snapshot(ID, "before", "why", memory), 30)
    assert vcenter.called("CreateSnapshot_Task") == [("before", "why", memory, not memory)]


async def test_a_task_that_a_restarted_vcenter_forgot_is_asked_again(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, until_ended = asyncio.Event(), adapter._task_waits.until_ended

    async def noted(moid: str, tasks: dict[str, Task]) -> Task:
        begun.set()
        return await until_ended(moid, tasks)

    monkeypatch.setattr(adapter._task_waits, "until_ended", noted)
    switching = asyncio.create_task(adapter.power_off(ID))
    await begun.wait()
    vcenter.news.put_nowait(vmodl.query.InvalidCollectorVersion())
    vcenter.say(change(VM, "enter", **WEB))
    with pytest.raises(HypervisorUnavailable, match="forgotten"):
        await asyncio.wait_for(switching, 30)
