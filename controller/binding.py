"""Which VM a resource is bound to. Pure.

A resource is bound to the first VM that its spec leads to, by the VM's id. Another VM under the same name is left alone
until the owner rebinds the resource to it.
"""

from dataclasses import dataclass
from datetime import datetime

from controller.annotations import REBIND
from controller.models import VirtualMachine
from controller.status_models import Binding
from protos.power.v1 import power_pb2 as pb

UNIQUE_IDS = {"libvirt", "vsphere"}
"""Types of hypervisors whose VMs have UUIDs: the same id is the same VM, whatever endpoint it is reached by. The ids of
others (Proxmox VE counts from 100) are unique within one endpoint."""
MAX_SHOWN = 64
"""Characters of an id that somebody has written."""
Identity = tuple[str, str]
"""A hypervisor, as `hypervisor_of` names it, and the id of a VM there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a VM was found: the uid of its Provider, and the hypervisor."""

    provider: str
    hypervisor: str


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the VM is not this resource's to act upon: a CamelCase word, and a sentence that says who acts next."""

    reason: str
    message: str


def undeclared(resource: VirtualMachine) -> str:
    """For people: the Provider that the resource names is not declared."""
    return f"No Provider {resource.spec.provider_ref.name!r} is declared; declare it or mend spec.providerRef."


def hypervisor_of(info: pb.GetProviderInfoResponse) -> str:
    """What the ids of its VMs are unique within: the type of the hypervisor, with its endpoint where that counts."""
    return info.type if info.type in UNIQUE_IDS else f"{info.type} {info.endpoint}".rstrip()


def identities(hypervisor: str, vm_id: str) -> frozenset[Identity]:
    """What names this VM and no other: one for each address of the endpoint, as a cluster has several."""
    kind, _, endpoint = hypervisor.partition(" ")
    return frozenset((f"{kind} {address}".rstrip(), vm_id) for address in endpoint.split(","))


def is_bound_to(binding: Binding, place: Place, vm_id: str) -> bool:
    """Whether `binding` is to the VM of this id in this place."""
    return not identities(binding.hypervisor, binding.id).isdisjoint(identities(place.hypervisor, vm_id))


def resolve(resource: VirtualMachine, place: Place, named: pb.VM | None, now: datetime) -> Binding | Obstacle | None:
    """The binding of a resource, new or as it was; None: there is no VM to bind it to.

    Args:
        resource: with its status as last written.
        place: where its spec leads.
        named: the VM that the spec names there.
        now: when a new binding begins; aware.
    """
    bound = resource.status.vm
    if bound is None:
        return _bind(resource, place, named.id, now) if named else None
    if named and is_bound_to(bound, place, named.id):
        return _renewed(bound, resource, place)
    if named and resource.metadata.rebind == named.id:
        return _bind(resource, place, named.id, now, after=resource)
    moved = not is_bound_to(bound, place, bound.id)
    if named or moved or bound.name != resource.vm_name:
        return _replaced(resource, bound, place, named)
    return bound  # it was renamed at its hypervisor, or is not there


def _bind(
    resource: VirtualMachine, place: Place, vm_id: str, now: datetime, after: VirtualMachine | None = None
) -> Binding:
    return Binding(
        provider=place.provider,
        hypervisor=place.hypervisor,
        id=vm_id,
        provider_ref=resource.provider_name,
        name=resource.vm_name,
        since=now,
        first_attempt=_attempts(after) + 1 if after else 1,
    )


def _attempts(resource: VirtualMachine) -> int:
    """How many numbers of attempts the VMs that it was bound to have used up, at most."""
    record, bound = resource.status.operation, resource.status.vm
    return max(record.attempt if record else 0, bound.first_attempt if bound else 0)


def _renewed(bound: Binding, resource: VirtualMachine, place: Place) -> Binding:
    """The same VM, perhaps by another name, address or Provider."""
    return bound.model_copy(
        update={
            "provider": place.provider,
            "hypervisor": place.hypervisor,
            "provider_ref": resource.provider_name,
            "name": resource.vm_name,
        }
    )


def _replaced(resource: VirtualMachine, bound: Binding, place: Place, named: pb.VM | None) -> Obstacle:
    moved = not is_bound_to(bound, place, bound.id)
    leads = f"Provider {resource.provider_name}" + (f" now leads to {place.hypervisor}, which" if moved else "")
    has = f"has another VM named {resource.vm_name!r}: {named.id}" if named else f"has no VM {resource.vm_name!r}"
    remedy = f"annotate it {REBIND}={named.id} if that VM is meant" if named else "mend the spec or the Provider"
    if wrong := resource.metadata.rebind:
        has += f", and {REBIND} names {wrong[:MAX_SHOWN]!r}, which is not it"
    return Obstacle(
        "Replaced",
        f"This resource is bound to VM {bound.id} of {bound.hypervisor}. {leads} {has}. Nothing is done: {remedy}, or "
        "delete this resource and declare another.",
    )
