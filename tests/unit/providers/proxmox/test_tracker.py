from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import VM, Change, Changed, Ended, OffCause, PowerState, Reason, Removed, Signal
from providers.proxmox.guests import Config, Guest
from providers.proxmox.tracker import STALE, Tracker

WEB = Guest("100", "qemu", "web", "pve1", "running", uptime=1000)
CT = Guest("101", "lxc", "cache", "pve2", "running", uptime=1000)
OFF = replace(WEB, status="stopped", uptime=0)
CUT = Ended(OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=60))
NOW = 500.0
CUT_OFF = Ended(OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=60))


@pytest.fixture
def tracker() -> Tracker:
    """One guest that runs."""
    tracker = Tracker()
    tracker.apply([WEB], {})
    return tracker


def only(changes: Sequence[Change]) -> VM:
    [change] = changes
    assert isinstance(change, Changed)
    return change.vm


def poll(tracker: Tracker, row: Guest, now: float) -> PowerState:
    """What is known of a guest after this row of it has come."""
    tracker.apply(tracker.current([row], now), {})
    vm = tracker.vm(row.id)
    assert vm
    return vm.power_state


def turned_off(tracker: Tracker, at: float = NOW) -> Tracker:
    """As its node has told."""
    tracker.learn("100", at, status="stopped")
    return tracker


# Rows


def test_all_guests_are_listed() -> None:
    tracker = Tracker()
    tracker.apply([WEB, CT], {})
    assert [(vm.id, vm.name) for vm in tracker.listed().vms] == [("100", "web"), ("101", "cache")]


def test_a_new_guest_is_told(tracker: Tracker) -> None:
    assert only(tracker.apply([WEB, CT], {})).name == "cache"


def test_a_guest_that_is_gone_is_removed_and_forgotten(tracker: Tracker) -> None:
    tracker.update_details("100", answers=True)
    assert tracker.apply([], {}) == [Removed("100")]
    assert (tracker.vm("100"), tracker.details("100").answers) == (None, None)


def test_a_change_that_shows_in_no_field_is_not_reported(tracker: Tracker) -> None:
    assert tracker.apply([replace(WEB, uptime=1010)], {}) == []


def test_a_guest_on_another_node_is_told(tracker: Tracker) -> None:
    assert only(tracker.apply([replace(WEB, node="pve2")], {})).node == "pve2"


def test_what_was_listed_is_not_told_again() -> None:
    tracker = Tracker()
    tracker.update_details("100", answers=True)
    tracker.apply([WEB], {})
    tracker.listed()
    assert tracker.apply([WEB], {}) == []


def test_a_guest_whose_node_is_away_keeps_its_name_and_is_a_template_still(tracker: Tracker) -> None:
    tracker.apply([replace(OFF, template=True)], {})
    [row] = tracker.current([Guest("100", "qemu", "qemu-100", "pve1", "unknown")], NOW)
    assert (row.name, row.template, row.status) == ("web", True, "unknown")


def test_what_the_cluster_tells_of_a_guest_whose_node_is_away_is_taken_over(tracker: Tracker) -> None:
    [row] = tracker.current([Guest("100", "qemu", "qemu-100", "pve2", "unknown", ha="fence", lock="backup")], NOW)
    assert (row.node, row.ha, row.lock) == ("pve2", "fence", "backup")


# What was noticed beside


def test_what_is_noticed_is_told_when_it_changes_something(tracker: Tracker) -> None:
    tracker.update_details("100", config=Config(agent=True), answers=False)
    assert only(tracker.update_details("100", answers=True)).signals == (Signal.GUEST_AGENT,)


def test_what_is_noticed_again_is_not_told(tracker: Tracker) -> None:
    tracker.update_details("100", config=Config(), answers=None)
    assert tracker.update_details("100", config=Config(), answers=None) == []


def test_what_is_noticed_of_a_guest_that_has_no_row_is_told_with_it() -> None:
    tracker = Tracker()
    assert tracker.update_details("100", config=Config(protection=True)) == []
    assert "protected" in only(tracker.apply([WEB], {})).problems[-1].message


def test_its_node_can_tell_of_a_lock(tracker: Tracker) -> None:
    assert only(tracker.learn("100", NOW, status="running", lock="backup")).problems[0].reason is Reason.LOCKED


def test_what_a_node_tells_of_a_guest_that_is_gone_is_not_told(tracker: Tracker) -> None:
    tracker.apply([], {})
    assert tracker.learn("100", NOW, status="stopped") == []


# Going off


def test_a_guest_that_goes_off_tells_how_it_ended(tracker: Tracker) -> None:
    vm = only(tracker.apply([OFF], {"100": CUT}))
    assert (vm.power_state, vm.ended) == (
        PowerState.OFF,
        CUT_OFF,
    )


def test_a_guest_of_which_its_node_tells_that_it_is_off_tells_how_it_ended(tracker: Tracker) -> None:
    assert only(tracker.learn("100", NOW, CUT, status="stopped")).ended == Ended(
        OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=60)
    )


def test_how_it_ended_is_not_overwritten_when_its_end_is_told_again(tracker: Tracker) -> None:
    tracker.learn("100", NOW, CUT, status="stopped")
    assert tracker.learn("100", NOW, Ended(OffCause.GUEST), status="stopped") == []


@pytest.mark.parametrize("between", ["running", "paused"])
def test_how_an_earlier_run_ended_is_forgotten_when_it_runs_again(tracker: Tracker, between: str) -> None:
    tracker.apply([OFF], {"100": CUT})
    tracker.apply([replace(WEB, status=between)], {})
    assert only(tracker.apply([OFF], {})).off_cause is None


