"""What came of histories, for people."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.rigs.process import ROOT
from tests.soak.history import Call, Told, describe
from tests.soak.soak import Case, Outcome

LOGS = ROOT / ".run" / "soak"


def line(case: Case, outcome: Outcome) -> str:
    """One line for a history."""
    calls = sum(isinstance(record, Call) for record in outcome.history.records)
    harms = " ".join(sorted(case.harms)) or "none"
    return f"{case}: {calls} calls, harms: {harms}; {_outcomes(_ends(outcome))}"


def save(case: Case, outcome: Outcome) -> Path:
    """Keep all of a history, a record a line; the file."""
    file = LOGS / f"{case.ground}-{case.seed}.jsonl"
    outcome.history.save(file)
    return file


def explain(case: Case, outcome: Outcome) -> str:
    """All that is wrong with a history, the history of the first VM concerned, and how to live through it again."""
    vm = outcome.findings[0].vm
    return "\n".join(
        (
            f"{case}: {len(outcome.findings)} things are wrong:",
            *(f"{each.at - outcome.began:8.3f}  {each.vm}: {each.invariant}: {each.text}" for each in outcome.findings),
            f"history of {vm}:",
            *describe(outcome.history.records, vm, outcome.began),
            f"all of it: {save(case, outcome)}",
            f"again: python -m tests.soak --minutes 0 --grounds {case.ground} --seed {case.seed} "
            f"--seconds {case.seconds:g} --harms {','.join(sorted(case.allowed))}",
        )
    )


def summary(outcomes: Sequence[Outcome]) -> str:
    """All histories together: how operations ended, and what was wrong how often."""
    ends = [told for outcome in outcomes for told in _ends(outcome)]
    wrong = Counter(finding.invariant for outcome in outcomes for finding in outcome.findings)
    broken = sum(bool(outcome.findings) for outcome in outcomes)
    return "\n".join(
        (
            f"{len(outcomes)} histories, {len(ends)} operations ended: {_outcomes(ends)}",
            f"{broken} histories with something wrong",
            *(f"{count:5} x {invariant}" for invariant, count in wrong.most_common()),
        )
    )


def _ends(outcome: Outcome) -> list[Told]:
    ends = {record.operation: record for record in outcome.history.records if isinstance(record, Told) and record.final}
    return list(ends.values())


def _outcomes(ends: Sequence[Told]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(told.outcome for told in ends).most_common())
