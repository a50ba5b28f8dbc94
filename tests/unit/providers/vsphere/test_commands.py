from collections.abc import Awaitable, Callable

import pytest
from pyVmomi import vim

from providers.vsphere import commands
from providers.vsphere.session import Link
from tests.unit.providers.vsphere.fake import FakeStub, link

TASK = vim.Task("task-1", None)
Switch = Callable[[Link, str], Awaitable[str]]


@pytest.mark.parametrize(
    ("switch", "method"), [(commands.power_on, "PowerOnVM_Task"), (commands.power_off, "PowerOffVM_Task")]
)
async def test_switching_the_power_is_one_call_and_returns_its_task(switch: Switch, method: str) -> None:
    stub = FakeStub()
    stub.answers[method] = TASK
    assert await switch(link(stub), "vm-1") == "task-1"
    assert [name for name, _ in stub.calls] == [method]


@pytest.mark.parametrize(
    ("switch", "method", "state"),
    [(commands.power_on, "PowerOnVM_Task", "poweredOn"), (commands.power_off, "PowerOffVM_Task", "poweredOff")],
)
async def test_a_vm_that_is_as_wanted_has_no_task(switch: Switch, method: str, state: str) -> None:
    stub = FakeStub()
    stub.answers[method] = vim.fault.InvalidPowerState(existingState=state)
    assert await switch(link(stub), "vm-1") == ""


async def test_a_vm_in_another_state_is_an_error() -> None:
    stub = FakeStub()
    stub.answers["PowerOffVM_Task"] = vim.fault.InvalidPowerState(existingState="suspended")
    with pytest.raises(vim.fault.InvalidPowerState):
        await commands.power_off(link(stub), "vm-1")


async def test_asking_a_guest_is_one_call() -> None:
    stub = FakeStub()
    await commands.shut_down(link(stub), "vm-1")
    assert [name for name, _ in stub.calls] == ["ShutdownGuest"]


async def test_a_guest_that_is_off_already_need_not_be_asked() -> None:
    stub = FakeStub()
    stub.answers["ShutdownGuest"] = vim.fault.InvalidPowerState(existingState="poweredOff")
    await commands.shut_down(link(stub), "vm-1")


async def test_a_guest_that_is_suspended_cannot_be_asked() -> None:
    stub = FakeStub()
    stub.answers["ShutdownGuest"] = vim.fault.InvalidPowerState(existingState="suspended")
    with pytest.raises(vim.fault.InvalidPowerState):
        await commands.shut_down(link(stub), "vm-1")


@pytest.mark.parametrize("memory", [True, False])
async def test_a_snapshot_is_with_memory_or_of_file_systems_at_rest(memory: bool) -> None:
    stub = FakeStub()
    stub.answers["CreateSnapshot_Task"] = TASK
    assert await commands.snapshot(link(stub), "vm-1", "before", "why", memory) == "task-1"
    assert stub.called("CreateSnapshot_Task") == [("before", "why", memory, not memory)]


def test_the_task_that_holds_a_vm_is_known_by_its_id() -> None:
    assert commands.blocking_task(vim.fault.TaskInProgress(task=TASK)) == "task-1"


def test_other_faults_name_no_holder() -> None:
    assert commands.blocking_task(vim.fault.InvalidState()) == ""
