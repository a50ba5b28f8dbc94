"""The memory of real guests, saved instead of their power being cut."""

from collections.abc import AsyncIterator

import grpc.aio
import pytest

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import PowerState, Reason
from providers.core.errors import CommandFailed
from providers.libvirt.adapter import LibvirtAdapter
from tests.conformance.client import Power, duration, ending
from tests.e2e.libvirt_adapter.waiting import Run, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Provider

PATIENCE = 120.0
"""Seconds that any single wait may take."""


@pytest.fixture
async def provider(rig: Libvirtd) -> AsyncIterator[Provider]:
    with Provider("libvirt", "--uri", rig.uri) as provider:
        yield provider


@pytest.fixture
async def power(provider: Provider) -> AsyncIterator[Power]:
    async with grpc.aio.insecure_channel(provider.address) as channel:
        yield Power(channel, PATIENCE)


async def saving(power: Power, vm_id: str) -> pb.Operation:
    return await power.shutdown(await power.vm(vm_id), timeout=duration(2), escalation=pb.ESCALATION_SAVE)


async def test_a_deaf_guest_is_saved_at_its_deadline_and_resumed_without_a_boot(
    rig: Libvirtd, power: Power, run: Run
) -> None:
    vm_id = run(Guest("save-deaf", agent="off", acpi=False))
    ended = await power.end(await saving(power, vm_id))
    assert ending(ended) == "SUCCEEDED: SAVED/TIMEOUT"
    saved = await power.vm(vm_id)
    assert saved.power_state == pb.POWER_STATE_SUSPENDED
    assert ending(await power.end(await power.power_on(saved))) == "SUCCEEDED: STARTED"
    assert (await power.vm(vm_id)).power_state == pb.POWER_STATE_ON
    assert rig.console("save-deaf").count("ready") == 1


async def test_a_guest_that_obeys_is_not_saved(power: Power, run: Run) -> None:
    vm_id = run(Guest("save-acpi", agent="off"))
    operation = await power.shutdown(await power.vm(vm_id), timeout=duration(60), escalation=pb.ESCALATION_SAVE)
    assert ending(await power.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_provider_that_is_killed_while_it_saves_tells_the_truth_afterwards(
    provider: Provider, power: Power, run: Run
) -> None:
    vm_id = run(Guest("save-killed", agent="off", acpi=False))
    operation = await power.reach(await saving(power, vm_id), pb.OPERATION_STATE_SAVING)
    provider.kill()
    provider.start()
    assert ending(await power.end(operation)) == "SUCCEEDED: SAVED/TIMEOUT"
    assert (await power.vm(vm_id)).power_state == pb.POWER_STATE_SUSPENDED


async def test_a_power_off_while_it_is_saved_leaves_it_off(power: Power, run: Run) -> None:
    vm_id = run(Guest("save-cut", agent="off", acpi=False))
    operation = await power.reach(await saving(power, vm_id), pb.OPERATION_STATE_SAVING)
    cut = await power.end(await power.power_off(await power.vm(vm_id)))
    assert ending(cut).startswith("SUCCEEDED: FORCED/")
    assert (await power.end(operation)).verdict.outcome in (pb.OUTCOME_FORCED, pb.OUTCOME_SAVED)
    assert (await power.vm(vm_id)).power_state == pb.POWER_STATE_OFF


async def test_a_transient_guest_is_said_to_be_unsavable_and_is_left_running(power: Power, run: Run) -> None:
    vm_id = run(Guest("save-passing", agent="off", acpi=False), transient=True)
    (problem,) = (await power.vm(vm_id)).forecast.save_problems
    assert "transient" in problem.message
    ended = await power.end(await saving(power, vm_id))
    assert ending(ended) == "FAILED: STILL_RUNNING/TIMEOUT"
    assert "transient" in ended.error.message


async def test_libvirt_itself_refuses_to_save_a_transient_guest(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("save-refused", agent="off"), transient=True)
    with pytest.raises(CommandFailed, match="transient"):
        await adapter.save(vm_id)


async def test_what_is_saved_is_told_by_the_watch_and_is_another_run_when_it_is_back(
    adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("save-watched", agent="off"))
    async with watching(adapter) as watch:
        before = await watch.until(lambda vm: vm.id == vm_id and bool(vm.run_id))
        assert await adapter.save(vm_id)
        saved = await watch.until(lambda vm: vm.id == vm_id and vm.saved)
        assert (saved.power_state, saved.problems[0].reason) == (PowerState.SUSPENDED, Reason.SUSPENDED)
        await adapter.power_on(vm_id)
        after = await watch.until(lambda vm: vm.id == vm_id and bool(vm.run_id))
        assert after.run_id != before.run_id
