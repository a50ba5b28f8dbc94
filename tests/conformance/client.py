"""What the tests say to a server, how they wait for it (by its streams, never the clock), how they read it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub

FINAL = (pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED)


T = TypeVar("T")
Stream = grpc.aio.UnaryStreamCall[Any, T]


def duration(seconds: float) -> Duration:
    """Seconds as the contract writes them."""
    written = Duration()
    written.FromTimedelta(timedelta(seconds=seconds))
    return written


LONG = duration(600)
"""A grace period that no test lives to see the end of."""


@contextmanager
def ended(stream: Stream[T]) -> Iterator[Stream[T]]:
    """A stream that is given up afterwards: servers bound how many a client has open."""
    try:
        yield stream
    finally:
        stream.cancel()


def moment(time: Timestamp) -> float:
    """Seconds since 1970."""
    return time.seconds + time.nanos / 1e9


def ending(operation: pb.Operation) -> str:
    """How an operation ended, in one line: `SUCCEEDED: FORCED/TIMEOUT`, `SUCCEEDED: GRACEFUL by ACPI`."""
    verdict = operation.verdict
    text = f"{state(operation)}: {pb.Outcome.Name(verdict.outcome).removeprefix('OUTCOME_')}"
    if verdict.reason:
        text += "/" + pb.Reason.Name(verdict.reason).removeprefix("REASON_")
    if verdict.signal:
        text += " by " + pb.Signal.Name(verdict.signal).removeprefix("SIGNAL_")
    return text


def state(operation: pb.Operation) -> str:
    """Where an operation stands, as people read it."""
    return pb.OperationState.Name(operation.state).removeprefix("OPERATION_STATE_")


def hook_states(operation: pb.Operation) -> dict[str, str]:
    """Each hook's end by the hook's name."""
    return {h.name: pb.HookState.Name(h.state).removeprefix("HOOK_STATE_") for h in operation.verdict.hooks}


def elapsed(operation: pb.Operation) -> float:
    """Seconds from the verdict's start to its end."""
    return moment(operation.verdict.end_time) - moment(operation.verdict.start_time)


def ready(vm: pb.VM) -> bool:
    """Whether the VM is on and nothing is being done to it."""
    return vm.power_state == pb.POWER_STATE_ON and not vm.active_operation


@dataclass(frozen=True)
class Refusal:
    """An error as AIP-193 writes it."""

    code: grpc.StatusCode
    message: str
    info: ErrorInfo
    fields: list[str] = field(default_factory=list)


