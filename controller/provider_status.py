"""The status of a provider. Pure."""

from datetime import datetime

from controller.client import NO_ENDPOINT, ProviderClient
from controller.fields import word
from controller.models import Provider
from controller.status_models import Capabilities, ProviderStatus, Statement, conditions
from protos.power.v1 import power_pb2 as pb


def provider_status(
    provider: Provider, client: ProviderClient, declared: int, bound: int, now: datetime
) -> ProviderStatus:
    """The whole status as of now; `declared` is how many resources name it, `bound` how many are bound to its VMs.
    Unchanged until it is known whether the provider answers; while it does not, its type and capabilities stay as they
    were."""
    if client.reachable is None:
        return provider.status
    reachable, generation = client.reachable, provider.metadata.generation
    statements = {
        "Ready": _ready(client),
        "ProviderReachable": _provider(client),
        "HypervisorReachable": _hypervisor(client),
        "InUse": _in_use(provider, bound),
    }
    return provider.status.model_copy(
        update=(_about(client) if reachable else {})
        | {
            "phase": _phase(client),
            "observed_generation": generation,
            "declared_count": declared,
            "conditions": conditions(provider.status.conditions, statements, now, generation),
        }
    )


def _phase(client: ProviderClient) -> str:
    if client.hypervisor_problem:
        return "HypervisorUnreachable"
    if client.reason == NO_ENDPOINT:
        return NO_ENDPOINT
    return "Ready" if client.reachable else "Unreachable"


def _ready(client: ProviderClient) -> Statement:
    if client.hypervisor_problem:
        return _hypervisor(client)
    return _provider(client)


def _provider(client: ProviderClient) -> Statement:
    if client.reachable or client.hypervisor_problem:
        return Statement("True", "Connected")
    return Statement("False", client.reason, client.problem)


def _hypervisor(client: ProviderClient) -> Statement:
    if client.hypervisor_problem:
        return Statement("False", "HypervisorUnreachable", client.hypervisor_problem)
    if client.reachable:
        return Statement("True", "Connected")
    return Statement("Unknown", client.reason, "Its provider cannot be asked.")


def _in_use(provider: Provider, bound: int) -> Statement | None:
    """Of a Provider that is deleted and has to wait."""
    if not provider.metadata.leaving or not bound:
        return None
    message = f"It is deleted, and goes when the {bound} VirtualMachines that are bound to its VMs are gone."
    return Statement("True", "Deleted", message)


def _about(client: ProviderClient) -> dict[str, object]:
    info = client.info
    signals = tuple(word(pb.Signal, signal) for signal in info.signals)
    able = Capabilities(signals=signals, guest_exec=info.guest_exec, snapshot=info.snapshot)
    return {"type": info.type, "version": info.version, "capabilities": able, "vm_count": len(client.cache)}
