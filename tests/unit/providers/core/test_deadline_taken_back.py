"""How the time that a hypervisor was handed is taken back, and kept by us from then on."""

from dataclasses import replace
from datetime import timedelta

import pytest

from providers.core.adapter import Ended, OffCause, PowerState, Reason
from providers.core.errors import CommandFailed, OperationEnded
from providers.core.extension import Extension
from providers.core.model import Operation
from tests.unit.providers.finisher import NOT_REVOCABLE, WEB, FinisherProvider, MakeFinisher, told
from tests.unit.providers.world import elapsed, ending, now, until

pytestmark = pytest.mark.looptime

LONGER, SHORTER = Extension(timeout=timedelta(seconds=200)), Extension(timeout=timedelta(seconds=30))


async def asked(provider: FinisherProvider) -> Operation:
    """Its guest was given 60 s, 10 of which have passed."""
    operation = await provider.ask(timeout=60)
    await until(10)
    return operation


async def test_an_extension_takes_it_back_once_and_we_cut_the_power(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked(provider)
    await provider.operations.extend(operation.id, LONGER)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/TIMEOUT", 200)
    assert (provider.adapter.withdrawn, provider.adapter.powered_off) == ([10], [200])


async def test_an_extended_guest_is_not_asked_a_second_time(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=100)
    operation = await asked(provider)
    await provider.operations.extend(operation.id, LONGER)
    assert ending(await provider.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"
    assert len(provider.adapter.asked) == 1


async def test_a_second_extension_has_nothing_left_to_take_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked(provider)
    await provider.operations.extend(operation.id, LONGER)
    await until(20)
    await provider.operations.extend(operation.id, Extension(timeout=timedelta(seconds=300)))
    ended = await provider.end(operation)
    assert (elapsed(ended), provider.adapter.withdrawn) == (300, [10])


async def test_a_shorter_time_is_kept_by_us(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked(provider)
    await provider.operations.extend(operation.id, SHORTER)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/TIMEOUT", 30)
    assert (provider.adapter.withdrawn, provider.adapter.powered_off) == ([10], [30])


async def test_a_cancelled_vm_runs_on_and_nothing_cuts_its_power(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    ended = await provider.operations.cancel((await asked(provider)).id)
    await until(3600)
    assert (ending(ended), elapsed(ended)) == ("CANCELLED: STILL_RUNNING", 10)
    assert (provider.adapter.withdrawn, provider.adapter.powered_off) == ([10], [])
    assert provider.vm().power_state == "ON"


async def test_a_power_on_takes_it_back_and_the_vm_runs_on(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked(provider)
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: ALREADY_ON"
    await until(3600)
    assert ending(await provider.end(operation)) == "CANCELLED: STILL_RUNNING/TIMEOUT"
    assert (provider.adapter.withdrawn, provider.adapter.powered_off) == ([10], [])
    assert provider.vm().power_state == "ON"


async def test_a_power_on_starts_a_guest_that_goes_off_all_the_same(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=20)
    operation = await asked(provider)
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: STARTED"
    assert ending(await provider.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"


async def hangs(_vm_id: str) -> None:
    await until(3600)


async def test_an_extension_is_answered_once_the_hypervisor_has_taken_it_back(
    make_finisher: MakeFinisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_finisher()
    take_back = provider.adapter.withdraw

    async def slowly(vm_id: str) -> None:
        await until(13)
        await take_back(vm_id)

    monkeypatch.setattr(provider.adapter, "withdraw", slowly)
    operation = await asked(provider)
    await provider.operations.extend(operation.id, LONGER)
    assert now() == 13


async def test_an_extension_is_refused_after_seconds_where_the_hypervisor_has_not_taken_it_back_by_then(
    make_finisher: MakeFinisher,
) -> None:
    """And counts all the same: the guest has that time as soon as the hypervisor gives it back."""
    provider = await make_finisher()
    operation = await asked(provider)
    provider.adapter.lose_host()
    with pytest.raises(CommandFailed, match="may still cut the power at 00:01:00 UTC"):
        await provider.operations.extend(operation.id, LONGER)
    assert now() == 18
    provider.adapter.find_host()
    assert elapsed(await provider.end(operation)) == 200


async def test_an_extension_that_the_hypervisors_own_deadline_overtakes_is_refused(
    make_finisher: MakeFinisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_finisher()
    monkeypatch.setattr(provider.adapter, "withdraw", hangs)
    operation = await asked(provider)
    await until(58)
    with pytest.raises(OperationEnded, match="before the hypervisor had given its deadline back"):
        await provider.operations.extend(operation.id, LONGER)
    assert ending(await provider.end(operation)) == "SUCCEEDED: FORCED/TIMEOUT"


async def test_an_extension_is_refused_where_the_power_was_cut_before_it_was_taken_back_and_nobody_told(
    make_finisher: MakeFinisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_finisher()

    async def comes_too_late(vm_id: str) -> None:
        cut = Ended(OffCause.HOST, Reason.TIMEOUT)
        provider.adapter.vms[vm_id] = replace(WEB, power_state=PowerState.OFF, signals=(), ended=cut)

    monkeypatch.setattr(provider.adapter, "withdraw", comes_too_late)
    operation = await asked(provider)
    with pytest.raises(OperationEnded):
        await provider.operations.extend(operation.id, LONGER)
    assert ending(await provider.end(operation)) == "SUCCEEDED: FORCED/TIMEOUT"


async def test_an_extension_that_is_asked_for_again_is_the_same_one(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked(provider)
    for _ in range(2):
        extended = await provider.operations.extend(operation.id, LONGER)
    assert told(extended).count("extended") == 1


async def test_force_is_done_while_the_hypervisor_is_slow_to_take_it_back(
    make_finisher: MakeFinisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_finisher()
    monkeypatch.setattr(provider.adapter, "withdraw", hangs)
    operation = await asked(provider)
    extended = await provider.extending(operation, LONGER)
    await until(12)
    await provider.operations.force(operation.id)
    await extended
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/REQUESTED", 12)


async def test_a_shorter_time_is_kept_while_the_hypervisor_is_slow_to_take_it_back(
    make_finisher: MakeFinisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_finisher()
    monkeypatch.setattr(provider.adapter, "withdraw", hangs)
    operation = await asked(provider)
    await provider.operations.extend(operation.id, SHORTER)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/TIMEOUT", 30)


async def test_a_hypervisor_that_gives_nothing_back_is_told_of(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.withdraws = False
    operation = await asked(provider)
    with pytest.raises(CommandFailed, match=r"may still cut the power at 00:01:00 UTC.*until 00:03:20"):
        await provider.operations.extend(operation.id, LONGER)
    ended = await provider.end(operation)
    assert "the hypervisor may still cut the power at 00:01:00 UTC: It is not to be stopped." in told(ended)


async def test_a_power_cut_that_was_not_taken_back_is_forced(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.withdraws = False
    operation = await asked(provider)
    with pytest.raises(CommandFailed):
        await provider.operations.extend(operation.id, LONGER)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)
    assert (len(provider.adapter.withdrawn), provider.adapter.powered_off) == (1, [])


async def test_a_cancel_that_could_take_nothing_back_does_not_promise_a_thing(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.withdraws = False
    ended = await provider.operations.cancel((await asked(provider)).id)
    assert ended.verdict
    assert (
        ended.verdict.message
        == "The shutdown was given up, but the hypervisor may still cut the power at 00:01:00 UTC."
    )


async def test_an_outage_in_which_it_is_extended_is_waited_for(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked(provider)
    provider.adapter.lose_host()
    extended = await provider.extending(operation, LONGER)
    await until(13)
    assert not extended.done()
    provider.adapter.find_host()
    await extended
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/TIMEOUT", 200)
    assert provider.adapter.powered_off == [200]


async def test_what_was_not_handed_over_is_not_taken_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(replace(WEB, delegation=NOT_REVOCABLE))
    operation = await asked(provider)
    await provider.operations.extend(operation.id, LONGER)
    assert (elapsed(await provider.end(operation)), provider.adapter.withdrawn) == (200, [])
