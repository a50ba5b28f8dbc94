from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from providers.core.adapter import Changed, GuestCredentials, GuestProcess, PowerState
from providers.core.errors import GuestLoginRefused, OperationActive, OperationEnded
from providers.core.extension import Extension
from providers.core.model import Decision, Hook, Kind, Operation, SnapshotHook, State, TcpHook
from providers.sim import events
from providers.sim import states as sim_states
from providers.sim.script import guest_id
from providers.sim.transitions import Transition, crash, power_off, shut_down
from tests.unit.providers.world import Make, Provider, at, elapsed, ending, exec_hook, now, until

pytestmark = pytest.mark.looptime


def states(operation: Operation) -> list[tuple[str, str]]:
    return [(result.name, result.state) for result in operation.hooks]


def spy_on_logins(provider: Provider) -> list[GuestCredentials | None]:
    """The logins with which programs are started from now on."""
    logins: list[GuestCredentials | None] = []
    guest_exec = provider.adapter.guest_exec

    async def spy(vm_id: str, command: Sequence[str], credentials: GuestCredentials | None) -> GuestProcess:
        logins.append(credentials)
        return await guest_exec(vm_id, command, credentials)

    provider.adapter.guest_exec = spy  # type: ignore[method-assign]
    return logins


async def test_hooks_run_in_their_order_and_before_the_guest_is_asked(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "5s", "console": "hook"}]})
    operation = await provider.end(await provider.shutdown(hooks=(exec_hook("a"), exec_hook("b"))))
    assert states(operation) == [("a", "SUCCEEDED"), ("b", "SUCCEEDED")]
    assert [process.command for process in provider.guest().processes] == [("run", "a"), ("run", "b")]
    assert operation.sent[0].time >= at(10)


async def test_the_grace_period_starts_when_the_hooks_end(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}], "acpi": "ignores", "agent": "ignores"})
    operation = await provider.end(await provider.shutdown(timeout=60, hooks=(exec_hook(),)))
    assert elapsed(operation) == pytest.approx(80, abs=1)
    assert operation.force_after
    assert operation.force_after >= at(80)


async def test_what_a_program_printed_and_its_exit_code_are_kept(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"exit_code": 3, "output": "no such database\n"}]})
    (result,) = (await provider.end(await provider.shutdown(hooks=(exec_hook(),)))).hooks
    assert (result.state, result.exit_code, result.output) == ("FAILED", 3, "no such database\n")


async def test_of_a_long_output_the_last_4_kib_are_kept(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"output": "x" * 5000 + "the end"}]})
    (result,) = (await provider.end(await provider.shutdown(hooks=(exec_hook(),)))).hooks
    assert (len(result.output), result.output[-8:]) == (4096, "xthe end")


async def test_a_hook_that_fails_does_not_keep_the_machine_up(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"exit_code": 1}]})
    operation = await provider.end(await provider.shutdown(hooks=(exec_hook("a"), exec_hook("b"))))
    assert ending(operation) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"
    assert states(operation) == [("a", "FAILED"), ("b", "FAILED")]


async def test_a_hook_that_fails_and_says_to_abort_leaves_the_vm_running(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"exit_code": 1}]})
    operation = await provider.end(await provider.shutdown(hooks=(exec_hook("a", "ABORT"), exec_hook("b"))))
    assert ending(operation) == "FAILED: STILL_RUNNING/HOOK_FAILED"
    assert states(operation) == [("a", "FAILED"), ("b", "SKIPPED")]
    assert (provider.vm().power_state, provider.calls("send_signal")) == (PowerState.ON, 0)


async def test_a_hook_that_outlives_its_timeout_is_left_and_named(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "1h"}]})
    operation = await provider.end(await provider.shutdown(hooks=(exec_hook(timeout=7),)))
    (result,) = operation.hooks
    assert (result.state, result.duration.total_seconds()) == ("TIMED_OUT", 7)
    assert result.output == "Still running in the guest as process 1001."
    assert ending(operation) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"


