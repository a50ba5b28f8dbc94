"""The status of a provider. Pure."""

from datetime import datetime

from controller.client import ProviderClient
from controller.fields import word
from controller.models import Provider
from controller.status import Statement, conditions
from controller.status_models import Capabilities, ProviderStatus
from protos.power.v1 import power_pb2 as pb


def provider_status(provider: Provider, client: ProviderClient, declared: int, now: datetime) -> ProviderStatus:
    """The whole status as of now; `declared` is how many resources name it. Unchanged until it is known whether the
    provider answers; while it does not, its type and capabilities stay as they were."""
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


def _about(client: ProviderClient) -> dict[str, object]:
    info = client.info
    signals = tuple(word(pb.Signal, signal) for signal in info.signals)
    able = Capabilities(signals=signals, guest_exec=info.guest_exec, snapshot=info.snapshot)
    return {"type": info.type, "version": info.version, "capabilities": able, "vm_count": len(client.cache)}
