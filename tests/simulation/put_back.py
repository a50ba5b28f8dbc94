"""Faults that were mended, put back as patches: a simulation must find each."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.rigs.process import ROOT

PARTS = ("common", "client", "controller", "plans", "protos", "providers", "tests/simulation")


def must_find(module: str, fault: Path, folder: Path, seeds: int, first: int = 1) -> None:
    """Put a fault back, as a patch, into a copy of the product in `folder`: the simulation must find it.

    Raises:
        AssertionError: none of so many seeds does.
    """
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", str(fault)], cwd=folder, check=True)
    command = [sys.executable, "-m", module, "--seeds", str(seeds), "--first", str(first), "--until-found"]
    played = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert played.returncode == 1, f"not found: {played.stdout[-2000:]}{played.stderr[-2000:]}"
    assert "BROKEN" in played.stdout, played.stderr
