from datetime import timedelta

from client.times import moment
from controller.plan_convert import forecast, plan, run, summary
from plans.freeze import Frozen
from plans.history import History, VMEnded
from plans.journal import history_of
from plans.model import AtDeadline, SaveFallback
from protos.plan.v1 import plan_pb2 as pb
from protos.power.v1 import power_pb2 as power
from tests.unit.controller import plan_world
from tests.unit.plans.builders import EPOCH
from tests.unit.plans.test_journal import BEGAN, START, TARGET


def history() -> History:
    made = History(START.model_copy(update={"namespace": "default", "resource": "tonight"}))
    made.note(BEGAN)
    return made


def test_a_plan_is_told_with_its_tiers_and_its_time() -> None:
    told = plan(plan_world.plan())
    assert (told.name, list(told.tiers), told.total.ToTimedelta()) == (
        "night",
        ["apps", "databases"],
        timedelta(minutes=10),
    )


def test_a_run_is_told_by_its_resource_and_its_plan() -> None:
    told = summary(history())
    assert (told.resource, told.plan, told.phase) == ("default/tonight", f"default/{START.plan}", pb.PHASE_RUNNING)


def test_a_vm_that_was_not_started_again_says_nothing_of_that() -> None:
    ((vm,),) = (tier.vms for tier in run(history()).tiers)
    assert (vm.vm, vm.outcome, vm.HasField("up")) == (TARGET.title, "", False)


def test_a_tier_has_its_moments() -> None:
    (tier,) = run(history()).tiers
    assert (moment(tier.begin_time), tier.HasField("over_time")) == (BEGAN.at, False)


def test_a_forecast_says_who_cannot_be_saved_and_what_becomes_of_that_vm() -> None:
    tiers = [
        tier.model_copy(update={"at_deadline": AtDeadline.SAVE, "save_fallback": SaveFallback.FORCE})
        for tier in START.tiers
    ]
    start = START.model_copy(update={"tiers": tuple(tiers)})
    problem = power.Problem(message="It is tied.")
    known = power.VM(forecast=power.Forecast(graceful=True, save_problems=[problem]))
    told = forecast(start, Frozen(start.tiers, {}, {TARGET.key: known}))
    (vm,) = told.tiers[0].vms
    assert (vm.graceful, vm.saves, list(vm.save_problems), vm.forced_if_unsaved) == (True, True, ["It is tied."], True)


def test_its_record_is_what_is_written() -> None:
    made = history()
    ended = VMEnded(tier="a", vm=TARGET.key, at=EPOCH, outcome="GRACEFUL", off=True)
    made.note(ended)
    again = history_of(run(made, [made.start, *made.events]).record)
    assert (again.start, again.ended) == (made.start, made.ended)
