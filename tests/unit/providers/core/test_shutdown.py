"""What the procedure does to guests of the sim, in virtual time; `test_shutdown_resumed.py` kills it in between."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from providers.core.adapter import Escalation, Grace, PowerState, Signal
from providers.core.extension import Extension
from providers.core.model import Operation, State
from providers.sim.script import guest_id
from providers.sim.transitions import crash, power_off, power_on, shut_down
from tests.unit.providers.world import Make, Provider, at, elapsed, ending, exec_hook, until

pytestmark = pytest.mark.looptime

LEGACY = {"agent": "none"}
DEAF = {"agent": "none", "acpi": "ignores"}
SLOW = {"agent": "none", "shutdown_time": "70s"}
OUT_OF_REACH = {"agent": "none", "acpi": "none"}


async def test_a_guest_that_needs_70_s_of_its_300_s_is_given_them(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    operation = await provider.end(await provider.shutdown(timeout=300))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by ACPI", 70)


async def test_a_deaf_guest_is_forced_at_exactly_its_timeout(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.end(await provider.shutdown(timeout=300))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 300)
    assert provider.vm().power_state is PowerState.OFF


async def test_a_guest_that_is_off_is_left_alone(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off"})
    assert await provider.ending(provider.shutdown()) == "SUCCEEDED: ALREADY_OFF"
    assert provider.calls("send_signal") == 0


async def test_never_leaves_a_deaf_guest_running_and_says_so(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.end(await provider.shutdown(timeout=60, escalation=Escalation.NEVER))
    assert (ending(operation), elapsed(operation)) == ("FAILED: STILL_RUNNING/TIMEOUT", 60)
    assert operation.failure
    assert operation.failure.message == "Not powered off hard, as asked."
    assert provider.calls("power_off") == 0


async def asked(provider: Provider, **fields: Any) -> str:
    """The id of an operation that waits for a decision since second 60."""
    begun = await provider.shutdown(timeout=60, escalation=Escalation.ASK, **fields)
    return (await provider.reach(begun, State.AWAITING_DECISION)).id


async def test_ask_holds_for_as_long_as_nobody_decides(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    waiting = await asked(provider)
    await until(86400)
    assert (await provider.operations.get(waiting)).state is State.AWAITING_DECISION
    assert provider.vm().power_state is PowerState.ON


async def test_ask_then_force_powers_off(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.operations.force(await asked(provider))
    assert ending(await provider.end(operation)) == "SUCCEEDED: FORCED/REQUESTED"


async def test_a_decision_that_is_being_written_down_when_force_is_due_is_the_reason(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_provider(web={"power": "suspended"})
    save = provider.journal.save

    async def slow(operation: Operation) -> None:
        await asyncio.sleep(5 if operation.decision else 0)
        await save(operation)

    monkeypatch.setattr(provider.journal, "save", slow)
    begun = await provider.shutdown()
    assert ending(await provider.end(await provider.operations.force(begun.id))) == "SUCCEEDED: FORCED/REQUESTED"


async def test_ask_then_cancel_leaves_it_running(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.operations.cancel(await asked(provider))
    assert ending(operation) == "CANCELLED: STILL_RUNNING"


async def test_ask_then_extend_waits_and_asks_again(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    extended = await provider.operations.extend(await asked(provider), Extension(by=timedelta(seconds=40)))
    assert extended.state is State.WAITING_FOR_GUEST
    await provider.reach(extended, State.AWAITING_DECISION)
    assert provider.world.now() == pytest.approx(at(100).timestamp(), abs=0.01)


async def test_a_guest_that_goes_down_while_it_is_asked_about_is_graceful(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    operation = await provider.operations.get(await asked(provider))
    assert ending(await provider.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_refused_agent_is_followed_by_acpi_at_once(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "refuses"})
    operation = await provider.end(await provider.shutdown())
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by ACPI", 2)


async def test_an_agent_that_did_nothing_is_followed_by_acpi_halfway(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "ignores"})
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by ACPI", 32)


async def test_a_hanging_agent_is_followed_by_acpi_halfway(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "hanging"})
    operation = await provider.end(await provider.shutdown(timeout=40))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by ACPI", 22)


async def test_a_hanging_agent_does_not_delay_force(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "hanging", "acpi": "ignores"})
    operation = await provider.end(await provider.shutdown(timeout=8))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 8)


async def test_the_best_signal_comes_first_and_alone(make_provider: Make) -> None:
    provider = await make_provider(web={})
    assert await provider.ending(provider.shutdown()) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"
    assert provider.calls("send_signal") == 1


async def test_the_callers_order_of_signals_is_kept(make_provider: Make) -> None:
    provider = await make_provider(web={})
    begun = provider.shutdown(signal_order=(Signal.ACPI, Signal.GUEST_AGENT))
    assert await provider.ending(begun) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_acpi_is_repeated_each_10_s(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.end(await provider.shutdown(timeout=60))
    assert provider.calls("send_signal") == 6  # at 0, 10, ... 50


async def test_a_booting_guest_that_drops_the_first_presses_goes_down_by_a_later_one(make_provider: Make) -> None:
    provider = await make_provider(web=LEGACY | {"power": "booting", "boot_time": "15s"})
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by ACPI", 22)


async def test_an_interval_of_0_never_repeats_acpi(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.end(await provider.shutdown(timeout=3600, resend_interval=0))
    assert provider.calls("send_signal") == 1


async def test_a_longer_shutdown_takes_no_more_calls(make_provider: Make) -> None:
    provider = await make_provider(short=DEAF, long=DEAF)
    await provider.end(await provider.shutdown("short", timeout=60, resend_interval=0))
    await provider.end(await provider.shutdown("long", timeout=3600, resend_interval=0))
    assert provider.guest("long").calls == provider.guest("short").calls


async def test_a_better_signal_that_appears_while_the_guest_boots_is_used(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "booting", "boot_time": "15s", "acpi": "ignores"})
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by GUEST_AGENT", 17)


async def test_a_guest_out_of_reach_is_forced_at_once(make_provider: Make) -> None:
    provider = await make_provider(web=OUT_OF_REACH)
    operation = await provider.end(await provider.shutdown(timeout=300))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TOOLS_UNAVAILABLE", 0)


async def test_a_policy_without_a_signal_that_the_guest_hears_leaves_none(make_provider: Make) -> None:
    provider = await make_provider(web=LEGACY)
    begun = provider.shutdown(signal_order=(Signal.GUEST_AGENT,))
    assert await provider.ending(begun) == "SUCCEEDED: FORCED/TOOLS_UNAVAILABLE"


async def test_a_guest_that_refused_every_signal_is_forced_at_once(make_provider: Make) -> None:
    provider = await make_provider(web={"faults": {"send_signal": "refuse always"}})
    operation = await provider.end(await provider.shutdown(timeout=300))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/COMMAND_FAILED", 0)


REFUSES: dict[str, Any] = {"faults": {"send_signal": "refuse always"}}


async def test_one_that_is_never_forced_is_left_running_then(make_provider: Make) -> None:
    provider = await make_provider(web=REFUSES)
    operation = await provider.end(await provider.shutdown(escalation=Escalation.NEVER))
    assert ending(operation) == "FAILED: STILL_RUNNING/COMMAND_FAILED"
    assert elapsed(operation) == pytest.approx(1, abs=0.5)


async def test_one_that_refuses_as_it_dies_has_crashed_also_if_that_is_told_a_moment_later(make_provider: Make) -> None:
    provider = await make_provider(web=REFUSES)
    begun = await provider.shutdown(escalation=Escalation.NEVER)
    await until(0.5)
    provider.do(crash)
    assert ending(await provider.end(begun)) == "SUCCEEDED: CRASHED"
    assert provider.calls("send_signal") == 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"power": "paused"}, "PAUSED"),
        ({"power": "suspended"}, "SUSPENDED"),
        ({"question": "msg.uuid.altered"}, "QUESTION_PENDING"),
    ],
)
async def test_a_guest_that_cannot_hear_is_forced_at_once(
    make_provider: Make, script: dict[str, Any], reason: str
) -> None:
    provider = await make_provider(web=script)
    operation = await provider.end(await provider.shutdown(timeout=300))
    assert (ending(operation), elapsed(operation)) == (f"SUCCEEDED: FORCED/{reason}", 0)
    assert provider.calls("send_signal") == 0


async def test_a_paused_guest_that_must_not_be_forced_fails_at_once(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "paused"})
    begun = provider.shutdown(escalation=Escalation.NEVER)
    assert await provider.ending(begun) == "FAILED: STILL_RUNNING/PAUSED"


async def test_a_lock_is_waited_for_and_named(make_provider: Make) -> None:
    provider = await make_provider(web={"locked": "a backup"})
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/LOCKED", 60)


async def test_a_guest_whose_lock_ends_is_asked_then(make_provider: Make) -> None:
    provider = await make_provider(web={"locked": "a backup"})
    begun = await provider.shutdown(timeout=60)
    await until(20)
    provider.rewrite(locked="")
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by GUEST_AGENT", 22)


async def test_a_guest_that_crashes_meanwhile_has_crashed(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.do(crash)
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: CRASHED", 5)


async def test_a_plug_that_somebody_else_pulls_is_out_of_band(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.do(power_off)
    assert ending(await provider.end(begun)) == "SUCCEEDED: OUT_OF_BAND"


async def test_a_guest_that_goes_off_before_it_is_asked_is_out_of_band(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook(),))
    await until(5)
    provider.do(shut_down)
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: OUT_OF_BAND", 7)


async def test_a_guest_that_goes_off_at_the_deadline_is_graceful(make_provider: Make) -> None:
    provider = await make_provider(web=LEGACY | {"shutdown_time": "60s"})
    assert await provider.ending(provider.shutdown(timeout=60)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_guest_that_goes_off_between_the_check_and_the_kill_is_graceful(make_provider: Make) -> None:
    provider = await make_provider(web=LEGACY | {"shutdown_time": "60.5s", "power_off_time": "1s"})
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert operation.force_reason
    assert ending(operation) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_guest_that_somebody_starts_again_at_once_has_gone_down_all_the_same(make_provider: Make) -> None:
    provider = await make_provider(web=LEGACY)
    begun = await provider.shutdown(timeout=60)
    await until(1)
    provider.do(power_off)
    provider.do(power_on)
    assert ending(await provider.end(begun)) == "SUCCEEDED: OUT_OF_BAND"
    assert provider.vm().power_state is PowerState.ON


async def test_of_a_vm_that_vanishes_while_it_is_waited_for_nothing_is_known(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    provider.world.remove(guest_id("web"))
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("FAILED: UNKNOWN", 5)


@pytest.mark.parametrize(("named", "told"), [(True, timedelta(seconds=60)), (False, None)])
async def test_the_hypervisor_is_told_how_long_the_guest_has(
    make_provider: Make, named: bool, told: timedelta | None
) -> None:
    provider = await make_provider(web={})
    graces: list[Grace] = []
    send_signal = provider.adapter.send_signal

    async def spy(vm_id: str, signal: Signal, grace: Grace) -> None:
        graces.append(grace)
        await send_signal(vm_id, signal, grace)

    provider.adapter.send_signal = spy  # type: ignore[method-assign]
    fields: dict[str, Any] = {"timeout": 60} if named else {}
    await provider.end(await provider.shutdown(**fields, escalation=Escalation.ASK))
    assert graces == [Grace(force_after=at(60), escalation=Escalation.ASK, timeout=told)]


@pytest.mark.parametrize("second", [-3600, 0])
async def test_a_force_after_that_has_passed_forces_at_once(make_provider: Make, second: float) -> None:
    provider = await make_provider(web=DEAF)
    operation = await provider.end(await provider.shutdown(force_after=at(second)))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 0)
    assert operation.force_after == at(second)


async def test_a_force_after_that_is_named_counts_before_the_timeout(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    assert elapsed(await provider.end(await provider.shutdown(timeout=60, force_after=at(200)))) == 200
