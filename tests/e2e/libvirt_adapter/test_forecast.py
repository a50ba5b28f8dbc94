"""What is told of real guests, and what they are told to do, stays true: changes without an event, panics, agents
that come and go."""

import libvirt
import pytest

from providers.core.adapter import OffCause, PowerState, Reason, Signal
from providers.libvirt.adapter import LibvirtAdapter
from tests.e2e.libvirt_adapter.waiting import GRACE, Run, execute, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd

RESTART_AGENT = """(port=/dev/$(basename $(dirname $(grep -lx org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name)))
sleep 1; killall qemu-ga; sleep 3; qemu-ga -p $port -t /run) > /dev/null 2>&1 &"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is half a second."""
    monkeypatch.setattr("providers.libvirt.watch.RECHECK_SECONDS", 0.5)
    monkeypatch.setattr("providers.libvirt.watch.REFRESH_SECONDS", 0.5)


# Without an event


@pytest.mark.usefixtures("quick")
async def test_an_action_that_is_changed_while_it_runs_is_noticed(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("changed", agent="off"))
    poweroff, live = libvirt.VIR_DOMAIN_LIFECYCLE_POWEROFF, libvirt.VIR_DOMAIN_AFFECT_LIVE
    async with watching(adapter) as watch:
        with rig.connect() as connection:
            domain = connection.lookupByName("changed")
            domain.setLifecycleAction(poweroff, libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART, live)
            vm = await watch.until(lambda vm: vm.id == vm_id and vm.signals == ())
            assert "on_poweroff" in vm.problems[0].message
            domain.setLifecycleAction(poweroff, libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY, live)
            await watch.until(lambda vm: vm.id == vm_id and vm.signals == (Signal.ACPI,))


@pytest.mark.usefixtures("quick")
async def test_a_managed_save_that_is_removed_is_noticed(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("unsaved", agent="off"))
    async with watching(adapter) as watch:
        with rig.connect() as connection:
            domain = connection.lookupByName("unsaved")
            domain.managedSave()
            await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.SUSPENDED)
            domain.managedSaveRemove()
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST


@pytest.mark.usefixtures("quick")
async def test_a_disk_that_is_being_copied_is_named(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("copied", agent="off", disk=True))
    target = f"<disk type='file'><source file='{rig.folder}/run/copy'/><driver type='qcow2'/></disk>"
    async with watching(adapter) as watch:
        with rig.connect() as connection:
            transient = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
            connection.lookupByName("copied").blockCopy("vda", target, {}, transient)
        vm = await watch.until(lambda vm: vm.id == vm_id and any("vda" in p.message for p in vm.problems))
        assert [problem.reason for problem in vm.problems] == [None, None]
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


# Panics


async def test_a_guest_that_panics_and_is_kept_is_told_as_crashed(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("kept", agent="off", crash_on="power_button", on_crash="preserve"))
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        vm = await watch.until(lambda vm: vm.id == vm_id and vm.crashed)
        assert (vm.power_state, vm.problems[0].reason) == (PowerState.PAUSED, Reason.PAUSED)
        assert await adapter.power_off(vm_id)
        vm = await watch.until_off(vm_id)
        assert (vm.off_cause, vm.crashed) == (OffCause.HOST, False)


async def test_a_guest_that_panics_and_is_reset_is_told_as_crashed_in_the_same_run(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("reset", agent="off", crash_on="power_button", on_crash="restart"))
    async with watching(adapter) as watch:
        await watch.until(lambda vm: vm.id == vm_id and vm.run_id != "")
        before = (await adapter.get(vm_id)).run_id
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        await watch.until(lambda vm: vm.id == vm_id and vm.crashed)
        rig.wait_ready("reset", boot=2)
        vm = await adapter.get(vm_id)
        assert (vm.power_state, vm.crashed, vm.run_id) == (PowerState.ON, True, before)


# Agents


async def test_an_agent_that_restarts_is_waited_for_where_there_is_no_acpi(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("reagent", acpi=False, acpi_feature=False))
    async with watching(adapter) as watch:
        await execute(adapter, vm_id, "sh", "-c", RESTART_AGENT)
        vm = await watch.until(lambda vm: vm.id == vm_id and vm.signals == ())
        assert [(problem.reason, problem.passing) for problem in vm.problems] == [(Reason.TOOLS_UNAVAILABLE, True)]
        vm = await watch.until(lambda vm: vm.id == vm_id and vm.signals == (Signal.GUEST_AGENT,))
        assert vm.problems == ()


async def test_a_guest_that_shuts_down_to_be_reset_has_not_left(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("around", agent="off", on_poweroff="restart"))
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        rig.wait_ready("around", boot=2)
        assert await adapter.power_off(vm_id)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.HOST
