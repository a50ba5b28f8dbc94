"""What reaches an operation while it lives: changes, outages of the hypervisor, a journal that fails."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from providers.core.adapter import Escalation, PowerState
from providers.core.errors import JournalFailed
from providers.core.extension import Extension
from providers.core.model import State
from providers.sim.events import Events
from providers.sim.script import guest_id
from providers.sim.transitions import power_off, power_on
from tests.unit.providers.world import Make, at, elapsed, ending, exec_hook, now, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}
SLOW = {"agent": "none", "shutdown_time": "20s"}


async def test_a_guest_that_goes_down_during_an_outage_is_found_off_after_it(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.lose_hypervisor(30)
    operation = await provider.end(begun)
    assert ending(operation) == "SUCCEEDED: GRACEFUL by ACPI"
    assert 35 <= elapsed(operation) <= 60


async def test_an_outage_at_the_deadline_delays_force_until_it_ends(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(50)
    provider.lose_hypervisor(30)
    operation = await provider.end(begun)
    assert ending(operation) == "SUCCEEDED: FORCED/TIMEOUT"
    assert 80 <= elapsed(operation) <= 115


async def test_a_deadline_does_not_wait_for_a_pause_that_outlasts_the_outage(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)  # each pause is as long as it may be
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=40)
    await until(5)
    provider.lose_hypervisor(26)  # tried again 25.4 s after the loss, and then after 25.6 s more
    operation = await provider.end(begun)
    assert ending(operation) == "SUCCEEDED: FORCED/TIMEOUT"
    assert 40 <= elapsed(operation) <= 40.1


async def test_a_guest_that_went_down_by_itself_in_an_outage_past_the_deadline_is_not_killed(
    make_provider: Make,
) -> None:
    provider = await make_provider(web=SLOW | {"shutdown_time": "65s"})
    begun = await provider.shutdown(timeout=60)
    await until(50)
    provider.lose_hypervisor(30)
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by ACPI"
    assert provider.calls("power_off") == 0


async def test_an_extension_in_an_outage_past_the_deadline_is_kept(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW | {"shutdown_time": "150s"})
    begun = await provider.shutdown(timeout=60)
    await until(50)
    provider.lose_hypervisor(30)
    await until(65)
    await provider.operations.extend(begun.id, Extension(until=at(300)))
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_shutdown_that_is_cancelled_in_an_outage_past_the_deadline_is_not_forced(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(50)
    provider.lose_hypervisor(30)
    await until(65)
    operation = await provider.operations.cancel(begun.id)
    assert (ending(operation), elapsed(operation)) == ("CANCELLED: UNKNOWN", 70)
    assert operation.verdict
    assert operation.verdict.message == (
        "The shutdown was given up; nothing will force the VM off. "
        "Whether it runs is not known: it was last seen running at 2030-01-01T00:00:00+00:00."
    )
    assert provider.calls("power_off") == 0


async def test_a_guest_that_went_off_untold_before_a_cancel_is_not_said_to_run(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_provider(web=SLOW)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    monkeypatch.setattr(Events, "publish", lambda *_: None)
    await until(30)
    assert ending(await provider.operations.cancel(begun.id)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_hook_that_fails_is_followed_by_a_look_before_it_is_said_that_the_vm_runs(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "5s", "exit_code": 1}]})
    begun = await provider.shutdown(timeout=60, hooks=(exec_hook(policy="ABORT"),))
    await until(2)
    monkeypatch.setattr(Events, "publish", lambda *_: None)
    provider.do(power_off)
    operation = await provider.end(begun)
    assert (ending(operation), operation.hooks[0].state) == ("SUCCEEDED: OUT_OF_BAND", "FAILED")


async def test_a_cancel_after_a_restart_in_an_outage_is_answered_within_seconds(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.kill()
    provider.world.hide(3600)
    await provider.start_unconnected()
    await until(10)
    operation = await provider.operations.cancel(begun.id)
    assert (ending(operation), elapsed(operation)) == ("CANCELLED: UNKNOWN", 15)
    assert operation.verdict
    assert operation.verdict.message.endswith("it was not seen since the provider was started.")


async def test_a_guest_that_was_asked_and_may_run_on_is_known_to_have_been_asked(make_provider: Make) -> None:
    provider = await make_provider(web={"acpi": "none", "shutdown_time": "90s"})
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.lose_hypervisor(10)
    assert ending(await provider.operations.cancel(begun.id)) == "CANCELLED: UNKNOWN"
    await provider.restart()
    provider.rewrite(agent="none")
    await until(50)
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert ending(operation) == "SUCCEEDED: GRACEFUL"
    assert provider.calls("power_off") == 0


async def test_a_signal_that_an_outage_kept_from_the_guest_is_sent_after_it(make_provider: Make) -> None:
    provider = await make_provider(web={"faults": {"send_signal": "unavailable x2"}})
    assert await provider.ending(provider.shutdown(timeout=60)) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"


async def test_an_outage_at_the_beginning_is_waited_for(make_provider: Make) -> None:
    provider = await make_provider(web={})
    provider.lose_hypervisor(20)
    begun = await provider.shutdown(timeout=60)
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"


async def test_who_watches_sees_each_state_up_to_the_verdict(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"agent": "up", "hooks": [{"takes": "5s"}]})
    begun = await provider.shutdown(timeout=1, hooks=(exec_hook(),))
    await provider.reach(begun, State.RUNNING_HOOKS)
    seen = [operation.state async for operation in provider.operations.watch(begun.id)]
    order = list(dict.fromkeys(seen))
    assert order == [State.RUNNING_HOOKS, State.WAITING_FOR_GUEST, State.FORCING, State.SUCCEEDED]


async def test_each_step_has_its_time_and_its_state(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.end(await provider.shutdown(timeout=8, resend_interval=0))
    assert [(step.time, step.state, step.message) for step in operation.steps] == [
        (at(0), "WAITING_FOR_GUEST", "the guest has until 2030-01-01T00:00:08+00:00"),
        (at(0), "WAITING_FOR_GUEST", "asking the guest by ACPI"),
        (at(0), "WAITING_FOR_GUEST", "ACPI was accepted"),
        (at(8), "FORCING", "powering off hard, reason TIMEOUT"),
        (at(8), "SUCCEEDED", "Powered off hard, reason TIMEOUT."),
    ]


async def test_a_journal_that_fails_in_the_middle_does_not_stop_a_shutdown(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.shutdown(timeout=60)
    await until(5)
    provider.journal.broken = True
    with capture_logs() as logs:
        await until(65)
    assert provider.vm().power_state is PowerState.OFF
    assert ("operation not journaled", "error") in [(entry["event"], entry["log_level"]) for entry in logs]


async def test_what_could_not_be_written_down_is_not_told(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.journal.broken = True
    await until(65)
    assert (await provider.operations.get(begun.id)).state is State.WAITING_FOR_GUEST


async def test_it_is_told_when_it_was_written_down_after_all(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.journal.broken = True
    await until(65)
    provider.journal.broken = False
    assert ending(await provider.end(begun)) == "SUCCEEDED: FORCED/TIMEOUT"
    await provider.restart()
    assert ending(await provider.end(begun)) == "SUCCEEDED: FORCED/TIMEOUT"


@pytest.mark.parametrize("decide", ["extend", "force", "cancel"])
async def test_a_decision_that_cannot_be_written_down_does_not_count(make_provider: Make, decide: str) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.journal.broken = True
    longer = [Extension(by=timedelta(seconds=60))] if decide == "extend" else []
    with pytest.raises(JournalFailed):
        await getattr(provider.operations, decide)(begun.id, *longer)
    provider.journal.broken = False
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_wall_clock_that_is_set_changes_no_grace_period(make_provider: Make, step: timedelta) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(12)
    provider.set_clock(step)
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation), now()) == ("SUCCEEDED: FORCED/TIMEOUT", 60, 60)


async def test_a_wall_clock_that_is_set_moves_what_is_told_of_the_deadline(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(12)
    provider.set_clock(timedelta(hours=1))
    await until(13)
    assert (await provider.operations.get(begun.id)).force_after == at(3660)


async def test_a_wall_clock_that_is_set_while_no_provider_runs_changes_no_grace_period(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.kill()
    provider.set_clock(timedelta(hours=1))
    await until(30)
    await provider.start()
    operation = await provider.end(begun)
    assert (ending(operation), now()) == ("SUCCEEDED: FORCED/TIMEOUT", 60)


async def test_across_boots_the_wall_clock_counts(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    await provider.kill()
    provider.boot_id = "boot-2"
    await until(30)
    await provider.start()
    await provider.end(begun)
    assert now() == 60


async def test_a_guest_off_for_a_moment_while_the_provider_asks_is_not_overlooked(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60, escalation=Escalation.ASK)
    await provider.reach(begun, State.AWAITING_DECISION)
    provider.do(power_off)
    provider.do(power_on)
    assert ending(await provider.end(begun)) == "SUCCEEDED: OUT_OF_BAND"
    assert provider.vm().power_state is PowerState.ON


async def test_an_adapter_that_breaks_fails_the_operation_and_says_so(make_provider: Make) -> None:
    provider = await make_provider(web={})

    async def broken(vm_id: str) -> bool:
        raise ZeroDivisionError("in the adapter")

    provider.adapter.power_off = broken  # type: ignore[method-assign]
    operation = await provider.end(await provider.power_off())
    assert operation.failure
    assert (ending(operation), operation.failure.reason) == ("FAILED: STILL_RUNNING", "INTERNAL")


async def test_time_during_an_outage_counts(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.lose_hypervisor(20)
    assert (await provider.end(begun)).force_after == begun.create_time + timedelta(seconds=60)
    assert provider.world.find(guest_id("web"))
