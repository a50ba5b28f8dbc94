"""Wall-clock time, injectable so that tests can run in virtual time."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the moment now, in UTC."""


def system_clock() -> datetime:
    """The machine's own clock."""
    return datetime.now(UTC)
