from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans.model import Nut
from plans.ups.stages import LEAST, Reading, Stage, State, ends, has_power, step
from tests.unit.plans.builders import EPOCH

ONE: dict[str, Any] = {
    "ups": [{"name": "a"}],
    "user": "vmpower",
    "passwordFile": "password",
    "onBattery": {"after": "2m", "tiers": ["batch"]},
    "below": {"charge": 40, "runtime": "10m"},
}
TOTAL = timedelta(minutes=12)


def nut(**changes: Any) -> Nut:
    return Nut.model_validate(ONE | changes)


def two(**changes: Any) -> Nut:
    return nut(ups=[{"name": "a"}, {"name": "b"}], **changes)


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def reading(words: str, charge: float | None = 100, minutes: float | None = 60) -> Reading:
    return Reading(frozenset(words.split()), charge, None if minutes is None else timedelta(minutes=minutes))


def played(site: Nut, *seen: tuple[float, str, str | Reading | None]) -> State:
    """What is known after these: seconds, UPS, its status or reading. What is said of charge and time is said twice, as
    one reading alone does not count."""
    state = State()
    for seconds, ups, said in seen:
        for _ in range(2 if isinstance(said, Reading) else 1):
            state = step(site, state, ups, reading(said) if isinstance(said, str) else said, at(seconds))
    return state


# One UPS


@pytest.mark.parametrize(
    ("said", "stage"),
    [
        ("OL", Stage.NONE),
        ("OL CHRG LB", Stage.NONE),
        ("OB DISCHRG", Stage.NONE),
        ("OB LB", Stage.NO_RETURN),
        ("LB", Stage.NO_RETURN),
        ("FSD OB LB", Stage.NO_RETURN),
        ("FSD OL CHRG", Stage.NO_RETURN),
        ("FSD", Stage.NO_RETURN),
        ("OB CAL LB", Stage.NONE),
        ("OL ECO ALARM HB", Stage.NONE),
        ("WAIT", Stage.NONE),
        (reading("OB", charge=39), Stage.ALL),
        (reading("OB", charge=40), Stage.NONE),
        (reading("OB", minutes=9), Stage.ALL),
        (reading("OB", charge=None, minutes=None), Stage.NONE),
        (reading("OB", charge=0.5), Stage.ALL),
        (reading("OL", charge=5, minutes=1), Stage.NONE),
    ],
)
def test_what_it_says_leads_to_its_stage(said: str | Reading, stage: Stage) -> None:
    assert played(nut(), (0, "a", said)).stage is stage


def test_an_empty_battery_counts_where_nothing_is_said_of_its_charge() -> None:
    assert played(nut(below=None), (0, "a", reading("OB", charge=0))).stage is Stage.ALL


@pytest.mark.parametrize(("seconds", "stage"), [(119, Stage.NONE), (120, Stage.NAMED)])
def test_on_battery_for_its_time_the_named_tiers_go_down(seconds: float, stage: Stage) -> None:
    assert played(nut(), (0, "a", "OB"), (seconds, "a", "OB")).stage is stage


def test_a_flap_begins_the_time_on_battery_anew() -> None:
    assert played(nut(), (0, "a", "OB"), (100, "a", "OL"), (101, "a", "OB"), (200, "a", "OB")).stage is Stage.NONE


def test_a_plan_without_onbattery_has_no_first_stage() -> None:
    assert played(nut(onBattery=None), (0, "a", "OB"), (3600, "a", "OB")).stage is Stage.NONE


def test_a_stage_says_why() -> None:
    assert played(nut(), (0, "a", reading("OB", charge=30))).why == "a has 30 % of its charge, less than 40 %"


@pytest.mark.parametrize("said", [reading("OB", charge=0), reading("OB", minutes=0)])
def test_one_reading_of_an_empty_battery_between_two_others_counts_for_nothing(said: Reading) -> None:
    state = step(nut(), played(nut(), (0, "a", "OB")), "a", said, at(5))
    assert state.stage is Stage.NONE
    assert ends(nut(), step(nut(), state, "a", reading("OB"), at(10)), at(10), TOTAL) == at(10) + TOTAL


