import asyncio
from collections.abc import Collection

import pytest

from controller.plan_holds import Holds
from plans.history import History, Released
from tests.unit.controller.test_run_status import LATER
from tests.unit.plans.test_journal import START

pytestmark = pytest.mark.looptime
APP = ("default/lab", "1")


class Held:
    """Holds of these histories, and the VMs of which it told."""

    def __init__(self) -> None:
        self.histories = [History(START.model_copy(update={"namespace": "default"}))]
        self.woken: list[Collection[tuple[str, str]]] = []
        self.holds = Holds(lambda: self.histories, self.woken.append)


async def test_a_vm_of_a_run_is_held_by_it_and_told() -> None:
    held = Held()
    assert (held.holds.holder(*APP), held.woken) == ("test-1", [{APP}])


async def test_another_vm_is_held_by_none() -> None:
    assert Held().holds.holder("default/lab", "2") == ""


async def test_a_change_is_told_though_nobody_asks() -> None:
    held = Held()
    held.holds.holder(*APP)
    held.histories[0].note(Released(at=LATER))
    held.holds.changed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (held.woken, held.holds.holder(*APP)) == ([{APP}, {APP}], "")


async def test_what_stays_as_it_was_is_not_told_again() -> None:
    held = Held()
    held.holds.holder(*APP)
    held.holds.changed()
    held.holds.holder(*APP)
    assert held.woken == [{APP}]


async def test_of_several_runs_that_hold_a_vm_all_are_known_oldest_first() -> None:
    held = Held()
    held.histories.append(History(START.model_copy(update={"namespace": "default", "run": "test-2"})))
    found = held.holds.holders(*APP)
    assert [(history.start.run, target.vm) for history, target in found] == [("test-1", "1"), ("test-2", "1")]
    assert held.holds.holder(*APP) == "test-2"
