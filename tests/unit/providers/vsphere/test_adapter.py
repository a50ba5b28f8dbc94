"""The nine methods, on a vCenter that says what a test wants; tests/e2e/vsphere has one that lives."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from providers.core import adapter as core
from providers.core.adapter import (
    Changed,
    Escalation,
    Grace,
    GuestCredentials,
    Listed,
    OffCause,
    PowerState,
    Reason,
    Signal,
)
from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound
from providers.vsphere.adapter import LONGEST_OPERATION, MARGIN, VsphereAdapter
from providers.vsphere.session import SessionLost
from tests.unit.providers.vsphere.conftest import ID, NOW, OFF, TASK, VM, WEB, VCenter, Watch
from tests.unit.providers.vsphere.fake import change, told

pytestmark = pytest.mark.looptime
GRACE = Grace(datetime.max.replace(tzinfo=UTC), Escalation.NEVER)


async def test_a_watch_begins_with_all_vms_and_goes_on_with_changes(adapter: VsphereAdapter, vcenter: VCenter) -> None:
    async with aclosing(adapter.watch()) as changes:
        listed = await anext(changes)
        assert isinstance(listed, Listed)
        assert [vm.id for vm in listed.vms] == [ID]
        vcenter.say(change(VM, name="shop"))
        changed = await anext(changes)
        assert isinstance(changed, Changed)
        assert changed.vm.name == "shop"


async def test_the_version_is_known_from_the_first_watch_on(adapter: VsphereAdapter, watch: Watch) -> None:
    assert adapter.version == "VMware vCenter Server 8.0.2"


async def test_a_watch_whose_session_is_lost_lists_anew(watch: Watch, vcenter: VCenter) -> None:
    vcenter.news.put_nowait(vmodl.query.InvalidCollectorVersion())
    vcenter.say(change(VM, "enter", **WEB | {"name": "shop"}))
    listed = await watch.next()
    assert [vm.name for vm in listed.vms] == ["shop"]


async def test_a_watch_whose_session_was_lost_before_it_began_logs_in_anew(
    adapter: VsphereAdapter, vcenter: VCenter
) -> None:
    listing = vcenter.news.get_nowait()
    vcenter.news.put_nowait(vmodl.query.InvalidCollectorVersion())
    vcenter.news.put_nowait(listing)
    assert [vm.name for vm in await adapter.list()] == ["web"]


async def test_a_watch_that_loses_its_session_again_and_again_ends(adapter: VsphereAdapter, vcenter: VCenter) -> None:
    vcenter.news.get_nowait()
    for _ in range(2):
        vcenter.news.put_nowait(vmodl.query.InvalidCollectorVersion())
    with pytest.raises(SessionLost):
        await adapter.list()


async def test_a_watch_ends_with_its_connection(adapter: VsphereAdapter, vcenter: VCenter) -> None:
    async with aclosing(adapter.watch()) as changes:
        await anext(changes)
        vcenter.news.put_nowait(ConnectionResetError())
        with pytest.raises(HypervisorUnavailable):
            await anext(changes)


async def test_all_vms_can_be_listed_without_a_watch(adapter: VsphereAdapter) -> None:
    assert [vm.name for vm in await adapter.list()] == ["web"]


async def test_a_running_vm_that_leaves_is_looked_for(watch: Watch, vcenter: VCenter) -> None:
    vcenter.answers["RetrievePropertiesEx"] = told(VM, **WEB)
    vcenter.say(change(VM, "leave"))
    assert "scope" in (await watch.next()).vm.refused


async def test_a_running_vm_that_is_gone_is_removed(watch: Watch, vcenter: VCenter) -> None:
    vcenter.answers["RetrievePropertiesEx"] = None
    vcenter.say(change(VM, "leave"))
    assert (await watch.next()).vm_id == ID


# Asking


async def test_asking_a_guest_is_one_call_and_nothing_else(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.calls.clear()
    await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)
    assert [method for method, _ in vcenter.calls if method != "WaitForUpdatesEx"] == ["ShutdownGuest"]


async def test_a_signal_that_vsphere_lacks_is_refused(adapter: VsphereAdapter) -> None:
    with pytest.raises(CommandFailed, match="ACPI"):
        await adapter.send_signal(ID, Signal.ACPI, GRACE)


async def test_a_vm_that_turns_out_to_be_busy_is_locked_from_then_on(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["ShutdownGuest"] = vim.fault.TaskInProgress(task=TASK)
    with pytest.raises(Locked):
        await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)
    assert [problem.reason for problem in (await adapter.get(ID)).problems] == [Reason.LOCKED]


async def test_a_guest_that_is_off_already_need_not_be_asked(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["ShutdownGuest"] = vim.fault.InvalidPowerState(existingState="poweredOff")
    await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)


async def test_a_guest_that_is_suspended_cannot_be_asked(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["ShutdownGuest"] = vim.fault.InvalidPowerState(existingState="suspended")
    with pytest.raises(CommandFailed, match="InvalidPowerState"):
        await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)


async def test_a_fault_that_names_no_holder_locks_nothing(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["ShutdownGuest"] = vim.fault.InvalidState()
    with pytest.raises(CommandFailed):
        await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)
    assert (await adapter.get(ID)).problems == ()


async def test_tools_that_have_just_stopped_are_asked_again_later(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["ShutdownGuest"] = vim.fault.ToolsUnavailable()
    with pytest.raises(Locked, match="ToolsUnavailable"):
        await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)
    vm = await adapter.get(ID)
    assert (vm.signals, [problem.passing for problem in vm.problems]) == ((), [True])


async def test_a_guest_whose_vm_is_migrated_is_asked_when_that_is_done(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.task("running", info_descriptionId="VirtualMachine.migrate")
    await watch.next()
    vcenter.answers["ShutdownGuest"] = vim.fault.InvalidState()
    with pytest.raises(Locked):
        await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)
    assert "VirtualMachine.migrate" in (await adapter.get(ID)).problems[0].message
    vcenter.task("success", info_descriptionId="VirtualMachine.migrate")
    assert (await watch.next()).vm.signals == (Signal.VMWARE_TOOLS,)


async def test_a_guest_whose_host_does_not_answer_is_asked_when_it_does(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["ShutdownGuest"] = vmodl.fault.HostNotConnected()
    with pytest.raises(HypervisorUnavailable, match="host cannot be reached"):
        await adapter.send_signal(ID, Signal.VMWARE_TOOLS, GRACE)


# Finding


async def test_a_vm_that_no_watch_has_told_of_is_found_by_its_id(adapter: VsphereAdapter, vcenter: VCenter) -> None:
    vcenter.answers["FindByUuid"] = VM
    assert (await adapter.get(ID)).name == "web"


async def test_a_vm_that_is_gone_is_not_found(adapter: VsphereAdapter, watch: Watch, vcenter: VCenter) -> None:
    vcenter.answers["RetrievePropertiesEx"] = None
    with pytest.raises(VMNotFound, match=ID):
        await adapter.get(ID)


async def test_a_vm_that_does_not_exist_is_not_found(adapter: VsphereAdapter) -> None:
    with pytest.raises(VMNotFound, match="nobody"):
        await adapter.get("nobody")


async def test_a_vm_that_was_registered_anew_is_found_in_its_new_place(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    anew = vim.VirtualMachine("vm-2", None)
    vcenter.answers |= {"FindByUuid": anew, "RetrievePropertiesEx": [None, told(anew, **WEB)]}
    assert (await adapter.get(ID)).power_state is PowerState.ON


async def test_a_vm_that_exists_out_of_scope_is_told_as_such(vcenter: VCenter, scoped: VsphereAdapter) -> None:
    elsewhere = vim.VirtualMachine("vm-2", None)
    vcenter.answers |= {"FindByUuid": elsewhere, "RetrievePropertiesEx": told(elsewhere, **WEB)}
    vm = await scoped.get("5013")
    assert vm.power_state is PowerState.UNKNOWN
    assert "scope" in vm.refused


@pytest.mark.parametrize("method", ["power_on", "power_off"])
async def test_a_vm_out_of_scope_is_not_touched(vcenter: VCenter, scoped: VsphereAdapter, method: str) -> None:
    vcenter.answers |= {"FindByUuid": vim.VirtualMachine("vm-2", None)}
    with pytest.raises(CommandFailed, match="scope"):
        await getattr(scoped, method)("5013")
    assert not {"PowerOnVM_Task", "PowerOffVM_Task"} & {name for name, _ in vcenter.calls}


@pytest.fixture
async def scoped(adapter: VsphereAdapter, vcenter: VCenter) -> VsphereAdapter:
    """It has listed what is in its scope: one VM."""
    adapter._settings = adapter._settings.model_copy(update={"scope": "/dc/vm/prod"})
    vcenter.answers["FindByInventoryPath"] = vim.Folder("group-7", None)
    await adapter.list()
    return adapter


# Who ended it


async def test_a_vm_that_is_read_off_is_told_of_when_the_watch_knows_by_whom(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["RetrievePropertiesEx"] = told(VM, **WEB | OFF)
    reading = asyncio.create_task(adapter.get(ID))
    await asyncio.sleep(1)
    assert not reading.done()
    vcenter.task("success")
    vcenter.say(change(VM, **OFF))
    assert (await reading).off_cause is OffCause.HOST


async def test_a_vm_of_whose_end_the_watch_tells_nothing_is_off_for_an_unknown_cause(
    adapter: VsphereAdapter, watch: Watch, vcenter: VCenter
) -> None:
    vcenter.answers["RetrievePropertiesEx"] = told(VM, **WEB | OFF)
    vm = await adapter.get(ID)
    assert (vm.power_state, vm.ended) == (PowerState.OFF, None)


def recorded(*events: Any) -> Callable[..., list[Any]]:
    """What vCenter answers that has these of the VM, in this order."""
    for number, event in enumerate(events):
        event.key, event.vm = number, vim.event.VmEventArgument(name="web", vm=VM)
    return lambda *_: list(reversed(events))  # vCenter promises no order


WENT = (vim.event.VmGuestShutdownEvent(userName="us"), vim.event.VmPoweredOffEvent(userName=""))


async def found_off(adapter: VsphereAdapter, *active: str) -> core.VM:
    async with aclosing(adapter.watch(lambda: frozenset(active))) as changes:
        listed = await anext(changes)
    assert isinstance(listed, Listed)
    return listed.vms[0]


@pytest.fixture
def off(vcenter: VCenter) -> VCenter:
    """Its one VM is off when it is first looked at; its guest had been asked to go."""
    vcenter.news.get_nowait()
    vcenter.say(change(VM, "enter", **WEB | OFF))
    vcenter.answers["QueryEvents"] = recorded(*WENT)
    return vcenter


async def test_a_vm_with_an_operation_that_is_found_off_was_ended_as_vcenters_events_tell(
    adapter: VsphereAdapter, off: VCenter
) -> None:
    assert (await found_off(adapter, ID)).off_cause is OffCause.GUEST


async def test_events_are_asked_for_as_far_back_as_an_operation_can_reach_by_vcenters_clock(
    adapter: VsphereAdapter, off: VCenter
) -> None:
    await found_off(adapter, ID)
    [(spec, *_)] = off.called("QueryEvents")
    assert spec.time.beginTime == NOW - LONGEST_OPERATION


async def test_events_are_asked_for_only_since_vcenter_was_last_heard_of(
    adapter: VsphereAdapter, vcenter: VCenter
) -> None:
    await adapter.list()
    vcenter.say(change(VM, "enter", **WEB | OFF))
    await asyncio.sleep(60)
    vcenter.answers["QueryEvents"] = recorded()
    await found_off(adapter, ID)
    [(spec, *_)] = vcenter.called("QueryEvents")
    assert spec.time.beginTime == pytest.approx(NOW - MARGIN - timedelta(seconds=60), abs=timedelta(seconds=1))


async def test_events_are_not_asked_for_without_an_operation(adapter: VsphereAdapter, off: VCenter) -> None:
    assert (await found_off(adapter)).ended is None
    assert not off.called("QueryEvents")


async def test_events_are_asked_for_once(adapter: VsphereAdapter, off: VCenter) -> None:
    off.answers["QueryEvents"] = recorded()
    async with aclosing(adapter.watch(lambda: frozenset({ID}))) as changes:
        await anext(changes)
        off.say(change(VM, name="shop"))
        await anext(changes)
    assert len(off.called("QueryEvents")) == 1


async def hangs(*_: object) -> None:
    await asyncio.Event().wait()


async def test_reading_a_vm_that_was_found_off_asks_for_no_events(adapter: VsphereAdapter, off: VCenter) -> None:
    active = set[str]()
    async with aclosing(adapter.watch(lambda: frozenset(active))) as changes:
        await anext(changes)
        active.add(ID)
        off.answers["RetrievePropertiesEx"] = told(VM, **WEB | OFF)
        await adapter.get(ID)
    assert not off.called("QueryEvents")


@pytest.mark.parametrize("answer", [vmodl.fault.SystemError(), ConnectionResetError(), hangs])
async def test_events_that_cannot_be_read_leave_it_unknown_and_the_watch_goes_on(
    adapter: VsphereAdapter, off: VCenter, answer: object
) -> None:
    off.answers["QueryEvents"] = answer
    assert (await found_off(adapter, ID)).ended is None


async def test_a_vm_that_went_off_while_its_host_was_away_was_ended_as_vcenters_events_tell(
    adapter: VsphereAdapter, vcenter: VCenter
) -> None:
    vcenter.answers["QueryEvents"] = recorded(*WENT)
    async with aclosing(adapter.watch(lambda: frozenset({ID}))) as changes:
        await anext(changes)
        vcenter.say(change(VM, runtime_connectionState="disconnected"))
        away = await anext(changes)
        vcenter.say(change(VM, runtime_connectionState="connected", **OFF))
        back = await anext(changes)
    assert isinstance(away, Changed)
    assert isinstance(back, Changed)
    assert (away.vm.power_state, back.vm.off_cause) == (PowerState.UNKNOWN, OffCause.GUEST)
    [(spec, *_)] = vcenter.called("QueryEvents")
    assert spec.time.beginTime == NOW - LONGEST_OPERATION  # the host may have been away for as long


# Programs


@pytest.fixture
def started(vcenter: VCenter) -> VCenter:
    vcenter.answers |= {"CreateTemporaryFileInGuest": "/tmp/out", "StartProgramInGuest": 4711}
    return vcenter


def logins(vcenter: VCenter) -> list[tuple[str, str]]:
    return [(login.username, login.password) for _, login, _ in vcenter.called("StartProgramInGuest")]


async def test_a_program_runs_as_the_requests_user(adapter: VsphereAdapter, watch: Watch, started: VCenter) -> None:
    process = await adapter.guest_exec(ID, ["true"], GuestCredentials("web-admin", "geheim"))
    assert (process.pid, logins(started)) == ("4711", [("web-admin", "geheim")])


async def test_without_one_it_runs_as_the_configured_user(
    adapter: VsphereAdapter, watch: Watch, started: VCenter, tmp_path: Path
) -> None:
    (tmp_path / "username").write_text("root")
    (tmp_path / "password").write_text("guest")
    adapter._settings = adapter._settings.model_copy(update={"guest_credentials_dir": tmp_path})
    await adapter.guest_exec(ID, ["true"], None)
    assert logins(started) == [("root", "guest")]


async def test_without_any_login_it_says_who_can_name_one(adapter: VsphereAdapter, watch: Watch) -> None:
    with pytest.raises(CommandFailed, match="--guest-credentials-dir"):
        await adapter.guest_exec(ID, ["true"], None)


async def test_a_configured_login_that_cannot_be_read_is_told(
    adapter: VsphereAdapter, watch: Watch, tmp_path: Path
) -> None:
    adapter._settings = adapter._settings.model_copy(update={"guest_credentials_dir": tmp_path / "nowhere"})
    with pytest.raises(CommandFailed, match="cannot be read"):
        await adapter.guest_exec(ID, ["true"], None)