async def test_a_hook_with_abort_that_outlives_its_timeout_aborts(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "1h"}]})
    begun = provider.shutdown(hooks=(exec_hook(policy="ABORT", timeout=7),))
    assert await provider.ending(begun) == "FAILED: STILL_RUNNING/HOOK_FAILED"


async def test_a_hook_in_a_guest_whose_agent_hangs_ends_with_its_timeout(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "hanging"})
    (result,) = (await provider.end(await provider.shutdown(timeout=10, hooks=(exec_hook(timeout=7),)))).hooks
    assert (result.state, result.duration.total_seconds()) == ("TIMED_OUT", 7)


async def test_a_hook_in_a_guest_without_agent_fails_and_says_why(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "none"})
    operation = await provider.end(await provider.shutdown(hooks=(exec_hook(),)))
    assert (operation.hooks[0].state, "cannot hear" in operation.hooks[0].output) == ("FAILED", True)
    assert ending(operation) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_hook_that_breaks_in_a_way_nobody_foresaw_does_not_keep_the_machine_up(make_provider: Make) -> None:
    provider = await make_provider(web={})

    async def broken(*_args: object) -> None:
        raise ZeroDivisionError("in the adapter")

    provider.adapter.guest_exec = broken  # type: ignore[method-assign, assignment]
    operation = await provider.end(await provider.shutdown(hooks=(exec_hook(),)))
    assert operation.hooks[0].output == "ZeroDivisionError: in the adapter"
    assert ending(operation) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"


async def test_a_vm_that_goes_off_while_a_hook_runs_is_asked_nothing_more(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook("a"), exec_hook("b")))
    await until(5)
    provider.do(power_off)
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: OUT_OF_BAND", 5)
    assert states(operation) == [("a", "INTERRUPTED"), ("b", "SKIPPED")]


async def test_a_vm_that_goes_off_while_a_hook_with_abort_runs_is_not_called_running(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook(policy="ABORT"),))
    await until(5)
    provider.do(power_off)
    assert ending(await provider.end(begun)) == "SUCCEEDED: OUT_OF_BAND"


async def test_force_while_a_hook_with_abort_runs_is_obeyed(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook(policy="ABORT"),))
    await until(5)
    await provider.operations.force(begun.id)
    operation = await provider.end(begun)
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/REQUESTED", 5)


async def test_a_power_off_while_a_hook_with_abort_runs_pre_empts_it(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook(policy="ABORT"),))
    await until(5)
    await provider.power_off()
    assert ending(await provider.end(begun)) == "SUCCEEDED: FORCED/PREEMPTED"


async def test_cancel_while_a_hook_with_abort_runs_is_a_cancellation(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook(policy="ABORT"), exec_hook("b")))
    await until(5)
    operation = await provider.operations.cancel(begun.id)
    assert ending(operation) == "CANCELLED: STILL_RUNNING"
    assert states(operation) == [("drain", "INTERRUPTED"), ("b", "SKIPPED")]
    assert provider.calls("send_signal") == 0


async def test_a_hook_that_was_cut_short_by_a_restart_is_not_run_again(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook("a"), exec_hook("b")))
    await until(5)
    await provider.restart()
    operation = await provider.end(begun)
    assert states(operation) == [("a", "INTERRUPTED"), ("b", "SUCCEEDED")]
    assert [process.command for process in provider.guest().processes] == [("run", "a"), ("run", "b")]


async def test_a_hook_with_abort_that_was_cut_short_by_a_restart_aborts(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.shutdown(hooks=(exec_hook(policy="ABORT"),))
    await until(5)
    await provider.restart()
    assert ending(await provider.end(begun)) == "FAILED: STILL_RUNNING/HOOK_FAILED"


async def test_a_hook_that_ended_before_a_restart_keeps_its_result(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"match": "b", "takes": "20s"}, {"output": "done"}]})
    begun = await provider.shutdown(hooks=(exec_hook("a"), exec_hook("b")))
    await until(5)
    await provider.restart()
    assert (await provider.end(begun)).hooks[0].output == "done"


# The probe of a VM that was started


def probe(timeout: float = 60) -> Hook:
    return exec_hook("ready", timeout=timeout).model_copy(update={"repeat": True})


