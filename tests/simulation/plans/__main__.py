"""`python -m tests.simulation.plans --seeds 2000`: play many runs; `--seed N`: play one, and print what happened."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.plans.invariants import violations
from tests.simulation.plans.play import play
from tests.simulation.plans.scenario import make

CHUNK = 50


def main() -> None:
    """Exit with 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one alone, and print its history")
    parser.add_argument("--until-found", action="store_true", help="stop at the first that fails, and use one process")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        sys.exit(_show(arguments.seed))
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    sys.exit(_find(seeds) if arguments.until_found else _play_many(seeds))


def failing(seeds: Sequence[int]) -> list[str]:
    """A report of each that breaks an invariant."""
    return [report for seed in seeds if (report := _report(seed))]


def _report(seed: int) -> str:
    broken = violations(play(make(seed)))
    if not broken:
        return ""
    return "\n".join([f"seed {seed} (python -m tests.simulation.plans --seed {seed}):", *broken])


def _find(seeds: range) -> int:
    for seed in seeds:
        if report := _report(seed):
            print("BROKEN", report)
            return 1
    return 0


def _play_many(seeds: range) -> int:
    began, found = time.monotonic(), list[str]()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for reports in pool.map(failing, chunks):
            found += reports
            print(*reports, sep="\n", end="\n" if reports else "", flush=True)
    print(f"{len(seeds)} runs in {time.monotonic() - began:.0f} s, {len(found)} broken")
    return bool(found)


def _show(seed: int) -> int:
    played = play(make(seed))
    print(*played.lines(), sep="\n")
    broken = violations(played)
    print(*(f"BROKEN {line}" for line in broken), sep="\n")
    return bool(broken)


if __name__ == "__main__":
    main()
