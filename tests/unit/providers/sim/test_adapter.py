import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest

from providers.core.adapter import (
    VM,
    Changed,
    Escalation,
    Grace,
    GuestExit,
    Listed,
    OffCause,
    PowerState,
    Signal,
    supports,
)
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.core.lanes import AT_ONCE, Lane, bounds
from providers.sim.adapter import AGENT_TIMEOUT, SimAdapter
from providers.sim.script import Script, guest_id
from providers.sim.transitions import Transition, crash, power_off, suspend
from providers.sim.world import World

Make = Callable[..., World]
WEB = guest_id("web")
GRACE = Grace(datetime(2030, 1, 1, tzinfo=UTC), Escalation.FORCE)

pytestmark = pytest.mark.looptime


def elapsed() -> float:
    return asyncio.get_running_loop().time()


async def next_off(adapter: SimAdapter, ask: Coroutine[Any, Any, object]) -> VM:
    """Do as asked and wait until somebody goes off."""
    async with aclosing(adapter.watch()) as changes:  # type: ignore[type-var]
        async for change in changes:
            match change:
                case Listed():
                    await ask
                case Changed(vm) if vm.power_state is PowerState.OFF:
                    return vm
    raise AssertionError("the watch ended")


async def test_a_watch_begins_with_all_vms(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={}, db={}))
    async for change in adapter.watch():
        assert isinstance(change, Listed)
        assert [vm.name for vm in change.vms] == ["db", "web"]
        break


@pytest.mark.parametrize("signal", [Signal.GUEST_AGENT, Signal.ACPI])
async def test_a_guest_that_is_asked_goes_off_after_its_time(make_world: Make, signal: Signal) -> None:
    adapter = SimAdapter(make_world(web={"shutdown_time": "70s"}))
    vm = await next_off(adapter, adapter.send_signal(WEB, signal, GRACE))
    assert vm.off_cause is OffCause.GUEST
    assert elapsed() == pytest.approx(70, abs=0.01)


async def test_a_pulled_plug_is_told_with_its_cause(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={}))
    vm = await next_off(adapter, adapter.power_off(WEB))
    assert (vm.off_cause, elapsed()) == (OffCause.HOST, 0)


async def test_a_crash_from_outside_is_told_with_its_cause(make_world: Make) -> None:
    world = make_world(web={})
    adapter = SimAdapter(world)

    async def kill() -> None:
        world.change(WEB, crash)

    assert (await next_off(adapter, kill())).off_cause is OffCause.CRASHED


async def test_a_power_off_returns_when_it_is_done(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"power_off_time": "3s"}))
    await adapter.power_off(WEB)
    assert ((await adapter.get(WEB)).power_state, elapsed()) == (PowerState.OFF, 3)


async def test_a_power_on_starts_a_guest(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"power": "off"}))
    await adapter.power_on(WEB)
    assert (await adapter.get(WEB)).power_state is PowerState.ON


async def test_a_restart_right_after_the_end_does_not_hide_the_end(make_world: Make) -> None:
    world = make_world(web={"shutdown_time": "5s"})
    adapter = SimAdapter(world)

    async def restart() -> None:
        await adapter.send_signal(WEB, Signal.ACPI, GRACE)
        asyncio.get_running_loop().call_at(5, asyncio.ensure_future, adapter.power_on(WEB))

    assert (await next_off(adapter, restart())).off_cause is OffCause.GUEST


async def test_a_hanging_agent_fails_when_its_time_is_up(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"agent": "hanging"}))
    with pytest.raises(CommandFailed, match="did not answer"):
        await adapter.send_signal(WEB, Signal.GUEST_AGENT, GRACE)
    assert elapsed() == AGENT_TIMEOUT


async def test_a_hanging_agent_does_not_hold_up_the_button(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"agent": "hanging"}))
    asked = asyncio.create_task(adapter.send_signal(WEB, Signal.GUEST_AGENT, GRACE))
    await adapter.send_signal(WEB, Signal.ACPI, GRACE)
    assert elapsed() < 1
    asked.cancel()


async def test_a_signal_of_another_hypervisor_is_refused(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={}))
    with pytest.raises(CommandFailed, match="VMWARE_TOOLS"):
        await adapter.send_signal(WEB, Signal.VMWARE_TOOLS, GRACE)


async def test_a_program_ends_as_its_hook_says(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"hooks": [{"takes": "3s", "exit_code": 3, "output": "full\n"}]}))
    process = await adapter.guest_exec(WEB, ["drain"], None)
    assert await process.poll() is None
    await asyncio.sleep(3)
    assert await process.poll() == GuestExit(3, b"full\n")


async def test_a_hanging_agent_starts_no_program(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"agent": "hanging"}))
    with pytest.raises(CommandFailed, match="did not answer"):
        await adapter.guest_exec(WEB, ["drain"], None)


async def test_a_snapshot_is_kept_in_the_world(make_world: Make) -> None:
    world = make_world(web={})
    await SimAdapter(world).snapshot(WEB, "before", "", False)
    assert [snapshot.name for snapshot in world.guest(WEB).snapshots] == ["before"]


async def test_nothing_is_declared_as_unsupported(make_world: Make) -> None:
    adapter = SimAdapter(make_world())
    assert all(supports(adapter, method) for method in ("guest_exec", "snapshot", "save"))


