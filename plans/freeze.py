"""What a plan would do now: every provider is asked once for what it has, and from then on nothing is looked up again.

Also the API server, vCenter or the DNS may be among what goes down.
"""

import asyncio
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from client.errors import ProviderError
from client.power import PowerClient
from client.times import moment
from plans.clock import Clock
from plans.frozen import SELF, FrozenTier, Target
from plans.history import Start
from plans.members import Declared, LeftOut, Provider, resolve
from plans.model import PlanSpec
from protos.power.v1 import power_pb2 as pb


class Unreachable(Exception):
    """A provider could not be asked, so nothing was done.

    Attributes:
        provider: its name.
        error: what came instead of an answer.
    """

    def __init__(self, provider: str, error: ProviderError) -> None:
        super().__init__(f"{provider}: {error.message}")
        self.provider, self.error = provider, error


@dataclass(frozen=True, slots=True)
class Frozen:
    """The tiers with their VMs, by how much each provider's clock is ahead of ours, and each VM as its provider told
    it, by its key."""

    tiers: tuple[FrozenTier, ...]
    ahead: Mapping[str, timedelta]
    vms: Mapping[str, pb.VM]

    def without_own(self) -> Self:
        """The same without the VMs that this program runs on."""
        return replace(self, tiers=tuple(tier for tier in self.tiers if tier.name != SELF))

    def without(self, vms: Collection[str]) -> Self:
        """The same without the VMs of these keys."""
        left = (
            tier.model_copy(update={"targets": tuple(each for each in tier.targets if each.key not in vms)})
            for tier in self.tiers
        )
        return replace(self, tiers=tuple(left))

    def save_problems(self, tier: FrozenTier, target: Target) -> Sequence[str]:
        """What keeps a VM's memory from being saved that is to be saved where it is late; empty: nothing that is known,
        or it is not to be."""
        if not tier.saves(target):
            return []
        if not target.can_save:
            return ["Its provider saves no VM's memory."]
        return [problem.message for problem in self.vms[target.key].forecast.save_problems]

    def start(self, plan: str, spec: PlanSpec, now: datetime, run: str = "", **more: Any) -> Start:
        """A run of it that begins now, of this name or of one of its own; `more` are other fields of Start."""
        return Start(
            run=run or f"{plan[:63].rstrip('-.')}-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}",
            plan=plan,
            spec=spec,
            tiers=self.tiers,
            at=now,
            ends=now + spec.budget.total,
            ahead=self.ahead,
            **more,
        )


async def freeze(
    spec: PlanSpec,
    clients: Mapping[str, PowerClient],
    clock: Clock,
    declared: Sequence[Declared] = (),
    *,
    own: Collection[str] = (),
    own_at: Collection[str] | None = None,
    left_out: LeftOut | None = None,
) -> Frozen:
    """Ask all providers at once. No guest is touched. For `declared`, `own` and `own_at` see `resolve`. With `left_out`
    what does not answer, or cannot be meant, is told there and left out.

    Raises:
        Unreachable: one of them does not answer.
        OwnVMUnclear
        PlanRefused
    """
    used = _used(spec, clients, declared)
    asking = [_ask(name, clients[name], _named(spec, name), clock) for name in used]
    # With exceptions as results: gather() loses a cancellation that comes in the moment in which one is raised.
    answers = dict(zip(used, await asyncio.gather(*asking, return_exceptions=True), strict=True))
    for error in answers.values():
        if isinstance(error, Unreachable) and left_out is not None and len(left_out.away) + 1 < len(used):
            left_out.away.add(error.provider)
        elif isinstance(error, BaseException):
            raise error
    there = {name: answer for name, answer in answers.items() if not isinstance(answer, BaseException)}
    seen = {name: provider for name, (provider, _) in there.items()}
    ahead = {name: by for name, (_, by) in there.items()}
    vms = {f"{name}/{vm.id}": vm for name, provider in seen.items() for vm in provider.vms}
    return Frozen(resolve(spec, seen, declared, own, own_at, left_out=left_out, known=clients), ahead, vms)


def _used(spec: PlanSpec, clients: Mapping[str, PowerClient], declared: Sequence[Declared]) -> list[str]:
    """The providers that the plan may mean: one which it has nothing to do with may be away."""
    by_selector = {each.provider for each in declared}
    meant = set[str]()
    for tier in spec.tiers:
        for members in tier.members:
            if members.provider_ref:
                meant.add(members.provider_ref.key)
            if members.selector:
                meant |= by_selector
            meant |= {name for name in clients for vm in members.vms if vm.startswith(f"{name}/")}
    return [name for name in clients if name in meant]


def _named(spec: PlanSpec, provider: str) -> list[str]:
    """What the plan calls this provider's VMs by."""
    prefix = f"{provider}/"
    every = [vm for tier in spec.tiers for members in tier.members for vm in members.vms]
    return [vm.removeprefix(prefix) for vm in every if vm.startswith(prefix)]


async def _ask(name: str, client: PowerClient, named: Sequence[str], clock: Clock) -> tuple[Provider, timedelta]:
    try:
        before = clock()
        info = await client.call(pb.GetProviderInfoRequest())
        ahead = moment(info.time) - (before + (clock() - before) / 2) if info.HasField("time") else timedelta()
        vms = await client.list_vms()
        known = {vm.id for vm in vms} | {vm.name for vm in vms}
        called = {vm: await _id(client, vm) for vm in named if vm not in known}
    except ProviderError as error:
        raise Unreachable(name, error) from error
    return Provider(vms, info.default_timeout.ToTimedelta(), called, info.save), ahead


async def _id(client: PowerClient, called: str) -> str:
    """The id of the VM that its provider knows by this name, a path for instance; the name itself if it knows none."""
    try:
        return (await client.call(pb.GetVMRequest(vm=called))).id
    except ProviderError as error:
        if error.reason in {"VM_NOT_FOUND", "AMBIGUOUS_NAME"}:
            return called
        raise
