"""The command line of a simulation: many seeds, or one whose history is printed."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    """What happened in the simulation of a seed, as lines, and the invariants that it broke."""

    lines: Sequence[str]
    broken: Sequence[str]


def run(description: str | None, see: Callable[[int], Seen], play_many: Callable[[range], int]) -> None:
    """Exit with 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one alone, and print its history")
    parser.add_argument("--until-found", action="store_true", help="stop at the first that fails, and use one process")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        sys.exit(_show(see(arguments.seed)))
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    sys.exit(_find(see, seeds) if arguments.until_found else play_many(seeds))


def _show(seen: Seen) -> int:
    print(*seen.lines, *(f"BROKEN: {line}" for line in seen.broken), sep="\n")
    return 1 if seen.broken else 0


def _find(see: Callable[[int], Seen], seeds: range) -> int:
    for seed in seeds:
        if broken := see(seed).broken:
            print(f"seed {seed}", *(f"BROKEN: {line}" for line in broken), sep="\n")
            return 1
    return 0
