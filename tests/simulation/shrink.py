"""The smallest scenario that still fails."""

from collections.abc import Callable

from tests.simulation.scenario import Scenario


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """Leave out what is not needed for the failure: first halves of the acts, then one act after the other."""
    size = max(len(scenario.acts) // 2, 1)
    while size:
        start = 0
        while start < len(scenario.acts):
            smaller = scenario.without(set(range(start, start + size)))
            if fails(smaller):
                scenario = smaller
            else:
                start += size
        size //= 2
    return scenario
