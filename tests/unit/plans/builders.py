"""A plan in a few words, and where there is one thread only."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from plans.model import PlanSpec

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


async def here(call: Callable[[], None]) -> None:
    """Where there is one thread only."""
    call()


def plan(*tiers: Mapping[str, Any], total: str = "10m", reserve: str = "1m", **more: Any) -> PlanSpec:
    budget = {"total": total, "reserve": reserve}
    return PlanSpec.model_validate({"budget": budget, "tiers": list(tiers), "others": "Ignore"} | more)


def tier(name: str, *vms: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "members": [{"vms": list(vms)}]} | more
