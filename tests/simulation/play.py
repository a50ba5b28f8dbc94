"""Plays a scenario, and notes what clients were told beside what really happened."""

import tempfile
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
from google.protobuf.message import Message

from controller.models import VirtualMachine
from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import Escalation
from providers.core.errors import VmpowerError
from providers.core.extension import Extension
from providers.core.model import ExecHook, Hook, Kind, Operation, Request, State
from tests.simulation.act import Act
from tests.simulation.controller import Cluster, ControllerMachine
from tests.simulation.hypervisor import Fact, Hypervisor, What
from tests.simulation.network import Network
from tests.simulation.provider import Process, ProviderMachine
from tests.simulation.scenario import LENGTH, Scenario
from tests.simulation.universe import Universe

KINDS = {
    "Shutdown": Kind.SHUTDOWN,
    "PowerOff": Kind.POWER_OFF,
    "PowerOn": Kind.POWER_ON,
    "Reboot": Kind.REBOOT,
}
RESTART_AFTER = 2.0
"""Seconds until a killed provider is started again."""
SETTLED = LENGTH + 900.0
"""Seconds after which all must have come to its end."""
QUIET = 600.0
"""Seconds of a settled system, in which it must make no calls."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told: an operation, or why not. `sent` is when it asked."""

    sent: float
    time: float
    act: Act
    operation: Operation | None = None
    error: str = ""


@dataclass(slots=True)
class History:
    """All that an invariant may look at."""

    scenario: Scenario
    facts: list[Fact] = field(default_factory=list)
    sent: list[tuple[float, Act]] = field(default_factory=list)
    """Each request that reached a provider; one whose answer is lost is sent again."""
    answers: list[Answer] = field(default_factory=list)
    told: list[tuple[float, Operation]] = field(default_factory=list)
    """What watchers were told, in the order in which they were."""
    known: dict[str, Operation] = field(default_factory=dict)
    """The operations on disk at the end."""
    final_power: dict[str, bool] = field(default_factory=dict)
    final_saved: frozenset[str] = frozenset()
    """The VMs whose memory is saved in the end."""
    complaints: list[str] = field(default_factory=list)
    calls_when_settled: int = 0
    declared: dict[str, VirtualMachine] = field(default_factory=dict)
    """The resources at the end, with their statuses as last written."""
    writes_when_settled: int = 0
    killed: bool = False
    steps: int = 0

    def lines(self) -> list[str]:
        """All of it in the order of time, for people."""
        events = [(fact.time, f"{fact.vm} {fact.what} {fact.detail}") for fact in self.facts]
        events += [(act.at, f"-> {act.what} {act.vm} {dict(act.how)}") for act in self.scenario.acts]
        events += [(answer.time, f"<- {answer.act.what} {_answered(answer)}") for answer in self.answers]
        events += [(time, f"   told {_line(operation)}") for time, operation in self.told]
        return [f"{time:9.3f}  {text}" for time, text in sorted(events, key=lambda event: event[0])]


