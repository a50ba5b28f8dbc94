"""Many shutdowns at once, through the provider's own API."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.rigs.calls import FINAL, was_accepted
from tests.rigs.process import QUICK

PATIENCE = 100


@dataclass(frozen=True)
class Ended:
    """How a shutdown ended, and when its watch said so."""

    operation: pb.Operation
    told: float

    @property
    def ending(self) -> str:
        verdict = self.operation.verdict
        reason = f"/{pb.Reason.Name(verdict.reason).removeprefix('REASON_')}" if verdict.reason else ""
        return pb.Outcome.Name(verdict.outcome).removeprefix("OUTCOME_") + reason

    @property
    def late(self) -> float:
        """Seconds from its time until it was off."""
        verdict, force_after = self.operation.verdict, self.operation.force_after
        return (verdict.end_time.ToNanoseconds() - force_after.ToNanoseconds()) / 1e9

    @property
    def early(self) -> bool:
        """Whether it was forced before its time."""
        verdict, force_after = self.operation.verdict, self.operation.force_after
        timed_out = verdict.outcome == pb.OUTCOME_FORCED and verdict.reason == pb.REASON_TIMEOUT
        return timed_out and verdict.end_time.ToNanoseconds() < force_after.ToNanoseconds()


class Crowd:
    """The VMs of one provider, by their names."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = PowerServiceStub(channel)

    async def begin(
        self, timeouts: Mapping[str, float], escalation: pb.Escalation.ValueType = pb.ESCALATION_FORCE
    ) -> dict[str, pb.Operation]:
        """Ask for a shutdown of each of these, with its timeout in seconds."""
        begun = await asyncio.gather(*(self._begin(name, seconds, escalation) for name, seconds in timeouts.items()))
        return dict(zip(timeouts, begun, strict=True))

    async def _begin(self, name: str, seconds: float, escalation: pb.Escalation.ValueType) -> pb.Operation:
        timeout = Duration(nanos=int(seconds % 1 * 1e9), seconds=int(seconds))
        request = pb.ShutdownRequest(vm=name, timeout=timeout, escalation=escalation)
        return await self._stub.Shutdown(request, wait_for_ready=True)

    async def asked(self, operations: Mapping[str, pb.Operation]) -> None:
        """Return when the guests of all of them are being waited for."""
        await self._all(operations, lambda seen: seen.state == pb.OPERATION_STATE_WAITING_FOR_GUEST)

    async def accepted(self, operations: Mapping[str, pb.Operation]) -> None:
        """Return when the hypervisor has accepted to ask the guests of all of them, and that is written down."""
        await self._all(operations, was_accepted)

    async def _all(self, operations: Mapping[str, pb.Operation], holds: Callable[[pb.Operation], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(self._until(operation, holds) for operation in operations.values()))

    async def _until(self, operation: pb.Operation, holds: Callable[[pb.Operation], bool]) -> None:
        async for seen in self._stub.WatchOperation(pb.WatchOperationRequest(id=operation.id)):
            if holds(seen):
                return

    async def force(self, operations: Mapping[str, pb.Operation]) -> None:
        """Decide so, when each of these awaits a decision."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(self._force(operation) for operation in operations.values()))

    async def _force(self, operation: pb.Operation) -> None:
        request = pb.WatchOperationRequest(id=operation.id)
        async for seen in self._stub.WatchOperation(request, wait_for_ready=True):
            if seen.state == pb.OPERATION_STATE_AWAITING_DECISION:
                await self._stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))
                return

    async def unended(self, operations: Mapping[str, pb.Operation]) -> set[str]:
        """Those that have no verdict yet."""
        requests = [pb.GetOperationRequest(id=operation.id) for operation in operations.values()]
        now = await asyncio.gather(*(self._stub.GetOperation(request) for request in requests))
        return {operation.vm_name for operation in now if operation.state not in FINAL}

    async def ends(self, operations: Mapping[str, pb.Operation]) -> dict[str, Ended]:
        """How they all ended; a provider that is restarted meanwhile is asked again."""
        async with asyncio.timeout(PATIENCE):
            ended = await asyncio.gather(*(self._end(operation) for operation in operations.values()))
        return dict(zip(operations, ended, strict=True))

    async def _end(self, operation: pb.Operation) -> Ended:
        while True:
            try:
                async for seen in self._stub.WatchOperation(
                    pb.WatchOperationRequest(id=operation.id), wait_for_ready=True
                ):
                    if seen.state in FINAL:
                        return Ended(seen, time.time())
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise


def connect(address: str) -> grpc.aio.Channel:
    """A connection that comes back quickly when the server does."""
    return grpc.aio.insecure_channel(address, options=QUICK)
