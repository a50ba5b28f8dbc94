from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import OffCause, PowerState, Signal
from providers.core.errors import CommandFailed, Locked
from providers.sim.guest import Guest, power_state, printed, signals
from providers.sim.script import GuestScript
from providers.sim.transitions import (
    ask_agent,
    crash,
    create,
    pause,
    power_off,
    power_on,
    press_button,
    process_end,
    resume,
    save,
    shut_down,
    start_process,
    suspend,
    take_snapshot,
)

Make = Callable[..., Guest]


@pytest.mark.parametrize(
    ("power", "state"),
    [("on", "ON"), ("booting", "ON"), ("off", "OFF"), ("paused", "PAUSED"), ("suspended", "SUSPENDED")],
)
def test_a_guest_begins_in_the_state_of_its_script(make_guest: Make, power: str, state: str) -> None:
    assert power_state(make_guest(power=power), 0.0) == state


def test_a_guest_that_is_on_is_ready_at_once(make_guest: Make) -> None:
    assert printed(make_guest(boot_time="5s"), 0.0) == ["guest web: ready"]


def test_a_guest_that_boots_is_ready_later(make_guest: Make) -> None:
    guest = make_guest(power="booting", boot_time="5s")
    assert (printed(guest, 4.9), printed(guest, 5.0)) == ([], ["guest web: ready"])


def test_a_pressed_button_brings_the_guest_down_after_its_time(make_guest: Make) -> None:
    guest = press_button(make_guest(shutdown_time="7s"), 10.0)
    assert (power_state(guest, 16.9), power_state(guest, 17.0)) == (PowerState.ON, PowerState.OFF)


def test_a_guest_that_went_down_itself_says_so(make_guest: Make) -> None:
    assert press_button(make_guest(), 10.0).off_cause is OffCause.GUEST


def test_a_console_tells_of_the_button(make_guest: Make) -> None:
    guest = press_button(make_guest(), 10.0)
    assert printed(guest, 20.0) == [
        "guest web: ready",
        "guest web: power button pressed",
        "guest web: powering off",
    ]


def test_a_console_tells_of_the_agent(make_guest: Make) -> None:
    guest = ask_agent(make_guest(), 10.0)
    assert "guest web: agent asked for shutdown" in printed(guest, 20.0)


def test_a_second_press_does_not_delay_the_end(make_guest: Make) -> None:
    guest = press_button(make_guest(shutdown_time="5s"), 0.0)
    assert press_button(guest, 4.0) == guest


def test_a_booting_guest_drops_the_button(make_guest: Make) -> None:
    guest = make_guest(power="booting", boot_time="5s")
    assert press_button(guest, 4.0) == guest


def test_a_guest_that_ignores_the_button_stays(make_guest: Make) -> None:
    guest = make_guest(acpi="ignores")
    assert press_button(guest, 4.0) == guest


def test_without_acpi_the_button_is_refused(make_guest: Make) -> None:
    with pytest.raises(CommandFailed, match="web cannot hear ACPI"):
        press_button(make_guest(acpi="none"), 1.0)


def test_an_agent_that_ignores_was_asked_and_the_guest_stays(make_guest: Make) -> None:
    guest = ask_agent(make_guest(agent="ignores"), 1.0)
    assert (printed(guest, 99.0)[-1], guest.off_at) == ("guest web: agent asked for shutdown", None)


def test_an_agent_that_refuses_says_so(make_guest: Make) -> None:
    with pytest.raises(CommandFailed, match="agent of web refused"):
        ask_agent(make_guest(agent="refuses"), 1.0)


def test_a_hanging_agent_notices_nothing(make_guest: Make) -> None:
    guest = make_guest(agent="hanging")
    assert ask_agent(guest, 1.0) == guest


def test_an_agent_answers_only_after_boot_and_its_delay(make_guest: Make) -> None:
    guest = make_guest(power="booting", boot_time="5s", agent_delay="3s")
    assert (Signal.GUEST_AGENT in signals(guest, 7.9), Signal.GUEST_AGENT in signals(guest, 8.0)) == (
        False,
        True,
    )


@pytest.mark.parametrize("held", [pause, suspend])
@pytest.mark.parametrize("transition", [press_button, ask_agent, crash, shut_down])
def test_a_held_guest_hears_nothing(make_guest: Make, held: Any, transition: Any) -> None:
    with pytest.raises(CommandFailed, match="start or resume it first"):
        transition(held(make_guest(), 1.0), 2.0)


