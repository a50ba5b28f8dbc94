import asyncio

import pytest
from structlog.testing import capture_logs

from controller.models import PowerPlan
from controller.plan_own import READ_TIME, OwnMachines, unclear
from controller.plan_terms import RunRefused
from controller.source import SourceError
from plans.members import OwnVMUnclear
from tests.unit.controller.fakes import FakeSource
from tests.unit.controller.plan_world import plan

pytestmark = pytest.mark.looptime

LAST = plan(self="Last", namespace="ops")
AWAY = SourceError("The API server does not answer.")


def fields(own: OwnMachines, plan: PowerPlan) -> list[str]:
    return [each.path for each in own.violations(plan)]


async def own_of(own: OwnMachines, source: FakeSource, plan: PowerPlan = LAST) -> set[str]:
    return set(await own.of(plan, source))


# Whose plans may


def test_plans_of_the_namespace_that_the_operator_names_may_bring_them_down() -> None:
    assert fields(OwnMachines("ops"), LAST) == []


@pytest.mark.parametrize("named", ["", "other"])
def test_other_plans_are_refused_by_the_field(named: str) -> None:
    assert fields(OwnMachines(named), LAST) == ["spec.self"]


def test_a_refusal_says_who_acts() -> None:
    (refused,) = OwnMachines("").violations(LAST)
    assert "leave it out, or the controller's operator names this namespace (--self-namespace" in refused.message


@pytest.mark.parametrize("named", ["", "ops", "other"])
def test_a_plan_that_does_not_say_so_may_be_anywhere(named: str) -> None:
    assert fields(OwnMachines(named), plan(namespace="ops")) == []


# Which they are


async def test_they_are_read_when_a_run_begins() -> None:
    own, source = OwnMachines("ops"), FakeSource(machines=["a"])
    await own_of(own, source)
    source.machines = ["a", "b"]
    assert await own_of(own, source) == {"a", "b"}


async def test_a_plan_that_does_not_say_so_has_none_and_nothing_is_asked() -> None:
    own, source = OwnMachines("ops"), FakeSource(machines=["a"])
    assert await own_of(own, source, plan(namespace="ops")) == set()
    assert source.machines_asked == 0


@pytest.mark.parametrize("failure", [AWAY, TimeoutError()])
async def test_where_they_cannot_be_read_those_that_were_read_last_count(failure: Exception) -> None:
    own, source = OwnMachines("ops"), FakeSource(machines=["a"])
    await own.learn(source)
    source.machines = failure
    assert await own_of(own, source) == {"a"}


async def test_an_answer_that_does_not_come_holds_up_no_run_for_long() -> None:
    own, source = OwnMachines("ops"), FakeSource(machines=["a"])
    await own.learn(source)
    source.machines, began = TimeoutError(), asyncio.get_running_loop().time()
    await own_of(own, source)
    assert asyncio.get_running_loop().time() - began == pytest.approx(READ_TIME)


async def test_where_they_were_never_known_nothing_is_begun() -> None:
    with pytest.raises(RunRefused, match=r"not known.*The API server does not answer") as refused:
        await own_of(OwnMachines("ops"), FakeSource(machines=AWAY))
    assert refused.value.reason == "OWN_UNKNOWN"


async def test_they_are_read_as_soon_as_that_is_possible() -> None:
    own, source = OwnMachines("ops"), FakeSource(machines=AWAY)
    learning = asyncio.create_task(own.learn(source))
    await asyncio.sleep(60)
    source.machines = ["a"]
    await learning
    source.machines = AWAY
    assert await own_of(own, source) == {"a"}


async def test_where_no_plan_may_nothing_is_asked() -> None:
    source = FakeSource(machines=["a"])
    await OwnMachines("").learn(source)
    assert source.machines_asked == 0


async def test_what_cannot_be_read_is_told_in_the_log() -> None:
    own, source = OwnMachines("ops"), FakeSource(machines=["a"])
    await own.learn(source)
    source.machines = AWAY
    with capture_logs() as logs:
        await own_of(own, source)
    assert [(each["log_level"], each["error"]) for each in logs] == [("warning", "The API server does not answer.")]


def test_several_vms_of_one_uuid_are_told_with_who_acts() -> None:
    told = unclear(OwnVMUnclear("4c4c", ["lab/a", "lab/b"]))
    assert told.path == "spec.self"
    assert (
        "4c4c, of a machine that the controller runs on, may be any of lab/a, lab/b; the hypervisor's" in told.message
    )
