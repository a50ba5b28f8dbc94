"""Each kind of fault, put into the engine as a patch: the simulation must find it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.process import ROOT

FAULTS = sorted((Path(__file__).parent / "faults").glob("*.patch"))
PARTS = ("common", "client", "controller", "plans", "protos", "providers", "tests/simulation")
SEEDS = 400
"""How many are played until one fails; most faults need fewer than thirty."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda path: path.stem)
def test_the_simulation_finds_it(fault: Path, tmp_path: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", str(fault)], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "tests.simulation.plans", "--seeds", str(SEEDS), "--until-found"]
    played = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert played.returncode == 1, f"not found: {played.stdout[-2000:]}{played.stderr[-2000:]}"
    assert "BROKEN" in played.stdout, played.stderr
