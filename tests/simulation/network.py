"""The network between a controller and a provider: gRPC's calls and streams, in virtual time.

A message that was sent arrives though its sender is gone, and takes effect. It may be lost, late, or come twice, and
all connections may break at once. What is sent is bytes, so that two processes share no object.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_status import rpc_status

from providers.core.errors import VmpowerError
from providers.server.interceptor import status
from tests.simulation.provider import Process, ProviderMachine
from tests.simulation.universe import Loop, Universe

USUAL = 0.002
"""Seconds that a message takes, at the most, where nothing delays it."""


@dataclass(slots=True)
class Weather:
    """How badly it behaves now: chances from 0 to 1, and seconds."""

    lose_call: float = 0.0
    lose_answer: float = 0.0
    repeat: float = 0.0
    late: float = 0.0
    away: bool = False


class Network:
    """Connects one controller at a time to one provider. `heard` is told each request that arrives, and `answered` the
    answer that it is given, whether or not that arrives."""

    def __init__(
        self,
        universe: Universe,
        machine: ProviderMachine,
        heard: Callable[[Process, Message], Any],
        answered: Callable[[Process, Any, Message | VmpowerError], None],
    ) -> None:
        self.universe, self._machine = universe, machine
        self._heard, self._answered = heard, answered
        self.weather = Weather()
        self._open: dict[Callable[[Exception], None], None] = {}
        """What ends each call and stream that is under way, for the one who waits for it."""

    def cut(self) -> None:
        """All connections break."""
        for end in tuple(self._open):
            end(unavailable("The connection was reset."))
        self._open.clear()

    async def call(self, name: str, request: Message, timeout: float) -> Message:
        """A unary call of the loop that runs.

        Raises:
            AioRpcError
        """
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def settle(result: Message | Exception) -> None:
            self._open.pop(settle, None)
            if not answer.done():
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

        self._open[settle] = None
        for _ in range(1 + self._happens(self.weather.repeat)):
            self._send(partial(self._arrive, name, request.SerializeToString(), type(request), settle))
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise failed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        finally:
            self._open.pop(settle, None)

    def _arrive(
        self, name: str, sent: bytes, kind: type[Message], settle: Callable[[Message | Exception], None]
    ) -> None:
        if self._happens(self.weather.lose_call):
            return  # the caller waits in vain
        process = self._serving()
        if process is None:
            self._send(partial(settle, unavailable("Connection refused")))
        else:
            process.spawn(self._serve(process, name, kind.FromString(sent), settle))

    async def _serve(
        self, process: Process, name: str, request: Message, settle: Callable[[Message | Exception], None]
    ) -> None:
        noted = self._heard(process, request)
        try:
            told = await getattr(process.service, name)(request, None)
        except VmpowerError as error:
            self._answered(process, noted, error)
            result: Message | Exception = refused(error)
        else:
            self._answered(process, noted, told)
            result = type(told).FromString(told.SerializeToString())
        if not self._happens(self.weather.lose_answer):
            self._send(partial(settle, result))

    def stream(self, name: str, request: Message) -> "Stream":
        return Stream(self, name, request)

    def _serving(self) -> Process | None:
        process = self._machine.process
        return process if process and process.serving.is_set() and not self.weather.away else None

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self.universe.random.random() < chance

    def _takes(self) -> float:
        return self.universe.random.uniform(0, USUAL + self.weather.late)

    def _send(self, arrives: Callable[[], object]) -> None:
        def happens() -> None:
            arrives()

        self.universe.after(self._takes(), happens)


class Stream:
    """A server's stream: its messages come in their order, until it ends or breaks."""

    def __init__(self, network: Network, name: str, request: Message) -> None:
        self._network, self._loop = network, asyncio.get_running_loop()
        self._came: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self._last, self._over = network.universe.now, False
        self._pump: asyncio.Task[None] | None = None
        network._open[self._break] = None
        network._send(partial(self._open, name, request))

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Message:
        came = await self._came.get()
        if isinstance(came, Exception):
            raise came
        return came

    def cancel(self) -> None:
        self._over = True
        self._network._open.pop(self._break, None)
        if self._pump is not None:
            self._network._send(self._pump.cancel)

    def _break(self, error: Exception) -> None:
        if not self._over:
            self._came.put_nowait(error)
        self.cancel()

    def _open(self, name: str, request: Message) -> None:
        process = self._network._serving()
        if process is None:
            self._break(unavailable("Connection refused"))
        elif not self._over:
            self._pump = process.spawn(self._follow(process, name, request))

    async def _follow(self, process: Process, name: str, request: Message) -> None:
        try:
            async for message in getattr(process.service, name)(request, None):
                self._deliver(type(message).FromString(message.SerializeToString()))
        except VmpowerError as error:
            self._deliver(refused(error))
        else:
            self._deliver(StopAsyncIteration())

    def _deliver(self, what: Message | Exception) -> None:
        now = self._network.universe.now
        self._last = max(self._last, now + self._network._takes())
        self._network.universe.after(self._last - now, partial(self._arrived, what))

    def _arrived(self, what: Message | Exception) -> None:
        if not self._over and isinstance(self._loop, Loop) and self._loop.alive:
            self._came.put_nowait(what)


def refused(error: VmpowerError) -> grpc.aio.AioRpcError:
    """As the provider's interceptor tells it."""
    told = rpc_status.to_status(status(error))
    return grpc.aio.AioRpcError(
        told.code, grpc.aio.Metadata(), grpc.aio.Metadata(*told.trailing_metadata), details=told.details
    )


def unavailable(why: str) -> grpc.aio.AioRpcError:
    return failed(grpc.StatusCode.UNAVAILABLE, why)


def failed(code: grpc.StatusCode, why: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=why)
