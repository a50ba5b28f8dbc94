"""Plays a run of a plan over real providers on simulated hypervisors, and notes what really happened."""

import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
from google.protobuf.message import Message

from plans.history import History
from plans.members import Declared
from plans.model import PlanSpec
from protos.power.v1 import power_pb2 as pb
from providers.core.errors import VmpowerError
from providers.core.model import Operation
from tests.simulation.act import Act
from tests.simulation.hypervisor import Fact, Hypervisor
from tests.simulation.network import Network
from tests.simulation.plans.engine import EngineMachine
from tests.simulation.plans.scenario import Owned, Scenario
from tests.simulation.play import in_memory
from tests.simulation.provider import EPOCH, Process, ProviderMachine
from tests.simulation.universe import Universe

AFTERWARDS = 900.0
"""Seconds from the end of the budget in which what is left comes to its end."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to do something that reached a provider."""

    time: float
    provider: str
    request: Any


@dataclass(slots=True)
class Played:
    """All that an invariant may look at. Times are in seconds since the simulation began."""

    scenario: Scenario
    history: History | None = None
    """The run as it is on disk in the end."""
    facts: list[Fact] = field(default_factory=list)
    """Of all hypervisors, in the order of time."""
    asked: list[Asked] = field(default_factory=list)
    operations: dict[str, list[Operation]] = field(default_factory=dict)
    """Those on disk at each provider."""
    on: dict[str, bool] = field(default_factory=dict)
    """Whether each VM runs in the end."""
    away: list[tuple[float, float]] = field(default_factory=list)
    ended_at: float | None = None
    complaints: list[str] = field(default_factory=list)
    steps: int = 0

    def lines(self) -> list[str]:
        """All of it in the order of time, for people."""
        events = [(fact.time, f"{fact.vm} {fact.what} {fact.detail}") for fact in self.facts]
        events += [(act.at, f"!! {act.what} {act.vm} {dict(act.how)}") for act in self.scenario.acts]
        events += [(at, f"   -> {who} {_shown(request)}") for at, who, request in map(_fields, self.asked)]
        if self.history:
            events += [(since(event.at), f"   == {event}") for event in self.history.events]
        return [f"{time:9.3f}  {text}" for time, text in sorted(events, key=lambda event: event[0])]


def since(moment: datetime) -> float:
    """A moment in seconds since the simulation began."""
    return (moment - EPOCH).total_seconds()


