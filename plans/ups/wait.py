"""A plan that waits for its UPS: followed from the first reading to the last verdict.

Each stage has a run of its own, with a budget of its own: that of the named tiers may have ended long before the
battery is low. A run that is under way when the next stage begins is left: what it has asked goes on at the providers,
and the next run, which has the same VMs among its own, follows that and gives it no more time than its own.

Who carries the runs out is told from outside (StageRun): the command itself (stage_run.py), or the controller.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from plans.clock import Clock
from plans.model import Nut
from plans.ups.follow import NotLetIn, Seen
from plans.ups.stages import Reading, Stage, State, ends, has_power, step

IN_WORDS = {
    Stage.NONE: "The power is back: what was stopped comes up again.",
    Stage.NAMED: "The named tiers go down",
    Stage.ALL: "All goes down",
    Stage.NO_RETURN: "All goes down, and power that comes back does not end that",
}

PATIENCE = timedelta(seconds=10)
"""For which a plan that cannot be carried out as a whole is tried again before what can be is."""

log = structlog.get_logger()


class News(StrEnum):
    """What a line for people is about."""

    READ = "UpsRead"
    LOST = "UpsLost"
    FAILED = "PowerFailed"
    """A stage begins, of which there is a run."""
    BACK = "PowerBack"
    NOT_BEGUN = "RunNotBegun"
    IN_PART = "RunInPart"
    """A run has begun without what keeps the whole one from beginning."""
    UP = "BroughtUp"
    GOES_ON = "RunGoesOn"
    DOWN = "AllDown"
    """A stage without return is over."""
    NOT_LET_IN = "UpsNotLetIn"


Say = Callable[[News, str], None]


class CannotBegin(Exception):
    """A run could not begin; nothing was done. It is tried again."""


class StageRun(Protocol):
    """The run of a stage."""

    @property
    def stage(self) -> Stage:
        """The one that it was begun for."""

    @property
    def name(self) -> str:
        """The run's."""

    @property
    def in_part(self) -> bool:
        """Whether it left something out of its stage."""

    @property
    def under_way(self) -> bool:
        """Whether it brings its VMs down now."""

    def carry_out(self, earlier: Collection[str], over: Callable[[], None]) -> None:
        """Have it carried out, if it is not yet, and call `over` when that has ended. `earlier` are the names of the
        runs that it counts instead of."""

    async def ended(self) -> None:
        """Wait until it is not carried out any more."""

    async def shorten(self, left: timedelta, why: str) -> None:
        """It has to be over after so long, if that is sooner than it is now."""

    async def let_go(self) -> None:
        """Do nothing more about it here: what it has begun goes on at the providers."""

    async def is_undone(self) -> bool:
        """Whether a VM of it runs, or is being started, now that all of it was to be down."""

    async def bring_back(self) -> None:
        """Abort it, if it is under way, and bring up what it has stopped, as its plan says."""

    async def give_way(self, run: str) -> None:
        """Close it, if that was not done: another one has taken its VMs over."""

    def close(self) -> None:
        """Nothing more is done about it here."""


class Begin(Protocol):
    """Begins the run of a stage, for this reason, that has to be over after so long. `in_part`: what does not answer,
    or cannot be meant, is left out.

    Raises:
        CannotBegin
    """

    def __call__(self, stage: Stage, why: str, left: timedelta, /, *, in_part: bool = False) -> Awaitable[StageRun]: ...


