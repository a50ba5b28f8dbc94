"""A provider without its server, in virtual time: the sim's guests, the inventory, the operations and their journal.

It can be killed and started again beside guests that live on, as a real one beside a real hypervisor.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from providers.core.adapter import VM, Adapter
from providers.core.clock import Clock
from providers.core.errors import HypervisorUnavailable
from providers.core.inventory import Inventory
from providers.core.model import ExecHook, FailurePolicy, Hook, Kind, Operation, Request, State
from providers.core.operations import Operations
from providers.core.run import Context
from providers.core.settings import Settings
from providers.sim.adapter import SimAdapter
from providers.sim.guest import Guest, printed
from providers.sim.script import Script, guest_id
from providers.sim.transitions import Transition
from providers.sim.world import World
from tests.unit.providers.fakes import InlineJournal

A = TypeVar("A", bound=Adapter)
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
"""When the event loop's virtual time is 0."""


def virtual_clock() -> datetime:
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def now() -> float:
    """Seconds of virtual time, in hundredths."""
    return round(asyncio.get_running_loop().time(), 2)


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


async def until(seconds: float) -> None:
    """Let virtual time come to this moment."""
    await asyncio.sleep(seconds - asyncio.get_running_loop().time())


def make_world(faults: dict[str, Any] | None = None, **guests: dict[str, Any]) -> World:
    world = World(None, virtual_clock)
    world.populate(Script.model_validate({"guests": guests, "faults": faults or {}}))
    return world


class ProviderOf(Generic[A]):
    """Of any hypervisor: `connect` makes its adapter. A request's fields are those of `model.Request`."""

    def __init__(self, connect: Callable[[], A], state_dir: Path, **settings: Any) -> None:
        self.connect = connect
        self.settings = Settings(listen="unix:///nowhere", state_dir=state_dir, **settings)
        self.running = False
        self.boot_id = "boot-1"
        self.wrong = timedelta(0)
        """How much the wall clock of its machine differs from the hypervisor's."""

    def set_clock(self, step: timedelta) -> None:
        """Set its machine's wall clock; a process that runs notices."""
        self.wrong += step
        if self.running:
            self.context.clock.check()

    async def start(self) -> None:
        await self.start_unconnected()
        await self.inventory.connected.wait()

    async def start_unconnected(self) -> None:
        """Whether or not the hypervisor answers."""
        self.adapter = self.connect()
        self.inventory = Inventory(self.adapter)
        clock = Clock(lambda: virtual_clock() + self.wrong, asyncio.get_running_loop().time, self.boot_id)
        self.journal = InlineJournal(self.settings.state_dir / "journal.db")
        self.context = Context(self.adapter, self.inventory, self.journal, self.settings, clock)
        self.operations = Operations(self.context)
        await self.operations.resume()
        self._following = asyncio.create_task(self.inventory.run())
        self.running = True

    async def kill(self) -> None:
        """Its process is gone: nothing more is asked, judged or written down. Its guests do not notice."""
        self.running = False
        await self.operations.stop()
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self.journal.close()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    async def begin(self, kind: Kind, name: str = "web", **fields: Any) -> Operation:
        for key in ("timeout", "resend_interval"):
            if key in fields:
                fields[key] = timedelta(seconds=fields[key])
        return await self.operations.start(Request(kind=kind, vm_id=guest_id(name), vm_name=name, **fields))

    async def shutdown(self, name: str = "web", **fields: Any) -> Operation:
        return await self.begin(Kind.SHUTDOWN, name, **fields)

    async def reboot(self, name: str = "web", **fields: Any) -> Operation:
        return await self.begin(Kind.REBOOT, name, **fields)

    async def power_off(self, name: str = "web", **fields: Any) -> Operation:
        return await self.begin(Kind.POWER_OFF, name, **fields)

    async def power_on(self, name: str = "web", **fields: Any) -> Operation:
        return await self.begin(Kind.POWER_ON, name, **fields)

    async def reach(self, operation: Operation, state: State) -> Operation:
        """The operation when it first stands in this state."""
        async for seen in self.operations.watch(operation.id):
            if seen.state is state:
                return seen
        raise AssertionError(f"it never came to {state}: {seen}")

    async def end(self, operation: Operation) -> Operation:
        """The operation with its verdict."""
        async for seen in self.operations.watch(operation.id):
            if seen.state.final:
                return seen
        raise AssertionError(f"it never ended: {seen}")

    async def ending(self, begun: Awaitable[Operation]) -> str:
        """How an operation ends, in a line."""
        return ending(await self.end(await begun))

    def vm(self, name: str = "web") -> VM:
        return self.inventory.vms[guest_id(name)]


class Provider(ProviderOf[SimAdapter]):
    """Of the sim. Its guests are named by the keys of `guests`."""

    def __init__(self, world: World, state_dir: Path, **settings: Any) -> None:
        super().__init__(lambda: SimAdapter(world, bounded=self.settings.bounds), state_dir, **settings)
        self.world = world

    def guest(self, name: str = "web") -> Guest:
        return self.world.guest(guest_id(name))

    def do(self, transition: Transition, name: str = "web") -> None:
        """Let something happen to a guest that this provider has not asked for."""
        self.world.change(guest_id(name), transition)

    def rewrite(self, name: str = "web", **fields: Any) -> None:
        """Change a guest's script."""
        self.do(lambda guest, _now: replace(guest, script=guest.script.model_copy(update=fields)), name)

    def calls(self, call: str, name: str = "web") -> int:
        """How often the hypervisor was called in this way about a guest."""
        return self.guest(name).calls.get(call, 0)

    def heard(self, text: str, name: str = "web") -> int:
        """How many lines on the guest's console hold this."""
        return sum(text in line for line in printed(self.guest(name), self.world.now()))

    def lose_hypervisor(self, seconds: float) -> None:
        """Its connection breaks, and for so long nothing answers."""
        self.world.hide(seconds)
        self.adapter._events.publish(HypervisorUnavailable("The sim was cut off."))


Make = Callable[..., Awaitable[Provider]]


def ending(operation: Operation) -> str:
    """State, outcome, reason and signal in a line."""
    verdict = operation.verdict
    assert verdict, operation
    reason = f"/{verdict.reason}" if verdict.reason else ""
    signal = f" by {verdict.signal}" if verdict.signal else ""
    return f"{operation.state}: {verdict.outcome}{reason}{signal}"


def elapsed(operation: Operation) -> float:
    """Seconds from request to verdict, in hundredths: the sim's timers are exact to a millisecond."""
    assert operation.verdict
    return round((operation.verdict.end_time - operation.verdict.start_time).total_seconds(), 2)


def exec_hook(name: str = "drain", policy: str = "CONTINUE", timeout: float = 30) -> Hook:
    return Hook(
        name=name,
        handler=ExecHook(command=("run", name)),
        timeout=timedelta(seconds=timeout),
        failure_policy=FailurePolicy(policy),
    )
