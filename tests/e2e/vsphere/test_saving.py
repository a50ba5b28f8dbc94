"""VMs that are suspended at their deadlines instead of being cut, on a vCenter."""

from collections.abc import Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import PowerState
from providers.core.errors import CommandFailed
from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import watching
from tests.e2e.vsphere.conftest import Guest
from tests.e2e.vsphere.test_verdicts import Served
from tests.rigs.calls import calls
from tests.rigs.vsphere.provider import provider as on
from tests.rigs.vsphere.vcenter import VCenter

SAVE = pb.ESCALATION_SAVE


@pytest.fixture(scope="module")
def served(vcenter: VCenter) -> Iterator[Served]:
    with on(vcenter) as provider, calls(provider.address) as client:
        yield Served(provider, vcenter, client)


@pytest.fixture
def deaf(served: Served, guest: Guest) -> Guest:
    """Adds a VM whose guest ignores its tools, and waits until the provider knows it so."""

    def add(key: str = "web", **behaviour: object) -> str:
        vm_id = guest(key, ignores=True, **behaviour)
        savable = "disabled_methods" not in behaviour
        served.calls.wait_vm(key, lambda vm: (vm.id, not vm.forecast.save_problems) == (vm_id, savable))
        served.calls.wait_vm(key, lambda vm: vm.forecast.graceful)
        return vm_id

    return add


def test_a_deaf_guest_is_suspended_at_its_deadline(served: Served, deaf: Guest) -> None:
    vm_id = deaf()
    assert served.ending(served.shutdown(vm_id, 1, escalation=SAVE)) == "SAVED/TIMEOUT"
    assert served.calls.vm(vm_id).power_state == pb.POWER_STATE_SUSPENDED
    started = served.calls.stub.PowerOn(pb.PowerOnRequest(vm=vm_id))
    assert served.ending(started) == "STARTED"
    assert served.calls.vm(vm_id).power_state == pb.POWER_STATE_ON


def test_a_power_off_of_what_is_saved_says_that_its_memory_is_discarded(served: Served, deaf: Guest) -> None:
    vm_id = deaf()
    served.ending(served.shutdown(vm_id, 1, escalation=SAVE))
    operation = served.calls.end(served.calls.stub.PowerOff(pb.PowerOffRequest(vm=vm_id)))
    assert operation.verdict.outcome == pb.OUTCOME_FORCED
    assert any("its memory, which is saved, is discarded" in step.message for step in operation.steps)


def test_what_vcenter_has_disabled_is_told_before_and_left_running(served: Served, deaf: Guest) -> None:
    vm_id = deaf(disabled_methods=["SuspendVM_Task"])
    (problem,) = served.calls.vm(vm_id).forecast.save_problems
    assert "SuspendVM_Task" in problem.message
    operation = served.calls.end(served.shutdown(vm_id, 1, escalation=SAVE))
    assert operation.verdict.outcome == pb.OUTCOME_STILL_RUNNING
    assert "SuspendVM_Task" in operation.error.message


async def test_what_is_suspended_already_was_not_saved_by_us(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest()
    async with watching(adapter):
        assert [await adapter.save(vm_id) for _ in range(2)] == [True, False]
        assert (await adapter.get(vm_id)).saved


async def test_what_is_off_is_not_saved(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power="off")
    async with watching(adapter):
        assert not await adapter.save(vm_id)
        assert (await adapter.get(vm_id)).power_state is PowerState.OFF


async def test_a_refusal_is_told(adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(faults={"SuspendVM_Task": ["InvalidState"] * 9})
    async with watching(adapter):
        with pytest.raises(CommandFailed, match="InvalidState"):
            await adapter.save(vm_id)