async def refusal(call: Awaitable[Any]) -> Refusal:
    """The error that `call` must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error, info, bad = caught.value, ErrorInfo(), BadRequest()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has all it reads
    for detail in status.details if status else ():
        _ = detail.Unpack(info) or detail.Unpack(bad)
    return Refusal(error.code(), error.details() or "", info, [v.field for v in bad.field_violations])


class Power:
    """A client of one server. `patience` is the longest that any single wait may take, in seconds."""

    def __init__(self, channel: grpc.aio.Channel, patience: float) -> None:
        self.channel = channel
        self.stub = PowerServiceStub(channel)
        self._patience = patience

    async def raw(self, method: str, request: bytes) -> bytes:
        """Send what no generated client would."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(
            f"/power.v1.PowerService/{method}"
        )
        return await call(request)

    async def info(self) -> pb.GetProviderInfoResponse:
        """What the provider is and can do."""
        return await self.stub.GetProviderInfo(pb.GetProviderInfoRequest())

    async def vm(self, vm: str) -> pb.VM:
        """One VM by id or name."""
        return await self.stub.GetVM(pb.GetVMRequest(vm=vm))

    async def vms(self) -> list[pb.VM]:
        """All VMs, page after page."""
        found: list[pb.VM] = []
        token = ""
        while True:
            page = await self.stub.ListVMs(pb.ListVMsRequest(page_token=token))
            found += page.vms
            if not (token := page.next_page_token):
                return found

    async def operations(self, vm: str = "", active_only: bool = False) -> list[pb.Operation]:
        """Newest first; of one VM, or of all."""
        request = pb.ListOperationsRequest(vm=vm, active_only=active_only)
        return list((await self.stub.ListOperations(request)).operations)

    async def shutdown(self, vm: pb.VM, **fields: Any) -> pb.Operation:
        """Start a shutdown; its timeout is long unless named."""
        if "timeout" not in fields and "force_after" not in fields:
            fields["timeout"] = LONG
        return await self.stub.Shutdown(pb.ShutdownRequest(vm=vm.id, **fields))

    async def power_on(self, vm: pb.VM, **fields: Any) -> pb.Operation:
        """Start it."""
        return await self.stub.PowerOn(pb.PowerOnRequest(vm=vm.id, **fields))

    async def power_off(self, vm: pb.VM, **fields: Any) -> pb.Operation:
        """Cut its power."""
        return await self.stub.PowerOff(pb.PowerOffRequest(vm=vm.id, **fields))

    async def get(self, operation: pb.Operation) -> pb.Operation:
        """The operation as it is now."""
        return await self.stub.GetOperation(pb.GetOperationRequest(id=operation.id))

    async def extend(self, operation: pb.Operation, **until: Any) -> pb.Operation:
        """Move its force_after."""
        return await self.stub.ExtendOperation(pb.ExtendOperationRequest(id=operation.id, **until))

    async def force(self, operation: pb.Operation) -> pb.Operation:
        """End the waiting now."""
        return await self.stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))

    async def cancel(self, operation: pb.Operation) -> pb.Operation:
        """Give it up."""
        return await self.stub.CancelOperation(pb.CancelOperationRequest(id=operation.id))

    async def seen(self, operation: pb.Operation) -> list[pb.Operation]:
        """Everything that WatchOperation says from now to the end of its stream."""
        async with asyncio.timeout(self._patience):
            stream = self.stub.WatchOperation(pb.WatchOperationRequest(id=operation.id))
            return [each async for each in stream]

    async def end(self, operation: pb.Operation) -> pb.Operation:
        """The operation with its verdict."""
        return (await self.seen(operation))[-1]

    async def reach(self, operation: pb.Operation, wanted: pb.OperationState.ValueType) -> pb.Operation:
        """The operation once it stands at `wanted`; fails if it ends without."""
        async with asyncio.timeout(self._patience):
            with ended(self.stub.WatchOperation(pb.WatchOperationRequest(id=operation.id))) as stream:
                async for each in stream:
                    if each.state == wanted:
                        return each
        pytest.fail(f"it ended without {pb.OperationState.Name(wanted)}:\n{each}")

    async def until(self, vm: pb.VM, there: Callable[[pb.VM], bool]) -> pb.VM:
        """The VM once it is as wanted."""
        try:
            async with asyncio.timeout(self._patience):
                with ended(self.stub.WatchVMs(pb.WatchVMsRequest())) as stream:
                    async for event in stream:
                        if event.changed.id == vm.id and there(event.changed):
                            return event.changed
        except TimeoutError:
            pytest.fail(f"it never became what the test needs; it is\n{await self.vm(vm.id)}")
        pytest.fail("WatchVMs ended by itself")

    async def make_ready(self, name: str, hears: Callable[[pb.VM], bool]) -> pb.VM:
        """The VM, on, with nothing active on it, once its forecast says that it hears what it should."""
        vm = await self.make_idle(name)
        if not ready(vm):
            await self.end(await self.power_on(vm))
        return await self.until(vm, lambda vm: ready(vm) and hears(vm))

    async def make_off(self, name: str) -> pb.VM:
        """The VM, off, with nothing active on it."""
        vm = await self.make_idle(name)
        if vm.power_state != pb.POWER_STATE_OFF:
            await self.end(await self.power_off(vm))
        return await self.until(vm, lambda vm: vm.power_state == pb.POWER_STATE_OFF)

    async def make_idle(self, name: str) -> pb.VM:
        """The VM with nothing active on it. What an earlier run left behind is cut off: a guest that was
        asked to go down could do so in the middle of the next test."""
        vm = await self.vm(name)
        if vm.active_operation:
            active = await self.stub.GetOperation(pb.GetOperationRequest(id=vm.active_operation))
            if active.kind in (pb.OPERATION_KIND_SHUTDOWN, pb.OPERATION_KIND_REBOOT):
                active = await self.power_off(vm)
            await self.end(active)
        return await self.until(vm, lambda vm: not vm.active_operation)

    @asynccontextmanager
    async def untouched(self, vm: pb.VM) -> AsyncIterator[None]:
        """Fails if what happens inside changes the VM's power or begins an operation on it."""
        before = [each.id for each in await self.operations(vm.id)]
        yield
        after = await self.vm(vm.id)
        assert (after.power_state, after.active_operation) == (vm.power_state, "")
        assert [each.id for each in await self.operations(vm.id)] == before
