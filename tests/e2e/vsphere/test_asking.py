"""Asking guests, and what they could hear: the adapter on the rig."""

from typing import Any

import pytest

from providers.core.adapter import OffCause, PowerState, Reason, Signal
from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound
from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import GRACE, watching
from tests.e2e.vsphere.conftest import Guest
from tests.rigs.vsphere.client import client, machine
from tests.rigs.vsphere.vcenter import VCenter

TOOLS = Signal.VMWARE_TOOLS


def asked(vcenter: VCenter, key: str = "web") -> list[str]:
    return [call["method"] for call in vcenter.show(key)["asked_at"]]


async def test_a_guest_that_is_asked_goes_down_by_itself(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, TOOLS, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST
    assert asked(vcenter) == ["ShutdownGuest"]


async def test_a_guest_that_is_off_already_has_nothing_to_hear(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power="off")
    async with watching(adapter):
        await adapter.send_signal(vm_id, TOOLS, GRACE)


async def test_a_guest_that_refuses_is_reported_in_vcenters_words(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(refuses=True)
    async with watching(adapter):
        with pytest.raises(CommandFailed, match=r"not allowed in the current state, InvalidState"):
            await adapter.send_signal(vm_id, TOOLS, GRACE)


async def test_tools_that_ended_since_are_reported(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(tools="not_running")
    async with watching(adapter):
        with pytest.raises(CommandFailed, match=r"ToolsUnavailable"):
            await adapter.send_signal(vm_id, TOOLS, GRACE)


async def test_a_suspended_guest_is_not_said_to_have_heard(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power="suspended")
    async with watching(adapter) as watch:
        with pytest.raises(CommandFailed, match="state"):
            await adapter.send_signal(vm_id, TOOLS, GRACE)
        await adapter.power_on(vm_id)
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)


async def test_a_disabled_method_is_reported(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(disabled_methods=["ShutdownGuest"])
    async with watching(adapter):
        with pytest.raises(CommandFailed, match="MethodDisabled"):
            await adapter.send_signal(vm_id, TOOLS, GRACE)


async def test_a_missing_privilege_is_named(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(faults={"ShutdownGuest": ["NoPermission"]})
    async with watching(adapter):
        with pytest.raises(CommandFailed, match=r"VirtualMachine\.Interact"):
            await adapter.send_signal(vm_id, TOOLS, GRACE)


async def test_a_vm_that_is_gone_is_not_found(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    vcenter.add("gone", power="off")
    vm_id = vcenter.show("gone")["instance_uuid"]
    vcenter.remove("gone")
    with pytest.raises(VMNotFound):
        await adapter.send_signal(vm_id, TOOLS, GRACE)


# A lock


async def test_a_vm_that_a_snapshot_holds_is_locked_until_that_is_taken(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(snapshot_time="1s", faults={"ShutdownGuest": ["TaskInProgress"]})
    with client(vcenter) as content:
        async with watching(adapter) as watch:
            machine(content, vcenter, "web").CreateSnapshot("backup", "", False, False)
            with pytest.raises(Locked, match="TaskInProgress"):
                await adapter.send_signal(vm_id, TOOLS, GRACE)
            named = await adapter.get(vm_id)
            assert [(problem.reason, problem.passing) for problem in named.problems] == [(Reason.LOCKED, True)]
            if "createSnapshot" not in named.problems[0].message:  # its task is told by the watch a moment later
                named = await watch.until(lambda vm: vm.id == vm_id and "createSnapshot" in str(vm.problems))
            assert "VirtualMachine.createSnapshot" in named.problems[0].message
            await watch.until(lambda vm: vm.id == vm_id and vm.signals == (TOOLS,) and not vm.problems)
            await adapter.send_signal(vm_id, TOOLS, GRACE)
            await watch.until_off(vm_id)


async def test_a_task_under_way_is_a_warning_until_it_ends(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(snapshot_time="500ms")
    with client(vcenter) as content:
        async with watching(adapter) as watch:
            machine(content, vcenter, "web").CreateSnapshot("backup", "", False, False)
            busy = await watch.until(lambda vm: vm.id == vm_id and bool(vm.problems))
            assert (busy.signals, busy.problems[0].reason) == ((TOOLS,), None)
            assert "VirtualMachine.createSnapshot" in busy.problems[0].message
            assert (await watch.until(lambda vm: vm.id == vm_id)).problems == ()


async def test_a_guest_is_asked_after_the_task_that_makes_vcenter_refuse(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(snapshot_time="1s", faults={"ShutdownGuest": ["InvalidState"]})
    with client(vcenter) as content:
        async with watching(adapter) as watch:
            machine(content, vcenter, "web").CreateSnapshot("backup", "", False, False)
            await watch.until(lambda vm: vm.id == vm_id and bool(vm.problems))
            with pytest.raises(Locked, match="InvalidState"):
                await adapter.send_signal(vm_id, TOOLS, GRACE)
            assert (await adapter.get(vm_id)).signals == ()
            await watch.until(lambda vm: vm.id == vm_id and vm.signals == (TOOLS,) and not vm.problems)
            await adapter.send_signal(vm_id, TOOLS, GRACE)
            await watch.until_off(vm_id)


async def test_what_is_in_use_is_asked_again_some_seconds_later(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(faults={"ShutdownGuest": ["ResourceInUse"]})
    async with watching(adapter) as watch:
        with pytest.raises(Locked, match="ResourceInUse"):
            await adapter.send_signal(vm_id, TOOLS, GRACE)
        assert (await adapter.get(vm_id)).problems[0].passing
        await watch.until(lambda vm: vm.id == vm_id and vm.signals == (TOOLS,))
        await adapter.send_signal(vm_id, TOOLS, GRACE)


async def test_tools_that_stop_and_start_again_are_waited_for(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.set("web", tools="not_running")
        vm = await watch.until(lambda vm: vm.id == vm_id and not vm.signals)
        assert vm.problems[0].passing
        vcenter.set("web", tools="running")
        assert (await watch.until(lambda vm: vm.id == vm_id)).problems == ()


async def test_a_guest_whose_host_is_away_is_not_said_to_have_refused(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(connection="disconnected")
    async with watching(adapter):
        with pytest.raises(HypervisorUnavailable, match="HostNotConnected"):
            await adapter.send_signal(vm_id, TOOLS, GRACE)


# What it could hear


@pytest.mark.parametrize(
    ("behaviour", "reason", "passing"),
    [
        ({"tools": "not_running"}, Reason.TOOLS_UNAVAILABLE, False),
        ({"tools": "not_installed"}, Reason.TOOLS_UNAVAILABLE, False),
        ({"tools": "executing_scripts"}, Reason.TOOLS_UNAVAILABLE, True),
        *(({"connection": word}, Reason.TOOLS_UNAVAILABLE, True) for word in ("disconnected", "orphaned")),
        ({"disabled_methods": ["ShutdownGuest"]}, Reason.LOCKED, True),
        ({"power": "suspended"}, Reason.SUSPENDED, False),
        ({"question": {"text": "Moved or copied?", "choices": ["moved", "copied"]}}, Reason.QUESTION_PENDING, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_stands_in_the_way_is_told(
    adapter: VsphereAdapter, guest: Guest, behaviour: dict[str, Any], reason: Reason, passing: bool
) -> None:
    vm_id = guest(**behaviour)
    vm = await adapter.get(vm_id)
    assert vm.signals == ()
    assert [(problem.reason, problem.passing) for problem in vm.problems] == [(reason, passing)]


async def test_a_question_is_told_with_its_choices_and_never_answered(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.set("web", question={"text": "Moved or copied?", "choices": ["moved", "copied"]})
        vm = await watch.until(lambda vm: vm.id == vm_id and bool(vm.problems))
        assert "'Moved or copied?' (moved, copied)" in vm.problems[0].message
        vcenter.set("web", question=None)
        assert (await watch.until(lambda vm: vm.id == vm_id)).signals == (TOOLS,)
    assert asked(vcenter) == []


async def test_old_tools_are_asked_with_a_warning(adapter: VsphereAdapter, guest: Guest) -> None:
    vm = await adapter.get(guest(tools="old"))
    assert vm.signals == (TOOLS,)
    assert [problem.reason for problem in vm.problems] == [None]


async def test_a_vm_of_a_solution_is_asked_with_a_warning(adapter: VsphereAdapter, guest: Guest) -> None:
    vm = await adapter.get(guest(managed_by={"extension": "com.example.nsx", "type": "agent"}))
    assert (vm.signals, vm.refused, vm.labels["managed-by"]) == ((TOOLS,), "", "com.example.nsx")
    assert [(problem.reason, "com.example.nsx" in problem.message) for problem in vm.problems] == [(None, True)]


@pytest.mark.parametrize(
    ("behaviour", "word"),
    [
        ({"template": True}, "template"),
        ({"ft_secondary": True}, "fault"),
        ({"managed_by": {"extension": "com.vmware.vim.eam", "type": "cluster-agent"}}, "vCLS"),
        ({"managed_by": {"extension": "VirtualCenter", "type": "vcls-entity"}}, "vCLS"),
    ],
)
async def test_a_vm_that_takes_no_operations_says_why(
    adapter: VsphereAdapter, guest: Guest, behaviour: dict[str, Any], word: str
) -> None:
    assert word in (await adapter.get(guest(**behaviour))).refused


async def test_a_booting_guest_is_heard_of_when_its_tools_run(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power="off", boot_time="300ms")
    async with watching(adapter) as watch:
        await adapter.power_on(vm_id)
        vm = await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)
        assert vm.signals == ()
        assert (await watch.until(lambda vm: vm.id == vm_id and vm.signals == (TOOLS,))).problems == ()


async def test_a_guest_that_somebody_else_asked_is_not_taken_for_one_without_tools(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(shutdown_time="1s")
    async with watching(adapter) as watch:
        with client(vcenter) as content:
            machine(content, vcenter, "web").ShutdownGuest()
        vm = await watch.until(lambda vm: vm.id == vm_id and bool(vm.problems))
        assert vm.problems[0].passing
        assert (await watch.until(lambda vm: vm.id == vm_id)).power_state is PowerState.OFF
