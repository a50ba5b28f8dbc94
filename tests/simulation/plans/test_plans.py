"""Random plans over real providers: killed engines and providers, deaf and slow guests, removed VMs. A seed that
fails is told with the command that plays it again. `make soak PLANS=2000` plays more."""

import pytest

from tests.simulation.plans.__main__ import failing
from tests.simulation.plans.play import play
from tests.simulation.plans.scenario import make

SEEDS, CHUNK = 500, 50


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_no_seed_breaks_an_invariant(first: int) -> None:
    failed = failing(range(first, first + CHUNK))
    assert not failed, failed[0]


def test_the_same_seed_is_the_same_history() -> None:
    assert play(make(3)).lines() == play(make(3)).lines()


def test_plans_are_of_up_to_200_vms() -> None:
    assert max(make(seed).vms for seed in range(1, 2000)) > 190
