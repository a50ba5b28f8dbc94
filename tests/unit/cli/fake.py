"""A PowerService that says what a test told it to say, over a real socket."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from queue import Queue
from typing import Any, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from protos.power.v1 import power_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["PowerService"]
Answer: TypeAlias = Message | status_pb2.Status | Callable[[Any], Message | status_pb2.Status]


class Break(Exception):
    """In a stream's script: the connection breaks here."""


class FakeProvider:
    """`answers` by method name; `streams` are played one for each time a stream is opened."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, Answer] = {"GetProviderInfo": pb.GetProviderInfoResponse(type="fake")}
        self.streams: list[list[Message | type[Break]]] = []
        self.opened: Queue[str] = Queue()

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.asked if name == method]

    def request(self, method: str) -> Any:
        (only,) = self.requests(method)
        return only

    def answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Message:
        self.asked.append((method, request))
        answer = self.answers.get(method)
        said = answer(request) if callable(answer) else answer
        if isinstance(said, status_pb2.Status):
            context.abort_with_status(rpc_status.to_status(said))
        if said is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        assert isinstance(said, Message)
        return said

    def play(self, method: str, request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
        self.asked.append((method, request))
        self.opened.put(method)
        script = self.streams.pop(0) if self.streams else None
        if script is None:  # nothing more is going to happen: hold the stream until the caller leaves
            ended: Queue[None] = Queue()
            if context.add_callback(lambda: ended.put(None)):
                ended.get()
            return
        for entry in script:
            if isinstance(entry, status_pb2.Status):
                context.abort_with_status(rpc_status.to_status(entry))
            elif isinstance(entry, Message):
                yield entry
            else:
                context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")


def _handler(provider: FakeProvider, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
    coding = (GetMessageClass(method.input_type).FromString, GetMessageClass(method.output_type).SerializeToString)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(partial(provider.play, method.name), *coding)
    return grpc.unary_unary_rpc_method_handler(partial(provider.answer, method.name), *coding)


def refusal(
    code: int, message: str, reason: str, violations: dict[str, str] | None = None, **metadata: str
) -> status_pb2.Status:
    """An error as the contract has it."""
    info = error_details_pb2.ErrorInfo(domain="vmpower", reason=reason, metadata=metadata)
    details: list[Message] = [info]
    if violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            for field, text in violations.items()
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    packed = [Packed() for _ in details]
    for box, detail in zip(packed, details, strict=True):
        box.Pack(detail)
    return status_pb2.Status(code=code, message=message, details=packed)


def not_found(kind: str, name: str) -> status_pb2.Status:
    return refusal(code_pb2.NOT_FOUND, f"No {kind} is called {name!r}.", f"{kind.upper()}_NOT_FOUND")


@contextmanager
def serving(provider: FakeProvider, address: str) -> Iterator[str]:
    """Serve on a gRPC target; yields the address to dial."""
    server = grpc.server(ThreadPoolExecutor(8))
    handlers = {method.name: _handler(provider, method) for method in SERVICE.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield address.replace(":0", f":{port}")
    finally:
        server.stop(grace=None).wait()
