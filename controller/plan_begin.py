"""How a run of a plan begins: what is in its way, what its plan means now, and its record on disk."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from controller.annotations import MAX_REASON
from controller.client import ProviderClient
from controller.hosted_run import Hosted, targets
from controller.models import PlanRef, PowerPlan, PowerRunSpec
from controller.plan_declared import Declared
from controller.plan_own import OwnMachines, tell_if_none, unclear
from controller.plan_scope import Scope, full_name, violations
from controller.plan_terms import Asked, RunRefused, World, resource_of
from controller.run_connections import close, opened
from controller.run_status import PowerRunStatus, refused
from controller.source import Key, ResourceGone, Source, SourceError
from plans.clock import Clock
from plans.freeze import Frozen, Unreachable, freeze
from plans.history import History, Start
from plans.journal import Journal, JournalError, Runs
from plans.members import LeftOut, OwnVMUnclear, PlanRefused, Violation

DECLARE_TIME = 5.0
"""Seconds in which the PowerRun of a trigger's run is declared. The API server may be what an outage took first."""
GIVEN_UP = "Its plan was changed, or the controller ended, just then."

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that is on disk and that nothing carries out yet; `clients` are the connections that it was planned by, and
    `taken` the runs that it takes over."""

    history: History
    journal: Journal
    clients: Mapping[str, ProviderClient]
    taken: Sequence[Hosted]


class Beginning:
    """Runs begin here, one at a time. `status_of` is what the PowerRun of a run says."""

    def __init__(
        self,
        runs: Runs,
        declared: Declared,
        own: OwnMachines,
        clock: Callable[[], Clock],
        status_of: Callable[[History], PowerRunStatus],
    ) -> None:
        self._runs, self._declared, self._own, self._clock, self._status_of = runs, declared, own, clock, status_of

    async def forecast(self, plan: Key, world: World) -> tuple[Start, Frozen]:
        """What a run of a plan would do that begins now; no guest is touched.

        Raises:
            RunRefused
        """
        found = self._declared.plan(plan)
        within = world.scope(plan.namespace)
        clients = opened(world, within.providers)
        try:
            frozen = await self._freeze(found, world.source, within, clients)
            return frozen.start(found.metadata.name, found.spec, self._clock()()), frozen
        finally:
            await close(clients)

    async def begin(self, asked: Asked, world: World, under_way: Collection[Hosted], *, leads: bool) -> Begun:
        """Write down that it begins: at its PowerRun first, where other controllers may have to go on with it.
        `under_way` are the runs that are; `leads`: this controller does, as far as it knows.

        Raises:
            RunRefused: another one is under way, or the plan cannot be run as it is.
            SourceError, ResourceGone: its PowerRun cannot say so; nothing was done.
        """
        plan = self._declared.plan(asked.plan)
        if asked.tiers:
            plan = _only(plan, asked.tiers)
        taken, beside = _in_the_way(asked, under_way)
        within = world.scope(asked.plan.namespace)
        clients = opened(world, within.providers)
        try:
            left_out = LeftOut() if asked.in_part else None
            frozen = await self._freeze(plan, world.source, within, clients, left_out)
            if asked.tiers or asked.in_part:
                frozen = frozen.without_own()
            frozen = _unshared(frozen, asked.plan.namespace, beside, left_out)
            start = self._start(asked, plan, frozen, str(left_out or ""))
            if world.source.shared and asked.trigger:
                start = await self._declare(start, asked, leads=leads)
            elif world.source.shared:
                await self._declared.claim(resource_of(start), start.uid, self._status_of(History(start)))
            history, journal = await self._create(start)
        except BaseException:
            await close(clients)
            raise
        return Begun(history, journal, clients, taken)

    async def _declare(self, start: Start, asked: Asked, *, leads: bool) -> Start:
        """The start of a trigger's run with its PowerRun, which is declared and says that the run has begun. An
        emergency begins all the same where that cannot be done in time.

        Raises:
            SourceError
        """
        key = Key("PowerRun", start.namespace, start.run)
        spec = PowerRunSpec(
            plan_ref=PlanRef(name=asked.plan.name),
            emergency=asked.emergency,
            tiers=asked.tiers,
            trigger=asked.trigger[:MAX_REASON],
        )
        if not leads:
            log.warning("a run begins that no PowerRun tells of, as the lead is lost", run=start.run)
            return start
        try:
            async with asyncio.timeout(DECLARE_TIME):
                made = await self._declared.make(key, spec)
                start = start.model_copy(update={"resource": key.name, "uid": made.metadata.uid})
                await self._declared.claim(key, start.uid, self._status_of(History(start)))
        except (SourceError, ResourceGone, TimeoutError) as error:
            if not asked.emergency:
                message = f"The run cannot be declared: {error or 'no answer in time'}"
                self._not_begun(start, message)
                raise SourceError(message) from error
            log.warning("a run begins that its PowerRun does not tell of", run=start.run, error=str(error))
        except asyncio.CancelledError:
            self._not_begun(start, GIVEN_UP)
            raise
        return start

    def _not_begun(self, start: Start, why: str) -> None:
        """A PowerRun that was declared for a trigger, if it was, says that there will be no run."""
        if start.trigger and start.uid and self._declared.uid(resource_of(start)) == start.uid:
            said = f"The run did not begin, and nothing was done. {why}"
            self._declared.answer(resource_of(start), refused(said))

    async def _freeze(
        self,
        plan: PowerPlan,
        source: Source,
        within: Scope,
        clients: Mapping[str, ProviderClient],
        left_out: LeftOut | None = None,
    ) -> Frozen:
        wrong = [*violations(plan.spec, within), *self._own.violations(plan)]
        if wrong:
            raise _plan_refused(plan, wrong)
        own = await self._own.of(plan, source)
        try:
            frozen = await freeze(
                plan.spec,
                clients,
                self._clock(),
                within.declared,
                own=own,
                own_at=within.own_providers,
                left_out=left_out,
            )
        except PlanRefused as error:
            raise _plan_refused(plan, error.violations) from error
        except OwnVMUnclear as error:
            raise _plan_refused(plan, [unclear(error)]) from error
        except Unreachable as error:
            message = f"Provider {error.provider} does not answer; nothing was done. {error.error.message}"
            raise RunRefused("PROVIDER_UNREACHABLE", message) from error
        tell_if_none(plan, own, frozen)
        return frozen

    def _start(self, asked: Asked, plan: PowerPlan, frozen: Frozen, left_out: str) -> Start:
        name = f"{asked.resource[:63].rstrip('-.')}-{asked.uid[:8]}" if asked.uid else ""
        start = frozen.start(
            plan.metadata.name,
            plan.spec,
            self._clock()(),
            name,
            trigger=asked.trigger,
            left_out=left_out,
            reason=asked.reason,
            emergency=asked.emergency,
            namespace=asked.plan.namespace,
            resource=asked.resource,
            uid=asked.uid,
        )
        if asked.left is None:
            return start
        return start.model_copy(update={"ends": min(start.ends, start.at + asked.left)})

    async def _create(self, start: Start) -> tuple[History, Journal]:
        try:
            return await self._runs.create(start)
        except asyncio.CancelledError:
            self._not_begun(start, GIVEN_UP)
            raise
        except JournalError as error:
            self._not_begun(start, str(error))
            raise RunRefused("NO_RECORD", f"{error} Nothing was done.") from error


def _only(plan: PowerPlan, tiers: Collection[str]) -> PowerPlan:
    """The plan of these tiers alone.

    Raises:
        RunRefused: they cannot be run without the others.
    """
    if wrong := plan.spec.problem_of(tiers):
        message = f"PowerPlan {plan.metadata.name} cannot be run in part like this; nothing was done."
        raise RunRefused("PLAN_REFUSED", message, [Violation("spec.tiers", wrong)])
    return plan.model_copy(update={"spec": plan.spec.only(tiers)})


def _in_the_way(asked: Asked, under_way: Collection[Hosted]) -> tuple[list[Hosted], list[Hosted]]:
    """The runs that are under way: those that an emergency takes over, and those beside which it begins.

    Raises:
        RunRefused
    """
    taken = [other for other in under_way if asked.takes_over(other.history.start)]
    beside = [other for other in under_way if asked.goes_beside(other.history.start)]
    for other in under_way:
        if other not in taken and other not in beside:
            start = other.history.start
            message = f"Run {start.called} of plan {start.plan} is under way; one at a time."
            wrong = Violation("spec.emergency", "only an emergency takes a run over, and only one that is none")
            raise RunRefused("RUN_ACTIVE", message, [wrong])
    return taken, beside


def _unshared(frozen: Frozen, namespace: str, beside: Collection[Hosted], left_out: LeftOut | None) -> Frozen:
    """It without what runs that go on beside it bring down, which is told in `left_out`.

    Raises:
        RunRefused: they share VMs, and none may be left out, or none is left.
    """
    theirs = {
        (full_name(other.history.start.namespace, target.provider), target.vm): other.history.start
        for other in beside
        for target in targets(other.history)
    }
    mine = [target for tier in frozen.tiers for target in tier.targets]
    keys = [(each, (full_name(namespace, each.provider), each.vm)) for each in mine]
    found = [(each, theirs[key]) for each, key in keys if key in theirs]
    if not found:
        return frozen
    (first, start), count = found[0], len(found)
    what = f"{first.title} and {count - 1} more" if count > 1 else first.title
    message = f"Run {start.called} of plan {start.plan} is under way, and brings down {what} of this one, too."
    if left_out is None or count == len(mine):
        raise RunRefused("RUN_ACTIVE", message, [Violation("spec.tiers", "shares VMs with an emergency under way")])
    left_out.violations.append(Violation("tiers", message))
    return frozen.without({each.key for each, _ in found})


def _plan_refused(plan: PowerPlan, violations: Iterable[Violation]) -> RunRefused:
    message = f"PowerPlan {plan.metadata.name} cannot be run as it is; nothing was done."
    return RunRefused("PLAN_REFUSED", message, [Violation(each.path, each.message) for each in violations])
