import socket
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.listening import CannotListen
from controller.health import Health


def free_address() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


async def check(address: str, service: str) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.parametrize("service", ["", "liveness"])
async def test_it_serves_once_started(service: str) -> None:
    address = free_address()
    health = Health(address)
    await health.start()
    assert await check(address, service) == "SERVING"
    await health.stop()


async def test_nobody_answers_once_stopped() -> None:
    address = free_address()
    health = Health(address)
    await health.start()
    await health.stop()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(address, "")
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_address_in_use_is_refused_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotListen, match="mend that or choose another --health-listen"):
            await Health(address).start()
