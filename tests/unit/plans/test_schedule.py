"""A table of schedules, and what holds for every one."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans.schedule import Member, Schedule, Stage, behind, portion, share

MINUTES = 12


def stage(name: str, *needs: float, after: tuple[str, ...] = (), minimum: float = 0) -> Stage:
    """Its members are called NAME-1 and so on; all in minutes."""
    members = tuple(Member(f"{name}-{number}", minutes(need)) for number, need in enumerate(needs, 1))
    return Stage(name, members, after, minutes(minimum))


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def in_minutes(length: timedelta) -> float:
    return length / timedelta(minutes=1)


def gets(schedule: Schedule) -> dict[str, float]:
    return {name: in_minutes(slot.gets) for name, slot in schedule.slots.items()}


LINE = (
    stage("batch", 1, 2, minimum=0.5),
    stage("apps", 3, after=("batch",), minimum=1),
    stage("databases", 5, after=("apps",), minimum=4),
)
"""Ten minutes in all."""


def test_a_tier_needs_what_its_slowest_member_needs() -> None:
    assert stage("batch", 1, 3, 2).need == minutes(3)


def test_each_gets_what_it_needs_where_there_is_time() -> None:
    schedule = share(LINE, minutes(MINUTES))
    assert gets(schedule) == {"batch": 2, "apps": 3, "databases": 5}
    assert (in_minutes(schedule.slack), schedule.short, schedule.cut) == (2, timedelta(), {})


def test_a_tier_may_end_so_late_that_those_after_it_still_get_theirs() -> None:
    slots = share(LINE, minutes(MINUTES)).slots
    assert [in_minutes(slot.ends) for slot in slots.values()] == [4, 7, 12]
    assert [in_minutes(slot.begins) for slot in slots.values()] == [0, 2, 5]


def test_the_first_to_run_gives_back_first() -> None:
    schedule = share(LINE, minutes(9))
    assert gets(schedule) == {"batch": 1, "apps": 3, "databases": 5}
    assert in_minutes(schedule.slack) == -1


def test_none_is_squeezed_below_its_minimum() -> None:
    assert gets(share(LINE, minutes(7))) == {"batch": 0.5, "apps": 1.5, "databases": 5}


def test_who_does_not_get_what_he_needs_is_named() -> None:
    assert share(LINE, minutes(9)).cut == {"batch-2": minutes(1)}


def test_what_does_not_fit_at_all_is_said_and_the_last_are_cut() -> None:
    schedule = share(LINE, minutes(4))
    assert in_minutes(schedule.short) == 1.5
    assert gets(schedule) == {"batch": 0.5, "apps": 1, "databases": 2.5}
    assert schedule.cut.keys() == {"batch-1", "batch-2", "apps-1", "databases-1"}


@pytest.mark.parametrize("budget", [3, 0, -1])
def test_none_begins_after_the_end(budget: float) -> None:
    slots = share(LINE, minutes(budget)).slots.values()
    assert max(in_minutes(slot.begins) for slot in slots) <= max(0, budget)


def test_no_time_at_all_is_shared_too() -> None:
    schedule = share(LINE, timedelta())
    assert gets(schedule) == {"batch": 0, "apps": 0, "databases": 0}
    assert in_minutes(schedule.short) == 5.5


def test_tiers_that_wait_for_nobody_run_beside_each_other() -> None:
    schedule = share((stage("a", 4), stage("b", 6), stage("c", 1, after=("a", "b"))), minutes(10))
    assert [in_minutes(slot.begins) for slot in schedule.slots.values()] == [0, 0, 6]
    assert (in_minutes(schedule.slack), schedule.critical) == (3, ("b", "c"))


def test_only_those_on_a_way_that_is_too_long_give_back() -> None:
    schedule = share((stage("a", 4), stage("b", 6), stage("c", 1, after=("a", "b"))), minutes(6))
    assert gets(schedule) == {"a": 4, "b": 5, "c": 1}


def test_a_tier_beside_the_critical_way_may_end_later() -> None:
    schedule = share((stage("a", 4), stage("b", 6), stage("c", 1, after=("a", "b"))), minutes(10))
    assert in_minutes(schedule.slots["a"].ends) == 9


def test_tiers_are_in_the_order_in_which_they_can_be_run() -> None:
    schedule = share((stage("last", 1, after=("first",)), stage("other", 1), stage("first", 1)), minutes(10))
    assert [*schedule.slots] == ["other", "first", "last"]


def test_a_tier_without_members_takes_no_time() -> None:
    assert gets(share((stage("none", minimum=1), stage("one", 2, after=("none",))), minutes(5))) == {
        "none": 0,
        "one": 2,
    }


def test_a_tier_that_begins_early_gets_more_of_what_it_needs() -> None:
    apps = LINE[1]
    assert gets(share(LINE, minutes(7)))["apps"] == 1.5
    assert portion(apps, left=minutes(6.9), behind=minutes(5)) == minutes(1.9)


def test_a_tier_that_begins_late_gets_its_minimum_all_the_same() -> None:
    assert portion(LINE[1], left=minutes(5.5), behind=minutes(5)) == minutes(1)


def test_a_tier_gets_no_more_than_there_is() -> None:
    assert portion(LINE[1], left=minutes(0.5), behind=minutes(5)) == minutes(0.5)
    assert portion(LINE[1], left=minutes(-1), behind=minutes(5)) == timedelta()


def test_behind_a_tier_is_the_longest_way_from_it_to_the_end() -> None:
    stages = (stage("a", 4), stage("b", 6, after=("a",)), stage("c", 3, after=("a",)))
    assert behind(stages) == {"a": minutes(6), "b": timedelta(), "c": timedelta()}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Stage, ...]:
    """Tiers of which each may come after any of those before it."""
    stages: list[Stage] = []
    for number in range(draw(st.integers(1, 7))):
        names = [each.name for each in stages]
        after = tuple(draw(st.lists(st.sampled_from(names), unique=True))) if names else ()
        needs = draw(st.lists(st.integers(0, 20), max_size=3))
        stages.append(stage(f"t{number}", *needs, after=after, minimum=draw(st.integers(0, 20))))
    return tuple(draw(st.permutations(stages)))


PLANS = given(stages=graphs(), budget=st.integers(0, 60).map(minutes))


@PLANS
def test_nobody_gets_more_than_he_needs_and_ends_after_the_budget(stages: tuple[Stage, ...], budget: timedelta) -> None:
    for slot in share(stages, budget).slots.values():
        assert timedelta() <= slot.gets <= slot.need
        assert slot.gets == timedelta() or slot.begins + slot.gets <= slot.ends <= budget


@PLANS
def test_a_tier_begins_when_those_before_it_have_taken_theirs(stages: tuple[Stage, ...], budget: timedelta) -> None:
    schedule = share(stages, budget)
    for each in stages:
        for earlier in (schedule.slots[name] for name in each.after):
            assert schedule.slots[each.name].begins >= earlier.begins + earlier.gets


@PLANS
def test_where_it_fits_each_gets_its_minimum(stages: tuple[Stage, ...], budget: timedelta) -> None:
    schedule = share(stages, budget)
    if not schedule.short:
        assert all(schedule.slots[each.name].gets >= min(each.minimum, each.need) for each in stages)


@PLANS
def test_with_slack_nobody_is_cut(stages: tuple[Stage, ...], budget: timedelta) -> None:
    schedule = share(stages, budget)
    assert (schedule.slack < timedelta()) or not schedule.cut


@PLANS
def test_a_tier_that_begins_as_scheduled_gets_what_was_scheduled(stages: tuple[Stage, ...], budget: timedelta) -> None:
    schedule, rest = share(stages, budget), behind(stages)
    for each in stages:
        slot = schedule.slots[each.name]
        assert portion(each, budget - slot.begins, rest[each.name]) == slot.gets


@given(stages=graphs(), budget=st.integers(0, 60).map(minutes), early=st.integers(0, 30).map(minutes))
def test_a_tier_that_begins_earlier_gets_no_less(
    stages: tuple[Stage, ...], budget: timedelta, early: timedelta
) -> None:
    schedule, rest = share(stages, budget), behind(stages)
    for each in stages:
        slot = schedule.slots[each.name]
        assert portion(each, budget - slot.begins + early, rest[each.name]) >= slot.gets


@given(stages=graphs(), budget=st.integers(0, 60).map(minutes), more=st.integers(0, 30).map(minutes))
def test_with_more_time_none_gets_less(stages: tuple[Stage, ...], budget: timedelta, more: timedelta) -> None:
    less, enough = share(stages, budget), share(stages, budget + more)
    assert all(enough.slots[each.name].gets >= less.slots[each.name].gets for each in stages)


@pytest.mark.parametrize("budget", [5, 8, 20])
def test_the_critical_way_is_the_longest(budget: float) -> None:
    stages = (stage("a", 4), stage("b", 6, after=("a",)), stage("c", 3, after=("a",)))
    assert share(stages, minutes(budget)).critical == ("a", "b")
