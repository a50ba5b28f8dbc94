"""The set times of a plan: runs begin, and what they stopped comes up, by the wall clock."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from common.backoff import Backoff
from controller.plan_terms import Asked, RunRefused
from controller.source import Key, ResourceGone, SourceError
from controller.trigger_terms import Host, Teller, bring_back, in_words
from plans.clock import Clock
from plans.history import Start
from plans.model import CronSchedule

LONGEST_SLEEP = 60.0
"""Seconds without a look at the wall clock, which may be set, or go on while the machine sleeps."""
LATE = timedelta(minutes=5)
"""By which a run may begin late: where the API server or a provider does not answer at its moment, or the machine
slept. Whoever is told that all goes down at ten does not expect it at noon."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a run is tried again that could not begin for the moment."""
FOR_THE_MOMENT = frozenset({"NOT_READY", "PROVIDER_UNREACHABLE"})


class ScheduleTrigger:
    """All set times of a plan; `clock` tells the time of day anew each time that it is made."""

    def __init__(self, plan: Key, schedules: Sequence[CronSchedule], host: Host, clock: Callable[[], Clock]) -> None:
        self._plan, self._schedules, self._host = plan, schedules, host
        self._clock, self._begun = clock, asyncio.Event()
        self._teller = Teller(host.source, plan)

    async def follow(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bring_up_each())
            for each in self._schedules:
                group.create_task(self._begin_each(each))

    def _now(self) -> datetime:
        return self._clock()()

    async def _begin_each(self, schedule: CronSchedule) -> None:
        while True:
            moment = schedule.begins_after(self._now())
            await self._come(moment)
            if self._now() - moment < LATE:
                await self._begin(schedule, moment + LATE)
            else:
                late = f"{moment:%Y-%m-%d %H:%M} UTC of {schedule.cron!r} has passed unheard: nothing was brought down."
                self._teller.tell("Warning", "ScheduleMissed", late)

    async def _begin(self, schedule: CronSchedule, until: datetime) -> None:
        """Once; what does not answer for the moment is asked again until then."""
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                run = (await self._host.start(Asked(self._plan, trigger=_words(schedule)))).start.run
            except (RunRefused, SourceError, ResourceGone) as error:
                why = in_words(error) if isinstance(error, RunRefused) else str(error)
                passes = not isinstance(error, RunRefused) or error.reason in FOR_THE_MOMENT
                if not passes or self._now() >= until:
                    self._teller.tell("Warning", "RunNotBegun", f"At {schedule.cron!r} no run began. {why}")
                    return
                await asyncio.sleep(pauses.next())
            else:
                self._teller.tell("Normal", "RunBegan", f"At {schedule.cron!r} run {run} began.")
                self._begun.set()
                return

    async def _bring_up_each(self) -> None:
        """What is to come up, one run after the other: who is late is there from the start."""
        while True:
            due = sorted(
                (moment, hosted.history.start.run)
                for hosted in self._host.triggered(self._plan)
                if hosted.history.taken_over is None and (moment := comes_up(hosted.history.start)) is not None
            )
            if due and due[0][0] <= self._now():
                await bring_back(self._host, due[0][1])
                self._teller.tell("Normal", "BroughtUp", f"What run {due[0][1]} had stopped has been brought up again.")
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._left(due[0][0]) if due else LONGEST_SLEEP):
                        await self._begun.wait()
                self._begun.clear()

    async def _come(self, moment: datetime) -> None:
        """Wait for it, with a look at the wall clock now and then."""
        while (left := self._left(moment)) > 0:  # noqa: ASYNC110 - no event tells that the clock was set
            await asyncio.sleep(left)

    def _left(self, moment: datetime) -> float:
        """The seconds until the next look at the wall clock; 0: the moment has come."""
        return min(LONGEST_SLEEP, max(0.0, (moment - self._now()).total_seconds()))


def comes_up(start: Start) -> datetime | None:
    """When what a run has stopped comes up again, by the schedule that began it, as that was then; None: on request
    alone, or by another trigger."""
    began_it = (each for each in start.spec.schedules if _words(each) == start.trigger)
    schedule = next(began_it, None)
    return schedule.comes_up_after(start.at) if schedule else None


def _words(schedule: CronSchedule) -> str:
    """What providers are told, and by which its runs are known."""
    return f"schedule {schedule.cron!r} {schedule.time_zone}"
