"""A provider that is killed in each state of a shutdown and started again beside the same guests."""

from datetime import timedelta

import pytest

from providers.core.adapter import Escalation, Signal
from providers.core.extension import Extension
from providers.core.model import State
from providers.sim.transitions import power_off, power_on
from tests.unit.providers.world import Make, at, elapsed, ending, exec_hook, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}
SLOW = {"agent": "none", "shutdown_time": "9s"}


async def test_killed_before_it_began_it_begins_after_the_restart(make_provider: Make) -> None:
    provider = await make_provider(web={})
    provider.lose_hypervisor(20)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    assert (await provider.operations.get(begun.id)).state is State.PENDING
    await provider.restart()
    operation = await provider.end(begun)
    assert (operation.id, ending(operation)) == (begun.id, "SUCCEEDED: GRACEFUL by GUEST_AGENT")


async def test_killed_while_a_hook_ran_it_goes_on_and_counts_the_grace_period_from_then(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"agent": "ignores", "hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(timeout=60, hooks=(exec_hook(),))
    await until(5)
    await provider.kill()
    await until(30)
    await provider.start()
    operation = await provider.end(begun)
    assert (ending(operation), operation.force_after) == ("SUCCEEDED: FORCED/TIMEOUT", at(90))
    assert len(provider.guest().processes) == 1


async def test_started_again_with_another_default_it_keeps_the_timeout_it_was_accepted_with(
    make_provider: Make,
) -> None:
    provider = await make_provider(web=DEAF | {"agent": "ignores", "hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook(),))
    await until(5)
    provider.settings = provider.settings.model_copy(update={"default_timeout": timedelta(seconds=5)})
    await provider.restart()
    operation = await provider.end(begun)
    assert (operation.timeout, operation.force_after) == (begun.timeout, at(65))


async def test_killed_while_it_waited_it_keeps_force_after(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.kill()
    await until(30)
    await provider.start()
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)
    assert (operation.id, operation.force_after) == (begun.id, at(60))


async def test_a_guest_that_went_down_while_no_provider_ran_is_graceful(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.kill()
    await until(50)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_plug_pulled_while_no_provider_ran_is_out_of_band(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.kill()
    provider.do(power_off)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: OUT_OF_BAND"


async def test_a_deadline_that_passed_while_no_provider_ran_is_kept_at_once(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.kill()
    await until(500)
    await provider.start()
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 500)


async def test_a_signal_that_was_sent_is_not_sent_again(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.restart()
    operation = await provider.end(begun)
    assert provider.calls("send_signal") == 1
    assert [sent.signal for sent in operation.sent] == [Signal.ACPI]


async def test_acpi_goes_on_in_its_rhythm(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.restart()
    operation = await provider.end(begun)
    assert [(sent.time, sent.times) for sent in operation.sent] == [(at(50), 6)]


async def test_a_refusal_is_remembered(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW | {"agent": "refuses"})
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.restart()
    operation = await provider.end(begun)
    assert [(sent.signal, sent.refused) for sent in operation.sent] == [("GUEST_AGENT", True), ("ACPI", False)]


async def test_a_question_is_still_asked_after_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60, escalation=Escalation.ASK)
    await provider.reach(begun, State.AWAITING_DECISION)
    await provider.restart()
    await until(3600)
    assert (await provider.operations.get(begun.id)).state is State.AWAITING_DECISION
    await provider.operations.force(begun.id)
    assert ending(await provider.end(begun)) == "SUCCEEDED: FORCED/REQUESTED"


async def test_killed_between_the_word_and_the_kill_it_kills(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "hang"}})
    begun = await provider.shutdown(timeout=8)
    await provider.reach(begun, State.FORCING)
    await until(9)
    await provider.restart()
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 9)


async def test_killed_while_it_forced_it_cannot_tell_whose_cut_it_was(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"power_off_time": "5s"})
    begun = await provider.shutdown(timeout=8)
    await until(9)
    await provider.kill()
    await until(20)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: UNKNOWN"
    assert provider.calls("power_off") == 1


@pytest.mark.parametrize("escalation", [Escalation.ASK, Escalation.NEVER])
async def test_what_it_was_told_to_force_it_may_have_cut_though_that_could_not_be_written(
    make_provider: Make, escalation: Escalation
) -> None:
    provider = await make_provider(web=DEAF | {"power_off_time": "5s"})
    begun = await provider.shutdown(timeout=60, escalation=escalation)
    await until(5)
    await provider.operations.force(begun.id)
    provider.journal.broken = True
    await until(7)
    await provider.kill()
    await until(20)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: UNKNOWN"
    assert provider.calls("power_off") == 1


async def test_force_that_was_decided_before_the_kill_is_done_after_it(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "hang"}})
    begun = await provider.shutdown(timeout=60, escalation=Escalation.NEVER)
    await until(5)
    await provider.operations.force(begun.id)
    await provider.restart()
    assert ending(await provider.end(begun)) == "SUCCEEDED: FORCED/REQUESTED"


