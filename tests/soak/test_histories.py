"""Random histories with real processes on the sim.

`make soak MINUTES=30` does more of the same, on real guests and on the Proxmox VE rig too. What fails names its seed,
and how to live through it again.
"""

import asyncio
import itertools
import random
import time

import pytest

from tests.soak.report import explain
from tests.soak.soak import ALL, SECONDS, Case, run

SECONDS_EACH = 120
LONGEST = 150
"""Seconds that a history may take to begin and to settle, beside those in which it is harmed."""


@pytest.mark.timeout(SECONDS_EACH + LONGEST)
@pytest.mark.parametrize("ground", ["sim"])
def test_no_history_breaks_an_invariant(ground: str) -> None:
    end, first = time.monotonic() + SECONDS_EACH, random.randrange(1_000_000)
    for seed in itertools.count(first):
        case = Case(ground, seed, SECONDS[ground], ALL)
        print(case)
        outcome = asyncio.run(run(case))
        assert not outcome.findings, explain(case, outcome)
        if time.monotonic() + SECONDS[ground] > end:
            return