def test_a_pulled_plug_ends_a_shutdown_before_its_last_line(make_guest: Make) -> None:
    guest = power_off(press_button(make_guest(shutdown_time="5s"), 0.0), 2.0)
    assert (power_state(guest, 2.0), guest.off_cause, printed(guest, 9.0)[-1]) == (
        PowerState.OFF,
        OffCause.HOST,
        "guest web: power button pressed",
    )


def test_a_plug_pulled_after_the_end_leaves_the_cause(make_guest: Make) -> None:
    guest = power_off(press_button(make_guest(shutdown_time="5s"), 0.0), 6.0)
    assert guest.off_cause is OffCause.GUEST


def test_a_slow_power_off_ends_later(make_guest: Make) -> None:
    guest = power_off(make_guest(power_off_time="3s"), 1.0)
    assert (power_state(guest, 3.9), power_state(guest, 4.0)) == (PowerState.ON, PowerState.OFF)


def test_a_guest_that_goes_down_during_a_slow_power_off_went_by_itself(make_guest: Make) -> None:
    guest = power_off(press_button(make_guest(power_off_time="3s", shutdown_time="2s"), 0.0), 1.0)
    assert (guest.off_at, guest.off_cause) == (2.0, OffCause.GUEST)


def test_a_paused_guest_can_be_powered_off(make_guest: Make) -> None:
    assert power_state(power_off(make_guest(power="paused"), 1.0), 1.0) is PowerState.OFF


def test_a_start_boots_anew(make_guest: Make) -> None:
    guest = power_on(make_guest(power="off", boot_time="5s"), 10.0)
    assert (power_state(guest, 10.0), guest.off_cause, guest.ready_at) == (PowerState.ON, None, 15.0)


def test_a_start_of_a_guest_on_its_way_down_does_not_stop_it(make_guest: Make) -> None:
    guest = press_button(make_guest(), 0.0)
    assert power_on(guest, 1.0) == guest


def test_a_template_does_not_start(make_guest: Make) -> None:
    with pytest.raises(CommandFailed, match="template"):
        power_on(make_guest(power="off", template=True), 1.0)


def test_a_start_resumes_a_suspended_guest(make_guest: Make) -> None:
    guest = power_on(make_guest(power="suspended"), 5.0)
    assert (power_state(guest, 5.0), guest.started_at) == (PowerState.ON, 0.0)


def test_a_pause_delays_what_lay_ahead(make_guest: Make) -> None:
    guest = resume(pause(press_button(make_guest(shutdown_time="5s"), 0.0), 2.0), 12.0)
    assert (power_state(guest, 14.9), power_state(guest, 15.0)) == (PowerState.ON, PowerState.OFF)


def test_a_pause_delays_the_console(make_guest: Make) -> None:
    guest = resume(pause(press_button(make_guest(shutdown_time="5s"), 0.0), 2.0), 12.0)
    assert printed(guest, 14.9)[-1] == "guest web: power button pressed"


def test_a_running_guest_cannot_be_resumed(make_guest: Make) -> None:
    with pytest.raises(CommandFailed, match="neither paused nor suspended"):
        resume(make_guest(), 1.0)


def test_a_crash_is_off_with_that_cause(make_guest: Make) -> None:
    guest = crash(make_guest(), 3.0)
    assert (power_state(guest, 3.0), guest.off_cause, printed(guest, 3.0)[-1]) == (
        PowerState.OFF,
        OffCause.CRASHED,
        "guest web: kernel panic",
    )


def test_a_guest_may_crash_when_asked(make_guest: Make) -> None:
    guest = press_button(make_guest(on_shutdown="crash", shutdown_time="4s"), 0.0)
    assert (guest.off_at, guest.off_cause) == (4.0, OffCause.CRASHED)


def test_a_guest_may_restart_when_asked(make_guest: Make) -> None:
    guest = press_button(make_guest(on_shutdown="reboot", shutdown_time="4s", boot_time="5s"), 0.0)
    assert (power_state(guest, 100.0), printed(guest, 9.0)[-2:]) == (
        PowerState.ON,
        ["guest web: rebooting", "guest web: ready"],
    )


def test_a_program_without_a_script_prints_its_command(make_guest: Make) -> None:
    guest = start_process(make_guest(), 1.0, ["sync", "-f"])
    process = process_end(guest, 1.0, guest.processes[-1].pid)
    assert process
    assert (process.exit_code, process.output) == (0, "sync -f\n")


def test_a_program_follows_the_first_hook_that_matches(make_guest: Make) -> None:
    hooks = [{"match": "^drain", "exit_code": 3, "output": "no"}, {"exit_code": 4}]
    guest = start_process(make_guest(hooks=hooks), 1.0, ["drain", "now"])
    assert (guest.processes[-1].exit_code, guest.processes[-1].output) == (3, "no")


