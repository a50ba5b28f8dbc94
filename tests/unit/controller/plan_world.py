"""What is declared for plans, in memory: two providers with guests, and the resources of some."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.models import PowerPlan, PowerRun, Provider, VirtualMachine
from controller.plan_host import PlanHost
from controller.plan_scope import Scope, scope
from controller.run_status import PowerRunStatus
from controller.source import Key, key_of
from plans.clock import Clock
from tests.unit.controller.builders import binding, machine, provider, with_status
from tests.unit.controller.fakes import FakeSource
from tests.unit.plans.builders import here, tier
from tests.unit.plans.fake import FakeProvider, wall

VERSION = "infra.virtrigaud.io/v1beta1"
TIERS = tier("apps", "lab/app"), tier("databases", "lab/db")


class Guests(FakeProvider):
    """A provider of guests as a controller opens it."""

    def __init__(self, **takes: float | None) -> None:
        super().__init__(**takes)
        self.trusted, self.read_tls, self.closed = True, None, 0

    async def prepare(self) -> None:
        """It has no certificate."""

    async def close(self) -> None:
        self.closed += 1


def plan(
    *tiers: Any, name: str = "night", namespace: str = "default", total: str = "10m", reserve: str = "1m", **more: Any
) -> PowerPlan:
    spec = {"budget": {"total": total, "reserve": reserve}, "tiers": list(tiers or TIERS), "others": "Ignore"} | more
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1}
    return PowerPlan.model_validate({"apiVersion": VERSION, "kind": "PowerPlan", "metadata": meta, "spec": spec})


def run(name: str = "tonight", plan: str = "night", **spec: Any) -> PowerRun:
    meta = {"name": name, "uid": f"{name}-{'0' * 8}", "generation": 1}
    written = {"planRef": {"name": plan}} | spec
    return PowerRun.model_validate({"apiVersion": VERSION, "kind": "PowerRun", "metadata": meta, "spec": written})


def declared(name: str, power: str | None = "On", *, at: str = "lab", **fields: Any) -> VirtualMachine:
    """A resource that is bound to the guest of its name."""
    fields.setdefault("spec", {"providerRef": {"name": at}})
    resource = machine(power, name=name, **fields)
    return with_status(resource, vm=binding(name, name=name, provider_ref=f"default/{at}"))


@dataclass
class FakeWorld:
    """`guests` are the providers' by their names; `machines` what is declared of them."""

    host: PlanHost
    guests: dict[str, Guests]
    machines: list[VirtualMachine] = field(default_factory=list)
    source: FakeSource = field(default_factory=FakeSource)
    known: list[Provider] = field(default_factory=list)
    woken: list[Collection[tuple[str, str]]] = field(default_factory=list)
    _writes: set[asyncio.Task[None]] = field(default_factory=set)

    def providers(self) -> list[Provider]:
        return self.known or [provider(name) for name in self.guests]

    def machine(self, provider: str, vm: str, resource: str) -> VirtualMachine | None:
        bound = ((each, each.status.vm) for each in self.machines)
        return next((each for each, to in bound if to and (to.provider_ref, to.id) == (provider, vm)), None)

    def scope(self, namespace: str) -> Scope:
        return scope(namespace, self.providers(), self.machines, {}, self._leads_to)

    def _leads_to(self, machine: VirtualMachine) -> Any:
        for each in self.providers():
            if f"{each.metadata.namespace}/{each.metadata.name}" == machine.provider_name:
                return each, self.guests[each.metadata.name].vms.get(machine.vm_name)
        return None

    def open(self, provider: Provider) -> Any:
        return self.guests[provider.metadata.name]

    def wake(self, vms: Collection[tuple[str, str]]) -> None:
        self.woken.append(vms)

    def write_within(self, key: Key, seconds: float) -> None:
        def write() -> None:
            task = asyncio.ensure_future(self.host.write_down(key))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

        asyncio.get_running_loop().call_later(seconds, write)

    def status(self, name: str = "tonight") -> PowerRunStatus:
        """As last written."""
        status = self.source.statuses[Key("PowerRun", "default", name)][-1]
        assert isinstance(status, PowerRunStatus)
        return status


class Hosting:
    """Hosts one after another on one folder, as processes are."""

    def __init__(self, folder: Path, self_namespace: str = "") -> None:
        self._folder, self._self_namespace = folder, self_namespace
        self.worlds: list[FakeWorld] = []

    async def start(
        self,
        *resources: PowerPlan | PowerRun,
        machines: Sequence[VirtualMachine] = (),
        source: FakeSource | None = None,
        stood_by: bool = False,
        **guests: Guests,
    ) -> FakeWorld:
        """The next process, with these declared."""
        host = PlanHost(self._folder, lambda: Clock(wall), here, self_namespace=self._self_namespace)
        world = FakeWorld(host, guests, list(machines), source or FakeSource())
        self.worlds.append(world)
        if stood_by:
            await host.stand_down()
        host.attach(world)
        for resource in resources:
            host.apply(key_of(resource), resource)
        await host.synced()
        return world

    async def end(self) -> None:
        """What is left of the last process, if there was one."""
        for world in self.worlds[-1:]:
            await world.host.close()
