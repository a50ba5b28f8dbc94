"""A PowerOff cuts short whatever is active on its VM; a PowerOn calls off a shutdown."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from providers.core.adapter import Ended, Escalation, OffCause, PowerState
from providers.core.model import Operation, State
from providers.core.power import ATTEMPTS, EVENT_DELAY
from providers.sim.events import Events
from providers.sim.transitions import crash, power_off, power_on
from tests.unit.providers.finisher import WEB, MakeFinisher
from tests.unit.providers.world import Make, elapsed, ending, exec_hook, now, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}
SLOW = {"agent": "none", "shutdown_time": "70s"}
HOOKS = (exec_hook(timeout=60),)


async def test_a_power_off_pre_empts_a_shutdown_at_once(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    shutdown = await provider.shutdown(timeout=3600)
    await until(5)
    cut = await provider.end(await provider.power_off())
    assert elapsed(cut) == 0
    assert ending(await provider.end(shutdown)) == "SUCCEEDED: FORCED/PREEMPTED"


async def test_a_power_off_that_pre_empted_says_that_power_was_cut(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.shutdown(timeout=3600)
    await until(5)
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: FORCED/REQUESTED"


async def test_a_power_off_pre_empts_a_shutdown_whose_hooks_still_run(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    shutdown = await provider.shutdown(hooks=HOOKS)
    await until(5)
    cut = await provider.end(await provider.power_off())
    assert elapsed(cut) == 0
    assert ending(await provider.end(shutdown)) == "SUCCEEDED: FORCED/PREEMPTED"


async def test_a_power_off_pre_empts_a_shutdown_that_asks(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    shutdown = await provider.shutdown(timeout=60, escalation=Escalation.ASK)
    await provider.reach(shutdown, State.AWAITING_DECISION)
    assert elapsed(await provider.end(await provider.power_off())) == 0


async def test_a_power_off_pre_empts_the_shutdown_and_the_power_on_behind_it(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    shutdown = await provider.shutdown(timeout=300)
    await until(5)
    start = await provider.power_on()
    await until(6)
    cut = await provider.end(await provider.power_off())
    assert elapsed(cut) == 0
    assert ending(await provider.end(shutdown)) == "SUCCEEDED: FORCED/PREEMPTED"
    start = await provider.end(start)
    assert ending(start) == "CANCELLED: ALREADY_OFF/PREEMPTED"
    assert start.verdict
    assert start.verdict.message == "Nothing was done: a PowerOff came before it began."
    await until(600)
    assert (provider.vm().power_state, provider.calls("power_on")) == (PowerState.OFF, 0)


async def test_a_power_off_pre_empts_a_reboot_and_the_vm_stays_off(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    reboot = await provider.reboot(timeout=300)
    await until(5)
    cut = await provider.end(await provider.power_off())
    await provider.end(reboot)
    assert (cut.state, elapsed(cut)) == (State.SUCCEEDED, 0)
    assert provider.vm().power_state is PowerState.OFF
    assert ending(await provider.end(reboot)) == "CANCELLED: FORCED/PREEMPTED"


async def test_a_power_off_in_the_second_half_of_a_reboot_leaves_the_vm_off(make_provider: Make) -> None:
    provider = await make_provider(web={"faults": {"power_on": "refuse"}})
    reboot = await provider.reboot(timeout=300)
    await until(2.2)  # off, and its start was refused for the first time
    await provider.end(await provider.power_off())
    await provider.end(reboot)
    assert provider.vm().power_state is PowerState.OFF


async def test_a_power_off_does_not_tell_how_a_run_ended_that_another_one_followed(make_provider: Make) -> None:
    """Both operations before it have ended, which a full disk keeps from being written down."""
    provider = await make_provider(web=SLOW)
    await provider.shutdown(timeout=300)
    await until(5)
    await provider.power_on()
    provider.journal.broken = True
    await until(80)  # the guest went down, and was started again
    provider.do(crash)
    await until(90)
    provider.journal.broken = False
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: ALREADY_OFF"


async def test_what_somebody_cut_while_a_power_on_waited_is_not_told_as_cut_by_the_power_off_after_it(
    make_provider: Make,
) -> None:
    provider = await make_provider(web={})
    await until(5)
    provider.lose_hypervisor(30)
    start = await provider.power_on()
    await until(10)
    provider.do(power_off)
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: OUT_OF_BAND"
    assert ending(await provider.end(start)) == "CANCELLED: UNKNOWN/PREEMPTED"
    assert provider.calls("power_off") == 0


async def test_a_cut_by_the_pre_empted_shutdown_that_takes_effect_late_is_not_told_as_somebody_elses(
    make_finisher: MakeFinisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_finisher(replace(WEB, delegation=None))
    adapter, cuts = provider.adapter, 0
    off = partial(adapter.change, power_state=PowerState.OFF, ended=Ended(OffCause.HOST))

    async def power_off(_: str) -> bool:
        nonlocal cuts
        cuts += 1
        adapter.change(power_state=PowerState.UNKNOWN, signals=())
        if cuts == ATTEMPTS:
            asyncio.get_running_loop().call_later(EVENT_DELAY + 0.2, off)
        return True

    monkeypatch.setattr(adapter, "power_off", power_off)
    keep = provider.journal.keep

    async def slow(operation: Operation, written: Callable[[], None]) -> bool:
        if operation.verdict:
            await asyncio.sleep(0.5)
        return await keep(operation, written)

    monkeypatch.setattr(provider.journal, "keep", slow)
    shutdown = await provider.ask(timeout=60)
    await until(5)
    cut = await provider.end(await provider.power_off())
    assert ending(await provider.end(shutdown)) == "FAILED: UNKNOWN/PREEMPTED"
    assert ending(cut) == "SUCCEEDED: FORCED/REQUESTED"


async def test_a_power_on_calls_off_a_shutdown_that_has_asked_nothing_yet(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    shutdown = await provider.shutdown(hooks=HOOKS)
    await until(5)
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: ALREADY_ON"
    ended = await provider.end(shutdown)
    assert (ending(ended), elapsed(ended)) == ("CANCELLED: STILL_RUNNING", 5)
    assert provider.calls("send_signal") == 0


async def test_a_power_on_waits_for_a_guest_that_goes_down_and_starts_it_again(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    shutdown = await provider.shutdown(timeout=300)
    await until(5)
    started = await provider.end(await provider.power_on())
    assert (ending(started), elapsed(started)) == ("SUCCEEDED: STARTED", 65)
    assert ending(await provider.end(shutdown)) == "SUCCEEDED: GRACEFUL by ACPI"
    assert provider.vm().power_state is PowerState.ON


async def test_a_deaf_guest_is_not_forced_after_a_power_on_came(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    shutdown = await provider.shutdown(timeout=60)
    await until(5)
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: ALREADY_ON"
    ended = await provider.end(shutdown)
    assert (ending(ended).split("/")[0], elapsed(ended)) == ("CANCELLED: STILL_RUNNING", 60)
    assert ended.verdict
    assert ended.verdict.message == "Not powered off hard, a PowerOn called it off."
    assert (provider.calls("power_off"), provider.calls("send_signal")) == (0, 1)


async def test_a_power_on_ends_a_shutdown_that_asks(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    shutdown = await provider.shutdown(timeout=60, escalation=Escalation.ASK)
    await provider.reach(shutdown, State.AWAITING_DECISION)
    started = await provider.power_on()
    assert elapsed(await provider.end(shutdown)) == 60
    assert ending(await provider.end(started)) == "SUCCEEDED: ALREADY_ON"


async def test_a_power_on_watches_a_guest_that_was_asked_for_as_long_again(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.shutdown(timeout=60)
    await until(5)
    assert elapsed(await provider.end(await provider.power_on())) == 115


async def test_a_guest_that_outlasts_the_shutdown_is_started_when_it_is_off(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    shutdown = await provider.shutdown(timeout=60)
    await until(5)
    started = await provider.power_on()
    assert ending(await provider.end(shutdown)).startswith("CANCELLED: STILL_RUNNING")
    assert ending(await provider.end(started)) == "SUCCEEDED: STARTED"
    assert provider.vm().power_state is PowerState.ON


async def test_that_it_went_down_at_last_is_seen_though_nobody_told(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_provider(web=SLOW)
    await provider.shutdown(timeout=60)
    await until(5)
    started = await provider.power_on()
    await until(62)
    monkeypatch.setattr(Events, "publish", lambda *_: None)
    assert ending(await provider.end(started)) == "SUCCEEDED: STARTED"


async def test_it_is_watched_also_after_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    await provider.shutdown(timeout=60)
    await until(5)
    started = await provider.power_on()
    await until(62)
    await provider.restart()
    assert ending(await provider.end(started)) == "SUCCEEDED: STARTED"


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1)])
async def test_it_is_watched_for_as_long_though_the_wall_clock_is_set_while_no_provider_runs(
    make_provider: Make, step: timedelta
) -> None:
    provider = await make_provider(web=DEAF)
    await provider.shutdown(timeout=60)
    await until(5)
    started = await provider.power_on()
    await until(70)
    await provider.kill()
    provider.set_clock(step)
    await provider.start()
    assert ending(await provider.end(started)) == "SUCCEEDED: ALREADY_ON"
    assert now() == 120


async def test_a_shutdown_may_begin_while_a_power_on_only_watches(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.shutdown(timeout=60)
    await until(5)
    started = await provider.power_on()
    await until(70)
    again = await provider.shutdown(timeout=60)
    assert ending(await provider.end(started)) == "CANCELLED: ALREADY_ON"
    assert ending(await provider.end(again)) == "SUCCEEDED: FORCED/TIMEOUT"


async def test_a_guest_that_an_earlier_shutdown_asked_is_not_cut_because_its_agent_has_left(
    make_provider: Make,
) -> None:
    provider = await make_provider(web={"acpi": "none", "shutdown_time": "30s"})
    await provider.end(await provider.shutdown(timeout=10, escalation=Escalation.NEVER))
    provider.rewrite(agent="none")
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert ending(operation) == "SUCCEEDED: GRACEFUL"
    assert operation.verdict
    assert operation.verdict.message == "The guest shut itself down, asked by an earlier operation."
    assert provider.calls("power_off") == 0


async def test_of_a_guest_that_was_saved_as_it_went_down_it_is_not_known_whether_it_was_asked(
    make_provider: Make,
) -> None:
    """Resumed by somebody, it may go on with what it was asked before."""
    provider = await make_provider(web={"agent": "none", "shutdown_time": "100s"})
    await provider.end(await provider.shutdown(timeout=5, escalation=Escalation.SAVE))
    waiting = await provider.shutdown(timeout=60, escalation=Escalation.ASK)
    await provider.reach(waiting, State.AWAITING_DECISION)
    provider.do(power_on)
    ended = await provider.end(waiting)
    assert ending(ended) == "SUCCEEDED: UNKNOWN"
    assert ended.verdict
    assert ended.verdict.message == "The guest shut itself down; whether it had been asked cannot be known."
