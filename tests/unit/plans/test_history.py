from datetime import timedelta

import pytest

from plans.frozen import SETTLE, Target
from plans.history import (
    Aborted,
    BringUpBegan,
    Closed,
    Event,
    History,
    Released,
    Shortened,
    Stopped,
    TakenOver,
    TierBegan,
    VMEnded,
    VMUp,
)
from tests.unit.plans.builders import EPOCH
from tests.unit.plans.test_journal import BEGAN, START, TARGET


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def began(gets: float) -> History:
    history = History(START)
    history.note(BEGAN.model_copy(update={"gets": seconds(gets)}))
    return history


def test_the_tiers_share_what_is_before_the_reserve() -> None:
    assert START.deadline == EPOCH + timedelta(minutes=9)
    assert START.forecast.slack == timedelta(minutes=9) - seconds(65)


def test_without_a_reserve_there_is_time_for_what_is_forced_at_the_last_moment() -> None:
    budget = START.spec.budget.model_copy(update={"reserve": timedelta()})
    start = START.model_copy(update={"spec": START.spec.model_copy(update={"budget": budget})})
    assert start.deadline == start.ends - SETTLE


def test_a_vm_has_its_own_time_and_no_more() -> None:
    assert began(300).force_after("a", TARGET) == EPOCH + seconds(60)


def test_a_vm_of_a_squeezed_tier_has_what_the_tier_has_without_the_end_of_a_forced_stop() -> None:
    assert began(30).force_after("a", TARGET) == EPOCH + seconds(25)


def test_with_no_time_at_all_a_vm_is_forced_at_once() -> None:
    assert began(0).force_after("a", TARGET) == EPOCH


def test_a_vm_that_did_not_run_has_the_time_of_its_tier() -> None:
    off = TARGET.model_copy(update={"runs": False})
    assert began(300).force_after("a", off) == EPOCH + seconds(295)


def shortened(history: History, ends: float) -> History:
    history.note(Shortened(at=EPOCH + seconds(10), ends=EPOCH + seconds(ends), why="the battery is low"))
    return history


def test_a_run_that_was_shortened_is_over_sooner_and_keeps_its_reserve() -> None:
    history = shortened(began(300), 100)
    assert (history.ends, history.deadline) == (EPOCH + seconds(100), EPOCH + seconds(40))


def test_a_run_is_over_no_later_for_having_been_shortened() -> None:
    assert shortened(began(300), 3600).ends == START.ends


def test_a_tier_of_a_run_that_was_shortened_is_over_sooner_and_its_promise_stays() -> None:
    history, (tier,) = shortened(began(65), 100), START.tiers
    assert history.over_by(tier) == EPOCH + seconds(40)
    assert history.forced_by(tier, TARGET) == EPOCH + seconds(35)
    assert history.force_after("a", TARGET) == EPOCH + seconds(60)


def test_a_tier_that_had_begun_when_its_time_was_over_already_has_the_reserve() -> None:
    history, (tier,) = shortened(began(65), 50), START.tiers
    assert history.over_by(tier) == EPOCH + seconds(50)


def test_a_request_id_is_the_same_for_a_step_and_another_for_each_other() -> None:
    history, again = History(START), History(START)
    other = Target.model_validate(TARGET.model_dump() | {"vm": "2"})
    ids = [history.request_id("a", TARGET), history.request_id("a", TARGET, "up"), history.request_id("a", other)]
    assert len(set(ids)) == 3
    assert again.request_id("a", TARGET) == ids[0]
    assert ids[0].startswith("test-1/")


def test_a_request_id_is_no_longer_than_the_contract_takes() -> None:
    name = Target.model_validate(TARGET.model_dump() | {"vm": "x" * 1024})
    assert len(History(START.model_copy(update={"run": "r" * 90})).request_id("t" * 253, name, "up")) <= 256


def test_no_further_tier_begins_once_it_was_aborted_or_stopped() -> None:
    for event in (Aborted(at=EPOCH), Stopped(tier="a", at=EPOCH)):
        history = History(START)
        assert not history.no_more_tiers
        history.note(event)
        assert history.no_more_tiers