async def test_an_extension_outlives_the_provider(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.operations.extend(begun.id, Extension(until=at(200)))
    await provider.restart()
    assert elapsed(await provider.end(begun)) == 200


async def test_a_reboot_killed_in_its_second_half_starts_the_guest(make_provider: Make) -> None:
    provider = await make_provider(web={"faults": {"power_on": "hang"}})
    begun = await provider.reboot(timeout=60)
    await until(5)
    await provider.restart()
    operation = await provider.end(begun)
    assert ending(operation) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"
    assert (provider.vm().power_state, provider.calls("send_signal")) == ("ON", 1)


async def test_a_reboot_killed_after_the_start_does_not_bring_the_guest_down_again(make_provider: Make) -> None:
    provider = await make_provider(web={"faults": {"power_on": "hang"}})
    begun = await provider.reboot(timeout=60)
    await until(5)
    await provider.kill()
    provider.do(power_on)
    await until(60)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"
    assert (provider.vm().power_state, provider.calls("send_signal")) == ("ON", 1)


async def test_a_power_on_killed_while_it_waited_for_a_shutdown_starts_the_guest(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    shutdown = await provider.shutdown(timeout=60)
    await until(5)
    start = await provider.power_on()
    await until(6)
    await provider.restart()
    assert ending(await provider.end(start)) == "SUCCEEDED: STARTED"
    assert ending(await provider.end(shutdown)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_killed_in_the_middle_of_a_power_on_it_says_started(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "faults": {"power_on": "hang"}})
    begun = await provider.power_on()
    await until(5)
    await provider.kill()
    provider.do(power_on)
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: STARTED"


async def test_a_guest_that_may_have_been_asked_is_given_its_time_though_it_hears_nothing_any_more(
    make_provider: Make,
) -> None:
    """The disk was full when it was asked, and its agent has left to go down with it."""
    provider = await make_provider(web={"acpi": "none", "shutdown_time": "30s"})
    provider.lose_hypervisor(2)
    begun = await provider.shutdown(timeout=60)
    provider.journal.broken = True
    await until(10)
    await provider.kill()
    provider.rewrite(agent="none")
    await provider.start()
    assert ending(await provider.end(begun)) == "SUCCEEDED: UNKNOWN"
    assert provider.calls("power_off") == 0


async def test_one_that_hears_nothing_is_forced_at_its_deadline(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "ignores", "acpi": "none", "hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(timeout=60, hooks=(exec_hook(),))
    await until(5)
    await provider.kill()
    provider.rewrite(agent="none")
    await provider.start()
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TOOLS_UNAVAILABLE", 65)


async def test_what_ended_is_not_resumed(make_provider: Make) -> None:
    provider = await make_provider(web={})
    operation = await provider.end(await provider.shutdown(timeout=60))
    await provider.restart()
    assert provider.operations.active() == []
    assert await provider.operations.get(operation.id) == operation
