"""A plan that waits for its UPS: followed from the first reading to the last verdict.

Each stage has a run of its own, with a budget of its own: that of the named tiers may have ended long before the
battery is low. A run that is under way when the next stage begins is left: what it has asked goes on at the providers,
and the next run, which has the same VMs among its own, follows that and gives it no more time than its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from plans.clock import Clock
from plans.history import History
from plans.journal import Journal
from plans.model import PlanSpec
from plans.run import Run
from plans.ups.follow import NotLetIn, Seen
from plans.ups.stages import Reading, Stage, State, ends, step

IN_WORDS = {
    Stage.NONE: "The power is back: what was stopped comes up again.",
    Stage.NAMED: "The named tiers go down",
    Stage.ALL: "All goes down",
    Stage.NO_RETURN: "All goes down, and power that comes back does not end that",
}

log = structlog.get_logger()


class CannotBegin(Exception):
    """A run could not begin; nothing was done. It is tried again."""


@dataclass(slots=True)
class Begun:
    """The run of a stage. `engine` makes what carries it out, from where its history stands."""

    stage: Stage
    history: History
    journal: Journal
    engine: Callable[[], Run]
    work: asyncio.Task[None] | None = None
    carried_out: Run | None = None
    """What carries it out now, or did."""

    @property
    def under_way(self) -> bool:
        return self.work is not None and not self.work.done()


class Begin(Protocol):
    """Begins the run of a stage, for this reason, that has to be over then.

    Raises:
        CannotBegin
    """

    def __call__(self, stage: Stage, why: str, until: datetime, /) -> Awaitable[Begun]: ...


class Waiting:
    """`say` tells a line to people; `begun` are runs of this plan that an earlier process left."""

    def __init__(
        self,
        spec: PlanSpec,
        begin: Begin,
        clock: Clock,
        say: Callable[[str], None],
        begun: Sequence[Begun] = (),
    ) -> None:
        self._nut, self._total = spec.triggers[0].nut, spec.budget.total
        self._begin, self._clock, self._say = begin, clock, say
        self.runs = list(begun)
        """Oldest first."""
        self._state = State(stage=max((each.stage for each in self.runs), default=Stage.NONE), why="as it was left")
        self._changed = asyncio.Event()
        self._told: dict[str, str] = {}
        self._back: asyncio.Task[None] | None = None
        self._failing: datetime | None = None

    async def carry_out(self, follow: Callable[[str, Callable[[Seen], None]], Awaitable[None]]) -> None:
        """Follow each UPS until a stage without return is over. Ends with a LOGOUT, also when it is cancelled; a run is
        left then.

        Raises:
            NotLetIn: nothing is under way, or not any more.
            CannotBegin: in a stage without return, for as long as the plan's whole budget.
        """
        acting = asyncio.ensure_future(self._act())
        following = [asyncio.ensure_future(self._followed(follow(ups.name, self._seen))) for ups in self._nut.ups]
        tasks = [acting, *following]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            works = [each.work for each in self.runs if each.work] + ([self._back] if self._back else [])
            for task in [*works, *tasks]:
                task.cancel()
            await asyncio.gather(*works, *tasks, return_exceptions=True)

    async def _followed(self, ups: Awaitable[None]) -> None:
        """A UPS, to the end. Who is not let in at one carries out first what is under way: all may hang on that.

        Raises:
            NotLetIn
        """
        try:
            await ups
        except NotLetIn as error:
            if any(each.under_way for each in self.runs):
                self._say(f"{error}; the run that is under way goes on to its end.")
            while works := [each.work for each in self.runs if each.work and each.under_way]:
                await asyncio.wait(works)
            raise

    def _seen(self, seen: Seen) -> None:
        before = self._state.stage
        self._state = step(self._nut, self._state, seen.ups, seen.reading, self._clock())
        self._tell(seen)
        if self._state.stage is not before:
            why = f": {self._state.why}" if self._state.stage else ""
            self._say(IN_WORDS[self._state.stage] + why)
        self._changed.set()

    def _tell(self, seen: Seen) -> None:
        """What has changed since it was told last: charge and time alone are no news."""
        key = " ".join(sorted(seen.reading.words)) if seen.reading else seen.problem
        if self._told.get(seen.ups) != key:
            self._told[seen.ups] = key
            self._say(f"{seen.ups}: {_words(seen.reading) if seen.reading else f'no contact: {seen.problem}'}")

    async def _act(self) -> None:
        if self.runs:
            self._start(self.runs[-1])
        while True:
            self._changed.clear()
            wanted = min(self._state.stage, Stage.ALL)
            if wanted > self._reached():
                await self._raise_to(wanted)
            elif wanted is Stage.NONE and self.runs and self._back is None:
                self._back = asyncio.ensure_future(self._bring_back())
                self._back.add_done_callback(lambda _: self._changed.set())
            elif self._state.stage is Stage.NO_RETURN and not self.runs[-1].under_way:
                await self._close_all()
                return
            else:
                await self._shorten()
                await self._changed.wait()

    def _reached(self) -> Stage:
        """The stage that has its run: that of the newest. Older ones may be of an outage before, and not yet all up."""
        return self.runs[-1].stage if self.runs and self._back is None else Stage.NONE

    async def _raise_to(self, stage: Stage) -> None:
        now = self._clock()
        try:
            new = await self._begin(stage, self._state.why, ends(self._nut, self._state, now, self._total))
        except CannotBegin as error:
            self._failing = self._failing or now
            if self._state.stage is Stage.NO_RETURN and now - self._failing >= self._total:
                raise
            if self._told.get("") != str(error):
                self._told[""] = str(error)
                self._say(f"The run cannot begin; it is tried again. {error}")
            await self._changed.wait()  # for the next reading
            return
        self._failing = None
        self._told.pop("", None)
        await self._leave()
        self.runs.append(new)
        self._start(new)

    async def _shorten(self) -> None:
        """A battery that lasts less long than it said leaves less time to the run that is under way."""
        run, now = self.runs[-1] if self.runs else None, self._clock()
        if run and run.under_way and run.carried_out and self._back is None:
            until = ends(self._nut, self._state, now, self._total)
            await run.carried_out.shorten(until, "the battery lasts less long than it said")

    async def _leave(self) -> None:
        """What is under way goes on at the providers alone."""
        left = [each.work for each in self.runs if each.work] + ([self._back] if self._back else [])
        self._back = None
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _start(self, run: Begun) -> None:
        run.carried_out = run.engine()
        run.carried_out.earlier = frozenset(each.history.start.run for each in self.runs if each is not run)
        run.work = asyncio.ensure_future(self._guarded(run.carried_out.carry_out()))
        run.work.add_done_callback(lambda _: self._changed.set())

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            log.exception("a bug in vmpower: the run of a plan failed")

    async def _bring_back(self) -> None:
        """Abort what is under way, and bring up what was stopped: the newest run first, as its tiers went down last."""
        for run in reversed(self.runs):
            if run.under_way and run.work:
                run.work.cancel()
                await asyncio.gather(run.work, return_exceptions=True)
            engine = run.engine()
            await engine.abort()
            if run.history.closed is None:
                await self._guarded(engine.carry_out())
            if run.history.aborted is None:
                await self._guarded(engine.bring_up())
        for run in self.runs:
            run.journal.close()
        self.runs.clear()
        self._back = None
        self._say("What was stopped has been brought up again, as the plan says.")

    async def _close_all(self) -> None:
        """The runs of earlier stages that were left say which one has taken their VMs over."""
        for run in self.runs[:-1]:
            if run.history.closed is None:
                await run.engine().leave(self.runs[-1].history.start.run)


def _words(reading: Reading) -> str:
    charge = "" if reading.charge is None else f", {reading.charge:g} % of its charge"
    runtime = "" if reading.runtime is None else f", lasts {round(reading.runtime.total_seconds() / 60)} min"
    return " ".join(sorted(reading.words)) + charge + runtime