def port(timeout: float = 60) -> Hook:
    """One of a VM that has no address."""
    return probe(timeout).model_copy(update={"handler": TcpHook(port=9)})


FAILS_TWICE = {"power": "off", "faults": {"guest_exec": ["refuse x2"]}}


async def test_a_probe_is_asked_until_it_succeeds(make_provider: Make) -> None:
    provider = await make_provider(web=FAILS_TWICE)
    operation = await provider.end(await provider.power_on(hooks=(probe(),)))
    assert (ending(operation), states(operation)) == ("SUCCEEDED: STARTED", [("ready", "SUCCEEDED")])
    assert provider.calls("guest_exec") == 3


async def test_one_that_never_succeeds_ends_with_its_time_and_what_it_said_last(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1, "output": "no response"}]})
    operation = await provider.end(await provider.power_on(hooks=(probe(timeout=30),)))
    assert (ending(operation), states(operation)) == ("SUCCEEDED: STARTED", [("ready", "TIMED_OUT")])
    assert operation.hooks[0].output == "no response"
    assert elapsed(operation) == pytest.approx(30, abs=3)


async def test_a_login_that_the_guest_refuses_is_tried_once_a_minute(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off"})
    logins = spy_on_logins(provider)
    start = provider.adapter.guest_exec

    async def refuse(*asked: Any) -> GuestProcess:
        await start(*asked)
        raise GuestLoginRefused("The guest refuses the login.")

    provider.adapter.guest_exec = refuse  # type: ignore[assignment, method-assign]
    operation = await provider.end(await provider.power_on(hooks=(probe(timeout=150),)))
    assert (len(logins), operation.hooks[0].output) == (3, "The guest refuses the login.")


async def test_a_probe_goes_on_after_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"takes": "20s"}]})
    begun = await provider.power_on(hooks=(exec_hook("a", timeout=1), probe()))
    await until(15)
    await provider.restart()
    assert states(await provider.end(begun)) == [("a", "TIMED_OUT"), ("ready", "SUCCEEDED")]


async def test_a_shutdown_does_not_wait_until_a_vm_is_ready(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(15)
    shutdown = await provider.end(await provider.shutdown())
    assert (ending(shutdown), elapsed(shutdown) < 10) == ("SUCCEEDED: GRACEFUL by GUEST_AGENT", True)
    operation = await provider.end(begun)
    assert (operation.state, states(operation)) == (State.CANCELLED, [("ready", "INTERRUPTED")])


async def test_its_time_goes_on_over_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=60),))
    await until(45)
    await provider.restart()
    operation = await provider.end(begun)
    assert states(operation) == [("ready", "TIMED_OUT")]
    assert elapsed(operation) == pytest.approx(60, abs=1)
    assert operation.hooks[0].duration.total_seconds() == pytest.approx(60, abs=1)


async def test_its_time_is_as_long_when_the_clock_is_set_meanwhile(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=60),))
    await until(30)
    provider.set_clock(timedelta(hours=3))
    await until(45)
    await provider.restart()
    await provider.end(begun)
    assert now() == pytest.approx(60, abs=1)


async def test_its_time_is_no_longer_where_the_machine_has_booted_with_an_old_clock(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=60),))
    await until(30)
    await provider.kill()
    provider.boot_id, provider.wrong = "boot-2", timedelta(days=-400)
    await provider.start()
    operation = await provider.end(begun)
    assert (now(), operation.hooks[0].state) == (90, "TIMED_OUT")


