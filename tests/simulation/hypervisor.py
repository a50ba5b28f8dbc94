"""A hypervisor that does to a provider whatever a real one can, and remembers what really happened.

It lives outside the provider's process: a call that was sent takes effect though its sender was killed, and an answer
may be lost, late, or untrue.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Changed,
    Delegation,
    Ended,
    Escalation,
    Grace,
    GuestCredentials,
    GuestExit,
    GuestProcess,
    Listed,
    OffCause,
    PowerState,
    Problem,
    Reason,
    Removed,
    Signal,
    none_active,
    unsupported,
)
from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound
from providers.core.lanes import Lanes, bounds
from tests.simulation.universe import Universe

IS_READY = "is-ready"
"""A program that fails seven times of ten, as in a guest that was just started."""

T = TypeVar("T")
What = Literal[
    "asked",
    "agent left",
    "left",
    "crashed",
    "cut",
    "cut by somebody",
    "started",
    "started by somebody",
    "saving",
    "saved",
    "suspended by somebody",
    "hook",
    "removed",
]
OFF: dict[str, OffCause] = {
    "left": OffCause.GUEST,
    "crashed": OffCause.CRASHED,
    "cut": OffCause.HOST,
    "cut by somebody": OffCause.HOST,
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that really happened to a VM, at a moment that no clock setting changes."""

    time: float
    vm: str
    what: What
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a guest does. `takes`: seconds to go down when asked; None: it never does. `agent` False: it has none.

    `acpi` False: it has no power button. `refuses`: its agent refuses. `after`: from which ask on it obeys.
    """

    takes: float | None = 3.0
    agent: bool = True
    acpi: bool = True
    refuses: bool = False
    after: int = 1
    crashes: bool = False
    saves: float | None = 2.0
    """Seconds that it takes to save its memory; None: that is refused."""
    told_unsavable: bool = True
    """Whether its hypervisor tells before that it refuses to."""


@dataclass(slots=True)
class Machine:
    """A VM and its guest as they are."""

    id: str
    behaviour: Behaviour
    on: bool = True
    """Whether it runs; one that is saved does not."""
    saved: bool = False
    saving: bool = False
    saved_runs: set[int] = field(default_factory=set)
    run: int = 1
    presses: int = 0
    going_down: bool = False
    ended: Ended | None = None
    here: bool = True
    agent_up: bool = True
    deadlines: int = 0
    """How many it was given; the last one counts."""
    kept: bool = False
    """Whether the hypervisor is to cut its power at the last one."""


@dataclass(slots=True)
class Harm:
    """How badly it behaves now: chances from 0 to 1, and seconds."""

    lose_request: float = 0.0
    lose_answer: float = 0.0
    lose_signal: float = 0.0
    """Of a request to ask a guest, while all others come through."""
    lie: float = 0.0
    """Says that a power command was done, and does nothing."""
    late: float = 0.0
    """The longest that a call or an event may take."""
    repeat_events: float = 0.0
    events_late: float = 0.0
    """The longest that an event may take, if it is longer."""
    withdrawals_late: float = 0.0
    """The longest that taking a deadline back may take beside."""
    keeps: float = 0.0
    """Does not give back a deadline."""


class Hypervisor:
    """All machines, and one daemon that speaks for them. `delegates`: it keeps deadlines and cuts the power at them."""

    def __init__(self, universe: Universe, behaviours: Sequence[Behaviour], *, delegates: bool = False) -> None:
        self.universe = universe
        self.delegates = delegates
        self.machines = {f"vm-{n}": Machine(f"vm-{n}", behaviour) for n, behaviour in enumerate(behaviours)}
        self.facts: list[Fact] = []
        self.harm = Harm()
        self.up = True
        self.cut_first: set[str] = set()
        """VMs whose power somebody else cuts just before our next call to do so."""
        self.calls = 0
        self.subscribers: list[Callable[[Change | Exception], None]] = []

    def note(self, vm: str, what: What, detail: str = "") -> None:
        self.facts.append(Fact(self.universe.now, vm, what, detail))

    # What happens to machines

    def ask(self, vm: str, signal: Signal) -> None:
        machine = self._running(vm)
        heard = machine.agent_up and machine.behaviour.agent if signal is Signal.GUEST_AGENT else True
        if signal is Signal.GUEST_AGENT and (not heard or machine.behaviour.refuses):
            self.note(vm, "asked", f"{signal} refused")
            raise CommandFailed("The agent refused.")
        self.note(vm, "asked", signal)
        machine.presses += 1
        takes = machine.behaviour.takes
        if takes is None or machine.going_down or machine.presses < machine.behaviour.after:
            return
        machine.going_down = True
        what: What = "crashed" if machine.behaviour.crashes else "left"
        self.universe.after(takes / 2, partial(self._leave_agent, vm, machine.run))
        self.universe.after(takes, partial(self._go_down, vm, machine.run, what))

    def keep_deadline(self, vm: str, seconds: float) -> None:
        machine = self.machines[vm]
        machine.deadlines, machine.kept = machine.deadlines + 1, True
        self.universe.after(seconds, partial(self._come_to_deadline, vm, machine.run, machine.deadlines))

    def give_back(self, vm: str) -> None:
        if self.universe.random.random() < self.harm.keeps:
            raise CommandFailed("It does not stop.")
        self._find(vm).kept = False

    def cut(self, vm: str, what: What) -> bool:
        """Cut its power; False: it was off."""
        machine = self._find(vm)
        if what == "cut" and vm in self.cut_first and machine.on:
            self.cut_first.discard(vm)
            self._end(machine, "cut by somebody")
        if not machine.on and not machine.saved:
            return False
        self._end(machine, what)
        return True

    def start(self, vm: str, what: What) -> None:
        machine = self._find(vm)
        if machine.saving and what == "started":
            raise Locked("Its memory is being saved.")
        if machine.on:
            return
        machine.on, machine.run, machine.presses, machine.going_down = True, machine.run + 1, 0, False
        machine.ended, machine.agent_up, machine.saved = None, True, False
        self.note(vm, what, f"run {machine.run}")
        self._tell(machine)

    def save(self, vm: str) -> int:
        """Begin to save its memory, of this run; 0: it is saved, or that is under way, as `is_saving` tells."""
        machine = self._find(vm)
        if machine.saved or machine.saving:
            return 0
        if not machine.on or machine.behaviour.saves is None:
            raise CommandFailed(f"{vm} cannot be saved.")
        machine.saving = True
        self.note(vm, "saving", f"run {machine.run}")
        self._tell(machine)
        self.universe.after(machine.behaviour.saves, partial(self._saved, vm, machine.run))
        return machine.run

    def suspend(self, vm: str, what: What) -> None:
        """Its host, or a person there, saves its memory, at once."""
        machine = self._find(vm)
        if machine.on and not machine.saving:
            machine.on, machine.saved, machine.ended = False, True, None
            self.note(vm, what, f"run {machine.run}")
            self._tell(machine)

    def is_saving(self, vm: str) -> bool:
        return self._find(vm).saving

    def was_saved(self, vm: str, run: int) -> None:
        if run not in self._find(vm).saved_runs:
            raise CommandFailed("The save has failed.")

    def _saved(self, vm: str, run: int) -> None:
        machine = self.machines[vm]
        if machine.on and machine.saving and machine.run == run:
            machine.on, machine.saving, machine.saved, machine.ended = False, False, True, None
            machine.saved_runs.add(run)
            self.note(vm, "saved", f"run {run}")
            self._tell(machine)

    def crash(self, vm: str) -> None:
        if self.machines[vm].on:
            self._end(self.machines[vm], "crashed")

    def forget(self, vm: str) -> None:
        """It is off, and its record of why is lost."""
        machine = self.machines[vm]
        if machine.ended:
            machine.ended = Ended()

    def remove(self, vm: str) -> None:
        """It is taken out of the inventory; its guest runs on."""
        machine = self.machines[vm]
        if machine.here:
            machine.here = False
            self.note(vm, "removed")
            self._publish(Removed(vm))

    def put_back(self, vm: str) -> None:
        machine = self.machines[vm]
        if not machine.here:
            machine.here = True
            self._tell(machine)

    def go_away(self, seconds: float, *, forgets: bool) -> None:
        """The daemon ends, and is started again; what ends meanwhile it knows no cause of."""
        self.up = False
        self._publish(HypervisorUnavailable("The daemon ended."))
        self.subscribers.clear()
        if forgets:
            for vm in self.machines:
                self.forget(vm)
        self.universe.after(seconds, self._come_back)

    def hook(self, vm: str, command: str) -> None:
        self._running(vm)
        self.note(vm, "hook", command)

    # What it says of them

    def vm(self, machine: Machine) -> VM:
        agent = (Signal.GUEST_AGENT,) if machine.behaviour.agent and machine.agent_up else ()
        signals = agent + ((Signal.ACPI,) if machine.behaviour.acpi else ())
        hears, tied = machine.on and not machine.saving, machine.behaviour.saves is None
        return VM(
            machine.id,
            machine.id,
            self._power(machine),
            ended=machine.ended if not machine.on else None,
            signals=signals if hears else (),
            problems=_problems(machine),
            saved=machine.saved,
            save_problems=(Problem("It is tied."),) if tied and machine.behaviour.told_unsavable else (),
            delegation=Delegation() if self.delegates else None,
            run_id=str(machine.run) if machine.on else "",
        )

    def _power(self, machine: Machine) -> PowerState:
        if machine.saving:
            return PowerState.PAUSED
        if machine.saved:
            return PowerState.SUSPENDED
        return PowerState.ON if machine.on else PowerState.OFF

    def all(self) -> tuple[VM, ...]:
        return tuple(self.vm(machine) for machine in self.machines.values() if machine.here)

    def read(self, vm: str) -> VM:
        return self.vm(self._find(vm))

    def _find(self, vm: str) -> Machine:
        machine = self.machines[vm]
        if not machine.here:
            raise VMNotFound(f"There is no {vm}.")
        return machine

    def _running(self, vm: str) -> Machine:
        machine = self._find(vm)
        if not machine.on or machine.saving:
            raise CommandFailed(f"{vm} does not run.")
        return machine

    def _leave_agent(self, vm: str, run: int) -> None:
        machine = self.machines[vm]
        if machine.on and machine.run == run and machine.agent_up and machine.behaviour.agent:
            machine.agent_up = False
            self.note(vm, "agent left")
            self._tell(machine)

    def _go_down(self, vm: str, run: int, what: What) -> None:
        machine = self.machines[vm]
        if machine.on and machine.run == run and not machine.saving:
            self._end(machine, what)

    def _come_to_deadline(self, vm: str, run: int, number: int) -> None:
        machine = self.machines[vm]
        if machine.on and machine.kept and (machine.run, machine.deadlines) == (run, number):
            self._end(machine, "cut", Reason.TIMEOUT)

    def _end(self, machine: Machine, what: What, reason: Reason | None = None) -> None:
        machine.on, machine.saving, machine.saved = False, False, False
        machine.ended = Ended(OFF[what], reason) if self.up else Ended()
        self.note(machine.id, what, f"run {machine.run}")
        self._tell(machine)

    def _come_back(self) -> None:
        self.up = True

    def _tell(self, machine: Machine) -> None:
        if machine.here:
            self._publish(Changed(self.vm(machine)))

    def _publish(self, change: Change | Exception) -> None:
        for subscriber in self.subscribers:
            subscriber(change)


def _problems(machine: Machine) -> tuple[Problem, ...]:
    if machine.saving:
        return (Problem("Its memory is being saved.", Reason.PAUSED, passing=True),)
    return (Problem("Its memory is saved.", Reason.SUSPENDED),) if machine.saved else ()


@dataclass(slots=True)
class Connection:
    """The adapter of one provider process."""

    hypervisor: Hypervisor
    alive: bool = True
    type: str = "simulated"
    tells_late: bool = True
    version: str = "1"
    endpoint: str = "simulated://"
    signals: tuple[Signal, ...] = (Signal.GUEST_AGENT, Signal.ACPI)
    lanes: Lanes = field(default_factory=lambda: Lanes(bounds()))
    _last_event: float = field(default=0.0)

    async def get(self, vm_id: str) -> VM:
        return await self._call(lambda: self.hypervisor.read(vm_id))

    async def list(self) -> Sequence[VM]:
        return await self._call(self.hypervisor.all)

    async def power_on(self, vm_id: str) -> None:
        await self._call(lambda: self.hypervisor.start(vm_id, "started"), lie=lambda: None)

    async def power_off(self, vm_id: str) -> bool:
        return await self._call(lambda: self.hypervisor.cut(vm_id, "cut"), lie=lambda: True)

    async def save(self, vm_id: str) -> bool:
        """Returns when it is saved, or is so no more."""
        run = await self._call(lambda: self.hypervisor.save(vm_id), lie=lambda: -1)
        while await self._call(lambda: self.hypervisor.is_saving(vm_id)):  # noqa: ASYNC110 - a task is polled
            await asyncio.sleep(0.5)
        if run > 0:
            await self._call(lambda: self.hypervisor.was_saved(vm_id, run))
        return bool(run)

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        def ask() -> None:
            lost = self.hypervisor.harm.lose_signal
            if lost and self.hypervisor.universe.random.random() < lost:
                raise HypervisorUnavailable("It does not answer.")
            self.hypervisor.ask(vm_id, signal)
            if self.hypervisor.delegates and grace.escalation is Escalation.FORCE:
                assert grace.timeout is not None
                self.hypervisor.keep_deadline(vm_id, grace.timeout.total_seconds())

        await self._call(ask)

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        await self._call(lambda: self.hypervisor.hook(vm_id, " ".join(command)))
        ends = self.hypervisor.universe.now + self.hypervisor.universe.random.uniform(0, 3)

        code = int(command[0] == IS_READY and self.hypervisor.universe.random.random() < 0.7)

        async def poll() -> GuestExit | None:
            return await self._call(lambda: GuestExit(code) if self.hypervisor.universe.now >= ends else None)

        return GuestProcess("1", poll)

    snapshot = unsupported

    async def watch(self, _: ActiveVMs = none_active, /) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Change | Exception] = asyncio.Queue()
        listed = await self._call(lambda: self._subscribe(queue))
        yield Listed(listed)
        while True:
            event = await queue.get()
            if isinstance(event, Exception):
                raise event
            yield event

    async def close(self) -> None:
        pass

    def _subscribe(self, queue: "asyncio.Queue[Change | Exception]") -> tuple[VM, ...]:
        """Events come in their order, though late, also after its VM was read again, and some twice."""
        universe = self.hypervisor.universe
        self._last_event = universe.now

        def deliver(event: Change | Exception) -> None:
            if self.alive:
                queue.put_nowait(event)

        def publish(event: Change | Exception) -> None:
            harm = self.hypervisor.harm
            for _ in range(1 + (universe.random.random() < harm.repeat_events)):
                at = max(self._last_event, universe.now + universe.random.uniform(0, max(harm.late, harm.events_late)))
                self._last_event = at
                universe.after(at - universe.now, partial(deliver, event))

        self.hypervisor.subscribers.append(publish)
        return self.hypervisor.all()

    async def _call(self, effect: Callable[[], T], lie: Callable[[], T] | None = None, late: float = 0.0) -> T:
        """Send a call, which takes effect on its way though we are killed, and wait for its answer. `late`: the longest
        that it may be on its way beside what all are, in seconds."""
        hypervisor, universe = self.hypervisor, self.hypervisor.universe
        harm, chance = replace(hypervisor.harm), universe.random.random
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        hypervisor.calls += 1

        def settle(result: object) -> None:
            if self.alive and not answer.done():
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

        def arrive() -> None:
            result: object
            if not hypervisor.up or chance() < harm.lose_request:
                result = HypervisorUnavailable("It does not answer.")
            else:
                try:
                    result = lie() if lie and chance() < harm.lie else effect()
                except (CommandFailed, HypervisorUnavailable, VMNotFound) as error:
                    result = error
                if chance() < harm.lose_answer:
                    result = HypervisorUnavailable("The answer was lost.")
            universe.after(universe.random.uniform(0, 0.002 + harm.late), lambda: settle(result))

        universe.after(universe.random.uniform(0, 0.002 + harm.late + late), arrive)
        found: T = await answer
        return found


@dataclass(slots=True)
class Delegating(Connection):
    """That of a hypervisor which keeps deadlines."""

    margin: timedelta = timedelta(seconds=5)

    async def withdraw(self, vm_id: str) -> None:
        late = self.hypervisor.harm.withdrawals_late
        await self._call(lambda: self.hypervisor.give_back(vm_id), late=late)