@pytest.mark.parametrize("said", [reading("OB", charge=0), reading("OB", minutes=0)])
def test_the_first_reading_on_battery_tells_nothing_of_its_time(said: Reading) -> None:
    state = step(nut(), played(nut(), (0, "a", "OL")), "a", said, at(5))
    assert (state.stage, ends(nut(), state, at(5), TOTAL)) == (Stage.NONE, at(5) + TOTAL)


# Power that is back


@pytest.mark.parametrize(("seconds", "stage"), [(59, Stage.ALL), (60, Stage.NONE)])
def test_power_counts_as_back_when_it_has_stayed(seconds: float, stage: Stage) -> None:
    battery = reading("OB", charge=30)
    state = played(nut(), (0, "a", battery), (10, "a", "OL"), (10 + seconds, "a", "OL"))
    assert state.stage is stage


def test_power_that_flaps_is_not_back() -> None:
    low = reading("OB", charge=30)
    state = played(nut(), (0, "a", low), (10, "a", "OL"), (50, "a", low), (51, "a", "OL"), (100, "a", "OL"))
    assert state.stage is Stage.ALL


def test_a_charge_that_rises_again_on_battery_leads_to_no_lower_stage() -> None:
    assert played(nut(), (0, "a", reading("OB", charge=39)), (5, "a", reading("OB", charge=41))).stage is Stage.ALL


@pytest.mark.parametrize("said", ["FSD OB", "OB LB"])
def test_from_fsd_and_lb_nothing_leads_back(said: str) -> None:
    assert played(nut(), (0, "a", said), (10, "a", "OL"), (9999, "a", "OL")).stage is Stage.NO_RETURN


# Contact


@pytest.mark.parametrize(("seconds", "stage"), [(29, Stage.NONE), (30, Stage.ALL)])
@pytest.mark.parametrize("lost", [None, "WAIT", ""])
def test_contact_lost_on_battery_leads_to_all_after_its_time(lost: str | None, seconds: float, stage: Stage) -> None:
    assert played(nut(), (0, "a", "OB"), (5, "a", lost), (5 + seconds, "a", lost)).stage is stage


@pytest.mark.parametrize("before", [[], [(0, "a", "OL")]])
def test_contact_lost_on_line_leads_to_nothing(before: list[Any]) -> None:
    assert played(nut(), *before, (5, "a", None), (9999, "a", None)).stage is Stage.NONE


def test_contact_that_is_lost_is_no_power_that_is_back() -> None:
    low = reading("OB", charge=30)
    assert played(nut(), (0, "a", low), (10, "a", "OL"), (20, "a", None), (100, "a", None)).stage is Stage.ALL


def test_a_battery_runs_out_also_while_it_is_not_heard() -> None:
    site = nut(lostContact="1h")
    assert played(site, (0, "a", reading("OB", minutes=11)), (59, "a", None), (61, "a", None)).stage is Stage.ALL


# Several


def test_one_of_two_that_feed_the_site_may_fail() -> None:
    assert played(two(), (0, "b", "OL"), (0, "a", "OB LB")).stage is Stage.NONE


def test_both_of_two_that_feed_the_site_may_not() -> None:
    state = played(two(), (0, "a", "OB LB"), (0, "b", "OB LB"))
    assert (state.stage, state.why) == (Stage.NO_RETURN, "a says LB; b says LB")


def test_a_site_that_needs_both_goes_by_the_first() -> None:
    assert played(two(minimumSupplies=2), (0, "b", "OL"), (0, "a", "OB LB")).stage is Stage.NO_RETURN


def test_the_stage_is_the_one_that_too_little_supply_is_below() -> None:
    assert played(two(), (0, "a", "OB LB"), (0, "b", reading("OB", charge=30))).stage is Stage.ALL


def test_a_ups_without_a_power_value_is_only_looked_at() -> None:
    site = nut(ups=[{"name": "a"}, {"name": "b", "powerValue": 0}])
    assert played(site, (0, "b", "FSD OB LB")).stage is Stage.NONE


def test_power_is_back_when_enough_of_it_is() -> None:
    down = played(two(), (0, "a", reading("OB", charge=3)), (0, "b", reading("OB", charge=3)))
    state = step(two(), step(two(), down, "b", reading("OL"), at(10)), "b", reading("OL"), at(70))
    assert state.stage is Stage.NONE


