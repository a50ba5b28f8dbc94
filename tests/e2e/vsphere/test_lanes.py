"""Fifty guests whose asking hangs in vCenter hold up nothing else, and are forced at their own time."""

from collections.abc import Iterator

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.hanging import hanging
from tests.rigs.process import Provider
from tests.rigs.vsphere.provider import provider as on
from tests.rigs.vsphere.vcenter import VCenter

VMS: dict[str, dict[str, object]] = {
    "hangs": {"count": 50, "faults": {"ShutdownGuest": ["hang"] * 500}},  # which the fifty share
    "web": {"shutdown_time": "300ms", "boot_time": "100ms"},
    "spare": {"power": "off", "boot_time": "100ms"},
}
HANGING = [f"hangs-{number:04}" for number in range(1, 51)]


@pytest.fixture(scope="module")
def vcenter() -> Iterator[VCenter]:
    with VCenter(VMS) as vcenter:
        yield vcenter


@pytest.fixture(scope="module")
def provider(vcenter: VCenter) -> Iterator[Provider]:
    with on(vcenter) as provider:
        yield provider


async def test_fifty_guests_whose_asking_hangs_hold_up_nothing_else(vcenter: VCenter, provider: Provider) -> None:
    def hang() -> bool:
        return vcenter.calls().get("ShutdownGuest", 0) >= 8

    async with hanging(provider.address, dict.fromkeys(HANGING, 12.0), hang) as beside:
        asked = pb.ShutdownRequest(vm="web")
        assert await beside.does("Shutdown", asked) == pb.OUTCOME_GRACEFUL
        assert await beside.does("PowerOn", pb.PowerOnRequest(vm="spare")) == pb.OUTCOME_STARTED
        assert await beside.does("PowerOff", pb.PowerOffRequest(vm="spare")) == pb.OUTCOME_FORCED
        assert (await beside.reads("web")).power_state == pb.POWER_STATE_OFF
    assert vcenter.connections().peak <= 2 + 5 * (8 + 50)
