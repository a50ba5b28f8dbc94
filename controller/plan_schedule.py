"""The set times of plans: runs begin, and what they stopped comes up, by the wall clock."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import structlog

from common.backoff import Backoff
from controller.hosted_run import Hosted, targets
from controller.plan_terms import Asked, RunRefused, plan_of
from controller.source import Key, ResourceGone, SourceError
from controller.trigger_terms import Host, Power, Teller, in_words, listed
from plans.clock import Clock
from plans.history import History, Start
from plans.model import CronSchedule

LONGEST_SLEEP = 60.0
"""Seconds without a look at the wall clock, which may be set, or go on while the machine sleeps."""
LATE = timedelta(minutes=5)
"""By which a run may begin late: where the API server or a provider does not answer at its moment, or the machine
slept. Whoever is told that all goes down at ten does not expect it at noon."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a run is tried again that could not begin for the moment."""
FOR_THE_MOMENT = frozenset({"NOT_READY", "PROVIDER_UNREACHABLE", "OWN_UNKNOWN"})

log = structlog.get_logger()


class ScheduleTrigger:
    """The set times of one schedule of a plan. `clock` tells the time of day anew each time that it is made; `begun` is
    called when a run has begun."""

    def __init__(
        self, plan: Key, schedule: CronSchedule, host: Host, clock: Callable[[], Clock], begun: Callable[[], None]
    ) -> None:
        self._plan, self._schedule, self._host, self._clock, self._begun = plan, schedule, host, clock, begun
        self._teller = Teller(host.source, plan)

    async def follow(self) -> None:
        """For ever."""
        while True:
            moment = self._schedule.begins_after(self._now())
            await self._come(moment)
            if self._now() - moment < LATE:
                await self._begin(moment + LATE)
            else:
                cron = self._schedule.cron
                late = f"{moment:%Y-%m-%d %H:%M} UTC of {cron!r} has passed unheard: nothing was brought down."
                self._teller.tell("Warning", "ScheduleMissed", late)

    async def _begin(self, until: datetime) -> None:
        """Once; what does not answer for the moment is asked again until then."""
        cron, pauses = self._schedule.cron, Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                run = (await self._host.start(Asked(self._plan, trigger=_words(self._schedule)))).start.run
            except (RunRefused, SourceError, ResourceGone) as error:
                why = in_words(error) if isinstance(error, RunRefused) else str(error)
                passes = not isinstance(error, RunRefused) or error.reason in FOR_THE_MOMENT
                if not passes or self._now() >= until:
                    self._teller.tell("Warning", "RunNotBegun", f"At {cron!r} no run began. {why}")
                    return
                await asyncio.sleep(pauses.next())
            else:
                self._teller.tell("Normal", "RunBegan", f"At {cron!r} run {run} began.")
                self._begun()
                return

    def _now(self) -> datetime:
        return self._clock()()

    async def _come(self, moment: datetime) -> None:
        """Wait for it, with a look at the wall clock now and then."""
        while (left := _left(moment, self._now())) > 0:  # noqa: ASYNC110 - no event tells that the clock was set
            await asyncio.sleep(left)


