"""`python -m tests.simulation.plans --seeds 2000`: play many runs; `--seed N`: play one, and print what happened."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.command import Seen, run
from tests.simulation.plans.invariants import violations
from tests.simulation.plans.play import play
from tests.simulation.plans.scenario import make

CHUNK = 50


def see(seed: int) -> Seen:
    played = play(make(seed))
    return Seen(played.lines(), violations(played))


def failing(seeds: Sequence[int]) -> list[str]:
    """A report of each that breaks an invariant."""
    return [report for seed in seeds if (report := _report(seed))]


def _report(seed: int) -> str:
    broken = see(seed).broken
    if not broken:
        return ""
    return "\n".join([f"seed {seed} (python -m tests.simulation.plans --seed {seed}):", *broken])


def _play_many(seeds: range) -> int:
    began, found = time.monotonic(), list[str]()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for reports in pool.map(failing, chunks):
            found += reports
            print(*reports, sep="\n", end="\n" if reports else "", flush=True)
    print(f"{len(seeds)} runs in {time.monotonic() - began:.0f} s, {len(found)} broken")
    return bool(found)


if __name__ == "__main__":
    run(__doc__, see, _play_many)
