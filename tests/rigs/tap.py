"""Records a gRPC connection: each method called, with its bytes.

with Tap(provider.address) as tap:
    ...  # a client of tap.address
    assert [call.method for call in tap.calls] == ["Shutdown"]
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import grpc

OPTIONS = [("grpc.http2.min_ping_interval_without_data_ms", 1_000)]
"""Clients ask for life as often as of a provider."""
THREADS = 100
"""Each call has one for as long as it lasts, also one that streams."""


@dataclass(frozen=True)
class Call:
    """One call. `requests` grows as they come."""

    method: str
    requests: list[bytes] = field(default_factory=list)


class Tap(grpc.GenericRpcHandler):
    """Passes all calls on to `target`, a unix socket, and its answers back. `calls` has them in order."""

    def __init__(self, target: str) -> None:
        self.address = f"{target}.tap"
        self.calls: list[Call] = []
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[self], options=OPTIONS)

    def __enter__(self) -> Self:
        self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._channel.close()

    def requests(self, method: str) -> list[bytes]:
        """What was sent to one method."""
        return [request for call in tuple(self.calls) if call.method == method for request in call.requests]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Any method: on the wire a unary call is a stream of one message."""
        return grpc.stream_stream_rpc_method_handler(partial(self._pass_on, handler_call_details.method))

    def _pass_on(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        call = Call(method.rpartition("/")[2])
        self.calls.append(call)
        forward: Any = self._channel.stream_stream(method)
        answers = forward(_noted(requests, call))
        context.add_callback(answers.cancel)  # the client's deadline counts, or its end
        try:
            yield from answers
        except grpc.RpcError:
            context.set_trailing_metadata(answers.trailing_metadata())
            context.abort(answers.code(), answers.details())


def _noted(requests: Iterator[bytes], call: Call) -> Iterator[bytes]:
    for request in requests:
        call.requests.append(request)
        yield request
