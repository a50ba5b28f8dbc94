"""What happens in a scenario, as data."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens `at` so many seconds: a request of a client, or harm. `how` has what it needs."""

    at: float
    what: str
    vm: str = ""
    how: tuple[tuple[str, Any], ...] = ()

    def __getitem__(self, name: str) -> Any:
        return dict(self.how)[name]
