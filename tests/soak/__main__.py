"""`python -m tests.soak [--minutes M] [--seed N]`: history after history with real processes, each audited."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterable

from tests.soak.report import explain, line, save, summary
from tests.soak.soak import ALL, GROUNDS, SECONDS, Case, Outcome, run


def main() -> int:
    """0 if nothing is wrong with any history."""
    options = _options()
    end, outcomes = time.monotonic() + options.minutes * 60, list[Outcome]()
    seed = options.seed
    while not outcomes or time.monotonic() < end:
        for ground in options.grounds:
            case = Case(ground, seed, options.seconds or SECONDS[ground], frozenset(options.harms))
            outcomes.append(_tell(case, asyncio.run(run(case))))
        seed += 1
    print(summary(outcomes))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _tell(case: Case, outcome: Outcome) -> Outcome:
    save(case, outcome)
    print(line(case, outcome), flush=True)
    for why in outcome.left_out:
        print(f"  left out: {why}", flush=True)
    if outcome.findings:
        print(explain(case, outcome), flush=True)
    return outcome


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="begin no further round after so long")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000, help="of the first round")
    parser.add_argument("--grounds", type=_names(GROUNDS), default=list(GROUNDS), help=",".join(GROUNDS))
    parser.add_argument("--seconds", type=float, help="how long each history is harmed")
    parser.add_argument("--harms", type=_names(ALL), default=ALL, help=",".join(sorted(ALL)))
    return parser.parse_args()


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
