"""The plans and the PowerRuns that are declared: each run is begun once, by its uid, and its status is written."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, Protocol

import structlog

from common.backoff import Backoff
from controller.models import PowerPlan, PowerRun, PowerRunSpec
from controller.plan_terms import Asked, RunRefused, World
from controller.run_record import unpacked
from controller.run_status import ENDED, PowerRunStatus, refused
from controller.source import Event, Key, Rejected, ResourceGone, SourceError
from plans.history import History
from plans.members import Violation

PLAN_GRACE = 5.0
"""Seconds that a run waits for its plan, which may be declared a moment after it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds before a run is begun again whose begin could not be written down at its source."""
WARNINGS = frozenset({"Refused", "Lost"})
NOT_BEGUN = (
    "The controller that declared this run for a trigger did not begin it by this; what leads now follows the trigger "
    "anew, and declares runs of its own. A run that a person declares has no spec.trigger."
)

log = structlog.get_logger()


class Host(Protocol):
    """What becomes of runs that are asked for."""

    async def start(self, asked: Asked) -> object:
        """Begin one, or raise RunRefused or SourceError."""

    def status(self, uid: str) -> PowerRunStatus | None:
        """That of the run of a PowerRun, if it is hosted."""

    def knows(self, uid: str) -> bool:
        """Whether there is a record of the run of a PowerRun."""

    def take_in(self, history: History) -> None:
        """Go on with a run, by the record that its PowerRun has."""

    def give_up(self, uid: str) -> None:
        """The PowerRun is gone: abort its run, or release it."""

    def plans_changed(self) -> None:
        """Another set of plans is declared, or other ones."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done in the background."""


