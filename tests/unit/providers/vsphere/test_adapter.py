"""The nine methods, on a vCenter that says what a test wants; tests/e2e/vsphere has one that lives."""

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyVmomi import vim, vmodl

from providers.core.adapter import Changed, Escalation, Grace, GuestCredentials, Listed, Reason, Signal
from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound
from providers.vsphere.adapter import VsphereAdapter
from providers.vsphere.session import SessionLost
from tests.unit.providers.vsphere.conftest import ID, TASK, VM, WEB, VCenter, Watch
from tests.unit.providers.vsphere.fake import change, told

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
