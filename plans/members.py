"""Which VMs the tiers of a plan stand for, by what providers list. Pure.

A plan that cannot be meant is refused as a whole, each mistake with the field that it is in: nothing is shut down by a
guess.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from common.text import some
from common.yaml_reader import field_path
from plans.frozen import OTHERS, SELF, FrozenTier, Target, target
from plans.model import SAVE_TIME, Members, Others, PlanSpec, SaveFallback
from protos.power.v1 import power_pb2 as pb

RUNS = frozenset({pb.POWER_STATE_ON, pb.POWER_STATE_PAUSED})
MANAGED_BY = "managed-by"
"""The label by which vSphere's provider names the solution that a VM belongs to."""
SEPARATOR = ";"
"""Between several values in one label, as in Proxmox VE's `tags`."""


class Violation(NamedTuple):
    """What is wrong, and the path of the field that it is in, below `spec`: `tiers.0.name`."""

    field: str
    message: str

    @property
    def path(self) -> str:
        """The field as people read it in the manifest: `spec.tiers[0].name`."""
        return field_path(("spec", *(int(part) if part.isdigit() else part for part in self.field.split("."))))


class PlanRefused(Exception):
    """The plan cannot be run as it is written; nothing was done."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{each.field}: {each.message}" for each in violations))
        self.violations = tuple(violations)


class OwnVMUnclear(Exception):
    """Several VMs may be the one that this program runs on; nothing was done.

    Attributes:
        own: what was looked for.
        found: these VMs.
    """

    def __init__(self, own: str, found: Sequence[str]) -> None:
        super().__init__(f"{own!r} may be any of {some(found, 5)}; write one of these instead.")
        self.own, self.found = own, some(found, 5)


@dataclass(frozen=True, slots=True)
class Provider:
    """What one provider said: its VMs, and the timeout of one that names none. `called` are the ids of VMs by what a
    plan calls them, where that is neither id nor name (a path, say). `saves`: it can save VMs' memory."""

    vms: Sequence[pb.VM]
    timeout: timedelta
    called: Mapping[str, str] = field(default_factory=dict)
    saves: bool = True

    def find(self, name: str) -> list[pb.VM]:
        """All VMs that may be meant: the one with this id, or else those with this name."""
        wanted = self.called.get(name, name)
        return [vm for vm in self.vms if vm.id == wanted] or [vm for vm in self.vms if vm.name == wanted]


@dataclass(frozen=True, slots=True)
class Declared:
    """A VirtualMachine resource, and how its owner wants it shut down. `vm` is the VM's id or name at the provider."""

    resource: str
    provider: str
    vm: str
    labels: Mapping[str, str]
    request: pb.ShutdownRequest


@dataclass(slots=True)
class LeftOut:
    """What a run begins without, rather than not at all. `away` are providers that do not answer."""

    away: set[str] = field(default_factory=set)
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        away = [f"provider {name} does not answer" for name in sorted(self.away)]
        return "; ".join([*away, *(f"{each.path}: {each.message}" for each in self.violations)])


def resolve(
    spec: PlanSpec,
    providers: Mapping[str, Provider],
    declared: Sequence[Declared] = (),
    own: Collection[str] = (),
    own_at: Collection[str] | None = None,
    *,
    left_out: LeftOut | None = None,
    known: Collection[str] = (),
) -> tuple[FrozenTier, ...]:
    """The tiers with their VMs; those that no plan writes (OTHERS, SELF) among them. `own` are the VMs that this
    program runs on, each as PROVIDER/VM, or its UUID: its id or what its firmware has; one that is at none of the
    providers is not theirs. `own_at` are the providers whose VMs may be ours; None: all. `known` are the names of
    `providers` and of those that the plan does not mean, for people.

    Suspended VMs run nowhere: they are left as they are. With `left_out` what cannot be meant is told there and is no
    member; refused is a plan of which nothing is left.

    Raises:
        OwnVMUnclear
        PlanRefused
    """
    there = {name: each for name, each in providers.items() if own_at is None or name in own_at}
    away = left_out.away if left_out else ()
    found = _Resolution(providers, declared, [vm for each in own for vm in _own(each, there)], away, known)
    tiers = [_tier(spec, number, found) for number in range(len(spec.tiers))]
    others = found.others(spec.others)
    if left_out is not None:
        left_out.violations = found.violations
    if found.violations and (left_out is None or not any(tier.targets for tier in tiers)):
        raise PlanRefused(found.violations)
    return tuple(found.with_own(_with_others(tiers, spec.others, others)))


