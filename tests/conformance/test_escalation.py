"""What happens to a guest that does not go down, and who may change that while it is waited for."""

import time
from collections.abc import Callable

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from protos.power.v1 import power_pb2 as pb
from tests.conformance.client import LONG, Power, duration, elapsed, ending, moment, refusal, state
from tests.conformance.target import Target

Grace = Callable[[float], Duration]


def at(seconds: float) -> Timestamp:
    """A moment as the contract writes it."""
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


async def test_a_deaf_guest_is_forced_at_its_timeout(power: Power, deaf: pb.VM, target: Target) -> None:
    timeout = target.seconds(3)
    operation = await power.end(await power.shutdown(deaf, timeout=duration(timeout)))
    assert ending(operation) == "SUCCEEDED: FORCED/TIMEOUT"
    assert timeout <= elapsed(operation) <= timeout + target.known.tolerance_seconds
    assert (await power.vm(deaf.id)).power_state == pb.POWER_STATE_OFF


async def test_a_vm_that_no_signal_reaches_is_forced_at_once(power: Power, unreachable: pb.VM) -> None:
    operation = await power.end(await power.shutdown(unreachable, timeout=LONG))
    assert ending(operation) == "SUCCEEDED: FORCED/TOOLS_UNAVAILABLE"


async def test_never_leaves_the_vm_running_and_says_so(power: Power, deaf: pb.VM, grace: Grace) -> None:
    operation = await power.shutdown(deaf, timeout=grace(1), escalation=pb.ESCALATION_NEVER)
    ended = await power.end(operation)
    assert ending(ended) == "FAILED: STILL_RUNNING/TIMEOUT"
    assert ended.error.message
    assert (await power.vm(deaf.id)).power_state == pb.POWER_STATE_ON


async def asked(power: Power, deaf: pb.VM, timeout: Duration) -> pb.Operation:
    """An operation that waits for a decision."""
    operation = await power.shutdown(deaf, timeout=timeout, escalation=pb.ESCALATION_ASK)
    return await power.reach(operation, pb.OPERATION_STATE_AWAITING_DECISION)


async def test_ask_holds_with_the_vm_running(power: Power, deaf: pb.VM, grace: Grace) -> None:
    operation = await asked(power, deaf, grace(1))
    assert (await power.vm(deaf.id)).power_state == pb.POWER_STATE_ON
    assert state(await power.get(operation)) == "AWAITING_DECISION"


async def test_ask_then_force_powers_off(power: Power, deaf: pb.VM, grace: Grace) -> None:
    operation = await asked(power, deaf, grace(1))
    await power.force(operation)
    assert ending(await power.end(operation)) == "SUCCEEDED: FORCED/REQUESTED"


async def test_ask_then_extend_waits_again(power: Power, deaf: pb.VM, grace: Grace) -> None:
    operation = await asked(power, deaf, grace(1))
    await power.extend(operation, extension=LONG)
    waiting = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    assert moment(waiting.force_after) > moment(operation.force_after)


async def test_ask_asks_again_when_the_extension_ends(power: Power, deaf: pb.VM, grace: Grace) -> None:
    operation = await asked(power, deaf, grace(1))
    await power.extend(operation, extension=grace(1))
    await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    await power.reach(operation, pb.OPERATION_STATE_AWAITING_DECISION)


async def test_ask_then_cancel_leaves_the_vm_running(power: Power, deaf: pb.VM, grace: Grace) -> None:
    operation = await asked(power, deaf, grace(1))
    await power.cancel(operation)
    assert ending(await power.end(operation)).startswith("CANCELLED: STILL_RUNNING")
    assert (await power.vm(deaf.id)).power_state == pb.POWER_STATE_ON


async def test_a_force_after_in_the_past_forces_at_once(power: Power, deaf: pb.VM, target: Target) -> None:
    operation = await power.end(await power.shutdown(deaf, force_after=at(time.time() - 60)))
    assert ending(operation) == "SUCCEEDED: FORCED/TIMEOUT"
    assert elapsed(operation) <= target.known.tolerance_seconds


async def test_a_force_after_that_the_caller_names_is_kept(power: Power, deaf: pb.VM) -> None:
    named = at(int(time.time()) + 3600)
    operation = await power.shutdown(deaf, force_after=named)
    waiting = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    assert waiting.force_after == named


async def test_a_running_shutdown_can_be_forced(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf, escalation=pb.ESCALATION_NEVER)
    await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    await power.force(operation)
    assert ending(await power.end(operation)) == "SUCCEEDED: FORCED/REQUESTED"


async def test_a_running_shutdown_can_be_cancelled(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf)
    await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    await power.cancel(operation)
    assert ending(await power.end(operation)).startswith("CANCELLED: STILL_RUNNING")
    assert (await power.vm(deaf.id)).power_state == pb.POWER_STATE_ON


async def test_an_extension_is_added_to_force_after(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf, timeout=duration(100))
    waiting = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    extended = await power.extend(operation, extension=duration(50))
    assert moment(extended.force_after) - moment(waiting.force_after) == pytest.approx(50, abs=0.01)


async def test_a_new_timeout_counts_from_the_beginning_of_the_grace_period(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf, timeout=duration(100))
    waiting = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    extended = await power.extend(operation, timeout=duration(30))
    assert moment(waiting.force_after) - moment(extended.force_after) == pytest.approx(70, abs=0.01)


