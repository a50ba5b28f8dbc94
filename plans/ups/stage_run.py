"""The run of a stage that this process carries out itself."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

import structlog

from plans.history import History
from plans.journal import Journal
from plans.run import Run
from plans.ups.stages import Stage

log = structlog.get_logger()


class OwnRun:
    """`engine` makes what carries it out, from where its history stands."""

    def __init__(self, stage: Stage, history: History, journal: Journal, engine: Callable[[], Run]) -> None:
        self._stage, self.history, self._journal, self._engine = stage, history, journal, engine
        self._work: asyncio.Task[None] | None = None
        self._run: Run | None = None
        """What carries it out now, or did."""

    @property
    def stage(self) -> Stage:
        """The one that it was begun for."""
        return self._stage

    @property
    def name(self) -> str:
        """The run's."""
        return self.history.start.run

    @property
    def in_part(self) -> bool:
        """Whether it left something out of its stage."""
        return bool(self.history.start.left_out)

    @property
    def under_way(self) -> bool:
        """Whether it is carried out now."""
        return self._work is not None and not self._work.done()

    def carry_out(self, earlier: Collection[str], over: Callable[[], None]) -> None:
        """Have it carried out, and call `over` when that has ended."""
        self._run = self._engine()
        self._run.earlier = frozenset(earlier)
        self._work = asyncio.ensure_future(_guarded(self._run.carry_out()))
        self._work.add_done_callback(lambda _: over())

    async def ended(self) -> None:
        """Wait until it is not carried out any more."""
        if self._work:
            await asyncio.wait([self._work])

    async def shorten(self, left: timedelta, why: str) -> None:
        """It has to be over after so long, if that is sooner than it is now."""
        if self._run:
            await self._run.shorten(left, why)

    async def let_go(self) -> None:
        """Carry it out no further."""
        if self._work:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def is_undone(self) -> bool:
        """Whether a VM of it runs, now that it is over."""
        return await self._engine().runs_again()

    async def bring_back(self) -> None:
        """Abort it, if it is under way, and bring up what it has stopped, as its plan says."""
        await self.let_go()
        engine = self._engine()
        await engine.abort()
        if self.history.closed is None:
            await _guarded(engine.carry_out())
        if self.history.aborted is None:
            await _guarded(engine.bring_up())

    async def give_way(self, run: str) -> None:
        """Close it, if that was not done: another one has taken its VMs over."""
        if self.history.closed is None:
            await self._engine().leave(run)

    def close(self) -> None:
        """Nothing more is done about it here: another process may have its record."""
        self._journal.close()


async def _guarded(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        log.exception("a bug in vmpower: the run of a plan failed")
