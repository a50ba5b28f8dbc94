"""What a plan of a namespace may mean: the Providers beside it, and the VirtualMachines beside it that its selectors
choose. Pure.

Who writes plans in a namespace gets no more than who writes VirtualMachines there: of a Provider of another namespace
only VMs that a VirtualMachine may be about by that Provider's `spec.access`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.access import refusal
from controller.convert import shutdown_request
from controller.models import Provider, VirtualMachine
from plans.members import Declared, Violation
from plans.model import Others, PlanSpec
from protos.power.v1 import power_pb2 as pb

Find = Callable[[VirtualMachine], tuple[Provider, pb.VM | None] | None]
"""The Provider that a resource names, and the VM that the resource is bound to, if that is there. None: the Provider is
not declared, or is another namespace's and the resource owns no VM of it, so that it may do nothing there."""


UNASKED = (
    "chooses VMs of another namespace's Provider, which ready.exec and ready.tcp do not ask: "
    "give this tier a ready with a signal alone"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """The Providers, by what plans of this namespace call them, and the resources with the VMs that they are about."""

    namespace: str
    providers: Mapping[str, Provider]
    declared: tuple[Declared, ...]

    @property
    def own_providers(self) -> list[str]:
        """Those of the namespace itself. What others say of their VMs is not the word of who owns it."""
        return [name for name in self.providers if "/" not in name]


def scope(
    namespace: str,
    providers: Iterable[Provider],
    machines: Iterable[VirtualMachine],
    labels: Mapping[str, str],
    find: Find,
) -> Scope:
    """That of plans of a namespace, which has these labels."""
    known = {called(namespace, each): each for each in providers if each.metadata.namespace == namespace}
    declared = list[Declared]()
    for machine in machines:
        found = find(machine) if machine.metadata.namespace == namespace else None
        if found is None or refusal(found[0], machine, labels, found[1]):
            continue
        provider, _ = found
        known[called(namespace, provider)] = provider
        declared.append(_declared(machine, called(namespace, provider)))
    return Scope(namespace, known, tuple(declared))


def called(namespace: str, provider: Provider) -> str:
    """What plans of a namespace call a Provider."""
    meta = provider.metadata
    return meta.name if meta.namespace == namespace else f"{meta.namespace}/{meta.name}"


def full_name(namespace: str, provider: str) -> str:
    """NAMESPACE/NAME of what a plan of a namespace calls a Provider."""
    return provider if "/" in provider else f"{namespace}/{provider}"


def _declared(machine: VirtualMachine, provider: str) -> Declared:
    meta, bound = machine.metadata, machine.status.vm
    vm = bound.id if bound else machine.vm_name
    return Declared(
        resource=f"{meta.namespace}/{meta.name}",
        provider=provider,
        vm=vm,
        labels=meta.labels,
        request=shutdown_request(vm, machine.spec.lifecycle, "", None),
    )


def violations(spec: PlanSpec, within: Scope) -> Iterator[Violation]:
    """Where a plan means VMs of other namespaces' Providers in a way that asks no `spec.access`."""
    foreign = {name for name in within.providers if "/" in name}
    chosen = set[str]()
    for number, tier in enumerate(spec.tiers):
        for place, members in enumerate(tier.members):
            field = f"tiers.{number}.members.{place}"
            if members.provider_ref and members.provider_ref.key in foreign:
                yield Violation(f"{field}.providerRef", "names a Provider of another namespace: write a selector")
            for index, vm in enumerate(members.vms):
                if any(vm.startswith(f"{name}/") for name in foreign):
                    yield Violation(f"{field}.vms.{index}", "is of another namespace's Provider: write a selector")
            if members.selector:
                wanted = members.selector.match_labels.items()
                found = {each.provider for each in within.declared if wanted <= each.labels.items()}
                ready = spec.ready(tier.name)
                if found & foreign and (ready.exec or ready.tcp):
                    yield Violation(f"{field}.selector", UNASKED)
                chosen |= found
    if spec.others is not Others.IGNORE and chosen & foreign:
        names = ", ".join(sorted(chosen & foreign))
        yield Violation("others", f"does not reach the VMs of other namespaces' Providers ({names}): write Ignore")
