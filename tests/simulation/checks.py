"""All that must hold after every simulation."""

from tests.simulation.declared_invariants import DECLARED_INVARIANTS
from tests.simulation.invariants import INVARIANTS
from tests.simulation.play import History


def violations(history: History) -> list[str]:
    """All breaches, as sentences."""
    return [line for invariant in (*INVARIANTS, *DECLARED_INVARIANTS) for line in invariant(history)]