class Play:
    """One scenario being played."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.scenario, self.universe = scenario, Universe(scenario.seed)
        self.played = Played(scenario)
        self.hypervisors: dict[str, Hypervisor] = {}
        self.machines: dict[str, ProviderMachine] = {}
        self.networks: dict[str, Network] = {}
        for place, guests in enumerate(scenario.behaviours):
            name = f"p{place}"
            hypervisor = self.hypervisors[name] = Hypervisor(self.universe, guests)
            machine = self.machines[name] = ProviderMachine(self.universe, hypervisor, folder / name)
            self.networks[name] = Network(self.universe, machine, partial(self._heard, name), _answered)
        for key in scenario.off:
            hypervisor, vm = self._find(key)
            hypervisor.machines[vm].on = False
        declared = [_declared(key, owned) for key, owned in scenario.owned.items()]
        spec = PlanSpec.model_validate(scenario.spec)
        self.engine = EngineMachine(self.universe, self.networks, spec, declared, folder / "runs")
        self.total = spec.budget.total.total_seconds()
        self._killed_at: dict[int, Act] = {}
        self.universe.on_step = self._step

    def run(self) -> Played:
        for machine in self.machines.values():
            machine.start()
        self.universe.run(0.5)  # the providers serve
        self.engine.start()
        for act in self.scenario.acts:
            self.universe.after(act.at, partial(self._do, act))
        self.universe.run(self.total + AFTERWARDS)
        self._remember()
        self.engine.bury()
        for machine in self.machines.values():
            machine.kill()
        return self.played

    def _remember(self) -> None:
        played = self.played
        played.history, played.ended_at, played.away = self.engine.history(), self.engine.ended_at, self.engine.away
        played.steps, played.complaints = self.universe.steps, list(self.universe.complaints)
        for name, hypervisor in self.hypervisors.items():
            played.facts += [Fact(fact.time, f"{name}/{fact.vm}", fact.what, fact.detail) for fact in hypervisor.facts]
            played.on |= {f"{name}/{vm}": machine.on for vm, machine in hypervisor.machines.items()}
            if process := self.machines[name].process:
                played.operations[name] = process.journal._store.many({}, "create_time, id")
        played.facts.sort(key=lambda fact: fact.time)

    def _heard(self, name: str, _process: Process, request: Message) -> None:
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            self.played.asked.append(Asked(self.universe.now, name, request))

    def _find(self, key: str) -> tuple[Hypervisor, str]:
        name, _, vm = key.partition("/")
        return self.hypervisors[name], vm

    # What goes wrong

    def _do(self, act: Act) -> None:
        if "step" in dict(act.how):
            self._killed_at[self.universe.steps + act["step"]] = act
        else:
            self._happens(act)

    def _step(self, number: int) -> None:
        if act := self._killed_at.pop(number, None):
            self._happens(act)

    def _happens(self, act: Act) -> None:
        hypervisor, vm = self._find(act.vm)
        name = act.vm.partition("/")[0]
        match act.what:
            case "kill the engine":
                self.engine.kill()
                for network in self.networks.values():
                    network.cut()
                self.universe.after(act["lasts"], self.engine.start)
            case "kill a provider":
                self.machines[name].kill()
                self.networks[name].cut()
                self.universe.after(act["lasts"], self.machines[name].start)
            case "break connections":
                self.networks[name].cut()
            case "remove":
                hypervisor.remove(vm)
            case "abort":
                self.engine.abort()
            case "shorten":
                self.engine.shorten(act["to"])
            case "cut by somebody":
                if hypervisor.machines[vm].here:
                    hypervisor.cut(vm, "cut by somebody")
            case "shut down by somebody":
                self._shut_down(name, vm)

    def _shut_down(self, name: str, vm: str) -> None:
        """By hand, at the provider, with a time of its own."""
        process = self.machines[name].process
        if process is None or not process.serving.is_set():
            return
        request = pb.ShutdownRequest(vm=vm, request_id="somebody's", escalation=pb.ESCALATION_NEVER)
        request.timeout.FromTimedelta(timedelta(hours=1))

        async def ask(process: Process) -> None:
            try:
                await process.service.Shutdown(request, None)  # type: ignore[arg-type]  # it is not used
            except VmpowerError:  # an operation is active, or the VM is gone
                return

        process.spawn(ask(process))


def play(scenario: Scenario) -> Played:
    """What comes of a scenario; the same each time."""
    bugs: list[str] = []

    def listen(_logger: object, _method: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        if "bug" in str(event.get("event")) or "without its record" in str(event.get("event")):
            bugs.append(f"{event['event']}: {event.get('exc_info')!r} {event}")
        raise structlog.DropEvent

    with tempfile.TemporaryDirectory(prefix="vmp-", dir=in_memory()) as folder:
        playing = Play(scenario, Path(folder))
        chance = playing.universe.random
        made = mock.Mock(side_effect=lambda: uuid.UUID(int=chance.getrandbits(128)))
        jitter = mock.patch.multiple("common.backoff.random", random=chance.random, uniform=chance.uniform)
        now = mock.Mock(now=lambda _zone: EPOCH + timedelta(seconds=playing.universe.now))
        structlog.configure(processors=[listen])
        try:
            with (
                mock.patch("providers.core.operations.uuid.uuid4", made),
                mock.patch("providers.server.validation.datetime", now),
                jitter,
            ):
                played = playing.run()
        finally:
            structlog.reset_defaults()
    played.complaints.extend(bugs)
    return played


def _answered(_process: Process, _noted: Any, _told: Message | VmpowerError) -> None:
    """Answers are told by the engine's record."""


def _declared(key: str, owned: Owned) -> Declared:
    """The resource of a VM, with the label of the tier that it is in."""
    provider, _, vm = key.partition("/")
    request = pb.ShutdownRequest(
        escalation=pb.Escalation.Value(f"ESCALATION_{owned.escalation}"),
        pre_stop=[pb.Hook(exec=pb.ExecHook(command=[f"hook-{number}"])) for number in range(owned.hooks)],
    )
    if owned.escalation == "SAVE" and owned.falls_back:
        request.save_fallback = pb.ESCALATION_FORCE
    request.timeout.FromTimedelta(timedelta(seconds=owned.timeout))
    return Declared(f"default/{key}", provider, vm, {"tier": owned.tier}, request)


def _fields(asked: Asked) -> tuple[float, str, Any]:
    return asked.time, asked.provider, asked.request


def _shown(request: Any) -> str:
    return f"{type(request).__name__} {request.vm} {request.request_id}"
