"""What a resource may have done to a VM: all that its Provider's own namespace wants, else what `spec.access` grants.
Pure."""

from collections.abc import Iterator, Mapping

from common import grants
from common.grants import Right
from controller.binding import Obstacle
from controller.models import Hook, Namespaces, Provider, VirtualMachine
from protos.power.v1 import power_pb2 as pb

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that has a namespace's name; the API server sets it."""
ALL = frozenset(Right)


def needed(resource: VirtualMachine) -> frozenset[Right]:
    """The rights that a resource takes as it is declared, whether its hooks are to run now or not."""
    lifecycle = resource.spec.lifecycle
    hooks = (*lifecycle.pre_stop, *lifecycle.post_start)
    return frozenset({Right.POWER}.union(*map(_of_hook, hooks)))


def _of_hook(hook: Hook) -> Iterator[Right]:
    handlers = {Right.EXEC: hook.exec, Right.HTTP: hook.http_get, Right.SNAPSHOT: hook.snapshot}
    return (right for right, handler in handlers.items() if handler is not None)


def granted(provider: Provider, namespace: str, labels: Mapping[str, str], vm: pb.VM) -> frozenset[Right]:
    """The rights that resources of a namespace, which has these labels, have to a VM."""
    if namespace == provider.metadata.namespace:
        return ALL
    rules = (rule for rule in provider.spec.access if _is_among(namespace, labels, rule.namespaces))
    return grants.granted(rules, vm.id, vm.name, vm.labels)


def _is_among(namespace: str, labels: Mapping[str, str], wanted: Namespaces) -> bool:
    if wanted.selector is None:
        return namespace in wanted.names
    known = {**labels, NAME_LABEL: namespace}
    return all(known.get(name) == value for name, value in wanted.selector.match_labels.items())


def serves(provider: Provider, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether it serves resources of a namespace at all."""
    rules = provider.spec.access
    return namespace == provider.metadata.namespace or any(_is_among(namespace, labels, r.namespaces) for r in rules)


def refusal(
    provider: Provider, resource: VirtualMachine, labels: Mapping[str, str], vm: pb.VM | None
) -> Obstacle | None:
    """Why a resource may not have done what it declares; None: it may.

    Args:
        provider: that its spec names.
        labels: those of the resource's namespace; empty where they are not known.
        vm: that its spec leads to. None, there is none: it is then judged by the name alone, so that who may not use
            a VM is not told whether there is one.
    """
    namespace = resource.metadata.namespace
    rights = granted(provider, namespace, labels, vm or pb.VM(name=resource.vm_name))
    missing = [right for right in Right if right in needed(resource) - rights]
    if not missing:
        return None
    allows = f"not {', '.join(missing)}" if Right.POWER not in missing else "nothing"
    return Obstacle(
        "NotAllowed",
        f"Provider {provider.metadata.namespace}/{provider.metadata.name} allows namespace {namespace} {allows} for VM "
        f"{resource.vm_name!r}. Nothing is done: the Provider's owner grants it in spec.access, or the resource names "
        "another VM or other hooks.",
    )
