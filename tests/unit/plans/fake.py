"""A provider in virtual time, as its client sees it: guests that obey, are slow or deaf, and their operations."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from client.errors import ProviderError
from client.power import OnBreak, PowerClient, has_ended, raise_refusal
from client.times import duration, moment, timestamp
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.builders import EPOCH

DEFAULT = timedelta(seconds=60)
SHORT = 0.001
"""Seconds that are no time: virtual time goes on in steps."""
SUCCEEDED, FAILED, CANCELLED = pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED
HOOKS, WAITING = pb.OPERATION_STATE_RUNNING_HOOKS, pb.OPERATION_STATE_WAITING_FOR_GUEST
KINDS = {
    pb.ShutdownRequest: pb.OPERATION_KIND_SHUTDOWN,
    pb.PowerOffRequest: pb.OPERATION_KIND_POWER_OFF,
    pb.PowerOnRequest: pb.OPERATION_KIND_POWER_ON,
}


def wall() -> datetime:
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


class FakeProvider(PowerClient):
    """`takes`: the seconds in which each guest goes down; None: it never does. `hooks`: the seconds that its hooks take
    before."""

    def __init__(self, **takes: float | None) -> None:
        super().__init__("unix:///nowhere")
        self.takes, self.hooks = takes, dict.fromkeys(takes, 0.0)
        self.vms = {name: pb.VM(id=name, name=name, power_state=pb.POWER_STATE_ON) for name in takes}
        self.agents = False
        """Whether guests that were started have an agent that answers, a second later."""
        self.refuses_probes = False
        self.probes, self.ready_after = True, 3.0
        """Whether it asks guests that were started whether they are ready, and after how many seconds they are."""
        self.operations: dict[str, pb.Operation] = {}
        self.requests: list[Any] = []
        self.away = False
        self.slow: dict[type[Any], float] = {}
        """The seconds that a request of this kind is under way, where that is long."""
        self.ahead = timedelta()
        self.saves, self.save_time = True, 10.0
        """Whether it saves memory, and how many seconds that takes."""
        self.refusal: ProviderError | None = None
        self.asked: dict[str, float] = {}
        self.off: dict[str, float] = {}
        self.saved: dict[str, float] = {}
        """When each VM was asked, went off, and was saved, in seconds since the test began."""
        self.at_once, self.most_at_once = 0, 0
        self._changed = asyncio.Condition()
        self._moved: dict[str, asyncio.Event] = {}
        """Set when the moment of an operation is another."""

    def sent(self, kind: type[Any]) -> list[Any]:
        return [request for request in self.requests if isinstance(request, kind)]

    async def call(self, request: Any, timeout: float = 10.0) -> Any:
        self._require_here()  # what is sent while it is away never comes
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(self.slow.get(type(request), 0.01))
            self.requests.append(request)
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request: Any) -> Any:
        self._require_here()
        match request:
            case pb.GetProviderInfoRequest():
                time = timestamp(wall() + self.ahead)
                return pb.GetProviderInfoResponse(
                    default_timeout=duration(DEFAULT), time=time, connected=True, save=self.saves
                )
            case pb.GetVMRequest():
                return self._vm(request.vm)
            case pb.CancelOperationRequest():
                return await self._cancel(self.operations[request.id])
            case pb.ExtendOperationRequest():
                return await self._extend(self.operations[request.id], request)
        return self._work(request)

    def _work(self, request: Any) -> pb.Operation:
        if self.refusal:
            raise self.refusal
        known = [each for each in self.operations.values() if each.request_id == request.request_id]
        if known:
            return known[0]
        self._refuse(request)
        vm = self._vm(request.vm)
        active = [each for each in self.operations.values() if each.vm == vm.id and not has_ended(each)]
        if active and isinstance(request, pb.ShutdownRequest):
            raise ProviderError("ABORTED", "active", "OPERATION_ACTIVE", {"operation_id": active[0].id})
        return self.begin(vm.id, request)

    def _refuse(self, request: Any) -> None:
        if self.refuses_probes and isinstance(request, pb.PowerOnRequest) and request.HasField("ready"):
            raise ProviderError("PERMISSION_DENIED", "exec is not granted", "NOT_ALLOWED")

    def begin(self, vm: str, request: Any) -> pb.Operation:
        operation = pb.Operation(id=f"op-{len(self.operations)}", vm=vm, vm_name=vm, request_id=request.request_id)
        operation.state = HOOKS if self.hooks[vm] else WAITING
        operation.kind = KINDS[type(request)]
        if isinstance(request, pb.ShutdownRequest):
            operation.force_after.CopyFrom(request.force_after)
        self.operations[operation.id] = operation
        self.asked.setdefault(vm, asyncio.get_running_loop().time())
        self._task = asyncio.ensure_future(self._carry_out(operation, request))
        return operation

    async def _carry_out(self, operation: pb.Operation, request: Any) -> None:
        vm = self.vms[operation.vm]
        if isinstance(request, pb.PowerOnRequest):
            await self._start(operation, request)
            return
        if vm.power_state == pb.POWER_STATE_OFF:
            await self._end(operation, SUCCEEDED, pb.OUTCOME_ALREADY_OFF)
            return
        if isinstance(request, pb.PowerOffRequest):
            for each in self.operations.values():
                if each.vm == vm.id and each is not operation and not has_ended(each):
                    await self._end(each, SUCCEEDED, pb.OUTCOME_FORCED)
            await self._go_off(operation, pb.OUTCOME_FORCED)
            return
        await asyncio.sleep(self.hooks[vm.id])
        if has_ended(operation):
            return
        operation.state = WAITING
        takes, loop = self.takes[vm.id], asyncio.get_running_loop()
        obeys = loop.time() + takes if takes is not None else float("inf")
        while (left := min(self._left(operation), obeys - loop.time())) > SHORT and not has_ended(operation):
            self._moved[operation.id] = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved[operation.id].wait(), left)
        if obeys - loop.time() <= SHORT:
            await self._go_off(operation, pb.OUTCOME_GRACEFUL)
        elif request.escalation == pb.ESCALATION_NEVER:
            await self._end(operation, FAILED, pb.OUTCOME_STILL_RUNNING)
        elif request.escalation == pb.ESCALATION_SAVE:
            operation.state = pb.OPERATION_STATE_SAVING
            await asyncio.sleep(self.save_time)
            await self._save(operation)
        else:
            await self._go_off(operation, pb.OUTCOME_FORCED)

    async def _start(self, operation: pb.Operation, request: pb.PowerOnRequest) -> None:
        vm = self.vms[operation.vm]
        operation.verdict.hooks.extend(
            pb.HookResult(name=each.name, state=pb.HOOK_STATE_SUCCEEDED) for each in request.post_start
        )
        await self.turn(vm.id, pb.POWER_STATE_ON)
        if request.HasField("ready") and self.probes:
            await self._probe(operation, request.ready)
        await self._end(operation, SUCCEEDED, pb.OUTCOME_STARTED)
        if self.agents:
            await asyncio.sleep(1)
            vm.forecast.signals.append(pb.SIGNAL_GUEST_AGENT)
            await self.turn(vm.id, pb.POWER_STATE_ON)

    async def _probe(self, operation: pb.Operation, probe: pb.Probe) -> None:
        """Ask until it succeeds, is cancelled, or its time is over."""
        async with self._changed:
            operation.state = HOOKS
            self._changed.notify_all()
        takes, most = self.ready_after, probe.timeout.ToTimedelta().total_seconds()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(takes, most)), self._changed:
                await self._changed.wait_for(lambda: has_ended(operation))
        if not has_ended(operation):
            state = pb.HOOK_STATE_SUCCEEDED if takes <= most else pb.HOOK_STATE_TIMED_OUT
            operation.verdict.hooks.add(name="ready", state=state, output="" if takes <= most else "Nothing answers.")

    async def _cancel(self, operation: pb.Operation) -> pb.Operation:
        if has_ended(operation):
            raise ProviderError("FAILED_PRECONDITION", "ended", "OPERATION_ENDED")
        if operation.kind == pb.OPERATION_KIND_POWER_ON:
            operation.verdict.hooks.add(name="ready", state=pb.HOOK_STATE_INTERRUPTED, output="Nothing answers.\n")
        return await self._end(operation, CANCELLED)

    def _left(self, operation: pb.Operation) -> float:
        return (moment(operation.force_after) - wall() - self.ahead).total_seconds()

    async def _extend(self, operation: pb.Operation, request: pb.ExtendOperationRequest) -> pb.Operation:
        if has_ended(operation):
            raise ProviderError("FAILED_PRECONDITION", "ended", "OPERATION_ENDED")
        if moment(request.force_after) < wall() + self.ahead:
            raise ProviderError("INVALID_ARGUMENT", "It is not within the next 24 h.", "INVALID_REQUEST")
        async with self._changed:
            operation.force_after.CopyFrom(request.force_after)
            self._changed.notify_all()
        self._moved[operation.id].set()
        return operation

    async def _save(self, operation: pb.Operation) -> None:
        if not has_ended(operation):
            self.saved[operation.vm] = asyncio.get_running_loop().time()
            await self.turn(operation.vm, pb.POWER_STATE_SUSPENDED)
            operation.verdict.reason = pb.REASON_TIMEOUT
            await self._end(operation, SUCCEEDED, pb.OUTCOME_SAVED)

    async def _go_off(self, operation: pb.Operation, outcome: pb.Outcome.ValueType) -> None:
        if not has_ended(operation):
            self.off[operation.vm] = asyncio.get_running_loop().time()
            await self.turn(operation.vm, pb.POWER_STATE_OFF)
            await self._end(operation, SUCCEEDED, outcome)

    async def _end(
        self, operation: pb.Operation, state: pb.OperationState.ValueType, outcome: pb.Outcome.ValueType | None = None
    ) -> pb.Operation:
        if has_ended(operation):
            return operation
        async with self._changed:
            operation.state = state
            operation.verdict.outcome = outcome or pb.OUTCOME_UNSPECIFIED
            self._changed.notify_all()
        return operation

    async def turn(self, vm: str, state: pb.PowerState.ValueType) -> None:
        async with self._changed:
            self.vms[vm].power_state = state
            self._changed.notify_all()

    async def list_vms(self) -> list[pb.VM]:
        self._require_here()
        return list(self.vms.values())

    async def list_operations(
        self, vm: str = "", *, active_only: bool = False, requested_by: str = "", limit: int
    ) -> list[pb.Operation]:
        self._require_here()
        return [each for each in self.operations.values() if each.vm == vm]

    async def watch_operation(
        self, operation: str, on_break: OnBreak = raise_refusal
    ) -> AsyncGenerator[pb.Operation, None]:
        while True:
            now = pb.Operation.FromString(self.operations[operation].SerializeToString())
            yield now
            if has_ended(now):
                return
            async with self._changed:
                if now == self.operations[operation]:  # it may have changed since that was told
                    await self._changed.wait()

    async def watch_vms(
        self, on_break: OnBreak = raise_refusal
    ) -> AsyncGenerator[pb.GetProviderInfoResponse | pb.WatchVMsResponse, None]:
        while True:
            for vm in self.vms.values():
                yield pb.WatchVMsResponse(changed=vm)
            async with self._changed:
                await self._changed.wait()

    def _vm(self, name: str) -> pb.VM:
        if name not in self.vms:
            raise ProviderError("NOT_FOUND", f"There is no {name}.", "VM_NOT_FOUND")
        return self.vms[name]

    def _require_here(self) -> None:
        if self.away:
            raise ProviderError("UNAVAILABLE", "Connection refused")
