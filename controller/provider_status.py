"""What is written down about a provider."""

from datetime import datetime

from controller.models import Provider
from controller.power import Client, Info
from controller.status import Statement, conditions
from controller.status_models import ProviderStatus


def provider_status(provider: Provider, client: Client, now: datetime) -> ProviderStatus:
    """The whole status as of now; unchanged while it is not yet known whether the provider answers."""
    if client.reachable is None:
        return provider.status
    reachable, info = client.reachable, client.info if client.reachable else _as_before(provider.status)
    said = Statement("True", "Connected") if reachable else Statement("False", "ProviderUnreachable", client.problem)
    return provider.status.model_copy(
        update={
            "phase": "Ready" if reachable else "Unreachable",
            "observed_generation": provider.metadata.generation,
            "version": info.version,
            "vm_count": info.vm_count,
            "conditions": conditions(provider.status.conditions, {"Ready": said}, now),
        }
    )


def _as_before(status: ProviderStatus) -> Info:
    return Info(version=status.version, vm_count=status.vm_count)
