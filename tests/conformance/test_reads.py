"""What a server says about itself and its VMs, without touching one."""

import asyncio
from collections.abc import Callable

from protos.power.v1 import power_pb2 as pb
from tests.conformance.client import LONG, Power, ended, refusal
from tests.conformance.target import Target


async def test_the_provider_says_what_it_is(power: Power) -> None:
    info = await power.info()
    assert info.type
    assert info.version
    assert info.connected
    assert info.signals
    assert info.default_timeout.seconds > 0
    assert info.default_escalation != pb.ESCALATION_UNSPECIFIED


async def test_the_provider_counts_its_vms(power: Power) -> None:
    assert (await power.info()).vm_count == len(await power.vms())


async def test_the_list_is_ordered_by_name_and_id(power: Power) -> None:
    listed = [(vm.name, vm.id) for vm in await power.vms()]
    assert listed == sorted(listed)


async def test_pages_of_one_hold_every_vm_once(power: Power) -> None:
    every = [vm.id for vm in await power.vms()]
    paged: list[str] = []
    token = ""
    while len(paged) <= len(every):
        page = await power.stub.ListVMs(pb.ListVMsRequest(page_size=1, page_token=token))
        assert len(page.vms) <= 1
        paged += [vm.id for vm in page.vms]
        if not (token := page.next_page_token):
            break
    assert paged == every


async def test_a_page_that_holds_all_has_no_next(power: Power) -> None:
    page = await power.stub.ListVMs(pb.ListVMsRequest(page_size=1000))
    assert len(page.vms) == 1000 or not page.next_page_token


async def test_a_vm_is_found_by_id_and_by_name(power: Power, running: pb.VM) -> None:
    by_id, by_name = await power.vm(running.id), await power.vm(running.name)
    assert (by_id.id, by_id.name) == (by_name.id, by_name.name) == (running.id, running.name)


async def test_a_name_that_is_not_ascii_is_found_and_listed(power: Power, named: Callable[[str], str]) -> None:
    name = named("unicode")
    assert not name.isascii()
    vm = await power.vm(name)
    assert vm.name == name
    assert name in [each.name for each in await power.vms()]


async def test_a_watch_begins_with_every_vm(power: Power) -> None:
    seen = []
    with ended(power.stub.WatchVMs(pb.WatchVMsRequest())) as stream:
        async for event in stream:
            if event.snapshot_complete:
                break
            assert event.WhichOneof("event") == "changed"
            seen.append(event.changed.id)
    assert sorted(seen) == sorted(vm.id for vm in await power.vms())


async def test_a_watch_goes_on_with_each_change(power: Power, running: pb.VM, target: Target) -> None:
    states = []
    async with asyncio.timeout(target.known.patience_seconds):
        with ended(power.stub.WatchVMs(pb.WatchVMsRequest())) as stream:
            async for event in stream:
                if event.snapshot_complete:
                    await power.power_off(running)
                if event.changed.id == running.id:
                    states.append(event.changed.power_state)
                    if event.changed.power_state == pb.POWER_STATE_OFF:
                        break
    assert states[0] == pb.POWER_STATE_ON


async def test_a_vm_names_the_operation_that_is_active_on_it(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf, timeout=LONG)
    assert (await power.vm(deaf.id)).active_operation == operation.id
    await power.cancel(operation)
    await power.end(operation)
    assert not (await power.vm(deaf.id)).active_operation


async def test_an_agent_is_the_best_signal(power: Power, agent: pb.VM) -> None:
    assert agent.forecast.graceful
    assert agent.forecast.signals[0] != pb.SIGNAL_ACPI
    assert set(agent.forecast.signals) <= set((await power.info()).signals)


async def test_a_vm_without_agent_is_offered_acpi_alone(acpi: pb.VM) -> None:
    assert acpi.forecast.graceful
    assert list(acpi.forecast.signals) == [pb.SIGNAL_ACPI]


async def test_a_vm_that_no_signal_reaches_says_why(power: Power, unreachable: pb.VM) -> None:
    [vm] = (await power.stub.ForecastShutdown(pb.ForecastShutdownRequest(vm=unreachable.name))).vms
    assert not vm.forecast.graceful
    assert not vm.forecast.signals
    assert pb.REASON_TOOLS_UNAVAILABLE in [problem.reason for problem in vm.forecast.problems]
    assert all(problem.message for problem in vm.forecast.problems)


async def test_a_vm_that_is_off_hears_nothing(power: Power, off: pb.VM) -> None:
    [vm] = (await power.stub.ForecastShutdown(pb.ForecastShutdownRequest(vm=off.id))).vms
    assert vm.power_state == pb.POWER_STATE_OFF
    assert not vm.forecast.signals


async def test_a_forecast_for_nobody_in_particular_is_for_all(power: Power) -> None:
    forecast = await power.stub.ForecastShutdown(pb.ForecastShutdownRequest())
    assert [vm.id for vm in forecast.vms] == [vm.id for vm in await power.vms()]


async def test_a_forecast_touches_nothing(power: Power, running: pb.VM) -> None:
    async with power.untouched(running):
        await power.stub.ForecastShutdown(pb.ForecastShutdownRequest(vm=running.id))
        await power.stub.ForecastShutdown(pb.ForecastShutdownRequest())


async def test_an_ambiguous_name_lists_the_ids(power: Power, named: Callable[[str], str]) -> None:
    refused = await refusal(power.vm(named("duplicate")))
    ids = [vm.id for vm in await power.vms() if vm.name == named("duplicate")]
    assert refused.info.reason == "AMBIGUOUS_NAME"
    assert sorted(refused.info.metadata["ids"].split(",")) == sorted(ids)
