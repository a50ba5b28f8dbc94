"""Fifty guests at one node whose agents hang hold up nothing else at it, and are forced at their own time."""

from protos.power.v1 import power_pb2 as pb
from tests.e2e.hanging import hanging
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import provider as on

GUESTS: dict[str, dict[str, object]] = {
    "hangs": {"count": 50, "agent": "hangs", "ignores": True},
    "web": {"shutdown_secs": 1},
    "spare": {"power": "off"},
}
HANGING = [f"hangs-{number:04}" for number in range(1, 51)]


async def test_fifty_guests_whose_agents_hang_hold_up_nothing_else() -> None:
    with Cluster(GUESTS) as cluster, on(cluster, "--max-per-host=8") as provider:

        def hang() -> bool:
            return sum(n for call, n in cluster.calls().items() if call.endswith("/agent/ping")) >= 8

        async with hanging(provider.address, dict.fromkeys(HANGING, 8.0), hang) as beside:
            assert await beside.does("PowerOff", pb.PowerOffRequest(vm="web")) == pb.OUTCOME_FORCED
            assert await beside.does("PowerOn", pb.PowerOnRequest(vm="web")) == pb.OUTCOME_STARTED
            assert await beside.does("Shutdown", pb.ShutdownRequest(vm="web")) == pb.OUTCOME_GRACEFUL
            assert (await beside.reads("spare")).power_state == pb.POWER_STATE_OFF
