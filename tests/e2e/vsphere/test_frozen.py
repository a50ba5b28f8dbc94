"""A vCenter that says nothing, and whose connections stay open, for longer than a call is waited for."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from tests.e2e.crowd import Crowd, Ended, connect
from tests.rigs.process import SERVICE, SERVING, Process
from tests.rigs.vsphere.provider import provider as on
from tests.rigs.vsphere.vcenter import VCenter

VMS: dict[str, dict[str, object]] = {
    "quick": {"count": 5, "shutdown_time": "8s"},
    "deaf": {"count": 5, "ignores": True},
    "stubborn": {"count": 5, "ignores": True},
    "late": {"count": 5, "shutdown_time": "1s"},
}
TIMEOUTS = {"quick": 600.0, "deaf": 10.0, "stubborn": 60.0, "late": 600.0}
"""The deaf ones' time is up while vCenter is silent, that of the stubborn ones is not; the late are begun meanwhile."""
ENDINGS = {"quick": "GRACEFUL", "deaf": "FORCED/TIMEOUT", "stubborn": "FORCED/TIMEOUT", "late": "GRACEFUL"}


def timeouts(*keys: str) -> dict[str, float]:
    return {f"{key}-{number:04}": TIMEOUTS[key] for key in keys for number in range(1, 6)}


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    process.freeze()
    try:
        yield
    finally:
        process.thaw()


async def until_not_serving(channel: grpc.aio.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    async for answer in health_pb2_grpc.HealthStub(channel).Watch(request):  # type: ignore[attr-defined]  # not stubbed
        if answer.status != SERVING:
            return


async def refusal(channel: grpc.aio.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await PowerServiceStub(channel).Shutdown(pb.ShutdownRequest(vm="spare"))
    return refused.value.code()


@pytest.mark.timeout(200)  # 30 s of them until the silence is noticed
async def test_a_vcenter_that_falls_silent_is_reported_and_changes_no_verdict() -> None:
    with VCenter(VMS | {"spare": {}}) as vcenter, on(vcenter) as provider:
        async with connect(provider.address) as channel:
            crowd = Crowd(channel)
            operations = await crowd.begin(timeouts("quick", "deaf", "stubborn"))
            await crowd.asked(operations)
            with frozen(vcenter.process):
                operations |= await crowd.begin(timeouts("late"))
                await until_not_serving(channel)
                assert await refusal(channel) is grpc.StatusCode.UNAVAILABLE
                assert await crowd.unended(operations) == set(operations)
            ended: dict[str, Ended] = await crowd.ends(operations)
        assert {name: end.ending for name, end in ended.items()} == {
            name: ENDINGS[name.partition("-")[0]] for name in timeouts(*VMS)
        }
        assert not [name for name, end in ended.items() if end.early]