def _tier(spec: PlanSpec, number: int, found: "_Resolution") -> FrozenTier:
    tier = spec.tiers[number]
    for place, members in enumerate(tier.members):
        found.take(tier.name, f"tiers.{number}.members.{place}", members)
    frozen = FrozenTier(
        name=tier.name,
        targets=found.of(tier.name),
        after=spec.graph[tier.name],
        minimum=tier.minimum,
        at_deadline=tier.at_deadline,
        save_fallback=tier.save_fallback or SaveFallback.NEVER,
    )
    save_time = SAVE_TIME if tier.save_time is None else tier.save_time
    targets = tuple(found.with_time_to_save(each, save_time) if frozen.saves(each) else each for each in frozen.targets)
    return frozen.model_copy(update={"targets": targets})


def _own(own: str, providers: Mapping[str, Provider]) -> list[tuple[str, pb.VM]]:
    """An own VM and its provider, if it is there.

    Raises:
        OwnVMUnclear
    """
    found = [(name, vm) for name, provider in providers.items() for vm in provider.vms if _is_own(own, name, vm)]
    if len(found) > 1:
        raise OwnVMUnclear(own, [f"{name}/{vm.id}" for name, vm in found])
    return found


def _is_own(own: str, provider: str, vm: pb.VM) -> bool:
    """By its UUID or, behind its provider's name, its id or name."""
    written = own.removeprefix(f"{provider}/")
    named = written != own and written in {vm.id, vm.name}
    return named or written.lower() in {vm.id.lower(), *_system_uuids(vm)}


def _system_uuids(vm: pb.VM) -> Iterator[str]:
    """How a VM's guest may show its UUID. Since SMBIOS 2.6 the bytes of the first three groups are in little-endian
    order (DSP0134, 7.2.1), while vSphere tells them in that of RFC 9562: by the version of its virtual hardware a guest
    shows the one or the other."""
    with suppress(ValueError):
        told = UUID(vm.system_uuid)
        yield from (str(told), str(UUID(bytes_le=told.bytes)))


