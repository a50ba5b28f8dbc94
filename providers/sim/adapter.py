"""The sim's nine methods: calls become transitions of guests, a script says which calls fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Grace,
    GuestCredentials,
    GuestExit,
    GuestProcess,
    Listed,
    OffCause,
    PowerState,
    Signal,
    none_active,
)
from providers.core.errors import CommandFailed, HypervisorUnavailable
from providers.core.lanes import Bound, Lane, Lanes, bounds
from providers.sim.events import Events
from providers.sim.guest import Guest, power_state
from providers.sim.script import Fault, GuestCall, Script, WorldCall
from providers.sim.states import to_vm
from providers.sim.transitions import (
    Transition,
    ask_agent,
    power_off,
    power_on,
    press_button,
    process_end,
    save,
    start_process,
    take_snapshot,
)
from providers.sim.wakeup import Wakeup
from providers.sim.world import World

AGENT_TIMEOUT = 60.0
"""Seconds after which a call to a hanging agent fails, as libvirt gives up on one."""

LANES: Mapping[GuestCall, Lane] = {
    "get": Lane.READ,
    "power_on": Lane.START,
    "power_off": Lane.CUT,
    "save": Lane.SAVE,
    "send_signal": Lane.ASK,
    "guest_exec": Lane.PROGRAM,
    "poll": Lane.PROGRAM,
    "snapshot": Lane.PROGRAM,
}

ASK: dict[Signal, Transition] = {Signal.GUEST_AGENT: ask_agent, Signal.ACPI: press_button}


async def _at_once(_guest: Guest) -> None:
    """Nothing more is waited for."""


async def _agent_answers(guest: Guest) -> None:
    if guest.script.agent == "hanging":
        await asyncio.sleep(AGENT_TIMEOUT)
        raise CommandFailed(f"The agent of {guest.name} did not answer in {AGENT_TIMEOUT:.0f} s; restart it.")


class SimAdapter:
    """A hypervisor whose guests live in a World, `script`'s among them. Made inside a running event loop.

    Raises:
        SimError: another provider runs this world.
    """

    type = "sim"
    tells_late = True
    version = "1"
    signals = tuple(ASK)

    def __init__(self, world: World, script: Script | None = None, bounded: Mapping[Lane, Bound] | None = None) -> None:
        self.lanes = Lanes(bounded or bounds())
        self.endpoint = f"sim://{world.path.absolute() if world.path else ''}"
        self._world = world
        self._wakeup = Wakeup(world.path, self._on_wakeup) if world.path else None
        if script:
            world.populate(script)
        self._events = Events(world)

    async def get(self, vm_id: str) -> VM:
        return to_vm(await self._call(vm_id, "get"), self._world.now())

    async def list(self) -> Sequence[VM]:
        return await self._all("list")

    async def power_on(self, vm_id: str) -> None:
        await self._call(vm_id, "power_on", power_on)

    async def power_off(self, vm_id: str) -> bool:
        """Cut a VM's power; takes the guest's `power_off_time`."""
        found = list[PowerState]()

        def cut(guest: Guest, now: float) -> Guest:
            found.append(power_state(guest, now))
            return power_off(guest, now)

        guest = await self._call(vm_id, "power_off", cut, self._power_gone)
        return found != [PowerState.OFF] and guest.off_cause is OffCause.HOST

    async def save(self, vm_id: str) -> bool:
        """Save a VM's memory; takes the guest's `save_time`."""
        found = list[PowerState | None]()

        def begin(guest: Guest, now: float) -> Guest:
            found.append(guest.held)
            return save(guest, now)

        await self._call(vm_id, "save", begin, self._memory_saved)
        return found != [PowerState.SUSPENDED]

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        if signal not in ASK:
            raise CommandFailed(f"No guest of the sim knows {signal}; use one of {', '.join(ASK)}.")
        answered = _agent_answers if signal is Signal.GUEST_AGENT else _at_once
        await self._call(vm_id, "send_signal", ASK[signal], answered)

    async def guest_exec(
        self, vm_id: str, command: Sequence[str], credentials: GuestCredentials | None
    ) -> GuestProcess:
        """Start a program, which the guest's hooks simulate; credentials are ignored."""
        guest = await self._call(vm_id, "guest_exec", partial(start_process, command=command), _agent_answers)
        pid = guest.processes[-1].pid
        return GuestProcess(str(pid), partial(self.exit_of, vm_id, pid))

    async def exit_of(self, vm_id: str, pid: int) -> GuestExit | None:
        """How a process in a guest ended, None while it runs."""
        guest = await self._call(vm_id, "poll", answered=_agent_answers)
        process = process_end(guest, self._world.now(), pid)
        return GuestExit(process.exit_code, process.output.encode()) if process else None

    async def snapshot(self, vm_id: str, name: str, description: str, include_memory: bool) -> None:
        taken = partial(take_snapshot, name=name, description=description, include_memory=include_memory)
        await self._call(vm_id, "snapshot", taken)

    async def watch(self, _: ActiveVMs = none_active, /) -> AsyncIterator[Change]:
        listed = await self._all("watch")
        with self._events.subscribe() as queue:
            yield Listed(tuple(listed))
            while True:
                event = await queue.get()
                if isinstance(event, HypervisorUnavailable):
                    raise event
                yield event

    async def close(self) -> None:
        """Close the world; its guests live on."""
        self._events.close()
        if self._wakeup:
            self._wakeup.close()
        self._world.close()

    async def _call(
        self,
        vm_id: str,
        call: GuestCall,
        transition: Transition | None = None,
        answered: Callable[[Guest], Awaitable[None]] = _at_once,
    ) -> Guest:
        """In the call's lane, for as long as the script says and until it is `answered`."""
        self._world.must_answer()
        async with self.lanes.place(LANES[call], self._world.guest(vm_id).script.node):
            with self._world.under_way(call):
                if latency := self._world.hypervisor().latency:
                    await asyncio.sleep(latency)
                guest = await self._take_effect(vm_id, call, transition)
                await answered(guest)
                return guest

    async def _take_effect(self, vm_id: str, call: GuestCall, transition: Transition | None) -> Guest:
        self._world.must_answer()
        if transition:
            self._events.refresh(vm_id)  # publishes an end whose timer is late
        fault, guest = self._world.call(vm_id, call, transition)
        await self._meet(fault, call)
        if fault is Fault.LOST:
            raise HypervisorUnavailable(f"The answer to {call} was lost, as the script says; ask again.")
        return guest

    async def _power_gone(self, guest: Guest) -> None:
        if power_state(guest, self._world.now()) is not PowerState.OFF:
            await asyncio.sleep(guest.script.power_off_time)

    async def _memory_saved(self, guest: Guest) -> None:
        if guest.saved_at is not None:
            await asyncio.sleep(max(guest.saved_at - self._world.now(), 0.0))

    async def _meet(self, fault: Fault, call: str) -> None:
        self._world.must_answer()
        match fault:
            case Fault.REFUSE:
                raise CommandFailed(f"The sim refused {call}, as its script says; mend the script.")
            case Fault.UNAVAILABLE:
                raise HypervisorUnavailable(f"The sim did not answer {call}, as its script says; ask again.")
            case Fault.HANG:
                await asyncio.get_running_loop().create_future()

    async def _all(self, call: WorldCall) -> Sequence[VM]:
        await self._meet(self._world.count_own(call), call)
        now = self._world.now()
        return [to_vm(guest, now) for guest in self._world.guests()]

    def _on_wakeup(self, vm_id: str) -> None:
        if vm_id:
            self._events.refresh(vm_id)
        else:
            self._events.publish(HypervisorUnavailable("The sim was cut off; ask again."))
