"""`python -m tests.soak [--minutes M] [--seed N]`: history after history with real processes, each audited."""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tests.rigs.process import ROOT
from tests.soak.attack import HARMS
from tests.soak.history import Told, describe
from tests.soak.soak import GROUNDS, Case, Outcome, run

LOGS = ROOT / ".run" / "soak"
ALL = HARMS.union(*(ground.harms for ground in GROUNDS.values()))
SECONDS = {"sim": 30.0, "libvirt": 75.0}


def main() -> int:
    """0 if nothing is wrong with any history."""
    options = _options()
    seed, end = options.seed, time.monotonic() + options.minutes * 60
    outcomes = []
    while True:
        for ground in options.grounds:
            case = Case(ground, seed, options.seconds or SECONDS[ground], frozenset(options.harms))
            outcomes.append(tell(case, asyncio.run(run(case))))
            if time.monotonic() >= end:
                return _summary(outcomes)
        seed += 1


def tell(case: Case, outcome: Outcome) -> Outcome:
    """Print what came of a history: a line, or all that is wrong, the VM's history, and how to replay."""
    calls = sum(type(record).__name__ == "Call" for record in outcome.history.records)
    ended = Counter(told.outcome for told in _ends(outcome))
    words = ", ".join(f"{count} {name}" for name, count in ended.most_common())
    print(f"{case}: {calls} calls, harms {' '.join(sorted(case.harms)) or 'none'}; {words}", flush=True)
    for line in outcome.left_out:
        print(f"  not done here: {line}", flush=True)
    if outcome.findings:
        print(explain(case, outcome), flush=True)
    return outcome


def explain(case: Case, outcome: Outcome) -> str:
    """All that is wrong with a history, the history of the first VM concerned, and how to replay it."""
    file = LOGS / f"{case.ground}-{case.seed}.jsonl"
    outcome.history.save(file)
    lines = [f"  {each.at - outcome.began:8.3f}  {each.vm}: {each.invariant}: {each.text}" for each in outcome.findings]
    vm = outcome.findings[0].vm
    lines += [f"history of {vm}:", *describe(outcome.history.records, vm, outcome.began)]
    allowed = ",".join(sorted(case.allowed))
    lines.append(f"all of it: {file}")
    lines.append(
        f"replay: python -m tests.soak --minutes 0 --grounds {case.ground} --seed {case.seed} "
        f"--seconds {case.seconds:g} --harms {allowed}"
    )
    return "\n".join(lines)


def _ends(outcome: Outcome) -> list[Told]:
    ends = {record.operation: record for record in outcome.history.records if isinstance(record, Told) and record.final}
    return list(ends.values())


def _summary(outcomes: Sequence[Outcome]) -> int:
    wrong = Counter(finding.invariant for outcome in outcomes for finding in outcome.findings)
    ends = [told for outcome in outcomes for told in _ends(outcome)]
    broken = sum(bool(outcome.findings) for outcome in outcomes)
    print(f"{len(outcomes)} histories, {len(ends)} operations ended, {broken} histories with something wrong")
    print("outcomes: " + ", ".join(f"{count} {name}" for name, count in Counter(t.outcome for t in ends).most_common()))
    for invariant, count in wrong.most_common():
        print(f"  {count:4} x {invariant}")
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="begin no further history after so long")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000, help="of the first history")
    parser.add_argument("--grounds", type=_names(GROUNDS), default=list(GROUNDS), help=",".join(GROUNDS))
    parser.add_argument("--seconds", type=float, help="how long each history is harmed")
    parser.add_argument("--harms", type=_names(ALL), default=sorted(ALL), help=",".join(sorted(ALL)))
    return parser.parse_args()


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{unknown} is none of {','.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
