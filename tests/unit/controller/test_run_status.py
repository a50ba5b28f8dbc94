from datetime import timedelta

import pytest

from controller.run_status import refused, run_status
from plans.history import (
    Aborted,
    BringUpBegan,
    BroughtDown,
    Closed,
    Event,
    History,
    Released,
    TakenOver,
    TierOver,
    VMEnded,
    VMUp,
)
from plans.members import Violation
from tests.unit.plans.builders import EPOCH
from tests.unit.plans.test_journal import BEGAN, START, TARGET

LATER = EPOCH + timedelta(seconds=9)
ENDED = VMEnded(tier="a", vm=TARGET.key, at=LATER, outcome="GRACEFUL", reason="", off=True, stopped=True)
DOWN, CLOSED, UP = BroughtDown(at=LATER), Closed(at=LATER), BringUpBegan(at=LATER)


def history(*events: Event) -> History:
    made = History(START)
    for event in events:
        made.note(event)
    return made


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        ((), "Running"),
        ((Aborted(at=LATER),), "Aborting"),
        ((Aborted(at=LATER), DOWN, UP), "BringingUp"),
        ((DOWN, CLOSED), "Held"),
        ((DOWN, CLOSED, UP), "BringingUp"),
        ((DOWN, CLOSED, UP, TakenOver(at=LATER, by="fire")), "Held"),
        ((DOWN, CLOSED, Released(at=LATER)), "Released"),
    ],
)
def test_its_phase_says_where_it_stands(events: tuple[Event, ...], phase: str) -> None:
    assert run_status(history(*events)).phase == phase


def test_a_tier_has_its_times() -> None:
    (tier,) = run_status(history(BEGAN, TierOver(tier="a", at=LATER))).tiers
    assert (tier.began_at, tier.until, tier.over_at) == (BEGAN.at, BEGAN.at + BEGAN.gets, LATER)


def test_a_vm_has_its_verdict_and_whether_it_is_up_again() -> None:
    ((vm,),) = (tier.vms for tier in run_status(history(BEGAN, ENDED)).tiers)
    assert (vm.vm, vm.outcome, vm.off, vm.ended_at, vm.up) == (TARGET.title, "GRACEFUL", True, LATER, None)
    up = VMUp(tier="a", vm=TARGET.key, at=LATER, ready=True)
    assert run_status(history(BEGAN, ENDED, up)).tiers[0].vms[0].up is True


def test_a_refusal_names_the_fields() -> None:
    status = refused("It cannot be meant.", [Violation("spec.others", "write Ignore")])
    assert (status.phase, status.refusals[0].field) == ("Refused", "spec.others")
