"""What the first look at a VM shows, on a hypervisor that had not told of it."""

from dataclasses import replace

import pytest

from providers.core.adapter import Ended, OffCause, PowerState
from tests.unit.providers.finisher import WEB, FinisherProvider, MakeFinisher
from tests.unit.providers.world import ending, until

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
