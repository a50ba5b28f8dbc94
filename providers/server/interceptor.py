"""What every RPC passes on its way in and out: bound how many there are at once, authorise the client, parse the
request, turn exceptions into statuses.

The only place that ends an RPC with an error. gRPC's own limits, which would end one without a reason, lie beyond those
that are here (`OPTIONS` in server.py).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from common import error_details
from protos.power.v1 import power_pb2
from providers.core.errors import Code, InvalidRequest, Violation, VmpowerError
from providers.core.lanes import CALLER
from providers.core.settings import Settings
from providers.server.audit import Audit
from providers.server.clients import CLIENT, Client, Clients

READS = ("Get", "List", "Watch", "Forecast")
"""How the names of PowerService's methods begin that change nothing; any client may call them."""
PAGES = {"ListVMs", "ListOperations", "ForecastShutdown"}
"""Methods whose answer may be long."""
PAGES_AT_ONCE = 2
"""Long answers that are put together at the same time; the others wait. Each is put together in slices, between which
other calls are served: the more there are at once, the later those come."""
URGENT = {"PowerOff", "ForceOperation", "ExtendOperation", "CancelOperation"}
WRITES = {"work", "urgent"}
MOST = {
    **{"reads": 3_000, "pages": 200, "work": 3_000, "urgent": 3_000},
    **{"streams": 10_000, "streams of all VMs": 500, "probes": 1_000, "streams of probes": 1_000},
}
"""Calls of each kind that are under way at the same time, over all connections; a call lasts until its answer has been
sent. Each kind is counted by itself, so that no rush of reads or of shutdowns refuses a PowerOff or a decision
(urgent). A page may be of 3 MiB. A stream lasts as long as what it watches; one of all VMs begins with each of them, so
that thousands would hold up everything else. Probes are the calls of all other services: health and reflection."""
MOST_OF_ONE = {
    **{"reads": 2_000, "pages": 50, "work": 2_000, "urgent": 2_000},
    **{"streams": 4_000, "streams of all VMs": 50, "probes": 500, "streams of probes": 100},
}
"""Of these, one client's, so that there is room for others: a controller that shuts down 2,000 VMs has 2,000 streams
and a few."""
RETRY_DELAY = timedelta(seconds=1)
"""How long a client waits that was refused for that: some 500 Shutdowns begin in that time on two cores."""

Request = Message | VmpowerError
"""What was asked, or what was wrong with its bytes."""
Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger()
_POOL = descriptor_pool.Default()
_SERVICE = power_pb2.DESCRIPTOR.services_by_name["PowerService"]