@pytest.mark.parametrize(
    ("ends", "told"),
    [(shut_down, "FAILED: OUT_OF_BAND"), (power_off, "FAILED: OUT_OF_BAND"), (crash, "FAILED: CRASHED")],
)
async def test_a_vm_that_is_off_again_is_not_asked_any_longer_and_not_told_as_started(
    make_provider: Make, ends: Transition, told: str
) -> None:
    provider = await make_provider(web={"power": "off", "shutdown_time": "1s", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(20)
    provider.do(ends)
    operation = await provider.end(begun)
    assert (ending(operation), states(operation)) == (told, [("ready", "FAILED")])
    assert now() < 30
    assert operation.failure
    assert operation.failure.message.startswith("Started, and is off again: ")


async def test_a_vm_that_is_off_again_before_its_agent_answers_is_not_asked_any_longer(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "agent": "none"})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(20)
    provider.do(crash)
    operation = await provider.end(begun)
    assert (ending(operation), operation.hooks[0].output) == ("FAILED: CRASHED", "The VM is off again.")


@pytest.mark.parametrize("hook", [probe(timeout=600), port(timeout=600)])
async def test_a_vm_that_is_not_here_any_more_is_not_asked_any_longer(make_provider: Make, hook: Hook) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(hook,))
    await until(20)
    provider.world.remove(guest_id("web"))
    operation = await provider.end(begun)
    assert ending(operation) == "FAILED: UNKNOWN"
    assert now() < 30
    assert operation.failure
    assert operation.failure.message.startswith("Started, and is not in the inventory any more.")


async def test_the_end_of_the_run_before_that_is_told_late_does_not_end_it(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "boot_time": "20s"})
    was = provider.vm()
    begun = await provider.power_on(hooks=(probe(),))
    await until(5)
    provider.adapter._events.publish(Changed(was))
    assert ending(await provider.end(begun)) == "SUCCEEDED: STARTED"


async def test_a_vm_that_went_off_while_the_provider_was_away_is_not_started_again(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(15)
    await provider.kill()
    provider.do(power_off)
    await provider.start()
    assert ending(await provider.end(begun)) == "FAILED: OUT_OF_BAND"
    assert (provider.vm().power_state, provider.calls("power_on")) == (PowerState.OFF, 1)


async def test_without_an_agent_that_is_what_is_told(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "agent": "none"})
    operation = await provider.end(await provider.power_on(hooks=(probe(timeout=30),)))
    assert operation.hooks[0].output == "No agent of the guest that runs programs has answered."


async def test_a_vm_that_was_on_already_is_asked_too_and_nothing_else_is_done(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "5s"}]})
    operation = await provider.end(await provider.power_on(hooks=(exec_hook("warm"), probe())))
    assert (ending(operation), states(operation)) == (
        "SUCCEEDED: ALREADY_ON",
        [("warm", "SKIPPED"), ("ready", "SUCCEEDED")],
    )
    assert [process.command for process in provider.guest().processes] == [("run", "ready")]


async def test_one_that_was_on_already_is_asked_on_after_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "20s"}]})
    begun = await provider.power_on(hooks=(exec_hook("warm"), probe()))
    await until(5)
    await provider.restart()
    operation = await provider.end(begun)
    assert (ending(operation), len(operation.hooks)) == ("SUCCEEDED: ALREADY_ON", 2)


async def test_it_can_be_cancelled(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1, "output": "no response"}]})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(15)
    operation = await provider.operations.cancel(begun.id)
    assert (ending(operation), states(operation)) == ("CANCELLED: STARTED", [("ready", "INTERRUPTED")])
    assert operation.hooks[0].output == "no response"
    assert operation.verdict
    assert operation.verdict.message == "Started. What was to follow was given up."
    assert provider.vm().power_state is PowerState.ON


async def test_one_that_was_on_already_says_that_it_was_given_up(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(15)
    operation = await provider.operations.cancel(begun.id)
    assert operation.verdict
    assert operation.verdict.message == "It was on already. What was to follow was given up."


async def test_who_would_force_or_extend_it_is_told_what_can_be_done(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(15)
    with pytest.raises(OperationEnded, match="only asks whether its VM is ready: wait for it, or cancel it"):
        await provider.operations.force(begun.id)
    with pytest.raises(OperationEnded, match="or cancel it"):
        await provider.operations.extend(begun.id, Extension(by=timedelta(seconds=5)))


async def test_a_second_power_on_is_told_that_it_can_be_cancelled(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    await provider.power_on(hooks=(probe(timeout=600),))
    await until(15)
    with pytest.raises(OperationActive, match="wait for it, or cancel it"):
        await provider.power_on()


async def test_one_that_gave_way_as_the_provider_was_killed_is_told_as_started(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"exit_code": 1}]})
    begun = await provider.power_on(hooks=(probe(timeout=600),))
    await until(15)
    run = provider.operations._runs[begun.id]
    run.spawn(run.record("SHUTDOWN came", decision=Decision.CANCEL))
    await provider.journal.answers()
    await provider.kill()
    await provider.start()
    assert ending(await provider.end(begun)) == "CANCELLED: STARTED"


