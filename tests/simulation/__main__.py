"""`python -m tests.simulation --seeds 20000`: play many seeds; `--seed N`: play one, and print all that happened."""

import os
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.checks import violations
from tests.simulation.command import Seen, run
from tests.simulation.play import play
from tests.simulation.scenario import make
from tests.simulation.shrink import shrink

CHUNK = 100


def see(seed: int) -> Seen:
    history = play(make(seed))
    return Seen(history.lines(), violations(history))


def _play_many(seeds: range) -> int:
    began, failed = time.monotonic(), list[int]()
    chunks = [seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for n, found in enumerate(pool.map(failing, chunks), 1):
            failed += found
            if n % 10 == 0 or n == len(chunks):
                print(f"{n * CHUNK:7} seeds, {time.monotonic() - began:6.0f} s, {len(failed)} failed", flush=True)
    for seed in failed[:5]:
        print(report(seed))
    print(f"{len(seeds)} seeds, {len(failed)} failed: {failed[:50]}")
    return 1 if failed else 0


def failing(seeds: range) -> list[int]:
    """Those of these seeds that break an invariant."""
    return [seed for seed in seeds if violations(play(make(seed)))]


def report(seed: int) -> str:
    """What a failing seed breaks, how to see it again, and the smallest scenario that still breaks it."""
    smallest = shrink(make(seed), lambda scenario: bool(violations(play(scenario))))
    history = play(smallest)
    return "\n".join(
        [
            f"seed {seed}; replay: python -m tests.simulation --seed {seed}",
            *(f"  BROKEN: {line}" for line in violations(history)),
            f"  the smallest scenario that breaks it: {smallest}",
            *(f"  {line}" for line in history.lines()),
        ]
    )


if __name__ == "__main__":
    run(__doc__, see, _play_many)
