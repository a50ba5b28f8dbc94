"""Asking real guests, and what they could hear."""

import asyncio

import pytest

from providers.core.adapter import OffCause, PowerState, Reason, Signal
from providers.core.errors import CommandFailed
from providers.libvirt.adapter import LibvirtAdapter
from tests.e2e.libvirt_adapter.waiting import GRACE, Run, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd


async def test_a_guest_asked_by_its_agent_goes_down_by_itself(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("agent"))
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.GUEST_AGENT, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST
    assert "agent asked for shutdown" in rig.console("agent")
    assert "power button" not in rig.console("agent")


async def test_a_guest_asked_by_acpi_goes_down_by_itself(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("acpi"))
    async with watching(adapter) as watch:
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST
    assert "power button pressed" in rig.console("acpi")
    assert "agent asked" not in rig.console("acpi")


async def test_an_agent_that_refuses_is_reported_with_its_own_words(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("refuse", agent="refuse"))
    with pytest.raises(CommandFailed, match="guest-shutdown"):
        await adapter.send_signal(vm_id, Signal.GUEST_AGENT, GRACE)
    assert (await adapter.get(vm_id)).power_state is PowerState.ON


async def test_an_agent_that_hangs_is_reported_as_not_answering(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("hang", agent="hang"))
    with pytest.raises(CommandFailed, match="agent does not answer"):
        await adapter.send_signal(vm_id, Signal.GUEST_AGENT, GRACE)


async def test_agents_that_keep_us_waiting_hold_up_nothing_else(adapter: LibvirtAdapter, run: Run) -> None:
    stuck = run(Guest("stuck", agent="ignore"))
    other = run(Guest("other", agent="off"))
    asks = [asyncio.create_task(adapter.send_signal(stuck, Signal.GUEST_AGENT, GRACE)) for _ in range(8)]
    async with watching(adapter) as watch:
        await adapter.power_off(other)
        assert (await watch.until_off(other)).off_cause is OffCause.HOST
        assert not any(ask.done() for ask in asks)
        await adapter.power_off(stuck)
        await watch.until_off(stuck)
    await asyncio.gather(*asks, return_exceptions=True)


async def test_a_guest_is_asked_by_its_agent_also_while_many_others_go_down(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    stuck, refuses, hears = run(Guest("stuck", agent="ignore")), run(Guest("no", agent="refuse")), run(Guest("yes"))
    async with watching(adapter) as watch:
        asks = [asyncio.create_task(adapter.send_signal(stuck, Signal.GUEST_AGENT, GRACE)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(CommandFailed, match="guest-shutdown"):
            await adapter.send_signal(refuses, Signal.GUEST_AGENT, GRACE)
        await adapter.send_signal(hears, Signal.GUEST_AGENT, GRACE)
        assert (await watch.until_off(hears)).off_cause is OffCause.GUEST
        assert not any(ask.done() for ask in asks)
        await adapter.power_off(stuck)
        await watch.until_off(stuck)
    assert "guest yes: agent asked for shutdown" in rig.console("yes")
    await asyncio.gather(*asks, return_exceptions=True)


async def test_a_paused_guest_is_not_said_to_have_heard(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("paused", agent="off"))
    async with watching(adapter) as watch:
        with rig.connect() as connection:
            connection.lookupByName("paused").suspend()
        vm = await watch.until(lambda vm: vm.power_state is PowerState.PAUSED)
        assert (vm.signals, vm.problems[0].reason, vm.problems[0].passing) == ((), Reason.PAUSED, False)
        with pytest.raises(CommandFailed, match="state"):
            await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        await adapter.power_on(vm_id)
        await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)


# What it could hear


async def test_an_agent_is_heard_of_as_soon_as_it_is_up(rig: Libvirtd, adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = rig.define(Guest("boots"))
    async with watching(adapter) as watch:
        await adapter.power_on(vm_id)
        vm = await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON)
        assert vm.signals == (Signal.ACPI,)
        assert vm.problems[0].reason is None
        vm = await watch.until(lambda vm: vm.id == vm_id and Signal.GUEST_AGENT in vm.signals)
        assert vm.signals == (Signal.GUEST_AGENT, Signal.ACPI)
        assert vm.problems == ()
        await adapter.power_off(vm_id)


async def test_without_agent_and_acpi_it_hears_nothing(adapter: LibvirtAdapter, run: Run) -> None:
    vm = await adapter.get(run(Guest("deaf", agent="off", acpi=False, acpi_feature=False)))
    assert vm.signals == ()
    assert [problem.reason for problem in vm.problems] == [Reason.TOOLS_UNAVAILABLE]


async def test_a_guest_that_would_be_started_again_is_not_asked(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm = await adapter.get(run(Guest("again", on_poweroff="restart")))
    assert vm.signals == ()
    assert vm.problems[0].reason is Reason.TOOLS_UNAVAILABLE
    assert "on_poweroff" in vm.problems[0].message
