"""What becomes of guests of the sim whose memory is to be saved at their deadline, in virtual time."""

import asyncio
from datetime import timedelta

import pytest

from providers.core.adapter import Escalation, PowerState
from providers.core.errors import OperationActive, OperationEnded, VMNotFound
from providers.core.extension import Extension
from providers.core.model import Operation, State
from providers.sim.script import guest_id
from providers.sim.transitions import power_off, resume, save
from tests.unit.providers.world import Make, Provider, elapsed, ending, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}
TIED = DEAF | {"unsavable": "it has a passthrough device"}
LONG = DEAF | {"save_time": "100s"}
SAVE, FORCE = Escalation.SAVE, Escalation.FORCE


async def saving(provider: Provider) -> Operation:
    """A shutdown whose guest is being saved since second 10."""
    begun = await provider.shutdown(timeout=10, escalation=SAVE)
    return await provider.reach(begun, State.SAVING)


def messages(operation: Operation) -> list[str]:
    return [step.message for step in operation.steps]


async def test_a_deaf_guest_is_saved_at_its_deadline(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: SAVED/TIMEOUT", 61)
    assert provider.vm().saved
    assert provider.calls("power_off") == 0


async def test_what_was_done_is_told_in_steps_and_in_a_sentence(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert operation.verdict
    sentence = "Its memory was saved and it was stopped, reason TIMEOUT. A PowerOn resumes it."
    assert operation.verdict.message == sentence
    assert messages(operation)[-2:] == ["saving its memory, reason TIMEOUT", sentence]


async def test_a_guest_that_obeys_is_not_saved(make_provider: Make) -> None:
    provider = await make_provider(web={})
    assert await provider.ending(provider.shutdown(escalation=SAVE)) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"
    assert provider.calls("save") == 0


async def test_a_guest_that_goes_off_just_before_it_is_saved_is_graceful(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "none", "shutdown_time": "59.99s"})
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert ending(operation) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_power_on_resumes_it_without_a_boot(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: STARTED"
    assert provider.heard("ready") == 1


async def test_power_off_discards_the_memory_and_says_so(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    operation = await provider.end(await provider.power_off())
    assert ending(operation) == "SUCCEEDED: FORCED/REQUESTED"
    assert "powering off hard, reason REQUESTED; its memory, which is saved, is discarded" in messages(operation)


async def test_what_cannot_be_saved_is_left_running_with_the_reason(make_provider: Make) -> None:
    provider = await make_provider(web=TIED)
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert (ending(operation), elapsed(operation)) == ("FAILED: STILL_RUNNING/TIMEOUT", 60)
    assert operation.failure
    assert operation.failure.message == (
        "Its memory could not be saved: It cannot be saved: it has a passthrough device. "
        "Not powered off hard, as asked."
    )
    assert (provider.calls("save"), provider.vm().power_state) == (0, PowerState.ON)


async def test_what_cannot_be_saved_is_forced_where_the_request_says_so(make_provider: Make) -> None:
    provider = await make_provider(web=TIED)
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE, save_fallback=FORCE))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)
    assert operation.verdict
    assert "it has a passthrough device" in operation.verdict.message


async def test_the_forecast_tells_before_that_it_cannot_be_saved(make_provider: Make) -> None:
    provider = await make_provider(web=TIED)
    told = [problem.message for problem in provider.vm().save_problems]
    assert told == ["It cannot be saved: it has a passthrough device."]


async def test_a_save_that_is_refused_is_tried_again_and_then_given_up(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "refuse always"}})
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert ending(operation) == "FAILED: STILL_RUNNING/TIMEOUT"
    assert provider.calls("save") == 3


async def test_a_save_that_is_refused_once_is_done(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "refuse"}})
    assert await provider.ending(provider.shutdown(timeout=60, escalation=SAVE)) == "SUCCEEDED: SAVED/TIMEOUT"


async def test_a_save_that_is_told_and_not_done_is_no_save(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "ignore always"}})
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert ending(operation) == "FAILED: STILL_RUNNING/TIMEOUT"


async def test_a_save_whose_answer_is_lost_is_told_as_what_it_is(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "lost"}})
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert ending(operation) == "SUCCEEDED: SAVED/TIMEOUT"
    assert operation.verdict
    assert operation.verdict.message.startswith("Its memory is saved, by vmpower or by somebody else.")


async def test_a_save_has_its_own_time_limit(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "hang always"}})
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert (ending(operation), elapsed(operation)) == ("FAILED: STILL_RUNNING/TIMEOUT", 660)
    assert operation.verdict
    assert "did not save it within 10m" in operation.verdict.message


async def test_after_its_time_limit_it_is_forced_where_the_request_says_so(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "hang always"}})
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE, save_fallback=FORCE))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 660)


async def test_a_lock_is_waited_for(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"locked": "a backup"})
    operation = await saving(provider)
    await until(100)
    provider.rewrite(locked="")
    ended = await provider.end(operation)
    assert ending(ended) == "SUCCEEDED: SAVED/LOCKED"
    assert elapsed(ended) < 103


async def test_a_paused_guest_is_saved_at_once(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"power": "paused"})
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=SAVE))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: SAVED/PAUSED", 1)


async def test_what_is_saved_already_stays_so(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "suspended"})
    operation = await provider.end(await provider.shutdown(escalation=SAVE))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: SAVED", 0)
    assert operation.verdict
    assert operation.verdict.message == "Its memory was saved already. A PowerOn resumes it."


