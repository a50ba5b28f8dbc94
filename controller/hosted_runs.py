"""The runs that are not released, by name and by PowerRun, and where the records of all runs are: on the local disk."""

import asyncio
from collections.abc import AsyncGenerator, Callable, KeysView
from functools import partial
from typing import TypeVar

import structlog

from controller.hosted_run import Hosted
from controller.plan_terms import RunRefused, plan_of
from controller.run_record import later
from controller.source import Key
from plans.calls import Calls
from plans.clock import Clock
from plans.history import Event, History, Start
from plans.journal import Journal, JournalError, Off, Runs
from plans.run import Run

MERGED = 0.2
"""Seconds for which what happens in a run is told together."""

T = TypeVar("T")
log = structlog.get_logger()


class HostedRuns:
    """What is known of each run. What is done with them is PlanHost's."""

    def __init__(
        self, records: Runs, clock: Callable[[], Clock], off: Off, noted: Callable[[History, Event], None]
    ) -> None:
        """`off` runs what blocks. `noted` is told what happens in a run that is known here."""
        self._records, self._clock, self._off, self._noted = records, clock, off, noted
        self._hosted: dict[str, Hosted] = {}
        self._by_uid: dict[str, str] = {}
        """The runs of PowerRuns, also those that are released."""

    # Which there are

    def all(self) -> list[Hosted]:
        """Those that are not released, oldest first."""
        return sorted(self._hosted.values(), key=lambda each: each.history.start.at)

    def names(self) -> KeysView[str]:
        """Of those that are not released."""
        return self._hosted.keys()

    def triggered(self, plan: Key) -> list[Hosted]:
        """Those that a plan's triggers have begun, oldest first."""
        return [each for each in self.all() if each.history.start.trigger and plan_of(each.history.start) == plan]

    def get(self, run: str) -> Hosted | None:
        """The run of this name, unless it is released."""
        return self._hosted.get(run)

    def of_resource(self, uid: str) -> Hosted | None:
        """The run of a PowerRun, unless it is released."""
        return self._hosted.get(self._by_uid.get(uid, ""))

    def knows(self, uid: str) -> bool:
        """Whether there is a record of the run of a PowerRun."""
        return uid in self._by_uid

    def add(self, history: History) -> Hosted:
        """The run as it is known here, or else from this record on."""
        start = history.start
        if start.uid:
            self._by_uid[start.uid] = start.run
        if start.run not in self._hosted:
            history.listeners.append(partial(self._noted, history))
            self._hosted[start.run] = Hosted(history)
        return self._hosted[start.run]

    def take_in(self, history: History) -> Hosted | None:
        """The run by the record that its PowerRun has, if that knows more than ours; never in another run's place."""
        start = history.start
        known = self._hosted.get(start.run)
        if known is not None and known.history.start.uid != start.uid:
            log.warning("the record in a status has the name of another run", run=start.run, resource=start.resource)
            return None
        if known is not None and (known.journal is not None or later(known.history, history) is known.history):
            return None
        if known is None and start.uid in self._by_uid:  # it is released, which its status does not say yet
            return None
        self._hosted.pop(start.run, None)
        hosted = self.add(history)
        hosted.is_behind = True
        return hosted

    def remove(self, hosted: Hosted) -> None:
        """It is released."""
        self._hosted.pop(hosted.history.start.run, None)

    def clear(self) -> list[Hosted]:
        """Forget all; these were known."""
        known = list(self._hosted.values())
        self._hosted.clear()
        self._by_uid.clear()
        return known

    # Which are asked for

    async def found(self, name: str) -> Hosted:
        """The run of this name, as `history` has it.

        Raises:
            RunRefused: there is none, or it is released.
        """
        history = await self.history(name)
        hosted = self._hosted.get(history.start.run)
        if hosted is None:
            raise RunRefused("RUN_RELEASED", f"Run {history.start.called} is released: nothing is left to do.")
        return hosted

    async def history(self, name: str) -> History:
        """The run of this name, or of the PowerRun of this name or NAMESPACE/NAME; the latest, if there are several.

        Raises:
            RunRefused: there is none.
        """
        if name in self._hosted:  # a PowerRun may be called so too, perhaps another namespace's
            return self._hosted[name].history
        hosted = [each.history for each in self._hosted.values() if name and _is_called(each.history.start, name)]
        if hosted:  # without a look at the disk, which may hang
            return max(hosted, key=lambda each: each.start.at)
        for history in reversed(await self.histories()):
            if _is_called(history.start, name):
                return history
        raise RunRefused("RUN_NOT_FOUND", f"There is no run {name!r} here.")

    async def histories(self) -> list[History]:
        """Every run that can be read, oldest first."""
        on_disk = {history.start.run: history for history in await self._off_loop(self._records.all)}
        hosted = {run: hosted.history for run, hosted in self._hosted.items()}
        return sorted((on_disk | hosted).values(), key=lambda each: each.start.at)

    async def follow(self, history: History) -> AsyncGenerator[list[Event], None]:
        """What happens in a run from now on, until nothing more happens by itself; what comes close together is told
        together. First nothing: from then on all is heard."""
        hosted = self._hosted.get(history.start.run)
        if hosted is None:
            yield []
            return
        untold, news = list[Event](), asyncio.Event()

        def heard(fact: Event) -> None:
            untold.append(fact)
            news.set()

        history.listeners.append(heard)
        hosted.on_pause.append(news.set)
        try:
            yield []
            while (hosted.is_open and self._hosted.get(history.start.run) is hosted) or untold:
                await news.wait()
                await asyncio.sleep(MERGED)
                told, untold[:] = untold[:], []
                news.clear()
                yield told
        finally:
            history.listeners.remove(heard)
            hosted.on_pause.remove(news.set)

    # Their records

    async def read(self, ended_elsewhere: Callable[[Start], bool]) -> list[History]:
        """Take in all that are on the disk; those that are released are returned. `ended_elsewhere`: another controller
        has brought it to its end, and what is on this disk is old."""
        released = []
        for history in await self._off_loop(partial(self._records.all, _not_readable)):
            start = history.start
            if start.uid:
                self._by_uid[start.uid] = start.run
            if history.released is not None:
                released.append(history)
            elif start.run not in self._hosted and ended_elsewhere(start):
                await self._end_on_disk(start.run)
            else:
                self.add(history)
        return released

    async def _end_on_disk(self, run: str) -> None:
        """Let no later process take a run up."""
        try:
            history, journal = self._records.resume(run)
            await Run(history, journal, Calls({}), self._clock()).release()
            journal.close()
        except JournalError as error:
            log.warning("an old record of a run is left as it is", run=run, error=str(error))

    async def recorded(self, hosted: Hosted) -> Run:
        """A run whose record is this process's, to write something into it.

        Raises:
            RunRefused: it is not readable or not writable, or another process's.
        """
        journal = await self.resume(hosted)
        return hosted.run or Run(hosted.history, journal, Calls({}), self._clock())

    async def resume(self, hosted: Hosted) -> Journal:
        """Make the record of a run this process's; what else it says is known then.

        Raises:
            RunRefused: it is not readable or not writable, or another process's.
        """
        async with hosted.opening:  # a second one would be told that another process has it
            if hosted.journal is None:
                resume = self._records.adopt if hosted.is_behind else self._resumed
                try:
                    hosted.journal = await self._off_loop(partial(resume, hosted.history))
                except JournalError as error:
                    raise RunRefused("NO_RECORD", str(error)) from error
                hosted.is_behind = False
            return hosted.journal

    def _resumed(self, known: History) -> Journal:
        """The record on the disk; one that another process went on with since it was read says more."""
        history, journal = self._records.resume(known.start.run)
        for event in history.events[len(known.events) :]:
            known.note(event)
        return journal

    async def forget(self, plan: Key, kept: int) -> None:
        """Delete the records of the runs that a plan's triggers began and that are released, but for the newest."""

        def is_of_plan(start: Start) -> bool:
            return bool(start.trigger) and plan_of(start) == plan

        await self._off(partial(self._records.forget, is_of_plan, kept))

    async def _off_loop(self, call: Callable[[], T]) -> T:
        found = list[T]()
        await self._off(lambda: found.append(call()))
        return found[0]


def _is_called(start: Start, name: str) -> bool:
    return name in {"", start.run, start.resource, f"{start.namespace}/{start.resource}"}


def _not_readable(error: JournalError) -> None:
    log.error(
        "the record of a run cannot be read: what it holds is not known, and is its owners' again", error=str(error)
    )
