from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.providers.world import Make, Provider, make_world


@pytest.fixture
async def make_provider(tmp_path: Path) -> AsyncIterator[Make]:
    """Starts a provider whose guests follow the given scripts: `await make_provider(web={"acpi": "none"})`."""
    made = list[Provider]()

    async def make(settings: dict[str, Any] | None = None, **guests: Any) -> Provider:
        world = make_world(**(guests or {"web": {}}))
        provider = Provider(world, tmp_path / f"state{len(made)}", **(settings or {}))
        made.append(provider)
        await provider.start()
        return provider

    yield make
    for provider in made:
        if provider.running:
            await provider.kill()
        await provider.adapter.close()
