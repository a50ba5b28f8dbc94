"""More requests at once than a slow hypervisor can take: what is taken on is bounded, and the rest is refused."""

import asyncio
from collections import Counter
from contextlib import closing

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from protos.power.v1 import power_pb2 as pb
from protos.power.v1.power_pb2_grpc import PowerServiceStub
from providers.sim.world import Hypervisor, World
from tests.bench.sim import names, sim
from tests.e2e.crowd import Crowd, connect
from tests.rigs.process import Provider

MANY = names("many", 400)
OTHERS = names("other", 40)
ASKS, CUTS, WAITING = 4, 3, 60
LIMITS = [f"--max-asks={ASKS}", f"--max-cuts={CUTS}", f"--max-waiting={WAITING}"]


def slow() -> Provider:
    """A provider of a sim each of whose calls takes 50 ms."""
    guests: dict[str, dict[str, object]] = {"many": {"count": 400, "shutdown_time": 0.1}, "other": {"count": 40}}
    process = sim(guests, latency=0.05)
    process.command += LIMITS
    return process


def hypervisor(provider: Provider) -> Hypervisor:
    """What the sim counted."""
    with closing(World(provider.folder / "world.db")) as world:
        return world.hypervisor()


async def begin(channel: grpc.aio.Channel, name: str) -> pb.Operation | grpc.aio.AioRpcError:
    request = pb.ShutdownRequest(vm=name, timeout=Duration(seconds=60))
    try:
        return await PowerServiceStub(channel).Shutdown(request)
    except grpc.aio.AioRpcError as error:
        return error


def explained(error: grpc.aio.AioRpcError) -> tuple[str, str, float]:
    """Its code, its reason, and after how many seconds the request is to come again."""
    info, retry, status = ErrorInfo(), RetryInfo(), rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all
    for detail in status.details if status else ():
        detail.Unpack(info)
        detail.Unpack(retry)
    return error.code().name, info.reason, retry.retry_delay.ToTimedelta().total_seconds()


async def test_beyond_what_may_wait_shutdowns_are_refused_and_no_power_off_is() -> None:
    with slow() as provider:
        async with connect(provider.address) as channel, connect(provider.address) as other:
            urgent = PowerServiceStub(other)
            rush = asyncio.gather(*(begin(channel, name) for name in MANY))
            cuts = await asyncio.gather(*(urgent.PowerOff(pb.PowerOffRequest(vm=name)) for name in OTHERS))
            answers = await rush
            begun = {one.vm_name: one for one in answers if isinstance(one, pb.Operation)}
            refused = [one for one in answers if not isinstance(one, pb.Operation)]
            crowd = Crowd(channel)
            ended = await crowd.ends(begun)
            gone = await crowd.ends({cut.vm_name: cut for cut in cuts})
        counted = hypervisor(provider).most
    print(f"{len(begun)} taken on, {len(refused)} refused; at once: {counted}")
    assert Counter(end.ending for end in ended.values()) == {"GRACEFUL": len(begun)}
    assert {end.ending for end in gone.values()} == {"FORCED/REQUESTED"}
    assert {explained(error) for error in refused} == {("RESOURCE_EXHAUSTED", "HYPERVISOR_BUSY", 1.0)}
    assert WAITING <= len(begun) < len(MANY)
    assert (counted["send_signal"], counted["power_off"]) == (ASKS, CUTS)


async def test_what_was_refused_is_taken_on_when_it_comes_again() -> None:
    with slow() as provider:
        async with connect(provider.address) as channel:
            left = list(MANY[:200])
            begun = dict[str, pb.Operation]()
            while left:
                answers = await asyncio.gather(*(begin(channel, name) for name in left))
                begun |= {one.vm_name: one for one in answers if isinstance(one, pb.Operation)}
                await Crowd(channel).ends(begun)
                left = [name for name in left if name not in begun]
            ended = await Crowd(channel).ends(begun)
        assert Counter(end.ending for end in ended.values()) == {"GRACEFUL": 200}
