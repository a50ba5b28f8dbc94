"""`python -m tests.simulation --seeds 20000`: play many seeds; `--seed N`: play one, and print all that happened."""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.checks import violations
from tests.simulation.play import play
from tests.simulation.scenario import make
from tests.simulation.shrink import shrink

CHUNK = 100


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


def _show(seed: int) -> int:
    history = play(make(seed))
    broken = violations(history)
    print("\n".join(history.lines()))
    for line in broken:
        print("BROKEN:", line)
    return 1 if broken else 0


def _find(seeds: range) -> int:
    for seed in seeds:
        if broken := violations(play(make(seed))):
            print(f"seed {seed}", *(f"BROKEN: {line}" for line in broken), sep="\n")
            return 1
    return 0


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
    main()