async def test_it_waits_for_other_hooks(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"takes": "20s"}]})
    await provider.power_on(hooks=(exec_hook("warm"), probe()))
    await until(15)
    with pytest.raises(OperationActive):
        await provider.shutdown()


async def test_a_snapshot_hook_takes_a_snapshot_named_after_the_operation(make_provider: Make) -> None:
    provider = await make_provider(web={})
    hook = Hook(name="keep", handler=SnapshotHook(description="before maintenance"))
    operation = await provider.end(await provider.shutdown(hooks=(hook,)))
    (snapshot,) = provider.guest().snapshots
    assert (snapshot.name, snapshot.description) == (f"vmpower-{operation.id}", "before maintenance")
    assert states(operation) == [("keep", "SUCCEEDED")]


async def test_the_verdict_holds_the_hooks(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"exit_code": 3}]})
    operation = await provider.end(await provider.shutdown(hooks=(exec_hook(),)))
    assert operation.verdict
    assert [(hook.name, hook.exit_code) for hook in operation.verdict.hooks] == [("drain", 3)]


async def test_hooks_that_run_can_be_given_a_longer_grace_period_after_them(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "5s"}], "acpi": "ignores", "agent": "ignores"})
    begun = await provider.shutdown(timeout=10, hooks=(exec_hook(),))
    await provider.reach(begun, State.RUNNING_HOOKS)
    await provider.operations.extend(begun.id, Extension(by=timedelta(seconds=20)))
    assert elapsed(await provider.end(begun)) == pytest.approx(35, abs=1)


async def test_the_guest_login_reaches_the_hook(make_provider: Make) -> None:
    provider = await make_provider(web={})
    login = GuestCredentials("root", "hunter2")
    logins = spy_on_logins(provider)
    await provider.end(await provider.shutdown(hooks=(exec_hook(),), credentials=login))
    assert logins == [login]


async def test_a_caller_that_joins_without_a_login_does_not_take_it_away(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "5s"}]})
    login = GuestCredentials("root", "hunter2")
    logins = spy_on_logins(provider)
    begun = await provider.shutdown(hooks=(exec_hook("a"), exec_hook("b")), credentials=login, request_id="r")
    await provider.operations.join("r", Kind.SHUTDOWN, "web")
    await provider.end(begun)
    assert logins == [login, login]


async def test_a_login_that_a_restart_lost_can_be_brought_by_who_joins(make_provider: Make) -> None:
    provider = await make_provider(web={"hooks": [{"takes": "5s"}]})
    login = GuestCredentials("root", "hunter2")
    hooks = (exec_hook("a"), exec_hook("b"), exec_hook("c"))
    begun = await provider.shutdown(hooks=hooks, credentials=login, request_id="r")
    await until(1)
    await provider.restart()
    logins = spy_on_logins(provider)
    await until(2)
    await provider.operations.join("r", Kind.SHUTDOWN, "web", login)
    await provider.end(begun)
    assert logins == [None, login]


async def test_a_hook_after_the_start_waits_until_the_agent_runs_programs(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_vm = sim_states.to_vm
    monkeypatch.setattr(
        events, "to_vm", lambda guest, now: replace(to_vm(guest, now), runs_programs=now >= at(50).timestamp())
    )
    provider = await make_provider(web={"power": "off", "boot_time": "5s"})
    begun = await provider.power_on(hooks=(exec_hook(timeout=120),))
    await until(49)
    assert provider.guest().processes == ()
    await until(51)
    provider.rewrite(labels={"anything": "different"})
    assert states(await provider.end(begun)) == [("drain", "SUCCEEDED")]