class _Resolution:
    """What is found while the tiers are gone through, in their order."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        declared: Sequence[Declared],
        own: Iterable[tuple[str, pb.VM]],
        away: Collection[str] = (),
        known: Collection[str] = (),
    ) -> None:
        self._providers, self._declared, self._away = providers, declared, away
        self._known = some(sorted(known or providers), 5) or "none"
        self._own = {f"{name}/{vm.id}": (name, vm) for name, vm in own}
        self._taken: dict[str, tuple[str, Target]] = {}
        """The tier that each VM is in."""
        self._meant: set[str] = set()
        """The providers that the plan names."""
        self.violations: list[Violation] = []

    def take(self, tier: str, field: str, members: Members) -> None:
        """Put all that `members` stands for into the tier."""
        if members.provider_ref is not None:
            self._take_labelled(tier, field, members.provider_ref.key, members.labels or {})
        elif members.selector is not None:
            self._take_declared(tier, field, members.selector.match_labels)
        for number, name in enumerate(members.vms):
            self._take_named(tier, f"{field}.vms.{number}", name)

    def of(self, tier: str) -> tuple[Target, ...]:
        return tuple(target for name, target in self._taken.values() if name == tier)

    def with_time_to_save(self, target: Target, time: timedelta) -> Target:
        """A VM whose memory is saved where it is late."""
        if not self._providers[target.provider].saves:
            return target.model_copy(update={"can_save": False})
        return target.model_copy(update={"need": target.need + time, "save_time": time})

    def others(self, policy: Others) -> tuple[Target, ...]:
        """The running VMs of the plan's providers that are in no tier."""
        free = [
            target(name, vm, self._providers[name].timeout, pb.ShutdownRequest())
            for name in self._providers
            if name in self._meant
            for vm in self._providers[name].vms
            if vm.power_state in RUNS and self._may_be_matched(name, vm) and f"{name}/{vm.id}" not in self._taken
        ]
        if free and policy is Others.REFUSE:
            names = some([each.title for each in free], 5)
            self._refuse("others", f"no tier names {names}, which run; name them, or write First, Last or Ignore")
        return () if policy in {Others.REFUSE, Others.IGNORE} else tuple(free)

    def with_own(self, tiers: Sequence[FrozenTier]) -> Iterator[FrozenTier]:
        """The tiers, and behind all of them that of our own VMs."""
        yield from tiers
        own = tuple(
            target(name, vm, self._providers[name].timeout, pb.ShutdownRequest())
            for name, vm in self._own.values()
            if vm.power_state != pb.POWER_STATE_SUSPENDED
        )
        if own:
            yield FrozenTier(name=SELF, targets=own, after=tuple(tier.name for tier in tiers))

    def _take_named(self, tier: str, field: str, written: str) -> None:
        name, vm_name = self._split(written)
        if (provider := self._provider(field, name)) is None:
            return
        found = provider.find(vm_name)
        if not found:
            self._refuse(field, f"provider {name!r} has no VM with the id or name {vm_name!r}")
        elif len(found) > 1:
            self._refuse(field, f"several VMs are called so; write one of the ids {some([vm.id for vm in found], 5)}")
        elif f"{name}/{found[0].id}" in self._own:
            self._refuse(field, "is a VM that this program runs on, which goes down last by itself")
        else:
            self._put(tier, field, target(name, found[0], provider.timeout, pb.ShutdownRequest()), found[0])

    def _take_labelled(self, tier: str, field: str, name: str, labels: Mapping[str, str]) -> None:
        if (provider := self._provider(f"{field}.providerRef", name)) is None:
            return
        for vm in provider.vms:
            if _has(vm.labels, labels) and self._may_be_matched(name, vm):
                self._put(tier, field, target(name, vm, provider.timeout, pb.ShutdownRequest()), vm)

    def _take_declared(self, tier: str, field: str, labels: Mapping[str, str]) -> None:
        selected = [each for each in self._declared if _has(each.labels, labels)]
        if not self._declared:
            self._refuse(f"{field}.selector", "no VirtualMachine resources are known here")
        for each in selected:
            if (provider := self._provider(f"{field}.selector", each.provider)) is None:
                continue
            found = provider.find(each.vm)
            if len(found) != 1:
                self._refuse(f"{field}.selector", f"{each.resource} is about {each.vm!r}, of which there is not one")
            elif self._may_be_matched(each.provider, found[0]):
                wanted = target(each.provider, found[0], provider.timeout, each.request, each.resource)
                self._put(tier, f"{field}.selector", wanted, found[0])

    def _put(self, tier: str, field: str, wanted: Target, vm: pb.VM) -> None:
        if vm.power_state == pb.POWER_STATE_SUSPENDED:
            return
        there, known = self._taken.get(wanted.key, (tier, wanted))
        if there != tier:
            self._refuse(field, f"{wanted.title} is in tier {there!r} already")
        elif known.resource and wanted.resource not in {"", known.resource}:
            self._refuse(field, f"{wanted.title} has two resources, {known.resource} and {wanted.resource}")
        elif wanted.resource or wanted.key not in self._taken:
            self._taken[wanted.key] = (tier, wanted)

    def _split(self, written: str) -> tuple[str, str]:
        """The provider and the VM. A provider may be called NAMESPACE/NAME, and a VM by a path."""
        known = (*self._providers, *self._away)
        longest = max((name for name in known if written.startswith(f"{name}/")), key=len, default="")
        name = longest or written.partition("/")[0]
        return name, written.removeprefix(f"{name}/")

    def _provider(self, field: str, name: str) -> Provider | None:
        if name in self._away:
            return None
        if name not in self._providers:
            self._refuse(field, f"no provider is called {name!r}; known: {self._known}")
            return None
        self._meant.add(name)
        return self._providers[name]

    def _may_be_matched(self, provider: str, vm: pb.VM) -> bool:
        """Whether it may be a member without being named: neither one of our own VMs nor the platform's."""
        return not is_platform(vm) and f"{provider}/{vm.id}" not in self._own

    def _refuse(self, field: str, message: str) -> None:
        self.violations.append(Violation(field, message))


def _with_others(tiers: Sequence[FrozenTier], policy: Others, others: tuple[Target, ...]) -> list[FrozenTier]:
    """With a tier for VMs that no tier names, before all others or behind them."""
    if not others:
        return list(tiers)
    if policy is Others.FIRST:
        first = FrozenTier(name=OTHERS, targets=others)
        return [first, *(tier if tier.after else tier.model_copy(update={"after": (OTHERS,)}) for tier in tiers)]
    followed = {earlier for tier in tiers for earlier in tier.after}
    ends = tuple(tier.name for tier in tiers if tier.name not in followed)
    return [*tiers, FrozenTier(name=OTHERS, targets=others, after=ends)]


def is_platform(vm: pb.VM) -> bool:
    """Whether a solution of the hypervisor's owns it (vSphere's vCLS, or what has `managedBy`), so that it is a member
    only where it is named."""
    managed = any(pb.CAUSE_MANAGED in problem.causes for problem in vm.forecast.problems)
    return managed or bool(vm.labels.get(MANAGED_BY))


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all that is wanted is there; of a label with several values one is enough."""

    def there(name: str) -> Iterable[str]:
        value = labels.get(name)
        return () if value is None else (value, *value.split(SEPARATOR))

    return all(value in there(name) for name, value in wanted.items())
