"""What is done to a provider's process, its disk and its clock, at random moments."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import TypeVar

from tests.rigs.process import Provider
from tests.soak.clock import SteppedClock
from tests.soak.disk import SmallDisk
from tests.soak.ground import Impossible
from tests.soak.history import ENDED_BY_ITSELF, Harm, History, now

T = TypeVar("T")

HARMS = frozenset({"kill", "strike", "freeze", "disk", "clock"})
STEPS = (-3600, 0, 3600)
"""Seconds that the wall clock is off, one after the other."""
FIRST = 0.02
"""Seconds after a request within which a provider is struck."""
STRUCK = 0.08
"""How likely a request is to be one."""
STARTING = 20.0
"""Seconds that a provider may take to serve; it does not while its hypervisor or its disk is away."""


class Attack:
    """One provider's process: it is killed, frozen and started again, its disk fills up, its clock steps.

    `harms` are those of HARMS that are to be done; of those that cannot be done here, `left_out` says why.
    """

    def __init__(self, provider: Provider, history: History, harms: frozenset[str], rng: Random) -> None:
        self.left_out: list[str] = []
        self._provider, self._history, self._rng = provider, history, rng
        self._hands = asyncio.Lock()
        self._strikes: set[asyncio.Task[None]] = set()
        self._ended_by_us = True
        """Or it was not started yet."""
        self._strikes_too = "strike" in harms
        state = provider.folder / "state"
        state.mkdir(mode=0o700)
        self._disk = self._possible(lambda: SmallDisk(state)) if "disk" in harms else None
        self._clock = self._possible(lambda: SteppedClock(provider.folder / "clock")) if "clock" in harms else None
        provider.env |= self._clock.env if self._clock else {}
        deeds = {"kill": self._kill, "freeze": self._freeze, "disk": self._fill, "clock": self._step}
        can = harms - (set() if self._disk else {"disk"}) - (set() if self._clock else {"clock"})
        self._deeds = [deed for name, deed in deeds.items() if name in can]

    async def start(self) -> None:
        """Start the provider and wait until it serves; one that does not serve yet is left to itself."""
        if not self._provider.runs() and not self._ended_by_us:
            self._history.add(Harm(now(), now(), ENDED_BY_ITSELF))
        self._ended_by_us = False
        with suppress(RuntimeError):
            await asyncio.to_thread(self._provider.start, STARTING)

    async def go_on(self) -> None:
        """Do one thing after the other, for ever."""
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 4))
            await to_its_end(self._do(self._rng.choice(self._deeds) if self._deeds else self.start))

    def on_sent(self) -> None:
        """A request is under way: perhaps this is the moment."""
        if self._strikes_too and self._rng.random() < STRUCK and not self._hands.locked():
            task = asyncio.create_task(self._strike(self._rng.uniform(0, FIRST)))
            self._strikes.add(task)
            task.add_done_callback(self._strikes.discard)

    async def heal(self) -> None:
        """No strike is under way any more, the clock is right, the provider runs."""
        self._strikes_too = False
        async with self._hands:
            if self._clock:
                self._set(self._clock, 0)
            await self.start()

    async def kill_once_more(self) -> None:
        """What was told must be found again."""
        async with self._hands:
            await self._kill()

    def close(self) -> None:
        if self._disk:
            self._disk.close()

    async def _do(self, deed: Callable[[], Awaitable[None]]) -> None:
        async with self._hands:
            await deed()
            if not self._provider.runs():
                await self.start()

    async def _strike(self, delay: float) -> None:
        async with self._hands:
            await asyncio.sleep(delay)
            await self._kill()

    async def _kill(self) -> None:
        begun = now()
        self._end()
        if self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.uniform(0, 2))
        await self.start()
        self._history.add(Harm(begun, now(), "provider killed"))

    def _end(self) -> None:
        self._ended_by_us = True
        self._provider.kill()

    async def _freeze(self) -> None:
        begun = now()
        self._provider.freeze()
        await asyncio.sleep(self._rng.choice([0.2, 1, 3]))
        self._provider.thaw()
        self._history.add(Harm(begun, now(), "provider frozen"))

    async def _fill(self) -> None:
        """Sometimes it is killed meanwhile, and sometimes started: then it may end by itself, as it should."""
        if not self._disk:
            return
        begun = now()
        self._disk.fill()
        await asyncio.sleep(self._rng.uniform(0.5, 4))
        if self._rng.random() < 0.4:
            self._end()
            if self._rng.random() < 0.5:
                await self.start()
                self._ended_by_us = True
        self._disk.free()
        await self.start()
        self._history.add(Harm(begun, now(), "disk full"))

    async def _step(self) -> None:
        if self._clock:
            self._set(self._clock, self._rng.choice(STEPS))

    def _set(self, clock: SteppedClock, offset: int) -> None:
        clock.set(offset)
        self._history.add(Harm(now(), now(), f"clock {offset:+d} s"))

    def _possible(self, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except Impossible as why:
            self.left_out.append(str(why))
            return None


async def to_its_end(work: Coroutine[object, object, None]) -> None:
    """Do it, and if this is cancelled meanwhile, do it all the same: half a harm cannot be healed."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