class Play:
    """One scenario being played. `kill_at`: the number of the step after which the provider is killed."""

    def __init__(self, scenario: Scenario, folder: Path, kill_at: int = 0) -> None:
        self.scenario = scenario
        self.universe = Universe(scenario.seed)
        self.hypervisor = Hypervisor(self.universe, scenario.behaviours, delegates=scenario.delegates)
        self.machine = ProviderMachine(self.universe, self.hypervisor, folder)
        self.history = History(scenario, facts=self.hypervisor.facts, complaints=self.universe.complaints)
        self.machine.clock_is_off = timedelta(seconds=scenario.clocks[0])
        self.network = Network(self.universe, self.machine, self._heard, self._answered)
        self.cluster = Cluster(self.universe)
        self.controller = ControllerMachine(self.universe, self.cluster, self.network)
        self.controller.clock_is_off = timedelta(seconds=scenario.clocks[1])
        self._has_controller = any(act.what == "declare" for act in scenario.acts)
        self._kill_at = kill_at
        self._newest: dict[str, str] = {}
        self._watched: set[str] = set()
        self.universe.on_step = self._step
        self._dead_at: set[int] = set()
        self._controller_dead_at: set[int] = set()

    def run(self) -> History:
        self.machine.start()
        if self._has_controller:
            self.controller.start()
        for act in self.scenario.acts:
            self.universe.after(act.at, partial(self._do, act))
        self.universe.run(LENGTH)
        self._mend()
        self.universe.run(SETTLED)
        calls, writes = self.hypervisor.calls, len(self.cluster.writes)
        self.universe.run(SETTLED + QUIET)
        self.history.calls_when_settled = self.hypervisor.calls - calls
        self.history.writes_when_settled = len(self.cluster.writes) - writes
        found = {vm: self.cluster.of(vm) for vm in self.hypervisor.machines}
        self.history.declared = {vm: resource for vm, resource in found.items() if resource}
        self.history.steps = self.universe.steps
        self.history.final_power = {vm: machine.on for vm, machine in self.hypervisor.machines.items()}
        saved = (vm for vm, machine in self.hypervisor.machines.items() if machine.saved)
        self.history.final_saved = frozenset(saved)
        if process := self.machine.process:
            for operation in process.journal._store.many({}, "create_time, id"):
                self.history.known[operation.id] = operation
        self.machine.kill()
        self.history.complaints = list(self.universe.complaints)
        self.controller.bury()
        return self.history

    def _step(self, number: int) -> None:
        if number == self._kill_at or number in self._dead_at:
            self._kill(RESTART_AFTER)
        if number in self._controller_dead_at:
            self._kill_controller(RESTART_AFTER)

    def _kill(self, seconds: float) -> None:
        self.history.killed = True
        self.machine.kill()
        self.network.cut()
        self._watched.clear()
        self.universe.after(seconds, self._start)

    def _kill_controller(self, seconds: float) -> None:
        self.controller.kill()
        self.universe.after(seconds, self.controller.start)

    def _start(self) -> None:
        self.machine.start()
        process = self.machine.process
        assert process
        for operation in dict.fromkeys(self._newest.values()):
            self._watch(process, operation)

    def _mend(self) -> None:
        """All harm ends: what was promised must now come true."""
        self.machine.disk_full, self.machine.disk_takes = False, 0.001
        self.hypervisor.harm = type(self.hypervisor.harm)()
        self.network.weather, self.cluster.away = type(self.network.weather)(), False
        if self._has_controller:
            self.controller.start()
        for vm in self.hypervisor.machines:
            self.hypervisor.put_back(vm)
        self._start()

    def _do(self, act: Act) -> None:
        if act.what == "declare":
            self.cluster.declare(act.vm, _spec(act))
        elif act.what in KINDS or act.what in ("Extend", "Force", "Cancel"):
            self._send(act)
        else:
            self._harm(act)

    # Clients

    def _send(self, act: Act) -> None:
        """A request reaches the provider if it runs; a client whose connection breaks sends the same one again."""
        process = self.machine.process
        if process is None or not process.serving.is_set():
            if self.universe.now < LENGTH + 60:
                self.universe.after(1.0, partial(self._send, act))
            return
        process.spawn(self._ask(process, act))
        self.universe.after(5.0, partial(self._send_again, process, act))

    def _send_again(self, process: Process, act: Act) -> None:
        answered = any(answer.act is act for answer in self.history.answers)
        if not answered and process is not self.machine.process:
            self._send(act)

    async def _ask(self, process: Process, act: Act) -> None:
        sent = self.universe.now
        self.history.sent.append((sent, act))
        try:
            operation = await self._call(process, act)
        except VmpowerError as error:
            self.history.answers.append(
                Answer(sent, self.universe.now, act, error=f"{type(error).__name__}: {error.message}")
            )
        else:
            self.history.answers.append(Answer(sent, self.universe.now, act, operation))
            self._newest[act["request_id"]] = operation.id
            self._watch(process, operation.id)

    def _call(self, process: Process, act: Act) -> Coroutine[Any, Any, Operation]:
        operations = process.operations
        if act.what in KINDS:
            return operations.start(_request(act))
        target = process.operations.active_on(act.vm) or "none"
        calls: dict[str, Callable[[], Coroutine[Any, Any, Operation]]] = {
            "Extend": lambda: operations.extend(target, Extension(timeout=timedelta(seconds=act["timeout"]))),
            "Force": lambda: operations.force(target),
            "Cancel": lambda: operations.cancel(target),
        }
        return calls[act.what]()

    def _heard(self, process: Process, request: Message) -> Act | None:
        """A request of the controller has arrived."""
        act = _as_act(self.universe.now, process, request)
        if act is not None:
            self.history.sent.append((self.universe.now, act))
        return act

    def _answered(self, process: Process, act: Act | None, told: Message | VmpowerError) -> None:
        if act is None:
            return
        if isinstance(told, VmpowerError):
            self.history.answers.append(Answer(act.at, self.universe.now, act, error=f"{told.reason}: {told.message}"))
        elif isinstance(told, pb.Operation):
            run = process.operations._runs.get(told.id)
            operation = run.shown if run else process.journal._store.one("id", told.id)
            assert operation
            self.history.answers.append(Answer(act.at, self.universe.now, act, operation))
            self._newest[operation.id] = operation.id
            self._watch(process, operation.id)

    def _watch(self, process: Process, operation: str) -> None:
        if operation not in self._watched:
            self._watched.add(operation)
            process.spawn(self._follow(process, operation))

    async def _follow(self, process: Process, operation: str) -> None:
        await process.serving.wait()
        seen: Operation | None = None
        try:
            async for seen in process.operations.watch(operation):
                self.history.told.append((self.universe.now, seen))
        except VmpowerError as error:
            self.universe.complain(f"{operation} cannot be watched: {error.message}")
            return
        if seen is None or not seen.state.final:
            self.universe.complain(f"{operation} was watched, and that ended before it did")

    def _watch_again(self) -> None:
        """Clients hang up, and come again."""
        if (process := self.machine.process) and process.serving.is_set():
            for operation in dict.fromkeys(self._newest.values()):
                process.spawn(self._follow(process, operation))

    # Harm

    def _harm(self, act: Act) -> None:
        machine, hypervisor = self.machine, self.hypervisor
        harms: dict[str, Callable[[], object]] = {
            "kill": lambda: self._kill(act["lasts"]),
            "kill at step": lambda: self._dead_at.add(self.universe.steps + act["step"]),
            "reboot the provider's machine": lambda: self._both(machine.reboot, partial(self._kill, act["lasts"])),
            "set the clock": lambda: machine.set_clock(timedelta(seconds=act["by"])),
            "set the clock while no provider runs": lambda: self._both(
                partial(self._kill, act["lasts"]), partial(machine.set_clock, timedelta(seconds=act["by"]))
            ),
            "fill the disk": lambda: self._for_a_while(act, machine, disk_full=True),
            "slow disk": lambda: self._for_a_while(act, machine, disk_takes=3.0),
            "restart the daemon": lambda: hypervisor.go_away(act["lasts"], forgets=act["forgets"]),
            "lose answers": lambda: self._for_a_while(act, hypervisor.harm, lose_answer=0.4, lose_request=0.2),
            "lose signals": lambda: self._for_a_while(act, hypervisor.harm, lose_signal=0.9),
            "lose requests": lambda: self._for_a_while(act, hypervisor.harm, lose_request=0.9),
            "lie": lambda: self._for_a_while(act, hypervisor.harm, lie=0.7),
            "withdrawals are late": lambda: self._for_a_while(act, hypervisor.harm, withdrawals_late=4.0),
            "withdrawals are refused": lambda: self._for_a_while(act, hypervisor.harm, keeps=1.0),
            "events are late": lambda: self._for_a_while(act, hypervisor.harm, events_late=10.0),
            "watch again": lambda: self._every_second(act["lasts"], self._watch_again),
            "be late": lambda: self._for_a_while(act, hypervisor.harm, late=2.0, repeat_events=0.3),
            "cut by somebody": lambda: self._if_here(act, hypervisor.cut, "cut by somebody"),
            "started by somebody": lambda: self._if_here(act, hypervisor.start, "started by somebody"),
            "suspended by somebody": lambda: self._if_here(act, hypervisor.suspend, "suspended by somebody"),
            "cut just before us": lambda: hypervisor.cut_first.add(act.vm),
            "restarted by somebody": lambda: self._restart(act.vm),
            "restarted while no provider runs": lambda: self._both(
                partial(self._kill, act["lasts"]), partial(self._restart, act.vm)
            ),
            "crash": lambda: hypervisor.crash(act.vm),
            "remove": lambda: self._remove(act),
            "forget causes": lambda: hypervisor.forget(act.vm),
            "kill the controller": lambda: self._kill_controller(act["lasts"]),
            "kill the controller at step": lambda: self._controller_dead_at.add(self.universe.steps + act["step"]),
            "set the controller's clock": lambda: self._set_controllers_clock(act["by"]),
            "no API server": lambda: self._for_a_while(act, self.cluster, away=True),
            "break connections": self.network.cut,
            "cut the network": lambda: self._both(
                self.network.cut, lambda: self._for_a_while(act, self.network.weather, away=True)
            ),
            "lose calls": lambda: self._for_a_while(act, self.network.weather, lose_call=0.3, lose_answer=0.3),
            "calls are late": lambda: self._for_a_while(act, self.network.weather, late=2.0),
            "calls come twice": lambda: self._for_a_while(act, self.network.weather, repeat=0.7),
        }
        harms[act.what]()

    def _set_controllers_clock(self, by: float) -> None:
        self.controller.clock_is_off += timedelta(seconds=by)

    def _both(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        first()
        second()

    def _every_second(self, seconds: float, what: Callable[[], None]) -> None:
        for second in range(int(seconds) + 1):
            self.universe.after(second, what)

    def _for_a_while(self, act: Act, thing: object, **values: object) -> None:
        before = {name: getattr(thing, name) for name in values}
        _set(thing, values)
        self.universe.after(act["lasts"], partial(_set, thing, before))

    def _if_here(self, act: Act, change: Callable[[str, What], object], what: What) -> None:
        if self.hypervisor.machines[act.vm].here:
            change(act.vm, what)

    def _remove(self, act: Act) -> None:
        self.hypervisor.remove(act.vm)
        self.universe.after(act["lasts"], lambda: self.hypervisor.put_back(act.vm))

    def _restart(self, vm: str) -> None:
        if self.hypervisor.machines[vm].here and self.hypervisor.cut(vm, "cut by somebody"):
            self.hypervisor.start(vm, "started by somebody")


def play(scenario: Scenario, kill_at: int = 0) -> History:
    """What comes of a scenario; the same each time."""
    bugs: list[str] = []

    def listen(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        if "bug" in str(event.get("event")):
            bugs.append(f"{event['event']}: {event.get('exc_info')!r} {event}")
        raise structlog.DropEvent

    with tempfile.TemporaryDirectory(prefix="vmp-", dir=in_memory()) as folder:
        playing = Play(scenario, Path(folder), kill_at)
        made = mock.Mock(side_effect=lambda: uuid.UUID(int=playing.universe.random.getrandbits(128)))
        chance = playing.universe.random
        jitter = mock.patch.multiple("common.backoff.random", random=chance.random, uniform=chance.uniform)
        structlog.configure(processors=[listen])  # type: ignore[list-item]  # it never returns
        try:
            with mock.patch("providers.core.operations.uuid.uuid4", made), jitter:
                history = playing.run()
        finally:
            structlog.reset_defaults()
    history.complaints.extend(bugs)
    return history


def in_memory() -> str | None:
    """A folder in memory, where there is one: nothing here is about the real disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _request(act: Act) -> Request:
    fields = dict(act.how)
    if act.what not in ("Shutdown", "Reboot"):
        return Request(kind=KINDS[act.what], vm_id=act.vm, vm_name=act.vm, request_id=fields["request_id"])
    return Request(
        kind=KINDS[act.what],
        vm_id=act.vm,
        vm_name=act.vm,
        request_id=fields["request_id"],
        timeout=timedelta(seconds=fields["timeout"]),
        escalation=Escalation(fields["escalation"]),
        save_fallback=Escalation(fields.get("save_fallback", "NEVER")),
        resend_interval=timedelta(seconds=fields["resend"]),
        hooks=tuple(
            Hook(name=f"hook-{n}", handler=ExecHook(command=(fields["request_id"], f"hook-{n}")))
            for n in range(fields["hooks"])
        ),
    )


def _spec(act: Act) -> dict[str, Any]:
    """What the owner of a VM's resource writes."""
    asks = act["escalation"] == "Ask" and act["powerState"] == "Off"  # which the API refuses
    falls_back = {"saveFallback": "Force"} if act["escalation"] == "Save" and act["falls_back"] else {}
    return {
        "providerRef": {"name": "local"},
        "powerState": act["powerState"],
        "lifecycle": {
            "gracefulShutdownTimeout": f"{act['timeout']}s",
            "escalation": "Force" if asks else act["escalation"],
            **falls_back,
            "preStop": {"hooks": [{"exec": {"command": [f"drain-{n}"]}} for n in range(act["hooks"])]},
        },
    }


def _as_act(now: float, process: Process, request: Any) -> Act | None:
    """A request of the controller that does something, as invariants look at it."""
    name = type(request).__name__.removesuffix("Request")
    steers, what = name.endswith("Operation") and not name.startswith("Get"), name.removesuffix("Operation")
    if name not in KINDS and not steers:
        return None
    how: dict[str, Any] = {"request_id": "" if steers else request.request_id}
    if what in ("Shutdown", "Extend"):
        how["timeout"] = request.timeout.ToTimedelta().total_seconds()
    return Act(now, what, _vm_of(process, request.id) if steers else request.vm, tuple(how.items()))


def _vm_of(process: Process, operation: str) -> str:
    run = process.operations._runs.get(operation)
    return run.vm_id if run else ""


def _set(thing: object, values: dict[str, object]) -> None:
    for name, value in values.items():
        setattr(thing, name, value)


def _answered(answer: Answer) -> str:
    return answer.error or (_line(answer.operation) if answer.operation else "")


def _line(operation: Operation) -> str:
    verdict = operation.verdict
    end = f" {verdict.outcome} {verdict.reason or ''} {verdict.message}" if verdict else ""
    last = f" ({operation.steps[-1].message})" if operation.steps and operation.state is not State.PENDING else ""
    return f"{operation.id[:6]} {operation.request.kind} {operation.request.vm_id} {operation.state}{end or last}"
