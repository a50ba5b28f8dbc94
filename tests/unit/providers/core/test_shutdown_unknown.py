"""What a shutdown makes of a VM whose host does not answer: it is neither on nor off."""

import asyncio
from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import Ended, OffCause, PowerState
from providers.core.model import Operation
from tests.unit.providers.finisher import FinisherProvider, MakeFinisher
from tests.unit.providers.world import elapsed, ending, until

pytestmark = pytest.mark.looptime


async def asked_then_lost(provider: FinisherProvider, **fields: Any) -> Operation:
    """Its guest was given 60 s, and its host went away after 10."""
    operation = await provider.ask(timeout=60, **fields)
    await until(10)
    provider.adapter.lose_host()
    return operation


async def test_it_is_not_taken_for_off(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked_then_lost(provider)
    await until(50)
    assert not (await provider.operations.get(operation.id)).state.final


async def test_it_is_waited_for_beyond_the_deadline(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    operation = await asked_then_lost(provider)
    await until(3600)
    assert not (await provider.operations.get(operation.id)).state.final
    assert provider.adapter.powered_off == []


async def test_found_running_after_the_deadline_it_is_forced(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    operation = await asked_then_lost(provider)
    await until(3600)
    provider.adapter.find_host()
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/TIMEOUT", 3600)


async def test_found_off_it_went_off_in_whatever_way_the_hypervisor_says(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    operation = await asked_then_lost(provider)
    await until(3600)
    provider.adapter.find_host(power_state=PowerState.OFF, signals=(), ended=Ended(OffCause.GUEST))
    assert ending(await provider.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_lost_while_it_was_locked_it_is_not_forced_early(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=5)
    provider.adapter.lock()
    operation = await asked_then_lost(provider)
    await until(40)
    provider.adapter.find_host(problems=())
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: GRACEFUL by ACPI", 45)


async def test_lost_without_a_word_about_why_it_is_not_forced_early(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=5)
    provider.adapter.lock()
    operation = await provider.ask(timeout=60)
    await until(10)
    provider.adapter.away = True
    provider.adapter.change(power_state=PowerState.UNKNOWN, problems=())
    await until(40)
    provider.adapter.find_host()
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: GRACEFUL by ACPI", 45)


async def test_lost_before_it_was_asked_it_is_asked_when_it_is_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=5)
    provider.adapter.lose_host()
    await until(1)
    operation = await provider.ask(timeout=60)
    await until(100)
    assert provider.adapter.asked == []
    provider.adapter.find_host()
    assert ending(await provider.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_cancel_before_it_was_asked_ends_within_seconds(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.lose_host()
    await until(1)
    operation = await provider.ask(timeout=60)
    await until(5)
    ended = await provider.operations.cancel(operation.id)
    assert (ending(ended), elapsed(ended)) == ("CANCELLED: UNKNOWN", 9)


async def test_a_cancel_where_nothing_was_handed_over_ends_within_seconds(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked_then_lost(provider, escalation=pb.ESCALATION_NEVER)
    await until(100)
    ended = await provider.operations.cancel(operation.id)
    assert (ending(ended), elapsed(ended)) == ("CANCELLED: UNKNOWN", 105)


async def test_a_cancel_tries_to_take_back_for_as_long_as_that_can_help(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    operation = await asked_then_lost(provider)
    ended = await provider.operations.cancel(operation.id)
    assert (ending(ended), elapsed(ended)) == ("CANCELLED: UNKNOWN", 80)
    assert ended.verdict
    assert "may still cut the power at 00:01:00 UTC" in ended.verdict.message


async def test_a_cancel_takes_back_as_soon_as_the_host_is_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await asked_then_lost(provider)
    cancelling = asyncio.create_task(provider.operations.cancel(operation.id))
    await until(55)
    provider.adapter.find_host()
    ended = await cancelling
    await until(3600)
    assert (ending(ended), provider.adapter.withdrawn) == ("CANCELLED: STILL_RUNNING", [55])
    assert provider.vm().power_state is PowerState.ON
