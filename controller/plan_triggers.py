"""The triggers of plans: followed for as long as this controller leads, so that runs begin by themselves.

They are runs like any other: the host of plans carries them out, holds their VMs, and goes on with them after a
restart. What is told to people are Events of the plan.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import structlog

from controller.models import PowerPlan
from controller.plan_schedule import ScheduleTrigger
from controller.plan_ups import UpsTrigger
from controller.source import Key
from controller.trigger_terms import Host, Teller
from plans.clock import Clock
from plans.model import PlanSpec

MOST = 20
"""Plans of a namespace whose triggers are followed: each may keep 20 connections open."""
TOO_MANY = f"Of a namespace the triggers of {MOST} plans are followed, and not of this one: take those of another out."

log = structlog.get_logger()


class Triggers:
    """Those of all plans. `clock` makes the one of what is followed."""

    def __init__(self, host: Host, clock: Callable[[], Clock]) -> None:
        self._host, self._clock = host, clock
        self._followed: dict[Key, tuple[PlanSpec, list[asyncio.Task[None]]]] = {}
        self._refused: set[Key] = set()
        """Of those that are not followed, as there are too many, whom that was told to."""
        self._ending: set[asyncio.Task[None]] = set()

    def follow(self, plans: Mapping[Key, PowerPlan]) -> None:
        """Follow the triggers of these plans, and of no other. A plan that has changed is followed anew; its runs go
        on as they began."""
        for key, (spec, tasks) in list(self._followed.items()):
            if key not in plans or plans[key].spec != spec:
                del self._followed[key]
                self._end(tasks)
        room = Counter(key.namespace for key in self._followed)
        for key, plan in plans.items():
            if not plan.spec.triggers or key in self._followed:
                continue
            if room[key.namespace] < MOST:
                room[key.namespace] += 1
                self._refused.discard(key)
                tasks = [asyncio.create_task(_guarded(key, work)) for work in self._works(key, plan.spec)]
                self._followed[key] = (plan.spec, tasks)
            elif key not in self._refused:
                self._refused.add(key)
                Teller(self._host.source, key).tell("Warning", "TriggersNotFollowed", TOO_MANY)
        self._refused &= plans.keys()

    async def close(self) -> None:
        """Follow none any more: log out everywhere."""
        for _, tasks in self._followed.values():
            self._end(tasks)
        self._followed.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _works(self, key: Key, spec: PlanSpec) -> Iterator[Coroutine[Any, Any, None]]:
        if spec.nut:
            yield UpsTrigger(key, spec, spec.nut, self._host, self._clock).follow()
        if spec.schedules:
            yield ScheduleTrigger(key, spec.schedules, self._host, self._clock).follow()

    def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


async def _guarded(plan: Key, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("a bug in vmpower: a trigger of a plan is not followed any more", plan=str(plan))