def test_a_vm_is_off_once_that_was_verified() -> None:
    history = History(START)
    assert not history.is_off(TARGET)
    history.note(VMEnded(tier="a", vm=TARGET.key, at=EPOCH, outcome="STILL_RUNNING"))
    assert not history.is_off(TARGET)
    history.note(VMEnded(tier="a", vm=TARGET.key, at=EPOCH, outcome="GRACEFUL", off=True))
    assert history.is_off(TARGET)


def test_a_listener_that_fails_ends_no_run() -> None:
    heard: list[object] = []
    history = History(START)

    def broken(_: Event) -> None:
        raise BrokenPipeError

    history.listeners += [broken, heard.append]
    history.note(BEGAN)
    assert heard == [BEGAN]


def test_listeners_are_told() -> None:
    heard: list[object] = []
    history = History(START)
    history.listeners.append(heard.append)
    history.note(BEGAN)
    assert heard == [BEGAN]
    assert isinstance(BEGAN, TierBegan)


# What a run holds


def ended(*, off: bool, stopped: bool) -> VMEnded:
    return VMEnded(tier="a", vm=TARGET.key, at=EPOCH, outcome="X", off=off, stopped=stopped)


def holds(*events: Event) -> bool:
    history = History(START)
    for event in events:
        history.note(event)
    return history.holds(TARGET)


def test_a_run_that_is_under_way_holds_its_vms() -> None:
    assert holds()
    assert holds(ended(off=False, stopped=False))


def test_one_that_is_over_holds_what_is_off_or_may_be() -> None:
    assert holds(ended(off=True, stopped=False), Closed(at=EPOCH))
    assert holds(ended(off=False, stopped=True), Closed(at=EPOCH))
    assert not holds(ended(off=False, stopped=False), Closed(at=EPOCH))
    assert not holds(Closed(at=EPOCH))


def test_what_was_brought_up_is_held_no_more() -> None:
    up = VMUp(tier="a", vm=TARGET.key, at=EPOCH, ready=True)
    assert not holds(ended(off=True, stopped=True), Closed(at=EPOCH), up)


def test_nothing_is_held_after_a_release() -> None:
    assert not holds(ended(off=True, stopped=True), Closed(at=EPOCH), Released(at=EPOCH))


def test_a_bring_up_that_was_taken_over_may_begin_again() -> None:
    history = History(START)
    for event in (BringUpBegan(at=EPOCH), TakenOver(at=EPOCH, by="fire")):
        history.note(event)
    assert (history.bring_up_began, history.taken_over is not None) == (None, True)
    history.note(BringUpBegan(at=EPOCH))
    assert history.taken_over is None


def test_a_run_is_called_by_its_resource_and_says_why() -> None:
    start = START.model_copy(update={"resource": "tonight", "reason": "new UPS" + "!" * 300})
    assert (START.called, start.called, len(start.why)) == (START.run, "tonight", 256)
    assert start.why.startswith(f"plan {START.plan}: new UPS!")


def test_a_run_that_a_trigger_began_says_that() -> None:
    assert START.model_copy(update={"trigger": "lab@nas says FSD"}).why == f"plan {START.plan}: lab@nas says FSD"


@pytest.mark.parametrize(
    ("outcome", "stopped", "operation"), [("SAVED", True, "op-1"), ("SAVED", False, ""), ("FORCED", True, "")]
)
def test_what_this_run_has_saved_it_knows_by_its_operation(outcome: str, stopped: bool, operation: str) -> None:
    history = began(60)
    ended = VMEnded(tier="a", vm=TARGET.key, at=EPOCH, outcome=outcome, operation="op-1", off=True, stopped=stopped)
    history.note(ended)
    assert history.saved_by(TARGET) == operation
    history.note(VMUp(tier="a", vm=TARGET.key, at=EPOCH, ready=True))
    assert history.saved_by(TARGET) == ""
