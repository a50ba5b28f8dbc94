"""What is taken on while much waits for the hypervisor, and what is refused."""

import asyncio
from collections.abc import Awaitable
from contextvars import copy_context
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from providers.core.errors import HypervisorBusy
from providers.core.lanes import CALLER
from providers.core.model import Kind, Operation
from tests.unit.providers.world import Make

pytestmark = pytest.mark.looptime

T = TypeVar("T")
MANY: dict[str, Any] = {"count": 40, "shutdown_time": 1}


async def as_caller(name: str, work: Awaitable[T]) -> T:
    """Do something for this caller."""

    async def do() -> T:
        CALLER.set(name)
        return await work

    return await asyncio.create_task(do(), context=copy_context())


def names(first: int, last: int) -> list[str]:
    return [f"web-{number:04}" for number in range(first, last + 1)]


async def begin(provider: Any, caller: str, vms: list[str], kind: Kind = Kind.SHUTDOWN) -> list[Operation | Exception]:
    """What becomes of one caller's requests, which come at the same time."""

    async def all_of_them() -> list[Operation | Exception]:
        requests = (provider.begin(kind, vm, timeout=600) for vm in vms)
        return list(await asyncio.gather(*requests, return_exceptions=True))

    return await as_caller(caller, all_of_them())


def taken_on(answers: list[Operation | Exception]) -> int:
    return sum(isinstance(answer, Operation) for answer in answers)


async def test_what_is_beyond_the_bound_is_refused_with_a_time_to_come_again(make_provider: Make) -> None:
    provider = await make_provider({"max_waiting": 10}, web=MANY)
    answers = await begin(provider, "a", names(1, 40))
    assert taken_on(answers) == 10
    refusal = answers[-1]
    assert isinstance(refusal, HypervisorBusy)
    assert refusal.retry_delay == timedelta(seconds=1)
    assert "10 requests wait for the hypervisor already; send this again in 1 s" in refusal.message


async def test_nothing_was_done_to_a_vm_whose_request_was_refused(make_provider: Make) -> None:
    provider = await make_provider({"max_waiting": 10}, web=MANY)
    await begin(provider, "a", names(1, 40))
    assert len(provider.operations.active()) == 10


async def test_a_power_off_is_never_refused(make_provider: Make) -> None:
    provider = await make_provider({"max_waiting": 10}, web=MANY)
    await begin(provider, "a", names(1, 20))
    assert taken_on(await begin(provider, "a", names(1, 40), Kind.POWER_OFF)) == 40


async def test_a_caller_with_less_than_its_share_is_taken_on_all_the_same(make_provider: Make) -> None:
    provider = await make_provider({"max_waiting": 10}, web=MANY)
    a, b = await asyncio.gather(begin(provider, "a", names(1, 20)), begin(provider, "b", names(21, 40)))
    assert (taken_on(a), taken_on(b)) == (10, 5)


async def test_all_callers_together_have_no_more_than_twice_as_many(make_provider: Make) -> None:
    provider = await make_provider({"max_waiting": 4}, web=MANY)
    requests = (begin(provider, f"caller {n}", [name]) for n, name in enumerate(names(1, 40)))
    assert 4 <= sum(taken_on(each) for each in await asyncio.gather(*requests)) <= 8


async def test_there_is_room_again_when_the_hypervisor_has_answered(make_provider: Make) -> None:
    provider = await make_provider({"max_waiting": 10}, web=MANY)
    await begin(provider, "a", names(1, 10))
    await asyncio.sleep(0.5)
    assert taken_on(await begin(provider, "a", names(11, 20))) == 10


async def test_operations_that_only_wait_for_their_guests_take_no_room(make_provider: Make) -> None:
    provider = await make_provider({"max_waiting": 10}, web=MANY | {"agent": "none", "acpi": "ignores"})
    for first in range(1, 40, 10):
        assert taken_on(await begin(provider, "a", names(first, first + 9))) == 10
        await asyncio.sleep(0.5)


async def test_guests_that_are_still_to_be_asked_count(make_provider: Make) -> None:
    hanging = MANY | {"faults": {"send_signal": "hang always"}}
    provider = await make_provider({"max_waiting": 10, "max_asks": 1, "max_slow": 0}, web=hanging)
    await begin(provider, "a", names(1, 10))
    await asyncio.sleep(100)
    assert taken_on(await begin(provider, "a", names(11, 40))) == 1
