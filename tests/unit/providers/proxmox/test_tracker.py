from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import VM, Change, Changed, Ended, OffCause, PowerState, Reason, Removed, Signal
from providers.proxmox.guests import Config, Guest
from providers.proxmox.history import Ending
from providers.proxmox.tracker import STALE, Picture

WEB = Guest("100", "qemu", "web", "pve1", "running", uptime=1000)
CT = Guest("101", "lxc", "cache", "pve2", "running", uptime=1000)
OFF = replace(WEB, status="stopped", uptime=0)
CUT = Ending(OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=60))
NOW = 500.0
CUT_OFF = Ended(OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=60))


@pytest.fixture
def picture() -> Picture:
    """One guest that runs."""
    picture = Picture()
    picture.apply([WEB], {})
    return picture


def only(changes: Sequence[Change]) -> VM:
    [change] = changes
    assert isinstance(change, Changed)
    return change.vm


def poll(picture: Picture, row: Guest, now: float) -> PowerState:
    """What is known of a guest after this row of it has come."""
    picture.apply(picture.current([row], now), {})
    vm = picture.vm(row.id)
    assert vm
    return vm.power_state


def turned_off(picture: Picture, at: float = NOW) -> Picture:
    """As its node has told."""
    picture.learn("100", at, status="stopped")
    return picture


# Rows


def test_all_guests_are_listed() -> None:
    picture = Picture()
    picture.apply([WEB, CT], {})
    assert [(vm.id, vm.name) for vm in picture.listed().vms] == [("100", "web"), ("101", "cache")]


def test_a_new_guest_is_told(picture: Picture) -> None:
    assert only(picture.apply([WEB, CT], {})).name == "cache"


def test_a_guest_that_is_gone_is_removed_and_forgotten(picture: Picture) -> None:
    picture.notice("100", answers=True)
    assert picture.apply([], {}) == [Removed("100")]
    assert (picture.vm("100"), picture.noticed("100").answers) == (None, None)


def test_what_nobody_sees_is_not_told(picture: Picture) -> None:
    assert picture.apply([replace(WEB, uptime=1010)], {}) == []


def test_a_guest_on_another_node_is_told(picture: Picture) -> None:
    assert only(picture.apply([replace(WEB, node="pve2")], {})).node == "pve2"


def test_what_was_listed_is_not_told_again() -> None:
    picture = Picture()
    picture.notice("100", answers=True)
    picture.apply([WEB], {})
    picture.listed()
    assert picture.apply([WEB], {}) == []


def test_a_guest_whose_node_is_away_keeps_its_name_and_is_a_template_still(picture: Picture) -> None:
    picture.apply([replace(OFF, template=True)], {})
    [row] = picture.current([Guest("100", "qemu", "qemu-100", "pve1", "unknown")], NOW)
    assert (row.name, row.template, row.status) == ("web", True, "unknown")


def test_what_the_cluster_tells_of_a_guest_whose_node_is_away_is_taken_over(picture: Picture) -> None:
    [row] = picture.current([Guest("100", "qemu", "qemu-100", "pve2", "unknown", ha="fence", lock="backup")], NOW)
    assert (row.node, row.ha, row.lock) == ("pve2", "fence", "backup")


# What was noticed beside


def test_what_is_noticed_is_told_when_it_changes_something(picture: Picture) -> None:
    picture.notice("100", config=Config(agent=True), answers=False)
    assert only(picture.notice("100", answers=True)).signals == (Signal.GUEST_AGENT,)


def test_what_is_noticed_again_is_not_told(picture: Picture) -> None:
    picture.notice("100", config=Config(), answers=None)
    assert picture.notice("100", config=Config(), answers=None) == []


def test_what_is_noticed_of_a_guest_that_has_no_row_is_told_with_it() -> None:
    picture = Picture()
    assert picture.notice("100", config=Config(protection=True)) == []
    assert "protected" in only(picture.apply([WEB], {})).problems[-1].message


def test_its_node_can_tell_of_a_lock(picture: Picture) -> None:
    assert only(picture.learn("100", NOW, status="running", lock="backup")).problems[0].reason is Reason.LOCKED


def test_what_a_node_tells_of_a_guest_that_is_gone_is_not_told(picture: Picture) -> None:
    picture.apply([], {})
    assert picture.learn("100", NOW, status="stopped") == []


# Going off


def test_a_guest_that_goes_off_tells_how_it_ended(picture: Picture) -> None:
    vm = only(picture.apply([OFF], {"100": CUT}))
    assert (vm.power_state, vm.ended) == (
        PowerState.OFF,
        CUT_OFF,
    )


