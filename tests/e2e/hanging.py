"""Fifty calls that hang, and what goes on beside them: through a provider's own API, on any rig."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import grpc

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.e2e.crowd import Crowd, connect
from tests.rigs.calls import FINAL
from tests.rigs.polling import poll

SOON = 10.0
"""Seconds; the calls that hang do so for 20 s and more, each, and behind fifty of them one would wait for minutes."""


class Beside:
    """A caller who is in a hurry."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = PowerServiceStub(channel)
        self.took = dict[str, float]()

    async def does(
        self, what: str, request: pb.PowerOffRequest | pb.PowerOnRequest | pb.ShutdownRequest
    ) -> pb.Outcome.ValueType:
        """Do it, see it through, and return how it ended.

        Raises:
            TimeoutError: it was not over soon.
        """
        begun = time.monotonic()
        async with asyncio.timeout(SOON):
            operation = await self._begin(request)
            async for seen in self.stub.WatchOperation(pb.WatchOperationRequest(id=operation.id)):
                operation = seen
        assert operation.state in FINAL
        self.took[what] = round(time.monotonic() - begun, 2)
        return operation.verdict.outcome

    async def _begin(self, request: pb.PowerOffRequest | pb.PowerOnRequest | pb.ShutdownRequest) -> pb.Operation:
        match request:
            case pb.PowerOffRequest():
                return await self.stub.PowerOff(request)
            case pb.PowerOnRequest():
                return await self.stub.PowerOn(request)
            case pb.ShutdownRequest():
                return await self.stub.Shutdown(request)

    async def reads(self, name: str) -> pb.VM:
        """A VM as it is, soon."""
        return await self.stub.GetVM(pb.GetVMRequest(vm=name), timeout=SOON)


@asynccontextmanager
async def hanging(address: str, timeouts: Mapping[str, float], hang: Callable[[], bool]) -> AsyncIterator[Beside]:
    """Shutdowns of all of these, whose calls `hang` at some time; at the end each was forced at its time, as if no
    other had been there."""
    async with connect(address) as channel, connect(address) as other:
        crowd = Crowd(channel)
        operations = await crowd.begin(timeouts)
        await asyncio.to_thread(poll, hang)
        beside = Beside(other)
        yield beside
        ended = await crowd.ends(operations)
    late = max(end.late for end in ended.values())
    print(f"beside {len(timeouts)} that hang: {beside.took}, the last was forced {late:.2f} s after its time")
    endings = {end.ending for end in ended.values()}
    assert endings <= {"FORCED/TIMEOUT", "FORCED/COMMAND_FAILED"}, endings
    assert not [name for name, end in ended.items() if end.early]
    assert late < SOON
