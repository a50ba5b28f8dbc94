from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from providers.core.adapter import VM
from tests.unit.providers.finisher import WEB, Finisher, FinisherProvider, MakeFinisher
from tests.unit.providers.world import Make, Provider, ProviderOf, make_world


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
        await end(provider)


@pytest.fixture
async def make_finisher(tmp_path: Path) -> AsyncIterator[MakeFinisher]:
    """Starts a provider on a hypervisor that finishes shutdowns by itself: `await make_finisher(takes=20)`."""
    made = list[FinisherProvider]()

    async def make(vm: VM = WEB, takes: float | None = None) -> FinisherProvider:
        hypervisor = Finisher(vm, takes)
        provider = FinisherProvider(lambda: hypervisor, tmp_path / "state")
        made.append(provider)
        await provider.start()
        return provider

    yield make
    for provider in made:
        await end(provider)


async def end(provider: ProviderOf[Any]) -> None:
    if provider.running:
        await provider.kill()
    await provider.adapter.close()
