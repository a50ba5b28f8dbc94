"""Who may have ended a guest's run, by what the rig of Proxmox VE tells. The histories themselves show the rest."""

from typing import Any

import pytest

from tests.soak.proxmox import causes_of

BEGAN, ASKED = 1000.0, 1010.0


def end(after: float, cause: str = "guest") -> dict[str, Any]:
    """Of a run whose guest went off so many seconds after it was asked."""
    return {"on_at": BEGAN, "off_at": ASKED + after, "off_cause": cause}


def shutdown(timeout: int = 3, force: str = "1") -> list[Any]:
    return [[ASKED, "shutdown", {"timeout": str(timeout), "forceStop": force}]]


def test_a_guest_that_left_in_time_has_left() -> None:
    assert causes_of(end(1.4), shutdown(), {}) == ("GUEST",)


@pytest.mark.parametrize("after", [2.0, 2.4, 3.0])
def test_proxmox_ve_looks_no_more_in_the_last_second_and_says_that_it_forced(after: float) -> None:
    assert causes_of(end(after), shutdown(), {}) == ("GUEST", "PROVIDER")


@pytest.mark.parametrize(
    "asked",
    [[], shutdown(force=""), [[BEGAN - 1, *shutdown()[0][1:]]]],
    ids=["not asked", "without force", "in an earlier run"],
)
def test_otherwise_the_guest_alone_has_ended_it(asked: list[Any]) -> None:
    assert causes_of(end(2.4), asked, {}) == ("GUEST",)


def test_a_guest_that_left_while_proxmox_ve_forced_it_was_perhaps_not_the_first() -> None:
    assert causes_of(end(3.5), shutdown(), {"stop_secs": 1}) == ("GUEST", "PROVIDER")
    assert causes_of(end(4.5), shutdown(), {"stop_secs": 1}) == ("GUEST",)


def test_a_guest_that_left_while_its_qemu_was_told_to_end_was_perhaps_not_the_first() -> None:
    assert causes_of(end(5), [[ASKED + 4.5, "stop", {}]], {"stop_secs": 1}) == ("GUEST", "PROVIDER")


def test_proxmox_ve_does_not_tell_a_qemu_that_dies_from_a_guest_that_leaves() -> None:
    assert causes_of(end(1, "crash"), shutdown(), {}) == ("CRASH", "GUEST")


@pytest.mark.parametrize(("asked", "cause"), [([[ASKED + 4, "stop", {}]], "PROVIDER"), ([], "OTHER")])
def test_a_stop_is_the_providers_if_it_told_proxmox_ve_to(asked: list[Any], cause: str) -> None:
    assert causes_of(end(5, "stop"), asked, {}) == (cause,)


@pytest.mark.parametrize(("cut", "causes"), [(3.5, ("PROVIDER", "OTHER")), (-1, ("PROVIDER",))])
def test_of_two_stops_either_was_perhaps_the_first(cut: float, causes: tuple[str, ...]) -> None:
    stopped = [[ASKED + 4, "stop", {}]]
    assert causes_of(end(4.5, "stop"), stopped, {"stop_secs": 1}, [ASKED + cut]) == causes
