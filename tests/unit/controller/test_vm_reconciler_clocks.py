"""The controller's clock, the provider's and a steady one: which of them counts for what."""

from datetime import timedelta

import pytest

from controller.models import VirtualMachine
from controller.rush import QUIET
from tests.unit.controller.builders import FAILED, NOW, PENDING, WAITING, machine, seconds, with_status
from tests.unit.controller.conftest import Begin, Controller, Make

pytestmark = pytest.mark.looptime

HOUR, SKEWS = timedelta(hours=1), [timedelta(minutes=-10), timedelta(0), timedelta(minutes=10)]
NEVER = machine(escalation="Never")


def begun(controller: Controller) -> int:
    return len(controller.client.operations)


async def fail_all(controller: Controller) -> None:
    """Each operation ends, as soon as it was begun, with a guest that still runs."""
    for name, operation in list(controller.client.operations.items()):
        if operation.state != FAILED:
            await controller.client.end(name, "STILL_RUNNING", FAILED, message="Not powered off hard, as asked.")


async def attempts(controller: Controller, for_seconds: int) -> list[int]:
    """The seconds in which an attempt began, the first one's being left out."""
    moments, known = [], begun(controller)
    for second in range(1, for_seconds + 1):
        await fail_all(controller)
        await controller.settle(1)
        if begun(controller) > known:
            moments.append(second)
            known = begun(controller)
    return moments


@pytest.mark.parametrize("ahead", SKEWS)
async def test_a_shutdown_that_failed_is_tried_again_after_30_s_whatever_the_providers_clock_says(
    make_controller: Make, ahead: timedelta
) -> None:
    controller = make_controller()
    controller.client.ahead = ahead
    await controller.start(NEVER)
    assert await attempts(controller, 45) == [31]


@pytest.mark.parametrize("ahead", SKEWS)
async def test_the_times_in_the_status_are_the_providers(make_controller: Make, ahead: timedelta) -> None:
    controller = make_controller()
    controller.client.ahead = ahead
    await controller.start(NEVER)
    await controller.settle(5)
    await fail_all(controller)
    await controller.settle()
    known = controller.source.last().operation
    assert known
    assert known.end_time == known.start_time + seconds(5.01 + QUIET)  # the start settles too
    assert known.start_time == NOW + ahead


@pytest.mark.parametrize("ahead", SKEWS)
async def test_a_shutdown_is_two_writes_whatever_the_providers_clock_says(
    make_controller: Make, ahead: timedelta
) -> None:
    controller = make_controller()
    controller.client.ahead = ahead
    await controller.start(machine())
    assert controller.client.operations["op-1"].state == PENDING
    await controller.client.tell("op-1", state=WAITING, force_after=controller.client.clock() + seconds(60))
    await controller.settle(5)
    await controller.client.end("op-1")
    await controller.settle(10)
    assert [status.phase for status in controller.source.written()] == ["ShuttingDown", "Off"]


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_setting_the_controllers_clock_in_a_pause_neither_ends_nor_lengthens_it(
    begin: Begin, step: timedelta
) -> None:
    controller = await begin(NEVER)
    await fail_all(controller)
    await controller.settle(10)
    controller.clock_set_by = step
    controller.client.changed(None)
    await controller.settle(19)
    assert begun(controller) == 1
    await controller.settle(2)
    assert begun(controller) == 2


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_the_status_says_by_the_clock_as_it_is_set_when_the_next_attempt_begins(
    begin: Begin, step: timedelta
) -> None:
    controller = await begin(NEVER)
    await fail_all(controller)
    await controller.settle(10)
    controller.clock_set_by = step
    controller.client.changed(None)
    await controller.settle(1)
    (ready,) = [each for each in controller.source.last().conditions if each.type == "Ready"]
    assert ready.message.endswith(f"The next attempt begins at {NOW + seconds(30) + step:%FT%TZ}.")


def written(resource: VirtualMachine, controller: Controller) -> VirtualMachine:
    """The resource as the next process reads it."""
    return with_status(resource, **dict(controller.source.last()))


async def next_process(make: Make, before: Controller, resource: VirtualMachine, clock: timedelta) -> Controller:
    """A controller that takes over 10 s after the end was learned of, on a machine with another clock."""
    await before.start(resource)
    await fail_all(before)
    await before.settle(10)
    after = make()
    after.clock_set_by, after.client.operations = clock, before.client.operations
    await after.start(written(resource, before))
    await before.stop()
    return after


async def test_a_pause_goes_on_in_the_next_process(make_controller: Make) -> None:
    after = await next_process(make_controller, make_controller(), NEVER, timedelta(0))
    assert await attempts(after, 45) == [20]


async def test_the_next_process_with_a_clock_an_hour_behind_waits_for_one_pause(make_controller: Make) -> None:
    after = await next_process(make_controller, make_controller(), NEVER, -HOUR)
    assert await attempts(after, 85) == [30]


async def test_the_next_process_with_a_clock_an_hour_ahead_tries_again_at_once_and_only_once(
    make_controller: Make,
) -> None:
    after = await next_process(make_controller, make_controller(), NEVER, HOUR)
    assert begun(after) == 2
    assert await attempts(after, 65) == [61]