async def test_an_extension_may_name_the_moment(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf)
    await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    named = at(int(time.time()) + 3600)
    assert (await power.extend(operation, force_after=named)).force_after == named


async def test_a_guest_that_was_given_more_time_uses_it(power: Power, slow: pb.VM, target: Target) -> None:
    operation = await power.shutdown(slow, timeout=duration(target.known.slow_seconds / 2))
    await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    await power.extend(operation, extension=LONG)
    assert ending(await power.end(operation)).startswith("SUCCEEDED: GRACEFUL by ")


async def test_an_ended_operation_cannot_be_extended(power: Power, off: pb.VM) -> None:
    operation = await power.end(await power.shutdown(off))
    refused = await refusal(power.extend(operation, extension=LONG))
    assert (refused.code.name, refused.info.reason) == ("FAILED_PRECONDITION", "OPERATION_ENDED")


async def test_an_ended_operation_cannot_be_forced(power: Power, off: pb.VM) -> None:
    operation = await power.end(await power.shutdown(off))
    refused = await refusal(power.force(operation))
    assert (refused.code.name, refused.info.reason) == ("FAILED_PRECONDITION", "OPERATION_ENDED")


async def test_an_ended_operation_cannot_be_cancelled(power: Power, off: pb.VM) -> None:
    operation = await power.end(await power.shutdown(off))
    refused = await refusal(power.cancel(operation))
    assert (refused.code.name, refused.info.reason) == ("FAILED_PRECONDITION", "OPERATION_ENDED")


async def test_a_power_off_pre_empts_a_shutdown_at_once(power: Power, deaf: pb.VM, target: Target) -> None:
    shutdown = await power.shutdown(deaf)
    await power.reach(shutdown, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    cut = await power.end(await power.power_off(deaf))
    assert ending(cut) == "SUCCEEDED: FORCED/REQUESTED"
    assert elapsed(cut) <= target.known.tolerance_seconds


async def test_a_shutdown_that_is_pre_empted_says_so(power: Power, deaf: pb.VM) -> None:
    shutdown = await power.shutdown(deaf)
    await power.reach(shutdown, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    await power.power_off(deaf)
    assert ending(await power.end(shutdown)) == "SUCCEEDED: FORCED/PREEMPTED"


async def test_a_power_on_calls_off_the_escalation(power: Power, deaf: pb.VM, grace: Grace) -> None:
    shutdown = await power.shutdown(deaf, timeout=grace(2))
    await power.reach(shutdown, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    started = await power.end(await power.power_on(deaf))
    assert ending(started) == "SUCCEEDED: ALREADY_ON"
    assert (await power.end(shutdown)).verdict.outcome == pb.OUTCOME_STILL_RUNNING


async def test_a_power_on_brings_up_again_a_guest_that_is_going_down(power: Power, slow: pb.VM) -> None:
    shutdown = await power.shutdown(slow)
    await power.reach(shutdown, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    started = await power.end(await power.power_on(slow))
    assert ending(await power.end(shutdown)).startswith("SUCCEEDED: GRACEFUL by ")
    assert ending(started) == "SUCCEEDED: STARTED"
    assert (await power.vm(slow.id)).power_state == pb.POWER_STATE_ON


@pytest_asyncio.fixture(loop_scope="session")
async def savable(power: Power, deaf: pb.VM) -> pb.VM:
    """A deaf VM whose memory can be saved."""
    if not (await power.info()).save:
        pytest.skip("this provider saves no memory")
    if deaf.forecast.save_problems:
        pytest.skip(f"its memory cannot be saved: {deaf.forecast.save_problems[0].message}")
    return deaf


async def test_a_deaf_guest_is_saved_at_its_timeout(power: Power, savable: pb.VM, grace: Grace) -> None:
    operation = await power.shutdown(savable, timeout=grace(1), escalation=pb.ESCALATION_SAVE)
    assert ending(await power.end(operation)) == "SUCCEEDED: SAVED/TIMEOUT"
    assert (await power.vm(savable.id)).power_state == pb.POWER_STATE_SUSPENDED


async def test_a_power_on_resumes_what_was_saved(power: Power, savable: pb.VM, grace: Grace) -> None:
    await power.end(await power.shutdown(savable, timeout=grace(1), escalation=pb.ESCALATION_SAVE))
    assert ending(await power.end(await power.power_on(savable))) == "SUCCEEDED: STARTED"
    assert (await power.vm(savable.id)).power_state == pb.POWER_STATE_ON


async def test_what_is_saved_already_stays_so(power: Power, savable: pb.VM, grace: Grace) -> None:
    saves = {"timeout": grace(1), "escalation": pb.ESCALATION_SAVE}
    for _ in range(2):
        again = await power.end(await power.shutdown(savable, **saves))
        assert again.verdict.outcome == pb.OUTCOME_SAVED


async def test_a_reboot_does_not_save(power: Power, running: pb.VM) -> None:
    request = pb.RebootRequest(vm=running.id, escalation=pb.ESCALATION_SAVE)
    refused = await refusal(power.stub.Reboot(request))
    assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", ["escalation"])


async def test_a_fallback_is_for_saves(power: Power, running: pb.VM) -> None:
    async with power.untouched(running):
        refused = await refusal(power.shutdown(running, save_fallback=pb.ESCALATION_FORCE))
        assert (refused.code.name, refused.fields) == ("INVALID_ARGUMENT", ["save_fallback"])
