"""One provider over gRPC; docs/client.md shows its use. It speaks the messages of protos/power/v1/power.proto."""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Self, TypeVar, overload
from weakref import WeakSet

import grpc.aio
from google.protobuf.message import Message

from client.channel import Pem, Tls, open_channel, require_secure, versions
from client.errors import ProviderError, translated
from common.backoff import Backoff
from common.pem import BadFile
from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub

CALL_TIMEOUT = 10.0
"""Seconds a call may take: every one returns at once, whatever its operation takes."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
"""Seconds before a stream that broke is opened again; one that lasted longer than the longest begins with the first."""
MAX_PAGE = 1000
ENDED = frozenset({pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED})
STREAM_AGED = "STREAM_AGED"
"""The reason of a stream that a provider ends so that its connection, and with it the certificate, can be renewed."""
SHUTDOWNS = frozenset({pb.OPERATION_KIND_SHUTDOWN, pb.OPERATION_KIND_REBOOT})
"""The kinds that ask a guest, and give it time."""
PROBE = "ready"
"""What the result of a PowerOn's probe is called among its verdict's hooks (protos/power/v1/power.proto)."""

WorkRequest = pb.PowerOnRequest | pb.PowerOffRequest | pb.ShutdownRequest | pb.RebootRequest
AskingRequest = WorkRequest | pb.ExtendOperationRequest | pb.ForceOperationRequest | pb.CancelOperationRequest
"""Requests that change something, and may say why and for whom."""
OperationRequest = AskingRequest | pb.GetOperationRequest
OnBreak = Callable[[ProviderError], None]
"""Told why a stream broke, before it is opened again; to give it up it raises."""
M = TypeVar("M", bound=Message)


def raise_refusal(error: ProviderError) -> None:
    """The usual `OnBreak`: only a provider that could not be asked, or has too much to do, is worth another attempt."""
    if not error.passing and error.code not in {"UNAVAILABLE", "CANCELLED", "INTERNAL"}:
        raise error


def has_ended(operation: pb.Operation) -> bool:
    """Whether it is over: it will not change any more."""
    return operation.state in ENDED


class PowerClient:
    """Calls, streams and pages of one provider. Use it as `async with`, or call `close`.

    Everything raises `ProviderError`. Without `tls` the address must be a unix socket or loopback. TLS files that have
    changed are read at the next call, or when a stream is opened again; so is other PEM that `use` was given.
    """

    def __init__(self, address: str, tls: Tls | Pem | None = None) -> None:
        """Raises ValueError: the address is none, or needs `tls`."""
        require_secure(address, tls)
        self.address, self._tls, self._files = address, tls, versions(None)
        self._stub: PowerServiceStub | None = None
        self._channels = WeakSet[grpc.aio.Channel]()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def use(self, tls: Pem) -> None:
        """Prove who we are by this from the next call on; calls and streams that are under way go on."""
        self._tls = tls

    async def prepare(self) -> None:
        """Whatever is to be done before `watch_vms` connects, and connects again."""

    async def close(self) -> None:
        """Give back the connection; calls that still wait for an answer end with UNAVAILABLE."""
        for channel in list(self._channels):
            await channel.close()

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
        """Call the method that takes this kind of request; again, while there is time, if the provider says when.

        A request that starts something and has no `request_id` is given one: sent again, it is the same operation.
        """
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = request.request_id or str(uuid.uuid4())
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        while True:
            try:
                with translated():
                    method = self._method(request)
                    return await method(request, timeout=deadline - now())
            except ProviderError as error:
                pause = (error.retry_after or 0.0) * random.uniform(1, 2)  # noqa: S311 - not all at the same moment again
                if error.retry_after is None or now() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)

    async def list_vms(self) -> list[pb.VM]:
        """All VMs, ordered by name and id."""
        request, vms = pb.ListVMsRequest(), list[pb.VM]()
        while True:
            page = await self.call(request)
            vms += page.vms
            request.page_token = page.next_page_token
            if not request.page_token:
                return vms

    async def list_operations(
        self, vm: str = "", *, active_only: bool = False, requested_by: str = "", limit: int
    ) -> list[pb.Operation]:
        """The newest `limit` operations of one VM or of all, newest first; those that this name asked for, or all."""
        request = pb.ListOperationsRequest(vm=vm, active_only=active_only, requested_by=requested_by)
        found = list[pb.Operation]()
        while True:
            request.page_size = min(limit - len(found), MAX_PAGE)
            page = await self.call(request)
            found += page.operations
            request.page_token = page.next_page_token
            if not request.page_token or len(found) >= limit:
                return found[:limit]

    async def find_operation(self, vm: str, request_id: str, among: int = 100) -> pb.Operation | None:
        """The operation that this request began, if it is `among` so many newest of its VM."""
        newest = await self.list_operations(vm, limit=among)
        return next((each for each in newest if each.request_id == request_id), None)

    def watch_vms(
        self, on_break: OnBreak = raise_refusal
    ) -> AsyncGenerator[pb.GetProviderInfoResponse | pb.WatchVMsResponse, None]:
        """What the provider is, then all VMs, then `snapshot_complete`, then each change, without end.

        When a lost connection is there again, all of that comes anew, beginning with what the provider is.
        """

        async def connection() -> AsyncGenerator[pb.GetProviderInfoResponse | pb.WatchVMsResponse, None]:
            await self.prepare()
            yield await self.call(pb.GetProviderInfoRequest())
            async with aclosing(self.stream(pb.WatchVMsRequest())) as events:
                async for event in events:
                    yield event

        return _resumed(connection, on_break)

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
            method = self._method(request)
            call = method(request)
            try:
                async for message in call:
                    yield message
            finally:
                call.cancel()

    def _method(self, request: Message) -> Any:
        """In the contract the request of a method is named for it, and serves no other.

        The method holds its channel: after a renewal the old one lives until the last call over it has ended.
        """
        files = versions(self._tls)
        if self._stub is None or files != self._files:
            try:
                channel = open_channel(self.address, self._tls)
            except (OSError, BadFile) as error:
                if self._stub is None:  # otherwise we are in the middle of a renewal, and the old channel serves
                    message = f"A TLS file cannot be used: {error}; provide it, or name another."
                    raise ProviderError("FAILED_PRECONDITION", message, "TLS_FILE_UNREADABLE") from error
            else:
                self._stub, self._files = PowerServiceStub(channel), files
                self._channels.add(channel)
        return getattr(self._stub, type(request).__name__.removesuffix("Request"))


async def _resumed(opened: Callable[[], AsyncGenerator[M, None]], on_break: OnBreak) -> AsyncGenerator[M, None]:
    backoff, now = Backoff(FIRST_PAUSE, LONGEST_PAUSE), asyncio.get_running_loop().time
    while True:
        began, why = now(), ProviderError("UNAVAILABLE", "The provider ended the stream; it is asked again.")
        try:
            async with aclosing(opened()) as messages:
                async for message in messages:
                    yield message
        except ProviderError as error:
            why = error
        if why.reason != STREAM_AGED:
            on_break(why)
        if now() - began > LONGEST_PAUSE:
            backoff.reset()
        await asyncio.sleep(backoff.next())
