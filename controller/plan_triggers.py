"""The triggers of plans: followed for as long as this controller leads, so that runs begin by themselves.

They are runs like any other: the host of plans carries them out, holds their VMs, and goes on with them after a
restart. What is told to people are Events of the plan.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from common.backoff import Backoff
from controller.models import PowerPlan
from controller.plan_schedule import ScheduleTrigger, SetBringUps
from controller.plan_ups import UpsTrigger
from controller.source import Key
from controller.trigger_terms import Host, Power, Teller
from plans.clock import Clock
from plans.model import PlanSpec

MOST = 20
"""Plans of a namespace whose triggers are followed: each may keep 20 connections open."""
TOO_MANY = f"Of a namespace the triggers of {MOST} plans are followed, and not of this one: take those of another out."
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds before a trigger is followed again that a bug in vmpower has ended."""
A_BUG = "vmpower failed as it followed a trigger, its log says how; it is followed again."

Work = Callable[[], Coroutine[Any, Any, None]]
log = structlog.get_logger()


@dataclass(slots=True)
class _Followed:
    spec: PlanSpec
    power: Power
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Triggers:
    """Those of all plans. `clock` makes the one of what is followed."""

    def __init__(self, host: Host, clock: Callable[[], Clock]) -> None:
        self._host, self._clock = host, clock
        self._followed: dict[Key, _Followed] = {}
        self._refused: set[Key] = set()
        """Of those that are not followed, as there are too many, whom that was told to."""
        self._ending: set[asyncio.Task[None]] = set()
        self._bring_ups = SetBringUps(host, clock, self._power)
        self._bringing_up: asyncio.Task[None] | None = None

    def follow(self, plans: Mapping[Key, PowerPlan]) -> None:
        """Follow the triggers of these plans, and of no other. A plan that has changed is followed anew; its runs go
        on as they began, and what schedules have stopped comes up at its time."""
        powers = dict[Key, Power]()
        for key, followed in list(self._followed.items()):
            if key not in plans or plans[key].spec != followed.spec:
                del self._followed[key]
                self._end(followed.tasks)
                powers[key] = followed.power
        room = Counter(key.namespace for key in self._followed)
        for key, plan in plans.items():
            if not plan.spec.triggers or key in self._followed:
                continue
            if room[key.namespace] < MOST:
                room[key.namespace] += 1
                self._refused.discard(key)
                self._begin(key, plan.spec, powers.get(key))
            elif key not in self._refused:
                self._refused.add(key)
                Teller(self._host.source, key).tell("Warning", "TriggersNotFollowed", TOO_MANY)
        self._refused &= plans.keys()
        for key, power in powers.items():
            if key not in self._followed:
                power.tell(None)  # nobody asks its UPS any more
        if self._bringing_up is None:
            self._bringing_up = asyncio.create_task(self._guarded(None, self._bring_ups.follow))

    async def close(self) -> None:
        """Follow none any more: log out everywhere."""
        for followed in self._followed.values():
            self._end(followed.tasks)
        self._followed.clear()
        if self._bringing_up is not None:
            self._end([self._bringing_up])
            self._bringing_up = None
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin(self, key: Key, spec: PlanSpec, power: Power | None) -> None:
        """`power` is that of the same plan before an edit."""
        followed = self._followed[key] = _Followed(spec, power or Power())
        works = self._works(key, spec, followed.power)
        followed.tasks += [asyncio.create_task(self._guarded(key, work)) for work in works]

    def _works(self, key: Key, spec: PlanSpec, power: Power) -> Iterator[Work]:
        if spec.nut:
            yield UpsTrigger(key, spec, spec.nut, self._host, self._clock, power=power).follow
        else:
            power.tell(True)
        for schedule in spec.schedules:
            yield ScheduleTrigger(key, schedule, self._host, self._clock, self._bring_ups.run_began).follow

    def _power(self, plan: Key) -> Power | None:
        return self._followed[plan].power if plan in self._followed else None

    def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _guarded(self, plan: Key | None, work: Work) -> None:
        """A bug in one of them ends none for good: an outage may come."""
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                return await work()
            except Exception:
                log.exception("a bug in vmpower: a trigger is followed again", plan=str(plan or "all"))
            if plan is not None:
                Teller(self._host.source, plan).tell("Warning", "TriggerFailed", A_BUG)
            await asyncio.sleep(pauses.next())
