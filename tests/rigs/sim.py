"""The sim's world from outside: `providers.sim.control`, and the guests' consoles."""

import subprocess
import sys
from pathlib import Path

from tests.rigs.process import ROOT


def control(world: Path, *words: str) -> str:
    """`python -m providers.sim.control --world WORLD WORDS`, and what it prints."""
    command = (sys.executable, "-m", "providers.sim.control", "--world", str(world), *words)
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def console(world: Path, name: str) -> str:
    """What a guest has printed."""
    return control(world, "console", name)
