"""Each kind of fault, put back as a patch: the simulation must find it."""

from pathlib import Path

import pytest

from tests.simulation.put_back import must_find

FAULTS = sorted((Path(__file__).parent / "faults").glob("*.patch"))
SEEDS = 4000
"""How many are played until one fails; most faults need fewer than a hundred."""
FIRST = {
    "a-clock-that-was-set-between-processes-counts": 1910,
    "a-cut-without-a-look": 1330,
    "a-guest-that-goes-down-is-pressed": 2110,
    "a-power-on-does-not-watch": 890,
    "a-reboot-forgets-how-it-went-down": 2040,
    "a-start-that-did-nothing-is-told-as-a-cut": 322820,
    "a-vm-is-said-to-run-from-memory": 15860,
    "a-refusal-after-a-lost-answer-counts": 729,
    "a-save-is-repeated-without-a-look": 3450,
    "an-extension-is-answered-before-the-hypervisor-gave-its-deadline-back": 160,
    "an-end-is-forgotten-before-it-is-on-disk": 177,
    "another-run-is-cut": 174,
    "hooks-run-without-their-record": 915,
    "that-it-runs-is-noted-only-as-it-is-told": 319360,
    "the-wall-clock-counts": 236,
    "what-is-not-on-disk-is-told": 68,
    "what-may-have-been-asked-is-deaf": 19640,
    "what-others-did-is-not-looked-for": 149,
    "what-superseded-by-hand-is-not-looked-for": 1517,
    "what-the-controller-could-not-do-is-forgotten": 540,
}
"""Where rarer ones are found soon."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda path: path.stem)
def test_the_simulation_finds_it(fault: Path, tmp_path: Path) -> None:
    must_find("tests.simulation", fault, tmp_path, SEEDS, FIRST.get(fault.stem, 1))
