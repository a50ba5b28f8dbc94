"""What the first look at a VM shows, on a hypervisor that had not told of it."""

import asyncio
from dataclasses import replace

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import VM, Changed, Ended, OffCause, PowerState, Signal
from providers.core.model import Operation
from tests.unit.providers.finisher import WEB, FinisherProvider, MakeFinisher
from tests.unit.providers.world import elapsed, ending, until

pytestmark = pytest.mark.looptime

CAUSES = pytest.mark.parametrize("cause", [OffCause.HOST, OffCause.GUEST, None])


def goes_off_unseen(provider: FinisherProvider, cause: OffCause | None) -> None:
    """Nobody is told, as on a hypervisor that is polled."""
    provider.adapter.vms[WEB.id] = replace(WEB, power_state=PowerState.OFF, signals=(), ended=Ended(cause))


@CAUSES
async def test_a_vm_that_the_first_look_finds_off_was_off_already(
    make_finisher: MakeFinisher, cause: OffCause | None
) -> None:
    provider = await make_finisher()
    goes_off_unseen(provider, cause)
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert ending(operation) == "SUCCEEDED: ALREADY_OFF"
    assert operation.verdict
    assert operation.verdict.message == "It was off already when it was first looked at."


async def test_nor_is_its_power_cut_again(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    goes_off_unseen(provider, OffCause.HOST)
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: ALREADY_OFF"
    assert provider.adapter.powered_off == []


async def test_one_that_the_first_look_finds_off_after_an_outage_may_have_run_until_then(
    make_finisher: MakeFinisher,
) -> None:
    provider = await make_finisher()
    provider.adapter.away = True
    begun = await provider.shutdown(timeout=60)
    await until(20)
    goes_off_unseen(provider, OffCause.HOST)
    provider.adapter.away = False
    operation = await provider.end(begun)
    assert ending(operation) == "SUCCEEDED: OUT_OF_BAND"
    assert operation.verdict
    assert operation.verdict.message == "Somebody else cut its power before it was asked."


async def test_a_vm_that_was_off_and_is_not_here_for_a_moment_is_left_alone(make_finisher: MakeFinisher) -> None:
    """No hook is begun for it, and what ended its last run is not told as what ended this one."""
    provider = await make_finisher(replace(WEB, power_state=PowerState.OFF, signals=(), ended=Ended(OffCause.HOST)))
    vm = provider.adapter.vms.pop(WEB.id)
    begun = await provider.ask(timeout=60, pre_stop=[pb.Hook(name="drain", exec=pb.ExecHook(command=["drain"]))])
    await until(1)
    provider.adapter.vms[WEB.id] = vm
    provider.adapter.change()
    operation = await provider.end(begun)
    assert (ending(operation), operation.hooks) == ("FAILED: UNKNOWN", ())


async def test_a_vm_that_was_off_when_it_was_asked_for_and_never_ran_since_was_off_already(
    make_finisher: MakeFinisher,
) -> None:
    provider = await make_finisher(replace(WEB, power_state=PowerState.OFF, signals=(), ended=Ended(OffCause.HOST)))
    provider.adapter.change(power_state=PowerState.UNKNOWN)
    begun = await provider.ask(timeout=60)
    await until(1)
    provider.adapter.change(power_state=PowerState.OFF)
    assert ending(await provider.end(begun)) == "SUCCEEDED: ALREADY_OFF"


async def test_a_vm_that_came_on_while_its_shutdown_was_being_written_down_was_not_off_already(
    make_finisher: MakeFinisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_finisher(replace(WEB, power_state=PowerState.OFF, signals=(), ended=Ended(OffCause.HOST)))
    save = provider.journal.save

    async def slow(operation: Operation) -> None:
        if not provider.adapter.asked and provider.vm().power_state is PowerState.OFF:
            provider.adapter.change(power_state=PowerState.ON, signals=(Signal.ACPI,), ended=None)
            await asyncio.sleep(1)
        await save(operation)

    monkeypatch.setattr(provider.journal, "save", slow)
    operation = await provider.end(await provider.ask(timeout=60))
    assert ending(operation) == "SUCCEEDED: FORCED/TIMEOUT"


RUNS_AGAIN = replace(WEB, run_id="2")
"""Its second run; on this hypervisor runs are told apart."""


async def test_an_end_that_is_told_late_does_not_end_what_is_about_a_later_run(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(RUNS_AGAIN)
    begun = await provider.ask(timeout=60)
    await until(5)
    provider.adapter.news.put_nowait(Changed(replace(WEB, power_state=PowerState.OFF, signals=())))
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)


async def test_a_power_off_is_about_the_run_that_is_there_though_the_one_before_it_ended_under_a_shutdown(
    make_finisher: MakeFinisher,
) -> None:
    """Nobody had told of the end of the first run, nor that a second had begun."""
    provider = await make_finisher(replace(WEB, run_id="1"))
    shutdown = await provider.ask(timeout=60)
    await until(5)
    provider.adapter.vms[WEB.id] = RUNS_AGAIN
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: FORCED/REQUESTED"
    assert provider.vm().power_state is PowerState.OFF
    assert ending(await provider.end(shutdown)) == "SUCCEEDED: UNKNOWN"


@pytest.mark.parametrize("late", [WEB, replace(WEB, power_state=PowerState.OFF, signals=())])
async def test_nor_is_it_ended_by_what_is_told_late(make_finisher: MakeFinisher, late: VM) -> None:
    provider = await make_finisher(replace(WEB, run_id="1"))
    provider.adapter.vms[WEB.id] = RUNS_AGAIN
    begun = await provider.power_off()
    provider.adapter.news.put_nowait(Changed(replace(late, run_id="1" if late is WEB else "")))
    assert ending(await provider.end(begun)) == "SUCCEEDED: FORCED/REQUESTED"


async def test_a_run_that_began_long_after_a_power_off_came_is_left_alone(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(replace(WEB, run_id="1"))
    await provider.ask(timeout=60)
    await until(5)
    provider.adapter.away = True
    begun = await provider.power_off()
    await until(20)
    provider.adapter.vms[WEB.id] = RUNS_AGAIN
    provider.adapter.away = False
    assert ending(await provider.end(begun)) == "SUCCEEDED: UNKNOWN"
    assert provider.adapter.powered_off == []


async def test_an_end_that_is_told_in_an_outage_is_believed_within_seconds(make_finisher: MakeFinisher) -> None:
    """The host may go down after its last VM."""
    provider = await make_finisher(RUNS_AGAIN)
    begun = await provider.ask(timeout=60)
    await until(5)
    provider.adapter.away = True
    provider.adapter.go_off(ended=Ended(OffCause.GUEST))
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by ACPI", 10)