class Waiting:
    """`total` is the time of a run; `say` tells a line to people; `begun` are runs of this plan that were left, and
    `final` is the name of the one after which no other begins in a stage without return."""

    def __init__(
        self,
        nut: Nut,
        total: timedelta,
        begin: Begin,
        clock: Clock,
        say: Say,
        *,
        begun: Sequence[StageRun] = (),
        final: str = "",
    ) -> None:
        self._nut, self._total = nut, total
        self._begin, self._clock, self._say = begin, clock, say
        self.runs = list(begun)
        """Oldest first."""
        self.final, self._undone = final, ""
        self._state = State(stage=max((each.stage for each in self.runs), default=Stage.NONE), why="as it was left")
        self._changed = asyncio.Event()
        self._told: dict[str, str] = {}
        self._back: asyncio.Task[None] | None = None
        self._failing: datetime | None = None

    @property
    def power(self) -> bool | None:
        """Whether the site is known to have its power; None: nobody can tell."""
        return has_power(self._nut, self._state)

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
            for task in tasks:
                task.cancel()
            await asyncio.gather(self._leave(), *tasks, return_exceptions=True)

    async def _followed(self, ups: Awaitable[None]) -> None:
        """A UPS, to the end. Who is not let in at one carries out first what is under way: all may hang on that.

        Raises:
            NotLetIn
        """
        try:
            await ups
        except NotLetIn as error:
            if any(each.under_way for each in self.runs):
                self._say(News.GOES_ON, f"{error}; the run that is under way goes on to its end.")
            while works := [each.ended() for each in self.runs if each.under_way]:
                await asyncio.gather(*works)
            raise

    def _seen(self, seen: Seen) -> None:
        before = self._state.stage
        self._state = step(self._nut, self._state, seen.ups, seen.reading, self._clock())
        self._tell(seen)
        if self._state.stage is not before:
            why = f": {self._state.why}" if self._state.stage else ""
            self._say(News.FAILED if self._state.stage else News.BACK, IN_WORDS[self._state.stage] + why)
        self._changed.set()

    def _tell(self, seen: Seen) -> None:
        """What has changed since it was told last: charge and time alone are no news."""
        key = " ".join(sorted(seen.reading.words)) if seen.reading else seen.problem
        if self._told.get(seen.ups) != key:
            self._told[seen.ups] = key
            if seen.reading:
                self._say(News.READ, f"{seen.ups}: {_words(seen.reading)}")
            else:
                self._say(News.LOST, f"{seen.ups}: no contact: {seen.problem}")

    async def _act(self) -> None:
        if self.runs:
            self._start(self.runs[-1])
        while True:
            self._changed.clear()
            wanted = min(self._state.stage, Stage.ALL)
            if wanted > self._reached():
                if not await self._raise_to(wanted):
                    await self._close_all()
                    return
            elif wanted is Stage.NONE and self.runs and self._back is None:
                self._back = asyncio.ensure_future(self._bring_back())
                self._back.add_done_callback(lambda _: self._changed.set())
            elif self._state.stage is Stage.NO_RETURN and not self.runs[-1].under_way:
                if not (await self._is_undone() and await self._raise_to(Stage.ALL)):
                    await self._close_all()
                    return
            else:
                await self._shorten()
                await self._changed.wait()

    def _reached(self) -> Stage:
        """The stage that has its run: that of the newest. Older ones may be of an outage before, and not yet all up."""
        if not self.runs or self._back is not None:
            return Stage.NONE
        return Stage.NAMED if self._in_part else self.runs[-1].stage

    async def _is_undone(self) -> bool:
        """Whether VMs run for which the power is about to be cut: somebody has started them since, or aborted the run.
        They go down once more, and not again: what runs then may be started by a program each time."""
        last = self.runs[-1]
        if last.name == self.final or not await last.is_undone():
            return False
        self._undone = last.name
        return True

    @property
    def _in_part(self) -> bool:
        """Whether the newest run left something out, so that the whole one is still to begin."""
        return bool(self.runs) and self.runs[-1].in_part

    @property
    def _has_gone_down(self) -> bool:
        """Whether a run has brought down all, or all that could be."""
        return self._reached() is not Stage.NONE and self.runs[-1].stage is Stage.ALL

    async def _raise_to(self, stage: Stage) -> bool:
        """False: it is given up; all went down before, but for what cannot be brought down.

        Raises:
            CannotBegin: it is given up, and nothing goes down.
        """
        now = self._clock()
        try:
            new = await self._begin(stage, self._state.why, self._left())
        except CannotBegin as error:
            self._failing = self._failing or now
            if self._state.stage is Stage.NO_RETURN and now - self._failing >= self._total:
                if self._has_gone_down:
                    return False
                raise
            if self._told.get("") != str(error):
                self._told[""] = str(error)
                self._say(News.NOT_BEGUN, f"The run cannot begin; it is tried again. {error}")
            if stage is Stage.ALL and not self._in_part and now - self._failing >= PATIENCE:
                await self._begin_in_part(stage)
            await self._shorten()
            await self._changed.wait()  # for the next reading
            return True
        self._failing = None
        self._told.pop("", None)
        await self._go_on_with(new)
        return True

    async def _begin_in_part(self, stage: Stage) -> None:
        """Rather than nothing. The whole one is tried again all the same, and takes this one over."""
        with suppress(CannotBegin):  # that has been told
            new = await self._begin(stage, self._state.why, self._left(), in_part=True)
            await self._go_on_with(new)

    async def _go_on_with(self, new: StageRun) -> None:
        await self._leave()
        self.runs.append(new)
        if self._undone and not new.in_part:
            self.final, self._undone = new.name, ""
        self._start(new)

    async def _shorten(self) -> None:
        """A battery that lasts less long than it said leaves less time to the run that is under way."""
        if self.runs and self._back is None and self.runs[-1].under_way:
            await self.runs[-1].shorten(self._left(), "the battery lasts less long than it said")

    def _left(self) -> timedelta:
        """How long a run has that begins now."""
        now = self._clock()
        return ends(self._nut, self._state, now, self._total) - now

    async def _leave(self) -> None:
        """What is under way goes on at the providers alone."""
        back, self._back = self._back, None
        if back:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
        await asyncio.gather(*(each.let_go() for each in self.runs), return_exceptions=True)

    def _start(self, run: StageRun) -> None:
        run.carry_out([each.name for each in self.runs if each is not run], self._changed.set)

    async def _bring_back(self) -> None:
        """Abort what is under way, and bring up what was stopped: the newest run first, as its tiers went down last."""
        for run in reversed(self.runs):
            await run.bring_back()
        for run in self.runs:
            run.close()
        self.runs.clear()
        self._back = None
        self._say(News.UP, "What was stopped has been brought up again, as the plan says.")

    async def _close_all(self) -> None:
        """The runs of earlier stages that were left say which one has taken their VMs over."""
        for run in self.runs[:-1]:
            await run.give_way(self.runs[-1].name)


def _words(reading: Reading) -> str:
    charge = "" if reading.charge is None else f", {reading.charge:g} % of its charge"
    runtime = "" if reading.runtime is None else f", lasts {round(reading.runtime.total_seconds() / 60)} min"
    return " ".join(sorted(reading.words)) + charge + runtime
