"""One provider over gRPC; docs/client.md shows its use. It speaks the messages of protos/power/v1/power.proto."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from google.protobuf.message import Message

from client.channel import Connection, Tls
from client.errors import ProviderError, translated
from common.backoff import Backoff
from protos.power.v1 import power_pb2 as pb

CALL_TIMEOUT = 10.0
"""Seconds a call may take: every one returns at once, whatever its operation takes."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
"""Seconds before a stream that broke is opened again; one that lasted longer than the longest begins with the first."""
MAX_PAGE = 1000

WorkRequest = pb.PowerOnRequest | pb.PowerOffRequest | pb.ShutdownRequest | pb.RebootRequest
OperationRequest = (
    WorkRequest
    | pb.GetOperationRequest
    | pb.ExtendOperationRequest
    | pb.ForceOperationRequest
    | pb.CancelOperationRequest
)
OnBreak = Callable[[ProviderError], None]
"""Told why a stream broke, before it is opened again; to give it up it raises."""
M = TypeVar("M", bound=Message)


def raise_refusal(error: ProviderError) -> None:
    """The usual `OnBreak`: only a lost connection is worth another attempt."""
    if error.code not in {"UNAVAILABLE", "CANCELLED", "INTERNAL"}:
        raise error


def has_ended(operation: pb.Operation) -> bool:
    """Whether it is over: it will not change any more."""
    return operation.state in {pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED}


class PowerClient:
    """Calls, streams and pages of one provider. Use it as `async with`, or call `close`.

    Everything raises `ProviderError`. Without `tls` the address must be a unix socket or loopback.
    """

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        self.address = address
        self._connection = Connection(address, tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back the connection; what still waits for an answer is told UNAVAILABLE."""
        await self._connection.close()

    @overload
    async def call(self, request: OperationRequest, timeout: float = ...) -> pb.Operation: ...
    @overload
    async def call(self, request: pb.GetVMRequest, timeout: float = ...) -> pb.VM: ...
    @overload
    async def call(self, request: pb.ListVMsRequest, timeout: float = ...) -> pb.ListVMsResponse: ...
    @overload
    async def call(self, request: pb.ListOperationsRequest, timeout: float = ...) -> pb.ListOperationsResponse: ...
    @overload
    async def call(self, request: pb.ForecastShutdownRequest, timeout: float = ...) -> pb.ForecastShutdownResponse: ...
    @overload
    async def call(self, request: pb.GetProviderInfoRequest, timeout: float = ...) -> pb.GetProviderInfoResponse: ...
    async def call(self, request: Any, timeout: float = CALL_TIMEOUT) -> Any:
        """Call the method that takes this kind of request, once.

        A request that starts something and has no `request_id` is given one: sent again, it is the same operation.
        """
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = request.request_id or str(uuid.uuid4())
        with translated():
            async with self._connection.stub() as stub:
                return await _method(stub, request)(request, timeout=timeout)

    async def list_vms(self) -> list[pb.VM]:
        """All VMs, ordered by name and id."""
        request, vms = pb.ListVMsRequest(), list[pb.VM]()
        while True:
            page = await self.call(request)
            vms += page.vms
            request.page_token = page.next_page_token
            if not request.page_token:
                return vms

    async def list_operations(self, vm: str = "", *, active_only: bool = False, limit: int) -> list[pb.Operation]:
        """The newest `limit` operations of one VM or of all, newest first."""
        request, found = pb.ListOperationsRequest(vm=vm, active_only=active_only), list[pb.Operation]()
        while True:
            request.page_size = min(limit - len(found), MAX_PAGE)
            page = await self.call(request)
            found += page.operations
            request.page_token = page.next_page_token
            if not request.page_token or len(found) >= limit:
                return found[:limit]

    async def watch_vms(
        self, on_break: OnBreak = raise_refusal
    ) -> AsyncGenerator[pb.GetProviderInfoResponse | pb.WatchVMsResponse, None]:
        """What the provider is, then all VMs, then `snapshot_complete`, then each change, without end.

        When a lost connection is there again, all of that comes anew, beginning with what the provider is.
        """

        async def connection() -> AsyncGenerator[pb.GetProviderInfoResponse | pb.WatchVMsResponse, None]:
            yield await self.call(pb.GetProviderInfoRequest())
            async with aclosing(self.stream(pb.WatchVMsRequest())) as events:
                async for event in events:
                    yield event

        async with aclosing(_resumed(connection, on_break)) as messages:
            async for message in messages:
                yield message

    async def watch_operation(
        self, operation: str, on_break: OnBreak = raise_refusal
    ) -> AsyncGenerator[pb.Operation, None]:
        """The operation with this id as it is, then at each change, until it has ended, through lost connections."""
        request = pb.WatchOperationRequest(id=operation)
        async with aclosing(_resumed(lambda: self.stream(request), on_break)) as changes:
            async for changed in changes:
                yield changed
                if has_ended(changed):
                    return

    @overload
    def stream(self, request: pb.WatchOperationRequest) -> AsyncGenerator[pb.Operation, None]: ...
    @overload
    def stream(self, request: pb.WatchVMsRequest) -> AsyncGenerator[pb.WatchVMsResponse, None]: ...
    async def stream(self, request: Any) -> Any:
        """What one stream says until it ends or breaks; `watch_vms` and `watch_operation` open it again."""
        with translated():
            async with self._connection.stub() as stub:
                call = _method(stub, request)(request)
                try:
                    async for message in call:
                        yield message
                finally:
                    call.cancel()


def _method(stub: object, request: Message) -> Any:
    """In the contract the request of a method is named for it, and serves no other."""
    return getattr(stub, type(request).__name__.removesuffix("Request"))


async def _resumed(opened: Callable[[], AsyncGenerator[M, None]], on_break: OnBreak) -> AsyncGenerator[M, None]:
    backoff, now = Backoff(FIRST_PAUSE, LONGEST_PAUSE), asyncio.get_running_loop().time
    while True:
        began, why = now(), ProviderError("UNAVAILABLE", "The provider ended the stream.")
        try:
            async with aclosing(opened()) as messages:
                async for message in messages:
                    yield message
        except ProviderError as error:
            why = error
        on_break(why)
        if now() - began > LONGEST_PAUSE:
            backoff.reset()
        await asyncio.sleep(backoff.next())
