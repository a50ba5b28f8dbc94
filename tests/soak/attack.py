"""What is done to a provider's process, its disk and its clock, at random moments."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.rigs.process import Provider
from tests.soak.history import Harm, History, now

HARMS = frozenset({"kill", "strike", "freeze", "disk", "clock"})
DISK = "4m"
"""The size of the disk that fills up: a journal of some hundred operations needs less than half of it."""
STEPS = (-3600, -3600, 0, 3600, 3600)
FIRST = 0.02
"""Seconds after a request within which a provider is struck."""
STRUCK = 0.08
"""How likely a request is to be one."""
STARTING = 20.0
"""Seconds that a provider may take to serve; it does not while its hypervisor or its disk is away."""
LIBRARIES = Path("/usr/lib")


class Attack:
    """One provider's process: it is killed, frozen and started again, its disk fills up, its clock steps.

    `harms` are those of HARMS that are to be done; what cannot be done here is left out, and `left_out` says why.
    """

    def __init__(self, provider: Provider, history: History, harms: frozenset[str], rng: Random) -> None:
        self.left_out: list[str] = []
        self._provider, self._history, self._rng = provider, history, rng
        self._state = provider.folder / "state"
        self._clock = provider.folder / "clock"
        self._hands = asyncio.Lock()
        self._strikes: set[asyncio.Task[None]] = set()
        self._mounted = False
        self._killed = True
        """Or not started yet: it did not end by itself."""
        self.harms = harms & HARMS
        self._state.mkdir(mode=0o700)
        if "disk" in self.harms:
            self._mount()
        if "clock" in self.harms:
            self._preload()

    async def start(self) -> None:
        """Start the provider and wait until it serves; one that does not serve yet is left to itself."""
        if not self._provider.runs() and not self._killed:
            self._history.add(Harm(now(), now(), "provider had ended by itself"))
        self._killed = False
        with suppress(RuntimeError):
            await asyncio.to_thread(self._provider.start, STARTING)

    async def go_on(self) -> None:
        """Do one thing after the other, for ever."""
        deeds = {"kill": self._kill, "freeze": self._freeze, "disk": self._fill, "clock": self._step}
        plain = sorted(self.harms - {"strike"})
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 4))
            await to_its_end(self._do(deeds[self._rng.choice(plain)] if plain else self.start))

    async def _do(self, deed: Callable[[], Awaitable[None]]) -> None:
        async with self._hands:
            await deed()
            if not self._provider.runs():
                await self.start()

    def on_sent(self) -> None:
        """A request is under way: perhaps this is the moment."""
        if "strike" in self.harms and self._rng.random() < STRUCK and not self._hands.locked():
            task = asyncio.create_task(self._strike(self._rng.uniform(0, FIRST)))
            self._strikes.add(task)
            task.add_done_callback(self._strikes.discard)

    async def heal(self) -> None:
        """The disk is free, the clock is right, the provider runs."""
        async with self._hands:
            (self._state / "filler").unlink(missing_ok=True)
            if "clock" in self.harms:
                self._set_clock(0)
            await self.start()

    async def kill_once_more(self) -> None:
        """What was told must be found again."""
        async with self._hands:
            await self._kill()

    def close(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "--lazy", self._state], check=True)

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
        self._killed = True
        self._provider.kill()

    async def _freeze(self) -> None:
        begun = now()
        self._provider.freeze()
        try:
            await asyncio.sleep(self._rng.choice([0.2, 1, 3]))
        finally:
            self._provider.thaw()
        self._history.add(Harm(begun, now(), "provider frozen"))

    async def _fill(self) -> None:
        begun, filler = now(), self._state / "filler"
        try:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)
            await asyncio.sleep(self._rng.uniform(0.5, 4))
            if self._rng.random() < 0.4:
                self._end()
                await asyncio.sleep(self._rng.uniform(0, 1))
                if self._rng.random() < 0.5:
                    await self.start()
        finally:
            filler.unlink(missing_ok=True)
        await self.start()
        self._history.add(Harm(begun, now(), "disk full"))

    async def _step(self) -> None:
        self._set_clock(self._rng.choice(STEPS))

    def _set_clock(self, offset: int) -> None:
        new = self._clock.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.replace(self._clock)
        self._history.add(Harm(now(), now(), f"clock {offset:+d} s"))

    def _mount(self) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "vmpower-soak", str(self._state)]
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
        if mounted.returncode:
            self.harms -= {"disk"}
            self.left_out.append(f"disk: a small tmpfs cannot be mounted here ({mounted.stderr.strip()})")
        self._mounted = not mounted.returncode

    def _preload(self) -> None:
        libraries = sorted(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            self.harms -= {"clock"}
            self.left_out.append("clock: libfaketime is not installed (tests/rigs/packages.sh CACHE libfaketime)")
            return
        self._clock.write_text("+0\n")
        self._provider.env |= {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nor CLOCK_BOOTTIME: test_attack.py
        }


async def to_its_end(work: Coroutine[object, object, None]) -> None:
    """Do it, and if this is cancelled meanwhile, do it all the same: half a harm cannot be healed."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
