"""Pauses between attempts."""

import random
from collections.abc import Callable


class Backoff:
    """Pauses that double from `first` to `longest` seconds, each shortened by up to half at random,
    so that clients which failed together do not come back together."""

    def __init__(self, first: float, longest: float, chance: Callable[[], float] | None = None) -> None:
        self._first, self._longest, self._chance = first, longest, chance or random.random
        self._failures = 0

    def next(self) -> float:
        pause = min(self._first * (1 << min(self._failures, 30)), self._longest)
        self._failures += 1
        return pause * (1 - self._chance() / 2)

    def reset(self) -> None:
        self._failures = 0
