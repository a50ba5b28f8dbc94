"""The plans that a controller hosts, over gRPC. It speaks the messages of protos/plan/v1/plan.proto."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Self, overload

from client.channel import Tls, open_channel, require_secure
from client.errors import ProviderError, translated
from protos.plan.v1 import plan_pb2 as pb
from protos.plan.v1.plan_pb2_grpc import PlanServiceStub

CALL_TIMEOUT = 30.0
"""Seconds a call may take: a run begins when all its providers have been asked."""
PAUSE = 0.2
"""Seconds before a request is sent again."""
ChangeRequest = pb.StartRunRequest | pb.AbortRunRequest | pb.ReleaseRunRequest | pb.BringUpRequest


class PlanClient:
    """Calls and streams of one controller. Use it as `async with`. Everything raises `ProviderError`."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        """Raises ValueError: the address is none, or needs `tls`."""
        require_secure(address, tls)
        self.address = address
        self._channel = open_channel(address, tls)
        self._stub: PlanServiceStub = PlanServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    @overload
    async def call(self, request: ChangeRequest, timeout: float = ...) -> pb.Run: ...
    @overload
    async def call(self, request: pb.ListPlansRequest, timeout: float = ...) -> pb.ListPlansResponse: ...
    @overload
    async def call(self, request: pb.ForecastPlanRequest, timeout: float = ...) -> pb.ForecastPlanResponse: ...
    async def call(self, request: Any, timeout: float = CALL_TIMEOUT) -> Any:
        """Call the method that takes this kind of request; again, while there is time, of a controller that was just
        started and does not know yet what is declared."""
        method = getattr(self._stub, type(request).__name__.removesuffix("Request"))
        now = asyncio.get_running_loop().time
        deadline = now() + timeout
        while True:
            try:
                with translated():
                    return await method(request, timeout=deadline - now())
            except ProviderError as error:
                if error.reason != "NOT_READY" or now() + PAUSE >= deadline:
                    raise
            await asyncio.sleep(PAUSE)

    async def watch(self, run: str) -> AsyncGenerator[pb.WatchRunResponse, None]:
        """A run as it stands, then what has changed, until nothing more happens by itself."""
        with translated():
            responses: Any = self._stub.WatchRun(pb.WatchRunRequest(run=run))
            async for response in responses:
                yield response
