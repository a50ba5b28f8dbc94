"""Plans and runs, as the messages of plan.v1."""

from collections.abc import Sequence

from client.times import duration, timestamp
from controller.models import PowerPlan
from controller.run_status import RunTier, RunVM, phase, run_status
from plans.freeze import Frozen
from plans.frozen import FrozenTier
from plans.history import Event, History, Start
from plans.journal import line
from protos.plan.v1 import plan_pb2 as pb

PHASES = {
    "Running": pb.PHASE_RUNNING,
    "Aborting": pb.PHASE_ABORTING,
    "Held": pb.PHASE_HELD,
    "BringingUp": pb.PHASE_BRINGING_UP,
    "Released": pb.PHASE_RELEASED,
}


def plan(resource: PowerPlan) -> pb.Plan:
    meta, spec = resource.metadata, resource.spec
    tiers = [tier.name for tier in spec.tiers]
    return pb.Plan(namespace=meta.namespace, name=meta.name, tiers=tiers, total=duration(spec.budget.total))


def summary(history: History) -> pb.RunSummary:
    start = history.start
    return pb.RunSummary(
        name=start.run,
        resource=f"{start.namespace}/{start.resource}" if start.resource else "",
        plan=f"{start.namespace}/{start.plan}",
        phase=PHASES[phase(history)],
        start_time=timestamp(start.at),
    )


def run(history: History, record: Sequence[Start | Event] = ()) -> pb.Run:
    """`record` is what is told of it as it is written."""
    return pb.Run(
        summary=summary(history),
        record=[line(each) for each in record],
        end_time=timestamp(history.ends),
        tiers=[_tier(tier) for tier in run_status(history).tiers],
    )


def _tier(tier: RunTier) -> pb.RunTier:
    return pb.RunTier(
        name=tier.name,
        begin_time=timestamp(tier.began_at),
        deadline=timestamp(tier.until),
        over_time=timestamp(tier.over_at),
        vms=[_vm(vm) for vm in tier.vms],
    )


def _vm(vm: RunVM) -> pb.RunVM:
    return pb.RunVM(
        vm=vm.vm,
        id=vm.id,
        outcome=vm.outcome,
        reason=vm.reason,
        operation=vm.operation,
        off=vm.off,
        message=vm.message,
        up=vm.up,
    )


def forecast(start: Start, frozen: Frozen) -> pb.ForecastPlanResponse:
    """What a run that begins now would do."""
    schedule = start.forecast
    return pb.ForecastPlanResponse(
        tiers=[_forecast_tier(start, frozen, tier) for tier in start.tiers],
        slack=duration(schedule.slack),
        short=duration(schedule.short),
    )


def _forecast_tier(start: Start, frozen: Frozen, tier: FrozenTier) -> pb.ForecastTier:
    slot = start.forecast.slots.get(tier.name)
    return pb.ForecastTier(
        name=tier.name,
        after=tier.after,
        begins=duration(slot.begins) if slot else None,
        needs=duration(slot.need) if slot else None,
        has=duration(slot.gets) if slot else None,
        critical=tier.name in start.forecast.critical,
        vms=[
            pb.ForecastVM(
                vm=target.title,
                id=target.vm,
                graceful=frozen.vms[target.key].forecast.graceful,
                runs=target.runs,
                saves=tier.saves(target),
                save_problems=frozen.save_problems(tier, target),
                forced_if_unsaved=tier.saves(target) and tier.forces_unsaved(target),
            )
            for target in tier.targets
        ],
    )