async def test_what_somebody_else_saves_meanwhile_is_told_so(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60, escalation=SAVE)
    await provider.reach(begun, State.WAITING_FOR_GUEST)
    await until(20)
    provider.do(save)
    operation = await provider.end(begun)
    assert ending(operation) == "SUCCEEDED: SAVED/SUSPENDED"
    assert operation.verdict
    assert operation.verdict.message.startswith("Somebody else saved its memory while we waited.")


async def test_a_save_cannot_be_extended(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    with pytest.raises(OperationEnded, match="is past deciding: SAVING"):
        await provider.operations.extend(operation.id, Extension(by=timedelta(seconds=60)))


async def test_a_save_cannot_be_cancelled(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    with pytest.raises(OperationEnded, match="is past deciding: SAVING"):
        await provider.operations.cancel(operation.id)
    assert ending(await provider.end(operation)) == "SUCCEEDED: SAVED/TIMEOUT"


async def test_force_gives_the_save_up_and_cuts_the_power(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    await provider.operations.force(operation.id)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/REQUESTED", 10)
    assert provider.vm().power_state is PowerState.OFF


async def test_a_power_off_gives_the_save_up_and_cuts_the_power(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: FORCED/REQUESTED"
    assert ending(await provider.end(operation)) == "SUCCEEDED: FORCED/PREEMPTED"


async def test_a_power_on_waits_for_the_save_and_resumes_it(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    started = await provider.power_on()
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: SAVED/TIMEOUT", 110)
    assert ending(await provider.end(started)) == "SUCCEEDED: STARTED"
    assert provider.heard("ready") == 1


async def test_a_power_on_before_the_deadline_calls_the_save_off(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60, escalation=SAVE)
    await provider.reach(begun, State.WAITING_FOR_GUEST)
    started = await provider.power_on()
    assert ending(await provider.end(begun)) == "CANCELLED: STILL_RUNNING/TIMEOUT"
    assert ending(await provider.end(started)) == "SUCCEEDED: ALREADY_ON"
    assert provider.calls("save") == 0


async def test_another_shutdown_is_refused_while_it_is_saved(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    await saving(provider)
    with pytest.raises(OperationActive, match="wait for it, or force it"):
        await provider.shutdown()


async def test_a_save_that_ended_while_no_provider_ran_is_told_after_that(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    await provider.kill()
    await until(300)
    await provider.start()
    ended = await provider.end(operation)
    assert ending(ended) == "SUCCEEDED: SAVED/TIMEOUT"
    assert ended.verdict
    assert ended.verdict.message.startswith("Its memory is saved, by vmpower or by somebody else.")
    assert provider.calls("save") == 1


async def test_a_save_that_goes_on_while_no_provider_runs_is_joined(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    await provider.kill()
    await until(50)
    await provider.start()
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: SAVED/TIMEOUT", 110)


async def test_a_save_that_never_arrived_is_done_after_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "hang"}})
    operation = await saving(provider)
    await provider.kill()
    await until(50)
    await provider.start()
    assert ending(await provider.end(operation)) == "SUCCEEDED: SAVED/TIMEOUT"


async def test_its_time_limit_outlives_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"save": "hang always"}})
    operation = await saving(provider)
    await until(400)
    await provider.restart()
    assert elapsed(await provider.end(operation)) == 610


async def test_one_that_was_resumed_by_somebody_is_not_saved_again_after_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    await provider.kill()
    await until(200)
    provider.do(resume)
    await provider.start()
    assert ending(await provider.end(operation)) == "SUCCEEDED: UNKNOWN"
    assert (provider.calls("save"), provider.vm().power_state) == (1, PowerState.ON)


async def test_one_that_is_cut_by_somebody_while_it_is_saved_is_out_of_band(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    await until(50)
    provider.do(power_off)
    assert ending(await provider.end(operation)) == "SUCCEEDED: OUT_OF_BAND"


async def test_the_same_request_joins_a_save(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    begun = await provider.shutdown(timeout=10, escalation=SAVE, request_id="one")
    await provider.reach(begun, State.SAVING)
    assert (await provider.shutdown(timeout=10, escalation=SAVE, request_id="one")).id == begun.id


async def test_an_outage_is_waited_out(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=10, escalation=SAVE)
    await until(9)
    provider.lose_hypervisor(60)
    assert ending(await provider.end(begun)) == "SUCCEEDED: SAVED/TIMEOUT"


async def test_a_vm_that_vanishes_while_it_is_saved_is_not_said_to_be_saved(make_provider: Make) -> None:
    provider = await make_provider(web=LONG)
    operation = await saving(provider)
    await until(50)
    provider.world.remove(guest_id("web"))
    assert ending(await provider.end(operation)).startswith("FAILED: UNKNOWN")
    with pytest.raises(VMNotFound):
        provider.world.guest(guest_id("web"))


async def test_saves_of_many_guests_delay_no_cut(make_provider: Make) -> None:
    provider = await make_provider(web={**LONG, "count": 9}, other=DEAF)
    names = [f"web-{number:04}" for number in range(1, 10)]
    await asyncio.gather(*(provider.shutdown(name, timeout=10, escalation=SAVE) for name in names))
    await until(20)
    assert elapsed(await provider.end(await provider.power_off("other"))) == 0
