"""Operations that do as they are asked: shut down, switch on, cut off, reboot."""

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.conformance.client import Power, duration, elapsed, ending, moment
from tests.conformance.target import Target


def press_each_second(*order: pb.Signal.ValueType) -> pb.SignalPolicy:
    """A guest that still boots drops ACPI, and no event tells when it has booted: so it is repeated."""
    return pb.SignalPolicy(order=order, resend_interval=duration(1))


async def test_a_guest_goes_down_by_its_best_signal(power: Power, agent: pb.VM) -> None:
    best = pb.Signal.Name(agent.forecast.signals[0]).removeprefix("SIGNAL_")
    operation = await power.end(await power.shutdown(agent))
    assert ending(operation) == f"SUCCEEDED: GRACEFUL by {best}"
    assert (await power.vm(agent.id)).power_state == pb.POWER_STATE_OFF


async def test_a_guest_goes_down_by_the_signal_that_the_caller_prefers(power: Power, agent: pb.VM) -> None:
    if pb.SIGNAL_ACPI not in (await power.info()).signals:
        pytest.skip("this provider offers one signal, so there is nothing to prefer")
    operation = await power.shutdown(agent, signal_policy=press_each_second(pb.SIGNAL_ACPI))
    assert ending(await power.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_guest_without_agent_goes_down_by_acpi(power: Power, acpi: pb.VM) -> None:
    operation = await power.shutdown(acpi, signal_policy=press_each_second())
    assert ending(await power.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"
    assert (await power.vm(acpi.id)).power_state == pb.POWER_STATE_OFF


async def test_a_slow_guest_gets_the_time_it_was_given(power: Power, slow: pb.VM, target: Target) -> None:
    operation = await power.shutdown(slow)
    ended = await power.end(operation)
    assert ending(ended).startswith("SUCCEEDED: GRACEFUL by ")
    assert elapsed(ended) >= target.known.slow_seconds


async def test_a_guest_that_is_slower_than_its_timeout_is_forced(power: Power, slow: pb.VM, target: Target) -> None:
    timeout = target.known.slow_seconds / 4
    operation = await power.end(await power.shutdown(slow, timeout=duration(timeout)))
    assert ending(operation) == "SUCCEEDED: FORCED/TIMEOUT"
    assert elapsed(operation) < target.known.slow_seconds + target.known.tolerance_seconds


async def test_a_vm_that_is_off_is_already_off(power: Power, off: pb.VM) -> None:
    operation = await power.end(await power.shutdown(off))
    assert ending(operation) == "SUCCEEDED: ALREADY_OFF"


async def test_a_vm_that_is_off_is_already_off_when_it_is_cut_off(power: Power, off: pb.VM) -> None:
    operation = await power.end(await power.power_off(off))
    assert ending(operation) == "SUCCEEDED: ALREADY_OFF"


async def test_a_vm_that_is_off_starts(power: Power, off: pb.VM) -> None:
    operation = await power.end(await power.power_on(off))
    assert ending(operation) == "SUCCEEDED: STARTED"
    assert (await power.vm(off.id)).power_state == pb.POWER_STATE_ON


async def test_a_vm_that_is_on_is_already_on(power: Power, running: pb.VM) -> None:
    operation = await power.end(await power.power_on(running))
    assert ending(operation) == "SUCCEEDED: ALREADY_ON"


async def test_power_off_cuts_the_power_because_it_was_asked_to(power: Power, running: pb.VM) -> None:
    operation = await power.end(await power.power_off(running))
    assert ending(operation) == "SUCCEEDED: FORCED/REQUESTED"
    assert (await power.vm(running.id)).power_state == pb.POWER_STATE_OFF


async def test_a_reboot_goes_down_gracefully_and_ends_with_the_vm_on(power: Power, agent: pb.VM) -> None:
    operation = await power.stub.Reboot(pb.RebootRequest(vm=agent.id, timeout=duration(600)))
    assert ending(await power.end(operation)).startswith("SUCCEEDED: GRACEFUL by ")
    assert (await power.vm(agent.id)).power_state == pb.POWER_STATE_ON


async def test_a_reboot_of_a_deaf_guest_forces_it_and_ends_with_the_vm_on(
    power: Power, deaf: pb.VM, grace: Callable[[float], Duration]
) -> None:
    operation = await power.stub.Reboot(pb.RebootRequest(vm=deaf.id, timeout=grace(1)))
    assert ending(await power.end(operation)) == "SUCCEEDED: FORCED/TIMEOUT"
    assert (await power.vm(deaf.id)).power_state == pb.POWER_STATE_ON


async def test_a_request_without_timeout_gets_the_providers_default(power: Power, deaf: pb.VM) -> None:
    default = (await power.info()).default_timeout.ToTimedelta().total_seconds()
    operation = await power.stub.Shutdown(pb.ShutdownRequest(vm=deaf.id))
    waiting = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    await power.cancel(operation)
    given = moment(waiting.force_after) - moment(waiting.create_time)
    assert default <= given < default + 5
