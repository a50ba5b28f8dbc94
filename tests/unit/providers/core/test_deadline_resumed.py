"""A provider that is killed while a hypervisor finishes a shutdown by itself, and started again."""

from datetime import timedelta

import pytest

from providers.core.extension import Extension
from providers.core.model import Operation
from tests.unit.providers.finisher import FinisherProvider, MakeFinisher
from tests.unit.providers.world import at, elapsed, ending, until

pytestmark = pytest.mark.looptime

LONGER = Extension(timeout=timedelta(seconds=200))


async def killed(provider: FinisherProvider) -> Operation:
    """Its guest was given 60 s; the provider was gone from second 5 on."""
    operation = await provider.ask(timeout=60)
    await until(5)
    await provider.kill()
    return operation


async def test_it_is_the_same_operation_with_the_same_deadline(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    begun = await killed(provider)
    await until(30)
    await provider.start()
    ended = await provider.end(begun)
    assert (ending(ended), elapsed(ended), ended.force_after) == ("SUCCEEDED: FORCED/TIMEOUT", 60, at(60))


async def test_nothing_is_asked_a_second_time(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=50)
    begun = await killed(provider)
    await until(30)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by ACPI"
    assert len(provider.adapter.asked) == 1


async def test_an_extension_after_the_restart_takes_it_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    begun = await killed(provider)
    await until(30)
    await provider.start()
    await until(31)
    await provider.operations.extend(begun.id, LONGER)
    ended = await provider.end(begun)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/TIMEOUT", 200)
    assert (provider.adapter.withdrawn, provider.adapter.powered_off) == ([31], [200])


async def test_an_extension_that_a_kill_kept_from_the_hypervisor_reaches_it(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    begun = await provider.ask(timeout=60)
    await until(5)
    provider.adapter.lose_host()
    await provider.extending(begun, LONGER)
    await provider.kill()
    provider.adapter.find_host()
    await until(30)
    await provider.start()
    ended = await provider.end(begun)
    assert (elapsed(ended), provider.adapter.withdrawn) == (200, [30])


async def test_what_was_taken_back_stays_taken_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    begun = await provider.ask(timeout=60)
    await until(5)
    await provider.operations.extend(begun.id, LONGER)
    await until(10)
    await provider.restart()
    ended = await provider.end(begun)
    assert (elapsed(ended), provider.adapter.withdrawn) == (200, [5])


async def test_power_that_was_cut_while_we_were_gone_is_forced(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    begun = await killed(provider)
    await until(500)
    await provider.start()
    ended = await provider.end(begun)
    assert (ending(ended), provider.adapter.powered_off) == ("SUCCEEDED: FORCED/TIMEOUT", [])


async def test_a_guest_that_went_off_while_we_were_gone_is_graceful(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=20)
    begun = await killed(provider)
    await until(500)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_power_that_should_have_been_cut_while_we_were_gone_is_cut_by_us(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    begun = await killed(provider)
    await until(500)
    await provider.start()
    ended = await provider.end(begun)
    assert (ending(ended), provider.adapter.powered_off) == ("SUCCEEDED: FORCED/TIMEOUT", [500])
