import pytest

from controller.hosted_run import Hosted
from controller.source import Key
from plans.history import Aborted, BringUpBegan, BroughtDown, Closed, Event, History, Released, TakenOver
from tests.unit.controller.test_run_status import LATER, history
from tests.unit.plans.test_journal import START

ABORTED, DOWN, UP, CLOSED = (each(at=LATER) for each in (Aborted, BroughtDown, BringUpBegan, Closed))


@pytest.mark.parametrize(
    ("events", "is_open"),
    [
        ((), True),
        ((DOWN,), True),
        ((DOWN, CLOSED), False),
        ((ABORTED, DOWN, CLOSED), True),
        ((DOWN, CLOSED, UP), True),
        ((DOWN, CLOSED, UP, TakenOver(at=LATER, by="fire")), False),
        ((DOWN, CLOSED, Released(at=LATER)), False),
    ],
)
def test_it_is_open_while_something_is_to_be_done(events: tuple[Event, ...], is_open: bool) -> None:
    assert Hosted(history(*events)).is_open is is_open


def test_its_resource_is_the_power_run_that_asked_for_it() -> None:
    asked = START.model_copy(update={"namespace": "lab", "resource": "tonight"})
    assert Hosted(History(asked)).resource == Key("PowerRun", "lab", "tonight")
    assert Hosted(History(START)).resource is None
