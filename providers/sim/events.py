"""The events of a world. One timer, for the next visible change, serves any number of guests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush

from providers.core.adapter import VM, Change, Changed, Removed
from providers.core.errors import HypervisorUnavailable
from providers.sim.guest import Guest, next_change
from providers.sim.states import to_vm
from providers.sim.world import World

SOONEST = 0.001
"""Seconds: the timer's clock and the world's differ by microseconds; a timer that came early waits this long."""

Event = Change | HypervisorUnavailable


class Events:
    """Publishes each change of a world to any number of subscribers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, VM] = {}
        self._agenda: list[tuple[float, str]] = []
        self._planned: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._queues: set[asyncio.Queue[Event]] = set()
        now = world.now()
        for guest in world.guests():
            self._seen[guest.id] = to_vm(guest, now)
            self._plan(guest, now)
        world.listener = self.refresh

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    def publish(self, event: Event) -> None:
        for queue in self._queues:
            queue.put_nowait(event)

    def refresh(self, vm_id: str) -> None:
        """Read one guest again, publish a change and plan when to read it next."""
        guest = self._world.find(vm_id)
        if guest is None:
            if self._seen.pop(vm_id, None):
                self.publish(Removed(vm_id))
            return
        now = self._world.now()
        vm = to_vm(guest, now)
        if vm != self._seen.get(vm_id):
            self._seen[vm_id] = vm
            self.publish(Changed(vm))
        self._plan(guest, now)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _plan(self, guest: Guest, now: float) -> None:
        at = next_change(guest, now)
        if at is None or self._planned.get(guest.id) == at:
            return
        self._planned[guest.id] = at
        heappush(self._agenda, (at, guest.id))
        if self._agenda[0][0] == at:
            self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        self.close()
        if self._agenda:
            delay = max(self._agenda[0][0] - now, SOONEST)
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        now = self._world.now()
        while self._agenda and self._agenda[0][0] <= now:
            at, vm_id = heappop(self._agenda)
            if self._planned.get(vm_id) == at:
                del self._planned[vm_id]
                self.refresh(vm_id)
        self._set_timer(now)
