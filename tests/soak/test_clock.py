"""A stepped clock steps for the wall alone."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.clock import SteppedClock
from tests.soak.ground import Impossible

TELL = """
import sys, time
for _ in sys.stdin:
    print(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)
"""


class Clocks:
    """A process with this clock, and what it reads: wall, monotonic, since boot."""

    def __init__(self, clock: SteppedClock) -> None:
        command = [sys.executable, "-c", TELL]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(clock.env)
        )

    def read(self) -> tuple[float, ...]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return tuple(map(float, self.process.stdout.readline().split()))


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    try:
        return SteppedClock(tmp_path / "clock")
    except Impossible as why:
        pytest.skip(str(why))


@pytest.fixture
def clocks(clock: SteppedClock) -> Iterator[Clocks]:
    clocks = Clocks(clock)
    yield clocks
    clocks.process.communicate()


@pytest.mark.parametrize("step", [3600, -3600])
def test_the_wall_clock_steps_and_no_other(clock: SteppedClock, clocks: Clocks, step: int) -> None:
    before = clocks.read()
    clock.set(step)
    after = clocks.read()
    assert [round(new - old) for old, new in zip(before, after, strict=True)] == [step, 0, 0]