class TooManyCalls(VmpowerError):
    """As many calls of this kind are under way as may be; `RetryInfo` says when to send it again."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_CALLS"
    who_acts = "the caller sends it again after the time that RetryInfo names; the Python client does so by itself"
    retry_delay = RETRY_DELAY


class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """Wraps the handlers of all services: PowerService, health and reflection."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._clients = settings, Clients(settings)
        self._audit = Audit(settings.audit_log)
        self._handlers: dict[str, Any] = {}
        self._under_way = Counter[str]()
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler, with all of that around it."""
        method = str(details.method)
        if method in self._handlers:
            return self._handlers[method]
        handler = await continuation(details)
        if handler is None:
            return None  # and nothing is kept of a name that a client made up
        self._handlers[method] = self._around(handler, method)
        return self._handlers[method]

    def _around(self, handler: Any, method: str) -> Any:
        service, _, name = method.strip("/").partition("/")
        read = self._reader(_POOL.FindMethodByName(f"{service}.{name}").input_type)
        write, kind = handler.response_serializer, _kind(service, name, streams=handler.response_streaming)
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(name, kind, handler.stream_stream), read, write)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(name, kind, handler.unary_stream), read, write)
        return grpc.unary_unary_rpc_method_handler(self._unary(name, kind, handler.unary_unary), read, write)

    def _unary(self, name: str, kind: str, inner: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        turn: AbstractAsyncContextManager[Any] = self._pages if name in PAGES else nullcontext()

        async def handle(request: Request, context: Context) -> Any:
            try:
                _until_sent(self._entered(name, kind, context))
                admitted = _readable(request)
                async with turn:
                    result = await inner(admitted, context)
            except Exception as error:
                self._note(kind, context, name, request, error)
                await _end(context, name, error)
            except asyncio.CancelledError as gone:  # the client hung up; what it asked for may go on
                self._note(kind, context, name, request, gone)
                raise
            self._note(kind, context, name, request, result)
            return result

        return handle

    def _note(self, kind: str, context: Context, name: str, request: Request, result: Any) -> None:
        """Keep a record of who decided what; reads are none."""
        if kind in WRITES:
            self._audit.note(CLIENT.get().shown or f"not known, at {context.peer()}", name, request, result)

    def _stream(self, name: str, kind: str, inner: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
        async def handle(request: Request | AsyncIterator[Request], context: Context) -> AsyncIterator[Any]:
            try:
                with self._entered(name, kind, context) as client:
                    admitted = _each(request) if isinstance(request, AsyncIterator) else _readable(request)
                    async for response in self._clients.while_valid(client, inner(admitted, context)):
                        yield response
            except Exception as error:
                await _end(context, name, error)

        return handle

    @contextmanager
    def _entered(self, name: str, kind: str, context: Context) -> Iterator[Client]:
        """A client's call, for as long as it is under way.

        Raises:
            TooManyCalls, CertificateRefused, NotAllowed
        """
        with self._counted(kind, MOST[kind]):
            client = self._clients.admit(context, name, writes=kind in WRITES)
            with self._counted(f"{kind} of {client.name}", MOST_OF_ONE[kind]):
                CALLER.set(client.name)
                yield client

    @contextmanager
    def _counted(self, kind: str, most: int) -> Iterator[None]:
        """A call that is under way; raises TooManyCalls."""
        if self._under_way[kind] >= most:
            seconds = f"{RETRY_DELAY.total_seconds():g} s"
            raise TooManyCalls(f"{most} {kind} are under way already; send this again in {seconds}.")
        self._under_way[kind] += 1
        try:
            yield
        finally:
            self._under_way[kind] -= 1
            if not self._under_way[kind]:
                del self._under_way[kind]  # clients come and go

    def _reader(self, descriptor: Descriptor) -> Callable[[bytes], Request]:
        """Parses a request; what cannot be parsed becomes the error that names the field."""
        limit, message = self._settings.max_request_bytes, GetMessageClass(descriptor)

        def read(data: bytes) -> Request:
            if len(data) > limit:
                why = f"the request has {len(data)} bytes, {limit} are allowed"
                return InvalidRequest(Violation(_largest(descriptor, data), why))
            try:
                return message.FromString(data)
            except DecodeError:
                field = _invalid_text(descriptor, data)
                return InvalidRequest(
                    Violation(field or "request", "is not valid UTF-8" if field else "is not protobuf")
                )

        return read


def _kind(service: str, name: str, *, streams: bool) -> str:
    """As what a call is counted."""
    if service != _SERVICE.full_name:
        return "streams of probes" if streams else "probes"
    if streams:
        return "streams of all VMs" if name == "WatchVMs" else "streams"
    if name in PAGES:
        return "pages"
    return "reads" if name.startswith(READS) else "urgent" if name in URGENT else "work"


def _until_sent(place: AbstractContextManager[Any]) -> None:
    """Enter, and leave when gRPC's task of this call ends: when the answer has been sent to the client, which may read
    nothing for long, and not when there is one."""
    stack, task = ExitStack(), asyncio.current_task()
    stack.enter_context(place)
    if task:
        task.add_done_callback(lambda _: stack.close())


def _readable(request: Request) -> Message:
    """Raises InvalidRequest: what was wrong with its bytes."""
    if isinstance(request, VmpowerError):
        raise request
    return request


async def _each(requests: AsyncIterator[Request]) -> AsyncIterator[Message]:
    async for request in requests:
        yield _readable(request)


async def _end(context: Context, name: str, error: Exception) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error  # the handler has ended the call
    if not isinstance(error, VmpowerError):
        log.error("a bug in vmpower", method=name, exc_info=error)
        error = VmpowerError("vmpower failed; its log says how. Its operator reports it.")
    await context.abort_with_status(rpc_status.to_status(status(error)))
    raise AssertionError("abort_with_status does not return")


def status(error: VmpowerError) -> Status:
    """An error as it is told."""
    return error_details.status(
        error.code,
        error.message,
        error.reason,
        metadata=error.metadata,
        violations=[(each.field, each.description) for each in error.violations]
        if isinstance(error, InvalidRequest)
        else None,
        retry_delay=error.retry_delay,
    )


def _fields(descriptor: Descriptor, data: bytes) -> list[tuple[FieldDescriptor, bytes]]:
    """The length-delimited fields of a message whose own class will not parse it.

    An Empty keeps them all as unknown fields, by number.
    """
    try:
        unknown: Any = UnknownFieldSet(Empty.FromString(data))  # iterable, though its stub does not say so
    except DecodeError:
        return []
    known = ((descriptor.fields_by_number.get(field.field_number), field.data) for field in unknown)
    return [(field, value) for field, value in known if field is not None and isinstance(value, bytes)]


def _invalid_text(descriptor: Descriptor, data: bytes) -> str:
    """The path of the first string that is not UTF-8, or ""."""
    for field, value in _fields(descriptor, data):
        if field.message_type is not None:
            if inner := _invalid_text(field.message_type, value):
                return f"{field.name}.{inner}"
        elif field.type == FieldDescriptor.TYPE_STRING and not _is_text(value):
            return field.name
    return ""


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _largest(descriptor: Descriptor, data: bytes) -> str:
    sizes = Counter[str]()
    for field, value in _fields(descriptor, data):
        sizes[field.name] += len(value)
    return max(sizes, key=sizes.__getitem__, default="request")