def test_how_it_ended_is_still_known_when_its_node_was_away(tracker: Tracker) -> None:
    tracker.apply([OFF], {"100": CUT})
    tracker.apply([replace(OFF, status="unknown")], {})
    assert only(tracker.apply([OFF], {})).ended == CUT_OFF


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
    tracker = Tracker()
    tracker.apply(before, {})
    assert tracker.went_off([row]) == ([row] if went else [])


# Rows that are older than what a node has told


def test_a_row_from_before_its_node_told_is_out_of_date(tracker: Tracker) -> None:
    assert poll(turned_off(tracker), replace(WEB, uptime=1005), NOW + 5) is PowerState.OFF


def test_a_row_tells_of_everything_else_also_when_it_is_out_of_date(tracker: Tracker) -> None:
    [row] = turned_off(tracker).current([replace(WEB, node="pve2", tags="a", lock="backup")], NOW + 1)
    assert (row.status, row.node, row.tags, row.lock) == ("stopped", "pve2", "a", "backup")


def test_a_row_that_says_the_same_for_long_is_right(tracker: Tracker) -> None:
    assert poll(turned_off(tracker), replace(WEB, uptime=1020), NOW + STALE) is PowerState.ON


def test_a_row_of_a_run_that_has_just_begun_is_right(tracker: Tracker) -> None:
    assert poll(turned_off(tracker), replace(WEB, uptime=3), NOW + 5) is PowerState.ON


def test_a_row_of_a_third_state_is_right(tracker: Tracker) -> None:
    assert poll(turned_off(tracker), replace(WEB, status="paused"), NOW + 5) is PowerState.PAUSED


def test_a_guest_that_was_started_is_not_off_by_an_older_row(tracker: Tracker) -> None:
    tracker.apply([OFF], {})
    tracker.learn("100", NOW, status="running")
    assert poll(tracker, OFF, NOW + 5) is PowerState.ON


def test_a_guest_that_is_gone_and_comes_again_is_taken_as_it_is(tracker: Tracker) -> None:
    turned_off(tracker).apply([], {})
    assert poll(tracker, WEB, NOW + 1) is PowerState.ON


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
    tracker = Tracker()
    tracker.apply([run([], -age, 0)], {})
    told = [(at, None) for at in switched]
    for now, late in sorted([*told, *polls], key=lambda one: one[0]):
        true = run(switched, -age, now)
        if late is None:
            tracker.learn("100", now, status=true.status)
        else:
            assert (poll(tracker, run(switched, -age, now - late), now) is PowerState.ON) is (true.status == "running")


# Runs


def run_of(tracker: Tracker) -> str | None:
    return tracker.details("100").run


@pytest.fixture
def named(tracker: Tracker) -> Tracker:
    """Its guest's run is known."""
    tracker.identify("100", 4711)
    return tracker


def test_a_run_that_is_named_is_told(tracker: Tracker) -> None:
    assert only(tracker.identify("100", 4711)).run_id == "pve1/4711"


def test_a_run_has_its_name_until_it_ends(named: Tracker) -> None:
    named.apply([replace(WEB, uptime=1010, status="paused")], {})
    named.apply([replace(WEB, uptime=1020)], {})
    assert (run_of(named), named.unidentified()) == ("pve1/4711", [])


@pytest.mark.parametrize("row", [OFF, replace(WEB, uptime=999)], ids=["off", "younger"])
def test_a_run_is_over_when_its_guest_is_off_or_its_process_is_younger(named: Tracker, row: Guest) -> None:
    named.apply([row], {})
    assert run_of(named) is None


def test_a_run_is_over_when_a_node_tells_that_its_guest_is_off(named: Tracker) -> None:
    assert only(named.learn("100", NOW, status="stopped")).run_id == ""


def test_a_run_goes_on_while_its_node_is_away(named: Tracker) -> None:
    named.apply([replace(WEB, status="unknown")], {})
    named.apply([replace(WEB, uptime=1030)], {})
    assert run_of(named) == "pve1/4711"


def test_a_guest_that_was_paused_is_in_the_same_run_although_its_uptime_was_not_known(named: Tracker) -> None:
    named.learn("100", NOW, status="paused")
    named.apply([replace(WEB, status="paused", uptime=1010)], {})
    assert run_of(named) == "pve1/4711"


def test_a_guest_that_has_moved_keeps_its_run_until_it_is_known_whether_it_was_migrated(named: Tracker) -> None:
    named.apply([replace(WEB, node="pve2", uptime=1)], {})
    assert (run_of(named), [guest.id for guest in named.unidentified()]) == ("pve1/4711", ["100"])


def test_the_process_of_a_guest_that_does_not_run_names_nothing(tracker: Tracker) -> None:
    tracker.apply([OFF], {})
    assert (tracker.identify("100", 4711), run_of(tracker)) == ([], None)


# Guests that are lost


def test_how_a_guest_is_that_is_lost_is_not_known_until_its_next_row(tracker: Tracker) -> None:
    assert only(tracker.lose("100")).power_state is PowerState.UNKNOWN
    assert poll(tracker, WEB, NOW) is PowerState.ON


def test_a_guest_that_is_gone_can_be_removed_and_not_lost(tracker: Tracker) -> None:
    assert (tracker.remove("100"), tracker.lose("100")) == ([Removed("100")], [])
