from collections.abc import Callable
from dataclasses import replace

import pytest

from providers.core.adapter import PowerState, Signal
from providers.sim.guest import Guest, Line, next_change, power_state, printed, signals

Make = Callable[..., Guest]


@pytest.mark.parametrize(("now", "state"), [(4.9, PowerState.ON), (5.0, PowerState.OFF)])
def test_a_guest_is_off_from_the_moment_its_run_ends(make_guest: Make, now: float, state: PowerState) -> None:
    assert power_state(replace(make_guest(), off_at=5.0), now) is state


def test_a_held_guest_does_not_go_off(make_guest: Make) -> None:
    guest = replace(make_guest(), off_at=5.0, held=PowerState.PAUSED, held_at=1.0)
    assert power_state(guest, 6.0) is PowerState.PAUSED


@pytest.mark.parametrize(
    ("fields", "heard"),
    [
        ({}, (Signal.GUEST_AGENT, Signal.ACPI)),
        ({"agent": "none"}, (Signal.ACPI,)),
        ({"agent": "down"}, (Signal.ACPI,)),
        ({"agent": "hanging"}, (Signal.GUEST_AGENT, Signal.ACPI)),
        ({"acpi": "ignores"}, (Signal.GUEST_AGENT, Signal.ACPI)),
        ({"acpi": "none"}, (Signal.GUEST_AGENT,)),
        ({"agent": "none", "acpi": "none"}, ()),
        ({"power": "off"}, ()),
        ({"power": "paused"}, ()),
        ({"power": "suspended"}, ()),
        ({"locked": "backup"}, ()),
        ({"question": "moved or copied?"}, ()),
    ],
)
def test_signals_are_what_a_hypervisor_believes_is_heard(
    make_guest: Make, fields: dict[str, str], heard: tuple[Signal, ...]
) -> None:
    assert signals(make_guest(**fields), 1.0) == heard


def test_the_next_change_is_the_first_one_ahead(make_guest: Make) -> None:
    assert next_change(replace(make_guest(), agent_at=3.0, off_at=9.0), 1.0) == 3.0


def test_what_has_passed_is_no_next_change(make_guest: Make) -> None:
    assert next_change(replace(make_guest(), agent_at=3.0, off_at=9.0), 9.0) is None


def test_a_held_guest_has_no_next_change(make_guest: Make) -> None:
    assert next_change(replace(make_guest(power="paused"), off_at=9.0), 1.0) is None


def test_a_console_shows_only_what_was_printed_by_now(make_guest: Make) -> None:
    guest = replace(make_guest(), console=(Line(1.0, "first"), Line(2.0, "second")))
    assert printed(guest, 1.5) == ["first"]


def test_a_held_guest_prints_nothing(make_guest: Make) -> None:
    guest = replace(make_guest(power="paused"), console=(Line(-1.0, "first"), Line(2.0, "second")))
    assert printed(guest, 5.0) == ["first"]
