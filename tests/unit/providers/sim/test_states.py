from collections.abc import Callable
from dataclasses import replace

import pytest

from providers.core.adapter import Cause, OffCause, PowerState, Problem, Reason
from providers.sim.guest import Guest
from providers.sim.states import to_vm
from providers.sim.transitions import pause, power_off, power_on, resume, save, shut_down

Make = Callable[..., Guest]


def problems(guest: Guest) -> list[tuple[Reason | None, bool]]:
    return [(problem.reason, problem.passing) for problem in to_vm(guest, 1.0).problems]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"agent": "none"}, []),
        ({"agent": "down"}, [(None, False)]),
        ({"agent": "none", "acpi": "none"}, [(Reason.TOOLS_UNAVAILABLE, False)]),
        ({"power": "off", "agent": "none", "acpi": "none"}, []),
        ({"power": "paused"}, [(Reason.PAUSED, False)]),
        ({"power": "suspended"}, [(Reason.SUSPENDED, False)]),
        ({"locked": "backup"}, [(Reason.LOCKED, True)]),
        ({"question": "moved or copied?"}, [(Reason.QUESTION_PENDING, False)]),
        ({"on_shutdown": "reboot"}, [(None, False)]),
    ],
)
def test_what_stands_in_the_way_is_named(
    make_guest: Make, fields: dict[str, str], expected: list[tuple[Reason | None, bool]]
) -> None:
    assert problems(make_guest(**fields)) == expected


def test_a_lock_is_named_by_its_holder(make_guest: Make) -> None:
    assert to_vm(make_guest(locked="backup"), 1.0).problems == (
        Problem("It is locked: backup.", Reason.LOCKED, passing=True, causes=(Cause.LOCKED,)),
    )


def test_a_guest_that_is_being_saved_says_so_and_that_it_passes(make_guest: Make) -> None:
    assert problems(save(make_guest(save_time="5s"), 0.0)) == [(Reason.PAUSED, True)]


def test_a_run_ends_with_a_save(make_guest: Make) -> None:
    saved = save(make_guest(save_time="0s"), 0.0)
    runs = [to_vm(guest, 1.0).run_id for guest in (make_guest(), saved, resume(saved, 1.0))]
    assert runs == ["0.000000", "", "1.000000"]


def test_a_guest_that_is_off_says_who_ended_it(make_guest: Make) -> None:
    vm = to_vm(power_off(make_guest(), 1.0), 1.0)
    assert (vm.power_state, vm.off_cause) == (PowerState.OFF, OffCause.HOST)


def test_a_guest_that_will_go_off_has_no_cause_yet(make_guest: Make) -> None:
    assert to_vm(replace(make_guest(), off_at=9.0, off_cause=OffCause.GUEST), 1.0).off_cause is None


def test_a_guest_that_was_started_again_has_no_cause(make_guest: Make) -> None:
    assert to_vm(power_on(power_off(make_guest(), 1.0), 2.0), 2.0).off_cause is None


def test_a_template_is_refused(make_guest: Make) -> None:
    assert "template" in to_vm(make_guest(power="off", template=True), 1.0).refused


def test_only_a_running_guest_has_addresses(make_guest: Make) -> None:
    addresses = {"addresses": ["192.0.2.1"]}
    assert to_vm(make_guest(**addresses), 1.0).addresses == ("192.0.2.1",)
    assert to_vm(make_guest(power="off", **addresses), 1.0).addresses == ()


def run_id(guest: Guest, now: float) -> str:
    return to_vm(guest, now).run_id


def test_each_start_is_another_run(make_guest: Make) -> None:
    guest = make_guest()
    assert run_id(power_on(power_off(guest, 5.0), 6.0), 7.0) != run_id(guest, 1.0)


def test_a_guest_that_restarts_by_itself_is_in_the_same_run(make_guest: Make) -> None:
    guest = make_guest(on_shutdown="reboot")
    assert run_id(shut_down(guest, 5.0), 9.0) == run_id(guest, 1.0)


def test_a_guest_that_was_paused_meanwhile_is_in_the_same_run(make_guest: Make) -> None:
    guest = make_guest()
    assert run_id(power_on(pause(guest, 5.0), 6.0), 7.0) == run_id(guest, 1.0)


def test_a_guest_that_is_off_is_in_no_run(make_guest: Make) -> None:
    assert run_id(power_off(make_guest(), 5.0), 6.0) == ""
