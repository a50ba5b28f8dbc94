"""Each kind of fault, put into the engine as a patch: the simulation must find it."""

from pathlib import Path

import pytest

from tests.simulation.put_back import must_find

FAULTS = sorted((Path(__file__).parent / "faults").glob("*.patch"))
SEEDS = 400
"""How many are played until one fails; most faults need fewer than thirty."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda path: path.stem)
def test_the_simulation_finds_it(fault: Path, tmp_path: Path) -> None:
    must_find("tests.simulation.plans", fault, tmp_path, SEEDS)