class SetBringUps:
    """What schedules have brought down comes up again at its time, as its schedule said when the run began, whatever
    has become of the plan since: the run holds its VMs until then."""

    def __init__(self, host: Host, clock: Callable[[], Clock], power: Callable[[Key], Power | None]) -> None:
        """`power` is what the UPSes of a plan say; None: it has none."""
        self._host, self._clock, self._power = host, clock, power
        self._changed = asyncio.Event()
        self._works: dict[Key, asyncio.Task[None]] = {}
        """By plan, what comes up now: one run of a plan after the other."""
        self._pauses: dict[str, tuple[Backoff, datetime]] = {}
        """By run that could not come up yet, when it is tried again: meanwhile others of its plan may."""

    def run_began(self) -> None:
        """There is one more that may come up."""
        self._changed.set()

    async def follow(self) -> None:
        """For ever. Who is late is there from the start."""
        try:
            while True:
                due = self._due()
                for moment, hosted in due:
                    plan = plan_of(hosted.history.start)
                    if moment <= self._now() and plan not in self._works:
                        self._works[plan] = asyncio.create_task(self._bring_up(plan, hosted.history))
                        self._works[plan].add_done_callback(partial(self._over, plan))
                later = [_left(moment, self._now()) for moment, _ in due if moment > self._now()]
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(later, default=LONGEST_SLEEP)):
                        await self._changed.wait()
                self._changed.clear()
        finally:
            for work in self._works.values():
                work.cancel()
            await asyncio.gather(*self._works.values(), return_exceptions=True)

    def _due(self) -> list[tuple[datetime, Hosted]]:
        """What is to come up and when, in that order."""
        hosted = self._host.runs.all()
        self._pauses = {run: self._pauses[run] for each in hosted if (run := each.history.start.run) in self._pauses}
        found = list[tuple[datetime, Hosted]]()
        for each in hosted:
            moment = comes_up(each.history.start)
            waits = each.history.bring_up_stopped or any(_took_over(other.history, each.history) for other in hosted)
            if moment is not None and not waits:
                again = self._pauses.get(each.history.start.run)
                found.append((max(moment, again[1]) if again else moment, each))
        return sorted(found, key=lambda each: each[0])

    async def _bring_up(self, plan: Key, history: History) -> None:
        """Once there is no outage: started on battery, it would go down again with a battery that is emptier."""
        power, teller, run = self._power(plan), Teller(self._host.source, plan), history.start.run
        if power is not None and not power.is_there:
            if power.is_there is False:
                teller.tell("Normal", "BringUpWaits", f"What run {run} has stopped comes up when the power is back.")
            await power.back()
        try:
            await self._host.bring_back(run)
        except Exception as error:
            pauses, _ = self._pauses.get(run, (Backoff(FIRST_PAUSE, LONGEST_PAUSE), self._now()))
            self._pauses[run] = pauses, self._now() + timedelta(seconds=pauses.next())
            if not isinstance(error, RunRefused):
                log.exception("a bug in vmpower: what a run has stopped does not come up; it is tried again", run=run)
                return
            log.warning("a run cannot be brought back yet", run=run, error=str(error))
            return
        came_up = history.bring_up_began or history.bring_up_stopped
        if came_up:  # else a person has released it, or an emergency took it over
            teller.tell("Normal", "BroughtUp", _in_words(history))

    def _over(self, plan: Key, _: asyncio.Task[None]) -> None:
        del self._works[plan]
        self._changed.set()

    def _now(self) -> datetime:
        return self._clock()()


def _took_over(other: History, history: History) -> bool:
    """Whether a run counts instead of another one that it took over. Names are not for ever."""
    taken = history.taken_over
    return taken is not None and other.start.called == taken.by and other.start.at <= taken.at


def _in_words(history: History) -> str:
    """What has come up."""
    stopped = [target for target in targets(history) if history.has_stopped(target)]
    missing = [each.title for each in stopped if each.key not in history.up or not history.up[each.key].ready]
    what = f"What run {history.start.run} had stopped has been brought up again"
    if not missing:
        return f"{what}."
    return f"{what}, but for {listed(missing)}; see vmpower plan report {history.start.run}."


def comes_up(start: Start) -> datetime | None:
    """When what a run has stopped comes up again, by the schedule that began it, as that was then; None: on request
    alone, or by another trigger."""
    began_it = (each for each in start.spec.schedules if _words(each) == start.trigger)
    schedule = next(began_it, None)
    return schedule.comes_up_after(start.at) if schedule else None


def _left(moment: datetime, now: datetime) -> float:
    """The seconds until the next look at the wall clock; 0: the moment has come."""
    return min(LONGEST_SLEEP, max(0.0, (moment - now).total_seconds()))


def _words(schedule: CronSchedule) -> str:
    """What providers are told, and by which its runs are known."""
    return f"schedule {schedule.cron!r} {schedule.time_zone}"