def test_a_guest_of_which_its_node_tells_that_it_is_off_tells_how_it_ended(picture: Picture) -> None:
    assert only(picture.learn("100", NOW, CUT, status="stopped")).ended == Ended(
        OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=60)
    )


def test_how_it_ended_is_not_overwritten_when_its_end_is_told_again(picture: Picture) -> None:
    picture.learn("100", NOW, CUT, status="stopped")
    assert picture.learn("100", NOW, Ending(OffCause.GUEST), status="stopped") == []


@pytest.mark.parametrize("between", ["running", "paused"])
def test_how_an_earlier_run_ended_is_forgotten_when_it_runs_again(picture: Picture, between: str) -> None:
    picture.apply([OFF], {"100": CUT})
    picture.apply([replace(WEB, status=between)], {})
    assert only(picture.apply([OFF], {})).off_cause is None


def test_how_it_ended_is_still_known_when_its_node_was_away(picture: Picture) -> None:
    picture.apply([OFF], {"100": CUT})
    picture.apply([replace(OFF, status="unknown")], {})
    assert only(picture.apply([OFF], {})).ended == CUT_OFF


@pytest.mark.parametrize(
    ("before", "row", "went"),
    [
        ([WEB], OFF, True),
        ([], OFF, True),
        ([OFF], OFF, False),
        ([WEB], WEB, False),
        ([WEB], replace(OFF, lock="suspended"), False),
        ([WEB], replace(WEB, status="unknown"), False),
        ([replace(WEB, status="unknown")], OFF, True),
    ],
    ids=["ran", "new", "was off", "runs", "hibernated", "node away", "node back"],
)
def test_only_a_guest_that_was_not_known_to_be_off_has_gone_off(before: list[Guest], row: Guest, went: bool) -> None:
    picture = Picture()
    picture.apply(before, {})
    assert picture.went_off([row]) == ([row] if went else [])


# Rows that are older than what a node has told


def test_a_row_from_before_its_node_told_is_out_of_date(picture: Picture) -> None:
    assert poll(turned_off(picture), replace(WEB, uptime=1005), NOW + 5) is PowerState.OFF


def test_a_row_tells_of_everything_else_also_when_it_is_out_of_date(picture: Picture) -> None:
    [row] = turned_off(picture).current([replace(WEB, node="pve2", tags="a", lock="backup")], NOW + 1)
    assert (row.status, row.node, row.tags, row.lock) == ("stopped", "pve2", "a", "backup")


def test_a_row_that_says_the_same_for_long_is_right(picture: Picture) -> None:
    assert poll(turned_off(picture), replace(WEB, uptime=1020), NOW + STALE) is PowerState.ON


def test_a_row_of_a_run_that_has_just_begun_is_right(picture: Picture) -> None:
    assert poll(turned_off(picture), replace(WEB, uptime=3), NOW + 5) is PowerState.ON


def test_a_row_of_a_third_state_is_right(picture: Picture) -> None:
    assert poll(turned_off(picture), replace(WEB, status="paused"), NOW + 5) is PowerState.PAUSED


def test_a_guest_that_was_started_is_not_off_by_an_older_row(picture: Picture) -> None:
    picture.apply([OFF], {})
    picture.learn("100", NOW, status="running")
    assert poll(picture, OFF, NOW + 5) is PowerState.ON


def test_a_guest_that_is_gone_and_comes_again_is_taken_as_it_is(picture: Picture) -> None:
    turned_off(picture).apply([], {})
    assert poll(picture, WEB, NOW + 1) is PowerState.ON


def run(switched: Sequence[float], began: float, moment: float) -> Guest:
    """The row that pvestatd makes at this moment of a guest that ran first and then was switched at these."""
    past = [at for at in switched if at <= moment]
    runs = len(past) % 2 == 0
    since = past[-1] if past else began
    return replace(WEB, uptime=int(moment - since)) if runs else OFF


@given(
    st.floats(0, 60),
    st.lists(st.floats(0, 40), max_size=5, unique=True),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 11)), max_size=20),
)
def test_what_its_node_told_is_never_undone_by_a_row_however_old_and_in_whatever_order(
    age: float, switched: list[float], polls: list[tuple[float, float]]
) -> None:
    """Its node tells of each switch at once; rows come at any time, and are less than STALE seconds old."""
    switched.sort()
    picture = Picture()
    picture.apply([run([], -age, 0)], {})
    told = [(at, None) for at in switched]
    for now, late in sorted([*told, *polls], key=lambda one: one[0]):
        true = run(switched, -age, now)
        if late is None:
            picture.learn("100", now, status=true.status)
        else:
            assert (poll(picture, run(switched, -age, now - late), now) is PowerState.ON) is (true.status == "running")
