"""A PowerService over a real socket that says what a test tells it to."""
# ruff: noqa: N802 - the contract names its methods

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from client.times import duration
from protos.power.v1 import power_pb2 as pb
from protos.power.v1 import power_pb2_grpc

Call = grpc.aio.ServicerContext[Any, Any]
WEB = pb.VM(id="1", name="web", power_state=pb.POWER_STATE_ON)


class FakeProvider(power_pb2_grpc.PowerServiceServicer):
    """Remembers requests; answers each with the same shutdown, or with `refusal`."""

    def __init__(self) -> None:
        self.vms = [WEB]
        self.changes: asyncio.Queue[pb.WatchVMsResponse | None] = asyncio.Queue()
        self.steps: asyncio.Queue[pb.Operation] = asyncio.Queue()
        self.requests: list[Any] = []
        self.refusal: Status | None = None
        self.refusals = -1
        """How many calls are refused; less than none: all."""
        self.listed: list[pb.Operation] = []
        self.page = 100
        self.silent = False
        self.without_hypervisor = False
        self._trailers: dict[str, Any] = {}

    def refuse(self, code: grpc.StatusCode, reason: str, message: str, **metadata: str) -> None:
        """Every call from now on ends like this."""
        detail = AnyMessage()
        detail.Pack(ErrorInfo(domain="vmpower", reason=reason, metadata=metadata))
        self.refusal = Status(code=code.value[0], message=message, details=[detail])

    def refuse_for(self, seconds: float, calls: int) -> None:
        """So many calls are to be sent again after so long."""
        self.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", "busy")
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=duration(timedelta(seconds=seconds))))
        assert self.refusal
        self.refusal.details.append(detail)
        self.refusals = calls

    def rewrite(self, **trailers: Any) -> None:
        """The details that come with a refusal say something else than its status, as behind a careless proxy."""
        self._trailers = trailers

    async def _answer(self, request: Any, call: Call) -> pb.Operation:
        self.requests.append(request)
        if self.silent:
            await asyncio.Event().wait()
        if self.refusal is not None and self.refusals != 0:
            self.refusals -= 1
            await self._refuse(call, self.refusal)
        kind = pb.OPERATION_KIND_SHUTDOWN
        return pb.Operation(id="op-1", vm="1", kind=kind, state=pb.OPERATION_STATE_PENDING)

    async def _refuse(self, call: Call, refusal: Status) -> None:
        details = Status.FromString(refusal.SerializeToString())
        for field, value in self._trailers.items():
            setattr(details, field, value)
        call.set_trailing_metadata((("grpc-status-details-bin", details.SerializeToString()),))
        code = next(code for code in grpc.StatusCode if code.value[0] == refusal.code)
        await call.abort(code, refusal.message)

    PowerOn: Any = _answer
    PowerOff: Any = _answer
    Shutdown: Any = _answer
    Reboot: Any = _answer
    GetOperation: Any = _answer
    ExtendOperation: Any = _answer
    ForceOperation: Any = _answer
    CancelOperation: Any = _answer
    ForecastShutdown: Any = _answer

    async def GetProviderInfo(self, request: pb.GetProviderInfoRequest, _: Call) -> pb.GetProviderInfoResponse:
        return pb.GetProviderInfoResponse(type="fake", version="7", vm_count=len(self.vms))

    async def GetVM(self, request: pb.GetVMRequest, call: Call) -> pb.VM:
        found = next((vm for vm in self.vms if vm.id == request.vm), None)
        if found is None:
            await call.abort(grpc.StatusCode.NOT_FOUND, "no such VM")
        return found

    async def ListVMs(self, request: pb.ListVMsRequest, _: Call) -> pb.ListVMsResponse:
        """One VM a page."""
        place = int(request.page_token or 0)
        following = str(place + 1) if place + 1 < len(self.vms) else ""
        return pb.ListVMsResponse(vms=self.vms[place : place + 1], next_page_token=following)

    async def ListOperations(self, request: pb.ListOperationsRequest, _: Call) -> pb.ListOperationsResponse:
        self.requests.append(request)
        place = int(request.page_token or 0)
        end = place + min(request.page_size or self.page, self.page)
        following = str(end) if end < len(self.listed) else ""
        return pb.ListOperationsResponse(operations=self.listed[place:end], next_page_token=following)

    async def WatchVMs(self, request: pb.WatchVMsRequest, call: Call) -> AsyncIterator[pb.WatchVMsResponse]:
        if self.without_hypervisor:
            self.refuse(grpc.StatusCode.UNAVAILABLE, "HYPERVISOR_UNAVAILABLE", "no hypervisor answers")
            assert self.refusal
            await self._refuse(call, self.refusal)
        for vm in self.vms:
            yield pb.WatchVMsResponse(changed=vm)
        yield pb.WatchVMsResponse(snapshot_complete=True)
        while (change := await self.changes.get()) is not None:
            yield change

    async def WatchOperation(self, request: pb.WatchOperationRequest, call: Call) -> AsyncIterator[pb.Operation]:
        if self.refusal is not None:
            await self._refuse(call, self.refusal)
        while True:
            step = await self.steps.get()
            yield step
            if step.state == pb.OPERATION_STATE_SUCCEEDED:
                return


@asynccontextmanager
async def serving(
    fake: FakeProvider, socket: Path, credentials: Any = None, address: str = "localhost:0"
) -> AsyncIterator[str]:
    """Serve on a unix socket, or with mTLS on a port of loopback; the address."""
    server = grpc.aio.server()
    power_pb2_grpc.add_PowerServiceServicer_to_server(fake, server)
    if credentials is None:
        address = f"unix://{socket}"
        server.add_insecure_port(address)
    else:
        address = f"localhost:{server.add_secure_port(address, credentials)}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)
