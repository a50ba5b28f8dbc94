"""What is written down about a provider."""

from datetime import datetime

from controller.models import Provider
from controller.provider_api import Client
from controller.status import Statement, conditions
from controller.status_models import Capabilities, ProviderStatus


def provider_status(provider: Provider, client: Client, declared: int, now: datetime) -> ProviderStatus:
    """The whole status as of now, with `declared` resources that name it; unchanged while it is not yet known
    whether the provider answers. What one that is away said of itself stays."""
    if client.reachable is None:
        return provider.status
    reachable, generation = client.reachable, provider.metadata.generation
    said = Statement("True", "Connected") if reachable else Statement("False", "ProviderUnreachable", client.problem)
    return provider.status.model_copy(
        update=(_about(client) if reachable else {})
        | {
            "phase": "Ready" if reachable else "Unreachable",
            "observed_generation": generation,
            "declared_count": declared,
            "conditions": conditions(provider.status.conditions, {"Ready": said}, now, generation),
        }
    )


def _about(client: Client) -> dict[str, object]:
    info = client.info
    able = Capabilities(signals=info.signals, guest_exec=info.guest_exec, snapshot=info.snapshot)
    return {"type": info.type, "version": info.version, "capabilities": able, "vm_count": len(client.cache)}