async def test_a_refused_call_does_nothing(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"faults": {"power_off": "refuse"}}))
    with pytest.raises(CommandFailed, match="refused power_off"):
        await adapter.power_off(WEB)
    assert (await adapter.get(WEB)).power_state is PowerState.ON


async def test_a_call_after_the_faults_works(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"faults": {"get": "unavailable x2"}}))
    for _ in range(2):
        with pytest.raises(HypervisorUnavailable):
            await adapter.get(WEB)
    assert (await adapter.get(WEB)).name == "web"


async def test_a_lost_answer_is_an_error_after_the_deed(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"faults": {"power_off": "lost"}}))
    with pytest.raises(HypervisorUnavailable):
        await adapter.power_off(WEB)
    assert (await adapter.get(WEB)).power_state is PowerState.OFF


async def test_an_ignored_call_succeeds_and_does_nothing(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"faults": {"power_off": "ignore"}}))
    await adapter.power_off(WEB)
    assert (await adapter.get(WEB)).power_state is PowerState.ON


async def test_a_hanging_call_never_ends(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"faults": {"power_off": "hang"}}))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(adapter.power_off(WEB), 86_400)


@pytest.mark.parametrize("fault", ["unavailable", "refuse"])
async def test_a_watch_that_fails_at_first_works_later(make_world: Make, fault: str) -> None:
    adapter = SimAdapter(make_world({"watch": fault}, web={}))
    with pytest.raises((HypervisorUnavailable, CommandFailed)):
        await anext(adapter.watch())
    assert isinstance(await anext(adapter.watch()), Listed)


async def test_a_hidden_hypervisor_answers_nobody_until_it_is_back(make_world: Make) -> None:
    world = make_world(web={})
    adapter = SimAdapter(world)
    world.hide(5)
    with pytest.raises(HypervisorUnavailable):
        await adapter.list()
    await asyncio.sleep(5)
    assert [vm.name for vm in await adapter.list()] == ["web"]


@pytest.mark.parametrize("call", ["get", "power_on", "power_off"])
async def test_a_vm_that_does_not_exist_is_not_found(make_world: Make, call: str) -> None:
    with pytest.raises(VMNotFound, match="nobody"):
        await getattr(SimAdapter(make_world()), call)("nobody")


async def test_a_guest_that_went_off_during_an_outage_is_listed_with_its_cause(make_world: Make) -> None:
    world = make_world(web={"shutdown_time": "3s"})
    await SimAdapter(world).send_signal(WEB, Signal.ACPI, GRACE)
    world.hide(5)
    await asyncio.sleep(5)
    listed = await anext(SimAdapter(world).watch())
    assert isinstance(listed, Listed)
    assert listed.vms[0].off_cause is OffCause.GUEST


async def test_two_thousand_guests_need_one_timer(make_world: Make) -> None:
    world = make_world(web={"count": 2000, "shutdown_time": "5s"})
    adapter = SimAdapter(world)
    for vm in await adapter.list():
        await adapter.send_signal(vm.id, Signal.ACPI, GRACE)
    assert len(asyncio.all_tasks()) == 1
    await asyncio.sleep(5.01)
    assert {vm.power_state for vm in await adapter.list()} == {PowerState.OFF}


async def test_a_call_takes_as_long_as_the_script_says(make_world: Make) -> None:
    world = make_world(web={})
    world.populate(Script.model_validate({"guests": {}, "latency": "3s"}))
    await SimAdapter(world).get(WEB)
    assert elapsed() == 3


async def meanwhile(world: World, doing: Coroutine[Any, Any, bool], somebody: Transition) -> bool:
    """What a call of a slow hypervisor returns before which somebody else has changed the guest."""
    world.populate(Script.model_validate({"guests": {}, "latency": "3s"}))
    call = asyncio.create_task(doing)
    await asyncio.sleep(1)
    world.change(WEB, somebody)
    return await call


async def test_memory_that_somebody_else_was_quicker_to_save_was_not_saved_by_us(make_world: Make) -> None:
    world = make_world(web={})
    assert await meanwhile(world, SimAdapter(world).save(WEB), suspend) is False


async def test_power_that_somebody_else_was_quicker_to_cut_was_not_cut_by_us(make_world: Make) -> None:
    world = make_world(web={})
    assert await meanwhile(world, SimAdapter(world).power_off(WEB), power_off) is False


async def test_no_more_calls_of_a_kind_are_under_way_than_may_be_and_they_are_counted(make_world: Make) -> None:
    world = make_world(web={})
    world.populate(Script.model_validate({"guests": {}, "latency": 0.5}))
    adapter = SimAdapter(world, bounded=bounds({**AT_ONCE, Lane.ASK: 2}))
    asks = [adapter.send_signal(WEB, Signal.ACPI, GRACE) for _ in range(6)]
    await asyncio.gather(*asks, *(adapter.get(WEB) for _ in range(20)))
    assert world.hypervisor().most == {"send_signal": 2, "get": AT_ONCE[Lane.READ]}


async def test_agents_that_hang_hold_up_no_cut(make_world: Make) -> None:
    adapter = SimAdapter(make_world(web={"agent": "hanging"}))
    asks = [asyncio.create_task(adapter.send_signal(WEB, Signal.GUEST_AGENT, GRACE)) for _ in range(100)]
    await asyncio.sleep(0.5)
    await adapter.power_off(WEB)
    assert elapsed() == 0.5
    for ask in asks:
        ask.cancel()
