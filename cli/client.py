"""The connection to one provider: calls that end in a `Failure`, streams that survive a lost connection."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from cli import config
from cli.config import Endpoint
from cli.errors import Failure, translate, unreachable, usage
from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

CALL_TIMEOUT = 15.0
"""Seconds for a call that only reads or starts something; the work itself is waited for by a stream."""
RETRY_FIRST, RETRY_LONGEST, RETRY_FOR = 0.2, 5.0, 300.0
"""Seconds between attempts to take up a broken stream again, and until it is given up."""

_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),  # a page of 1000 operations with all their steps
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # A silent stream must notice that its provider's machine is gone. Providers allow a ping each 20 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}


class Client:
    """One provider. Use as `async with`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.address = endpoint.address
        self._channel = _channel(endpoint)
        self.stub = PowerServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def call(self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        """Call once.

        Raises:
            Failure: what the provider answered, or that none does.
        """
        try:
            return await method(request, timeout=CALL_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise translate(error, self.address) from None

    async def stream(
        self, opened: Callable[[], AsyncIterable[Response]], note: Callable[[str], None]
    ) -> AsyncGenerator[Response, None]:
        """What a stream says, opened anew with back-off whenever it breaks off; never ends by itself.

        Raises:
            Failure: the provider refuses, or was away for longer than RETRY_FOR.
        """
        outage = _Outage(note)
        while True:
            lost = "the stream ended"
            try:
                async for message in opened():
                    outage.over()
                    yield message
            except grpc.aio.AioRpcError as error:
                if error.code() not in _LOST:
                    raise translate(error, self.address) from None
                lost = error.details() or error.code().name
            if outage.hopeless():
                raise unreachable(self.address, lost)
            await outage.wait()


class _Outage:
    """How long a connection has been lost, and how long to wait before the next attempt."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._began: float | None = None
        self._pause = RETRY_FIRST

    def hopeless(self) -> bool:
        """Whether it has lasted for RETRY_FOR; the first question is its beginning."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began, self._pause = now, RETRY_FIRST
            self._note("The connection is lost; trying to take it up again.")
        return now - self._began >= RETRY_FOR

    async def wait(self) -> None:
        """Pause; twice as long the next time, up to RETRY_LONGEST."""
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, RETRY_LONGEST)

    def over(self) -> None:
        """There is a connection, again or still."""
        if self._began is not None:
            self._began = None
            self._note("Connected again.")


def _channel(endpoint: Endpoint) -> grpc.aio.Channel:
    if endpoint.tls is None:
        return grpc.aio.insecure_channel(endpoint.address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(**config.credentials(endpoint.tls))
    name = endpoint.tls.server_name
    override = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.aio.secure_channel(endpoint.address, credentials, options=[*_OPTIONS, *override])


async def find_operation(client: Client, name: str) -> pb.Operation:
    """The operation with this id, or the active one of the VM with this id or name.

    Raises:
        Failure: there is neither, or nothing is active on the VM.
    """
    try:
        return await client.call(client.stub.GetOperation, pb.GetOperationRequest(id=name))
    except Failure as failure:
        if failure.reason != "OPERATION_NOT_FOUND":
            raise
    try:
        vm = await client.call(client.stub.GetVM, pb.GetVMRequest(vm=name))
    except Failure as failure:
        if failure.reason == "VM_NOT_FOUND":
            raise usage(f"Neither an operation nor a VM is called {name!r}.") from None
        raise
    if not vm.active_operation:
        raise usage(f"Nothing is under way on {name}; `vmpower operations {name}` tells what was.")
    return await client.call(client.stub.GetOperation, pb.GetOperationRequest(id=vm.active_operation))


async def all_vms(client: Client) -> list[pb.VM]:
    """Every VM, page by page."""
    vms: list[pb.VM] = []
    request = pb.ListVMsRequest()
    while True:
        page = await client.call(client.stub.ListVMs, request)
        vms += page.vms
        if not page.next_page_token:
            return vms
        request.page_token = page.next_page_token


async def operations(client: Client, vm: str, active_only: bool, limit: int) -> list[pb.Operation]:
    """The newest `limit` operations, newest first."""
    found: list[pb.Operation] = []
    request = pb.ListOperationsRequest(vm=vm, active_only=active_only)
    while len(found) < limit:
        request.page_size = min(limit - len(found), 1000)
        page = await client.call(client.stub.ListOperations, request)
        found += page.operations
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    return found[:limit]
