"""Virtual time for several processes: each has an event loop of its own, which can be killed between any two steps.

Nothing here waits: time moves to the next moment at which something is due. All chance comes from one seed.
"""

import asyncio
import heapq
import inspect
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

FOREVER = float("inf")


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one process. A step is one callback, so that a kill can come between any two."""

    def __init__(self, universe: "Universe") -> None:
        self._universe = universe
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self.tasks: list[asyncio.Task[Any]] = []
        """All of them, so that a killed process is not tidied up by the garbage collector while others live on."""
        self.alive = True

    def kill(self) -> None:
        """No step of it is taken again, unless it is ended after all."""
        self.alive = False

    def kill_for_good(self) -> None:
        """The same of one that is not ended."""
        self.kill()
        for task in self.tasks:
            work = task.get_coro()
            if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()  # otherwise Python warns that it was never awaited

    def end(self) -> None:
        """Cancel all that it has, whether or not it was killed."""
        self.alive = True
        for task in self.tasks:
            task.cancel()
        while self._ready:
            self.step()
        self.alive = False

    def time(self) -> float:
        return self._universe.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.alive

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked for by TimerHandle; `due` passes over those that were cancelled."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **_: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = asyncio.Task(coro, loop=self)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it may be killed
        self.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.alive:
            self._universe.complain(f"{context.get('message')}: {context.get('exception')!r}")

    def due(self) -> float:
        """When the next step is to be taken."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if self._ready:
            return self.time()
        return max(self._timers[0][0], self.time()) if self._timers else FOREVER

    def step(self) -> None:
        """Run one callback."""
        while self._timers and self._timers[0][0] <= self.time():
            self._ready.append(heapq.heappop(self._timers)[2])
        if not self._ready:
            return
        handle = self._ready.popleft()
        if not handle.cancelled():
            asyncio._set_running_loop(self)
            try:
                handle._run()
            finally:
                asyncio._set_running_loop(None)
        if len(self.tasks) > 200:
            self.tasks = [task for task in self.tasks if not task.done()]


class Universe:
    """What all processes and the hypervisor share: time, chance, and what is to happen when."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.loops: list[Loop] = []
        self.steps = 0
        self.on_step: Callable[[int], None] = lambda _number: None
        """Told the number of each step of a process, after it."""
        self.complaints: list[str] = []
        """What no process should ever come to: bugs."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def complain(self, what: str) -> None:
        self.complaints.append(f"{self.now:.3f} {what}")

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        """Let something happen that no process does, and no kill prevents."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), happens))

    def run(self, until: float) -> None:
        """Let everything happen that is due up to this moment."""
        while True:
            loops = self.loops = [loop for loop in self.loops if loop.alive]
            soonest = min([loop.due() for loop in loops], default=FOREVER)
            agenda = self._agenda[0][0] if self._agenda else FOREVER
            moment = min(soonest, agenda)
            if moment > until:
                self.now = max(self.now, until)
                return
            self.now = max(self.now, moment)
            if agenda <= soonest:
                heapq.heappop(self._agenda)[2]()
                continue
            due = loops if len(loops) == 1 else [loop for loop in loops if loop.due() <= self.now]
            due[self.random.randrange(len(due)) if len(due) > 1 else 0].step()
            self.steps += 1
            self.on_step(self.steps)
