"""A client as a controller is one: one grpc.aio channel, and the clock on its wall."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.rigs.process import QUICK

FINAL = (pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED)


class Ended(NamedTuple):
    """An operation, and when its client sent the request, had the answer and had the verdict (seconds since 1970)."""

    operation: pb.Operation
    sent: float
    accepted: float
    received: float

    @property
    def verdict(self) -> str:
        """`GRACEFUL`, `FORCED/TIMEOUT`: how it ended, in the contract's short words."""
        verdict = self.operation.verdict
        outcome = pb.Outcome.Name(verdict.outcome).removeprefix("OUTCOME_")
        reason = pb.Reason.Name(verdict.reason).removeprefix("REASON_")
        return f"{outcome}/{reason}" if verdict.reason else outcome

    @property
    def begun(self) -> float:
        """When it was begun by the provider's clock, which is ours."""
        return moment(self.operation.create_time)

    @property
    def end(self) -> float:
        """When it ended by its own verdict."""
        return moment(self.operation.verdict.end_time)


class Client:
    """What benches ask of a provider."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = PowerServiceStub(channel)

    async def shutdown(self, vm: str, timeout: float, resend: float | None = None) -> Ended:
        """Shut a VM down, and see it through to the verdict. Seconds."""
        sent = time.time()
        return await self._end(await self.begin(vm, timeout, resend), sent)

    async def begin(self, vm: str, timeout: float, resend: float | None = None) -> pb.Operation:
        """Begin a shutdown, as one does who does not stay. Seconds."""
        request = pb.ShutdownRequest(vm=vm, timeout=duration(timeout))
        if resend is not None:
            request.signal_policy.resend_interval.CopyFrom(duration(resend))
        return await self.stub.Shutdown(request)

    async def power_off(self, vm: str) -> Ended:
        """Cut a VM's power, and see that through to the verdict."""
        sent = time.time()
        return await self._end(await self.stub.PowerOff(pb.PowerOffRequest(vm=vm)), sent)

    async def power_on(self, vm: str) -> Ended:
        """Start a VM, and see that through to the verdict."""
        sent = time.time()
        return await self._end(await self.stub.PowerOn(pb.PowerOnRequest(vm=vm)), sent)

    async def _end(self, operation: pb.Operation, sent: float) -> Ended:
        accepted = time.time()
        async for seen in self.stub.WatchOperation(pb.WatchOperationRequest(id=operation.id)):
            operation = seen
        received = time.time()
        if operation.state not in FINAL:
            raise RuntimeError(f"the stream ended before the operation: {operation}")
        return Ended(operation, sent, accepted, received)


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Client]:
    """A connection to a provider."""
    async with grpc.aio.insecure_channel(address, options=QUICK) as channel:
        yield Client(channel)


def duration(seconds: float) -> Duration:
    """Seconds as the contract writes them."""
    written = Duration()
    written.FromNanoseconds(round(seconds * 1e9))
    return written


def moment(time: Timestamp) -> float:
    """Seconds since 1970."""
    return time.ToNanoseconds() / 1e9