def test_a_program_runs_as_long_as_its_hook_takes(make_guest: Make) -> None:
    guest = start_process(make_guest(hooks=[{"takes": "3s"}]), 1.0, ["drain"])
    pid = guest.processes[-1].pid
    assert (process_end(guest, 3.9, pid), process_end(guest, 4.0, pid)) == (None, guest.processes[-1])


def test_a_hook_prints_what_the_command_told_it_to(make_guest: Make) -> None:
    hooks = [{"match": "echo (.+) > /dev/console", "console": r"\1"}]
    guest = start_process(make_guest(hooks=hooks), 1.0, ["sh", "-c", "echo bye bye > /dev/console"])
    assert printed(guest, 1.0)[-1] == "bye bye"


def test_two_programs_have_two_pids(make_guest: Make) -> None:
    guest = start_process(start_process(make_guest(), 1.0, ["a"]), 1.0, ["b"])
    assert len({process.pid for process in guest.processes}) == 2


def test_a_program_is_lost_when_its_guest_goes_off(make_guest: Make) -> None:
    guest = power_off(start_process(make_guest(), 1.0, ["a"]), 2.0)
    with pytest.raises(CommandFailed, match="OFF"):
        process_end(guest, 2.0, guest.processes[-1].pid)


def test_a_program_of_an_earlier_run_is_unknown(make_guest: Make) -> None:
    guest = power_on(power_off(start_process(make_guest(), 1.0, ["a"]), 2.0), 3.0)
    with pytest.raises(CommandFailed, match="restarted since"):
        process_end(guest, 9.0, guest.processes[-1].pid)


@pytest.mark.parametrize("agent", ["none", "down", "refuses"])
def test_without_a_willing_agent_no_program_starts(make_guest: Make, agent: str) -> None:
    with pytest.raises(CommandFailed):
        start_process(make_guest(agent=agent), 1.0, ["a"])


def test_a_hanging_agent_starts_no_program(make_guest: Make) -> None:
    assert start_process(make_guest(agent="hanging"), 1.0, ["a"]).processes == ()


def test_a_snapshot_is_kept(make_guest: Make) -> None:
    guest = take_snapshot(make_guest(), 1.0, "before", "before the change", False)
    assert [(one.name, one.taken_at) for one in guest.snapshots] == [("before", 1.0)]


def test_a_second_snapshot_of_one_name_is_refused(make_guest: Make) -> None:
    guest = take_snapshot(make_guest(), 1.0, "before", "", False)
    with pytest.raises(CommandFailed, match="choose another name"):
        take_snapshot(guest, 2.0, "before", "", False)


def test_a_guest_is_paused_while_it_is_saved(make_guest: Make) -> None:
    guest = save(make_guest(save_time="5s"), 1.0)
    assert [power_state(guest, at) for at in (5.9, 6.0)] == [PowerState.PAUSED, PowerState.SUSPENDED]


def test_a_saved_guest_goes_on_where_it_was(make_guest: Make) -> None:
    guest = resume(save(press_button(make_guest(shutdown_time="4s"), 1.0), 2.0), 100.0)
    assert [power_state(guest, at) for at in (102.9, 103.0)] == [PowerState.ON, PowerState.OFF]


def test_a_guest_that_is_being_saved_cannot_be_started(make_guest: Make) -> None:
    with pytest.raises(Locked, match="is being saved"):
        power_on(save(make_guest(save_time="5s"), 1.0), 2.0)


@pytest.mark.parametrize(
    "fields", [{"unsavable": "it has a device"}, {"power": "off"}, {"template": True}, {"locked": "a backup"}]
)
def test_some_guests_cannot_be_saved(make_guest: Make, fields: dict[str, Any]) -> None:
    with pytest.raises(CommandFailed):
        save(make_guest(**fields), 1.0)


TRANSITIONS = [power_on, power_off, pause, suspend, save, resume, crash, shut_down, press_button, ask_agent]


@given(st.lists(st.tuples(st.sampled_from(TRANSITIONS), st.integers(0, 5)), max_size=12))
def test_whatever_happens_a_console_never_tells_what_lies_ahead(steps: list[tuple[Any, int]]) -> None:
    guest, now, seen = create("1", "web", GuestScript(), 0.0), 0.0, ["guest web: ready"]
    for transition, wait in steps:
        now += wait
        told = printed(guest, now)
        assert told[: len(seen)] == seen
        seen = told
        try:
            guest = transition(guest, now)
        except CommandFailed:
            continue
        assert printed(guest, now)[: len(seen)] == seen
