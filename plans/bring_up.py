"""What a run has stopped comes up again: only that, the tiers in reverse, each when those behind it are ready."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Literal

from client.errors import ProviderError
from plans.calls import Calls
from plans.clock import Clock
from plans.frozen import FrozenTier, Target
from plans.history import Event, History, VMUp
from plans.model import Ready
from protos.power.v1 import power_pb2 as pb

AGENTS = frozenset({pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_VMWARE_TOOLS, pb.SIGNAL_INIT})
"""Signals of a guest that is up; a container, which has no agent, hears INIT as soon as it runs."""


class BringUp:
    """The way up of one run, from where its history stands. A plan without `bringUp` leaves all as it is."""

    def __init__(
        self,
        history: History,
        calls: Calls,
        clock: Clock,
        note: Callable[[Event], Awaitable[None]],
        stays_off: Callable[[Target], bool],
    ) -> None:
        """`stays_off`: whether a VM's owner wants it off by now."""
        self._history, self._calls, self._clock, self._note = history, calls, clock, note
        self._stays_off = stays_off
        self._up = {tier.name: asyncio.Event() for tier in history.start.tiers}
        self._heard = {name: _Heard(calls, name) for name in self._providers()}
        self._stopped = asyncio.Event()
        """A VM was not ready in time, and the plan says that nothing more comes up then."""

    async def carry_out(self) -> None:
        """Start what the run stopped, and wait until it is ready, or its time for that is over."""
        plan = self._history.start.spec.bring_up
        if plan is None:
            return
        heard = self._heard.values() if plan.ready.signal == "Agent" else ()
        watching = [asyncio.ensure_future(each.listen()) for each in heard]
        try:
            async with asyncio.TaskGroup() as group:
                for tier in self._history.start.tiers:
                    group.create_task(self._bring_tier_up(tier, plan.ready))
        finally:
            for each in watching:
                each.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _bring_tier_up(self, tier: FrozenTier, ready: Ready) -> None:
        for later in self._history.start.tiers:
            if tier.name in later.after:
                await self._up[later.name].wait()
        if not self._stopped.is_set():
            up = self._history.up
            wanted = [each for each in self._of(tier) if each.key in up or not self._stays_off(each)]
            waiting = [target for target in wanted if target.key not in up]
            await asyncio.gather(*(self._bring_vm_up(tier, target, ready) for target in waiting))
            if ready.on_timeout == "Stop" and not all(up[target.key].ready for target in wanted):
                self._stopped.set()
        self._up[tier.name].set()

    async def _bring_vm_up(self, tier: FrozenTier, target: Target, ready: Ready) -> None:
        request_id = self._history.request_id(tier.name, target, "up")
        request = pb.PowerOnRequest(vm=target.vm, request_id=request_id, reason=self._history.start.why)
        operation, message, up = "", "It was not ready in time.", False
        with suppress(TimeoutError):
            try:
                async with asyncio.timeout(ready.timeout.total_seconds()):
                    begun = await self._calls.begin(target, request, lambda: False)
                    if begun is not None:
                        operation = begun.id
                        ended = await self._calls.follow(target, begun.id)
                        up, message = await self._is_ready(target, ended, ready.signal)
            except ProviderError as error:
                message = error.message
        await self._note(
            VMUp(tier=tier.name, vm=target.key, at=self._clock(), ready=up, operation=operation, message=message)
        )

    async def _is_ready(
        self, target: Target, started: pb.Operation, signal: Literal["Agent", "Power"]
    ) -> tuple[bool, str]:
        """Wait for the signal of a VM that runs."""
        if started.state != pb.OPERATION_STATE_SUCCEEDED:
            return False, started.verdict.message or started.error.message
        if signal == "Agent":
            await self._heard[target.provider].agent(target.vm)
        return True, ""

    def _of(self, tier: FrozenTier) -> Sequence[Target]:
        """The VMs of a tier that this run has stopped."""
        ended = self._history.ended
        return [target for target in tier.targets if target.key in ended and ended[target.key].stopped]

    def _providers(self) -> set[str]:
        return {target.provider for tier in self._history.start.tiers for target in self._of(tier)}


class _Heard:
    """Which VMs of one provider have an agent that answers, as its events tell."""

    def __init__(self, calls: Calls, provider: str) -> None:
        self._calls, self._provider = calls, provider
        self._answering: set[str] = set()
        self._changed = asyncio.Condition()

    async def listen(self) -> None:
        """Without end, through outages."""
        async with aclosing(self._calls.watch(self._provider)) as events:
            async for event in events:
                if isinstance(event, pb.WatchVMsResponse) and event.HasField("changed"):
                    await self._note(event.changed)

    async def agent(self, vm: str) -> None:
        """Wait until the agent of a VM answers."""
        async with self._changed:
            await self._changed.wait_for(lambda: vm in self._answering)

    async def _note(self, vm: pb.VM) -> None:
        async with self._changed:
            if vm.power_state == pb.POWER_STATE_ON and AGENTS & set(vm.forecast.signals):
                self._answering.add(vm.id)
            else:
                self._answering.discard(vm.id)
            self._changed.notify_all()
