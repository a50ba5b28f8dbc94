"""What a run has stopped comes up again: only that, the tiers in reverse, each when those behind it are ready."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress

from client.errors import ProviderError
from client.power import PROBE
from client.times import duration
from plans.calls import Calls
from plans.clock import Clock
from plans.frozen import FrozenTier, Target
from plans.history import BringUpStopped, Event, History, VMUp
from plans.model import Ready
from protos.power.v1 import power_pb2 as pb

AGENTS = frozenset({pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_VMWARE_TOOLS, pb.SIGNAL_INIT})
"""Signals of a guest that is up; a container, which has no agent, hears INIT as soon as it runs."""


NOT_ASKED = "Its provider may not ask it, or is of an older version."
LATE = "It was not ready in time."
LAST_WORD = 5.0
"""Seconds for what was last seen of a VM that is not ready in time."""
MOST_TOLD = 500
"""Characters of that, from its end: a record has those of all VMs."""


class BringUp:
    """The way up of one run, from where its history stands. A plan without `bringUp` leaves all as it is."""

    def __init__(
        self,
        history: History,
        calls: Calls,
        clock: Clock,
        note: Callable[[Event], Awaitable[None]],
        stays_off: Callable[[Target], Awaitable[bool]],
    ) -> None:
        """`stays_off`: whether a VM's owner wants it off by now, or another run."""
        self._history, self._calls, self._clock, self._note = history, calls, clock, note
        self._stays_off = stays_off
        self._up = {tier.name: asyncio.Event() for tier in history.start.tiers}
        self._heard = {name: _Heard(calls, name) for name in self._providers()}
        self._stopped_by = ""
        """The tier of which a VM was not ready in time, where the plan says that nothing more comes up then."""

    async def carry_out(self) -> None:
        """Start what the run stopped, and wait until it is ready, or its time for that is over."""
        if self._history.start.spec.bring_up is None:
            return
        watching = [asyncio.ensure_future(each.listen()) for each in self._heard.values()]
        try:
            async with asyncio.TaskGroup() as group:
                for tier in self._history.start.tiers:
                    group.create_task(self._bring_tier_up(tier, self._history.start.spec.ready(tier.name)))
        finally:
            for each in watching:
                each.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        if self._stopped_by:
            await self._note(BringUpStopped(tier=self._stopped_by, at=self._clock()))

    async def _bring_tier_up(self, tier: FrozenTier, ready: Ready) -> None:
        for later in self._history.start.tiers:
            if tier.name in later.after:
                await self._up[later.name].wait()
        if not self._stopped_by:
            up = self._history.up
            wanted = [each for each in self._of(tier) if each.key in up or not await self._stays_off(each)]
            waiting = [target for target in wanted if target.key not in up]
            await asyncio.gather(*(self._bring_vm_up(tier, target, ready) for target in waiting))
            came_up = (up[target.key] for target in wanted)
            if ready.on_timeout == "Stop" and not all(each.ready or each.gone for each in came_up):
                self._stopped_by = tier.name
        self._up[tier.name].set()

    async def _bring_vm_up(self, tier: FrozenTier, target: Target, ready: Ready) -> None:
        operation, message, up, gone = "", LATE, False, False
        try:
            async with asyncio.timeout(ready.timeout.total_seconds()):
                begun, refused = await self._start(tier, target, ready)
                if begun is not None:
                    operation = begun.id
                    ended = await self._calls.follow(target, begun.id)
                    up, message = await self._is_ready(target, ended, ready, refused)
        except TimeoutError:
            if operation and _probe(ready) is not None:
                message = await self._given_up(target, operation)
        except ProviderError as error:
            message, gone = error.message, error.reason == "VM_NOT_FOUND"
        await self._note(
            VMUp(
                tier=tier.name,
                vm=target.key,
                at=self._clock(),
                ready=up,
                gone=gone,
                operation=operation,
                message=message,
            )
        )

    async def _start(self, tier: FrozenTier, target: Target, ready: Ready) -> tuple[pb.Operation | None, str]:
        """Its PowerOn. One that may not be probed, or cannot be, is started all the same; then also why.

        Raises:
            ProviderError
        """
        request_id, why = self._history.up_request_id(tier.name, target), self._history.start.why
        request = pb.PowerOnRequest(vm=target.vm, request_id=request_id, reason=why, ready=_probe(ready))
        try:
            return await self._calls.begin(target, request, lambda: False), ""
        except ProviderError as error:
            if not request.HasField("ready"):
                raise
            request = pb.PowerOnRequest(vm=target.vm, request_id=request_id, reason=why)
            return await self._calls.begin(target, request, lambda: False), error.message

    async def _is_ready(self, target: Target, started: pb.Operation, ready: Ready, refused: str) -> tuple[bool, str]:
        """Wait for the signal of a VM that runs. What its provider was to ask is known by the end of its operation."""
        if started.state != pb.OPERATION_STATE_SUCCEEDED:
            return False, started.verdict.message or started.error.message
        if ready.signal == "Agent":
            await self._heard[target.provider].agent(target.vm)
        if _probe(ready) is None:
            return True, ""
        found = None if refused else _asked(started)
        if found is None:
            return False, f"It runs; whether it is ready is not known. {refused or NOT_ASKED}"
        up = found.state == pb.HOOK_STATE_SUCCEEDED
        return up, "" if up else _late(found)

    async def _given_up(self, target: Target, operation: str) -> str:
        """Have its provider ask it no more; then what was last seen."""
        with suppress(TimeoutError, ProviderError):
            async with asyncio.timeout(LAST_WORD):
                with suppress(ProviderError):  # it has just ended
                    await self._calls.cancel(target, operation)
                found = _asked(await self._calls.follow(target, operation))
                return _late(found) if found else LATE
        return LATE

    def _of(self, tier: FrozenTier) -> Sequence[Target]:
        """The VMs of a tier that this run has stopped."""
        return [target for target in tier.targets if self._history.has_stopped(target)]

    def _providers(self) -> set[str]:
        """Those whose guests' agents are waited for."""
        start = self._history.start
        tiers = [tier for tier in start.tiers if start.spec.ready(tier.name).signal == "Agent"]
        return {target.provider for tier in tiers for target in self._of(tier)}


def _asked(started: pb.Operation) -> pb.HookResult | None:
    """What came of its probe; None: it had none."""
    return next((hook for hook in started.verdict.hooks if hook.name == PROBE), None)


def _late(found: pb.HookResult) -> str:
    return f"{LATE} {found.output.strip()[-MOST_TOLD:]}".strip()


def _probe(ready: Ready) -> pb.Probe | None:
    """What its provider asks; None: nothing."""
    if ready.tcp is not None:
        return pb.Probe(tcp=pb.TcpProbe(port=ready.tcp.port), timeout=duration(ready.timeout))
    if ready.exec is not None:
        return pb.Probe(exec=pb.ExecHook(command=ready.exec.command), timeout=duration(ready.timeout))
    return None


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