# The end of a run's time


@pytest.mark.parametrize(
    ("said", "lasts"),
    [
        ("OL", 720),
        (reading("OB", minutes=None), 720),
        (reading("OB", minutes=60), 720),
        (reading("OB", minutes=5), 240),
        (reading("OB", minutes=0), LEAST.total_seconds()),
    ],
)
def test_a_run_ends_before_the_battery_does(said: str | Reading, lasts: float) -> None:
    assert ends(nut(), played(nut(), (0, "a", said)), at(0), TOTAL) == at(lasts)


def test_what_was_said_of_the_battery_is_less_by_the_time_since() -> None:
    state = played(nut(), (0, "a", reading("OB", minutes=5)), (60, "a", None))
    assert ends(nut(), state, at(60), TOTAL) == at(60 + 180)


@pytest.mark.parametrize(("minimum", "lasts"), [(1, 540), (2, 240)])
def test_of_several_the_one_counts_whose_end_leaves_too_little(minimum: int, lasts: float) -> None:
    site = two(minimumSupplies=minimum)
    state = played(site, (0, "a", reading("OB", minutes=5)), (0, "b", reading("OB", minutes=10)))
    assert ends(site, state, at(0), TOTAL) == at(lasts)


def test_one_that_cannot_be_relied_on_any_more_supplies_nothing_for_longer_than_the_other() -> None:
    site = two()
    silent = (0, "b", reading("OB", minutes=None)), (10, "b", None), (50, "b", None)
    state = played(site, *silent, (50, "a", reading("OB", minutes=5)))
    assert ends(site, state, at(50), TOTAL) == at(50 + 240)


# Whatever they say

WORDS = st.frozensets(st.sampled_from(["OL", "OB", "LB", "FSD", "CAL", "CHRG", "RB", "X"]), max_size=4)
READINGS = st.builds(
    Reading,
    WORDS,
    st.none() | st.floats(0, 100),
    st.none() | st.timedeltas(timedelta(), timedelta(hours=2)),
)
SEEN = st.lists(st.tuples(st.floats(0, 90), st.sampled_from(["a", "b"]), st.none() | READINGS), max_size=30)


@given(seen=SEEN, minimum=st.sampled_from([1, 2]))
def test_whatever_they_say_the_stages_keep_their_promises(
    seen: list[tuple[float, str, Reading | None]], minimum: int
) -> None:
    site, state, now, back = two(minimumSupplies=minimum), State(), 0.0, float("inf")
    for pause, ups, said in seen:
        before, now = state, now + pause
        state = step(site, before, ups, said, at(now))
        on_line = sum(supply.on_line for supply in state.supplies.values())
        if on_line < minimum:
            back = float("inf")
        elif back == float("inf"):
            back = now
        if state.stage < before.stage:
            assert before.stage is not Stage.NO_RETURN  # nothing leads back from there
            assert now - back >= 60 - 1e-3  # only power that has stayed does
            assert state.stage is Stage.NONE
        if state.stage > before.stage:
            assert on_line < minimum  # nothing goes down while enough is known to be on line
            assert state.why
        assert at(now) + LEAST <= ends(site, state, at(now), TOTAL) <= at(now) + TOTAL


@given(seen=SEEN)
def test_what_was_never_on_battery_never_brings_anything_down(seen: list[tuple[float, str, Reading | None]]) -> None:
    state, now = State(), 0.0
    for pause, ups, said in seen:
        harmless = None if said is None else Reading(said.words - {"OB", "LB", "FSD"}, said.charge, said.runtime)
        now += pause
        state = step(two(), state, ups, harmless, at(now))
    assert state.stage is Stage.NONE


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ([], None),
        ([None], None),
        (["OL"], True),
        (["OB"], False),
        (["OL", None], None),
        (["OB", None], False),
        (["OB", "OL"], True),
        (["OB LB"], False),
        (["OB LB", "OL"], False),
    ],
)
def test_the_power_is_there_when_enough_is_known_to_be_on_line(words: list[str | None], known: bool | None) -> None:
    site = nut()
    state = played(site, *((float(second), "a", said) for second, said in enumerate(words)))
    assert has_power(site, state) is known