class Declared:
    """What is declared of plans in a world, and what was answered to PowerRuns that have no record."""

    def __init__(self, host: Host, world: Callable[[], World | None]) -> None:
        """`world` is the one that is declared now, if there is one."""
        self._host, self._world = host, world
        self.clear()
        self._news = asyncio.Condition()
        """Told of plans that are declared."""

    def clear(self) -> None:
        """Forget all: another controller leads."""
        self._plans: dict[Key, PowerPlan] = {}
        self._wrong: dict[Key, str] = {}
        """What is wrong with plans that cannot be acted upon."""
        self._runs: dict[Key, PowerRun] = {}
        self._answers: dict[Key, PowerRunStatus] = {}
        self._begun: set[str] = set()
        """The uids of PowerRuns that have been begun, or refused."""
        self._counts = False
        self._making: set[Key] = set()
        """PowerRuns that are declared for a trigger at this moment."""
        self._unseen: set[Key] = set()
        """Those of before a pause that have not been declared again."""

    @property
    def plans(self) -> Mapping[Key, PowerPlan]:
        """Those that may be carried out."""
        return self._plans

    def apply(self, key: Key, resource: PowerPlan | PowerRun) -> None:
        """A plan, which replaces the one before, or a run, whose first spec counts."""
        self._unseen.discard(key)
        if isinstance(resource, PowerPlan):
            self._plans[key] = resource
            self._wrong.pop(key, None)
            self._tell_of_plans()
            return
        known = self._runs.get(key)
        if known is not None and known.metadata.uid == resource.metadata.uid:
            return
        if known is not None:
            self._host.give_up(known.metadata.uid)
        self._runs[key] = resource
        self._answers.pop(key, None)
        self.write(key)
        if self._counts:
            self._consider(key)

    def reject(self, change: Rejected) -> None:
        """What cannot be acted upon. Of a plan nothing is in effect then: what was there before is not what its owner
        means by now."""
        self._unseen.discard(change.key)
        if change.key.kind == "PowerPlan":
            self._plans.pop(change.key, None)
            self._wrong[change.key] = change.message
            self._tell_of_plans()

    def delete(self, key: Key) -> None:
        """What is no longer declared. A run that is under way is aborted; one that is over is released."""
        for known in (self._plans, self._wrong, self._answers):
            known.pop(key, None)
        resource = self._runs.pop(key, None)
        if resource is not None:
            self._host.give_up(resource.metadata.uid)
        if key.kind == "PowerPlan":
            self._tell_of_plans()

    def pause(self) -> None:
        """Nothing is begun until all that is declared is known again."""
        self._counts = False
        self._unseen = {*self._plans, *self._wrong, *self._runs}

    def count(self, is_gone: Callable[[Key], bool]) -> None:
        """All that there is has been applied: begin what is asked for. What `is_gone` was deleted during the pause."""
        for key in filter(is_gone, [*self._unseen]):
            self.delete(key)
        self._unseen.clear()
        self._counts = True
        for key in list(self._runs):
            self._consider(key)
            self.write(key)
        self._host.plans_changed()

    def uid(self, key: Key) -> str:
        """That of a PowerRun; empty: none is declared."""
        return self._runs[key].metadata.uid if key in self._runs else ""

    def has_ended(self, key: Key, uid: str) -> bool:
        """Whether the PowerRun of this uid says that nothing happens any more."""
        return self.uid(key) == uid and self._runs[key].status.phase in ENDED

    def over_by_triggers(self, plan: Key) -> list[Key]:
        """The PowerRuns of a plan that were declared for its triggers and that have ended, oldest first: they are named
        by the time."""
        return sorted(
            key
            for key, resource in self._runs.items()
            if resource.spec.trigger
            and resource.status.phase in ENDED
            and (key.namespace, resource.spec.plan_ref.name) == (plan.namespace, plan.name)
        )

    def plan(self, key: Key) -> PowerPlan:
        """A plan.

        Raises:
            RunRefused: it is not declared, or cannot be acted upon.
        """
        if key in self._plans:
            return self._plans[key]
        if key in self._wrong:
            message = f"PowerPlan {key.name} cannot be acted upon; nothing was done. {self._wrong[key]}"
            raise RunRefused("PLAN_REFUSED", message, [Violation("spec.planRef.name", "names a plan that is invalid")])
        message = f"No PowerPlan {key.name!r} is declared in namespace {key.namespace}."
        raise RunRefused("PLAN_NOT_FOUND", message, [Violation("spec.planRef.name", "names no PowerPlan")])

    def records(self) -> Iterator[History]:
        """What the statuses of PowerRuns say of runs that are not over."""
        found = (_record(resource) for resource in self._runs.values())
        return (history for history in found if history is not None)

    # The statuses

    def answer(self, key: Key, status: PowerRunStatus) -> None:
        """The status of a PowerRun whose run is not hosted."""
        if key in self._runs:
            self._answers[key] = status
            self.write(key)

    def write(self, key: Key, seconds: float = 0.0) -> None:
        """Have a status written."""
        world = self._world()
        if world is not None:
            world.write_within(key, seconds)

    async def write_down(self, key: Key) -> None:
        """Write the status of a PowerRun, if it has changed.

        Raises:
            SourceError: it could not be written; to be tried again.
            ResourceGone: there is nothing to write it to any more.
        """
        resource = self._runs.get(key)
        if resource is None or resource.status.phase in ENDED:  # of what has ended all is written
            return
        status = self._host.status(resource.metadata.uid) or self._answers.get(key)
        if status is not None and status != resource.status:
            await self._put(key, resource, status)

    async def claim(self, key: Key, uid: str, status: PowerRunStatus) -> None:
        """Write down that a run begins, before it does: whichever controller leads then goes on with it.

        Raises:
            SourceError
            ResourceGone: the PowerRun of this uid is not declared any more.
        """
        if self.uid(key) != uid:
            raise ResourceGone(str(key))
        await self._put(key, self._runs[key], status)

    async def make(self, key: Key, spec: PowerRunSpec) -> PowerRun:
        """Declare a run that is about to be begun.

        Raises:
            SourceError: that could not be done, as far as is known.
        """
        world = self._world()
        if world is None:
            raise SourceError("nothing is declared yet")
        self._making.add(key)
        try:
            made = await world.source.make_run(key.name, key.namespace, spec)
            self._begun.add(made.metadata.uid)
            return self._runs.setdefault(key, made)
        finally:
            self._making.discard(key)
            if key in self._runs:  # it came, and who made it may not know
                self._consider(key)

    async def _put(self, key: Key, resource: PowerRun, status: PowerRunStatus) -> None:
        world = self._world()
        if world is None:
            return
        await world.source.write_status(key, status)
        if self.uid(key) == resource.metadata.uid:
            self._runs[key] = resource.model_copy(update={"status": status})
        if status.phase != resource.status.phase:
            await world.source.emit_event(key, _event(status))

    # What is begun

    def _consider(self, key: Key) -> None:
        """Begin a run that has not been begun; never one whose record is lost."""
        resource = self._runs[key]
        uid, phase = resource.metadata.uid, resource.status.phase
        if self._host.knows(uid) or uid in self._begun or phase in ENDED or key in self._making:
            return
        self._begun.add(uid)
        if phase == "Pending" and resource.spec.trigger:
            self.answer(key, refused(NOT_BEGUN, [Violation("spec.trigger", "is the controller's own")]))
        elif phase == "Pending":
            self._host.spawn(self._begin(key, resource))
        elif (history := _record(resource)) is not None:
            self._host.take_in(history)
        else:
            said = "The record of the run is lost, so that it is not known what became of it; it is not begun again."
            self.answer(key, PowerRunStatus(phase="Lost", message=said))

    async def _begin(self, key: Key, resource: PowerRun) -> None:
        spec, uid = resource.spec, resource.metadata.uid
        plan = Key("PowerPlan", key.namespace, spec.plan_ref.name)
        with suppress(TimeoutError):
            async with asyncio.timeout(PLAN_GRACE), self._news:
                await self._news.wait_for(lambda: plan in self._plans or plan in self._wrong)
        try:
            await self._start(Asked(plan, spec.reason, spec.emergency, key.name, uid, spec.tiers))
        except ResourceGone:
            log.info("deleted before it was begun", run=str(key))
        except RunRefused as error:
            if error.reason == "NOT_READY":  # the lead is lost: it is begun when all is known again, here or elsewhere
                self._begun.discard(uid)
                return
            log.warning("run refused", run=str(key), error=str(error))
            self.answer(key, refused(error.message, error.violations))
        except Exception:
            log.exception("a bug in vmpower: a run is not begun", run=str(key))
            self.answer(key, refused("vmpower failed; its log says how. Nothing was done."))
        else:
            if self.uid(key) != uid:  # deleted meanwhile
                self._host.give_up(uid)

    async def _start(self, asked: Asked) -> None:
        """Begin it, as often as the source cannot be written to.

        Raises:
            RunRefused
            ResourceGone
        """
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                await self._host.start(asked)
            except SourceError as error:
                log.warning("run not begun; to be tried again", run=asked.resource, error=str(error))
                await asyncio.sleep(pauses.next())
            else:
                return

    def _tell_of_plans(self) -> None:
        self._host.spawn(self._tell_of_news())
        if self._counts:
            self._host.plans_changed()

    async def _tell_of_news(self) -> None:
        async with self._news:
            self._news.notify_all()


def _record(resource: PowerRun) -> History | None:
    """What a PowerRun's status says of a run that is not over."""
    meta, status = resource.metadata, resource.status
    if not status.record or status.phase in ENDED:
        return None
    try:
        history = unpacked(status.record)
    except ValueError:
        log.warning("the record in a status is not readable", run=f"{meta.namespace}/{meta.name}")
        return None
    start = history.start
    if (start.uid, start.namespace, start.resource) != (meta.uid, meta.namespace, meta.name):
        log.warning("the record in a status is another run's", run=f"{meta.namespace}/{meta.name}")
        return None
    return history


def _event(status: PowerRunStatus) -> Event:
    said = " ".join((status.message, *(f"{each.field}: {each.message}" for each in status.refusals)))
    level: Literal["Normal", "Warning"] = "Warning" if status.phase in WARNINGS else "Normal"
    return Event(level, f"Run{status.phase}", said or f"Run {status.run}.")
