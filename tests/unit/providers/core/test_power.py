import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from providers.core.adapter import VM, PowerState
from providers.core.model import Operation, State
from providers.sim.events import Events
from providers.sim.script import guest_id
from providers.sim.transitions import crash, power_off, power_on
from tests.unit.providers.world import Make, Provider, elapsed, ending, exec_hook, now, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}


async def test_a_power_off_cuts_the_power_without_asking(make_provider: Make) -> None:
    provider = await make_provider(web={})
    operation = await provider.end(await provider.power_off())
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/REQUESTED", 0)
    assert (provider.vm().power_state, provider.calls("send_signal")) == (PowerState.OFF, 0)


async def test_a_power_off_of_what_is_off_is_already_done(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off"})
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: ALREADY_OFF"
    assert provider.calls("power_off") == 0


@pytest.mark.parametrize("state", ["paused", "suspended"])
async def test_a_held_guest_can_be_powered_off(make_provider: Make, state: str) -> None:
    provider = await make_provider(web={"power": state})
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: FORCED/REQUESTED"


async def test_a_power_off_is_about_the_run_that_is_there_though_nobody_told_of_its_start(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await make_provider(web={})
    monkeypatch.setattr(Events, "publish", lambda *_: None)
    await until(5)
    provider.do(power_off)
    provider.do(power_on)
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: FORCED/REQUESTED"
    assert provider.vm().power_state is PowerState.OFF


async def lost_and_started_anew(make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Provider, Operation]:
    """A PowerOff whose first call was lost, of a VM that somebody stops and starts meanwhile, of which nobody tells."""
    provider = await make_provider(web={"faults": {"power_off": "unavailable"}})
    monkeypatch.setattr(Events, "publish", lambda *_: None)
    begun = await provider.power_off()
    await until(0.1)
    provider.do(power_off)
    provider.do(power_on)
    return provider, begun


async def test_a_power_off_whose_call_was_lost_does_not_cut_a_run_that_began_since(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, begun = await lost_and_started_anew(make_provider, monkeypatch)
    assert ending(await provider.end(begun)) == "SUCCEEDED: UNKNOWN"
    assert provider.calls("power_off") == 1


async def test_a_power_off_whose_call_was_lost_cuts_nothing_until_it_is_told_which_run_there_is(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt tells it once a start has ended."""
    provider, begun = await lost_and_started_anew(make_provider, monkeypatch)
    get = provider.adapter.get

    async def get_without_run(vm_id: str) -> VM:
        vm = await get(vm_id)
        return vm if now() > 3 else replace(vm, run_id="")

    monkeypatch.setattr(provider.adapter, "get", get_without_run)
    assert ending(await provider.end(begun)) == "SUCCEEDED: UNKNOWN"
    assert provider.calls("power_off") == 1
    assert provider.vm().power_state is PowerState.ON


async def test_a_power_off_that_is_refused_twice_is_tried_a_third_time(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "refuse x2"}})
    assert await provider.ending(provider.shutdown(timeout=60)) == "SUCCEEDED: FORCED/TIMEOUT"
    assert provider.calls("power_off") == 3


async def test_a_power_off_that_is_always_refused_fails_with_the_hypervisors_words(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "refuse always"}})
    operation = await provider.end(await provider.shutdown(timeout=60))
    assert ending(operation) == "FAILED: STILL_RUNNING/TIMEOUT"
    assert operation.failure
    assert (operation.failure.code, operation.failure.reason) == (9, "COMMAND_FAILED")
    assert "refused power_off" in operation.failure.message


async def test_a_power_off_without_effect_is_not_believed(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "ignore always"}})
    operation = await provider.end(await provider.power_off())
    assert ending(operation) == "FAILED: STILL_RUNNING"
    assert operation.failure
    assert "state did not change" in operation.failure.message


async def test_a_power_off_without_effect_is_repeated(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "ignore"}})
    assert await provider.ending(provider.power_off()) == "SUCCEEDED: FORCED/REQUESTED"


async def test_a_power_off_that_hangs_is_given_up_and_repeated(make_provider: Make) -> None:
    provider = await make_provider(
        {"power_timeout": timedelta(seconds=20)}, web=DEAF | {"faults": {"power_off": "hang"}}
    )
    operation = await provider.end(await provider.power_off())
    assert ending(operation) == "SUCCEEDED: FORCED/REQUESTED"
    assert 20 <= elapsed(operation) <= 21


async def test_a_slow_power_off_is_waited_for(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"power_off_time": "30s"})
    operation = await provider.end(await provider.power_off())
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/REQUESTED", 30)


async def test_whose_power_off_it_was_is_not_known_where_the_answer_is_lost(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "lost"}})
    operation = await provider.end(await provider.power_off())
    assert ending(operation) == "SUCCEEDED: UNKNOWN"
    assert operation.verdict
    assert operation.verdict.message.startswith("Its power was cut, by vmpower or by somebody else;")


async def test_a_cut_by_somebody_else_while_we_force_is_not_told_as_ours(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "refuse"}})
    begun = await provider.shutdown(timeout=8)
    await until(8.1)
    provider.do(power_off)
    assert ending(await provider.end(begun)) == "SUCCEEDED: OUT_OF_BAND"


async def test_force_outlasts_an_outage_of_the_hypervisor(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "unavailable x2"}})
    assert await provider.ending(provider.shutdown(timeout=8)) == "SUCCEEDED: FORCED/TIMEOUT"
    assert provider.calls("power_off") == 3


async def test_of_a_vm_that_vanishes_under_force_nothing_is_known(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "refuse"}})
    begun = await provider.shutdown(timeout=8)
    await until(8.1)
    provider.world.remove(guest_id("web"))
    assert ending(await provider.end(begun)) == "FAILED: UNKNOWN"


async def test_a_guest_that_crashes_under_force_has_crashed(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"faults": {"power_off": "refuse"}})
    begun = await provider.shutdown(timeout=8)
    await until(8.1)
    provider.do(crash)
    assert ending(await provider.end(begun)) == "SUCCEEDED: CRASHED"


async def test_a_power_on_starts_what_is_off(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off"})
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: STARTED"
    assert provider.vm().power_state is PowerState.ON


async def test_a_power_on_after_a_shutdown_that_was_cancelled_says_that_the_guest_may_still_obey(
    make_provider: Make,
) -> None:
    provider = await make_provider(web={"agent": "none", "shutdown_time": "60s"})
    shutdown = await provider.shutdown(timeout=300)
    await until(5)
    await provider.operations.cancel(shutdown.id)
    ended = await provider.end(await provider.power_on())
    assert ended.verdict
    assert ended.verdict.message == (
        "It was on already. An earlier operation had asked its guest to go down, which may still obey."
    )


async def test_a_power_on_of_what_is_on_is_already_done(make_provider: Make) -> None:
    provider = await make_provider(web={})
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: ALREADY_ON"
    assert provider.calls("power_on") == 0


@pytest.mark.parametrize("state", ["paused", "suspended"])
async def test_a_power_on_lets_a_held_guest_go_on(make_provider: Make, state: str) -> None:
    provider = await make_provider(web={"power": state})
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: STARTED"
    assert provider.vm().power_state is PowerState.ON


async def test_a_power_on_that_is_always_refused_fails(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "faults": {"power_on": "refuse always"}})
    operation = await provider.end(await provider.power_on())
    assert ending(operation) == "FAILED: ALREADY_OFF"
    assert operation.failure
    assert operation.failure.reason == "COMMAND_FAILED"


async def test_a_power_on_that_is_refused_twice_is_tried_a_third_time(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "faults": {"power_on": "refuse x2"}})
    assert await provider.ending(provider.power_on()) == "SUCCEEDED: STARTED"


async def test_a_post_start_hook_runs_when_the_agent_answers(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "boot_time": "5s", "agent_delay": "3s"})
    operation = await provider.end(await provider.power_on(hooks=(exec_hook("warm-up"),)))
    assert ending(operation) == "SUCCEEDED: STARTED"
    assert [(hook.name, hook.state) for hook in operation.hooks] == [("warm-up", "SUCCEEDED")]
    assert elapsed(operation) == pytest.approx(8, abs=0.1)


async def test_a_post_start_hook_that_fails_leaves_the_vm_started(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 3}]})
    operation = await provider.end(await provider.power_on(hooks=(exec_hook(),)))
    assert ending(operation) == "SUCCEEDED: STARTED"
    assert operation.hooks[0].exit_code == 3


async def test_a_vm_that_is_off_again_when_its_post_start_hooks_have_ended_is_not_told_as_started(
    make_provider: Make,
) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"takes": "20s"}]})
    begun = await provider.power_on(hooks=(exec_hook(timeout=60),))
    await until(10)
    provider.do(power_off)
    operation = await provider.end(begun)
    assert ending(operation) == "FAILED: OUT_OF_BAND"
    assert operation.verdict
    assert operation.verdict.message == "Started, and is off again: somebody else cut its power."


async def test_a_power_off_that_comes_while_the_post_start_hooks_run_cuts_them_short(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"takes": "20s"}]})
    begun = await provider.power_on(hooks=(exec_hook(timeout=60),))
    await provider.reach(begun, State.RUNNING_HOOKS)
    await until(5)
    cut = await provider.end(await provider.power_off())
    assert (ending(cut), elapsed(cut)) == ("SUCCEEDED: FORCED/REQUESTED", 0)
    assert ending(await provider.end(begun)) == "CANCELLED: STARTED"


async def test_a_power_off_waits_behind_no_reads(make_provider: Make) -> None:
    hung = {"faults": {"get": "hang always"}}
    provider = await make_provider({"max_reads": 1, "max_slow": 0}, web={}, other=hung)
    await provider.shutdown("other")
    await asyncio.sleep(1)
    assert elapsed(await provider.end(await provider.power_off())) < 1


async def test_a_cut_at_its_deadline_waits_behind_no_reads(make_provider: Make) -> None:
    hung = {"faults": {"get": "hang always"}}
    deaf = {"agent": "none", "acpi": "ignores"}
    provider = await make_provider({"max_reads": 1, "max_slow": 0}, web=deaf, other=hung)
    operation = await provider.shutdown(timeout=10)
    await asyncio.sleep(1)
    await provider.shutdown("other")
    assert elapsed(await provider.end(operation)) == 10
