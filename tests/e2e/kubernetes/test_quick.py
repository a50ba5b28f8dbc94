"""Many guests that take their time keep nobody waiting."""

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.fleet import fleet
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import Object

SCRIPT = """
guests:
  web: {shutdown_time: 20s, count: 100}
  deaf: {agent: none, acpi: ignores, count: 200}
"""
WEBS = [f"web-{number:04}" for number in range(1, 101)]
DEAF = [f"deaf-{number:04}" for number in range(1, 201)]
ON = {"providerRef": {"name": "lab"}, "powerState": "On", "lifecycle": {"gracefulShutdownTimeout": "1h"}}
OFF, OFF_GRACEFUL = ({"spec": {"powerState": power_state}} for power_state in ("Off", "OffGraceful"))

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def lab(cluster: Cluster) -> Iterator[Lab]:
    """All VMs run, and the controller knows it."""
    with open_lab(cluster, SCRIPT) as lab:
        asyncio.run(create(lab))
        lab.vms.wait_all((*WEBS, *DEAF), in_phase("Running"))
        yield lab


async def create(lab: Lab) -> None:
    async with fleet(lab.cluster.kubeconfig, lab.namespace) as machines:
        await machines.create((*WEBS, *DEAF), ON)


def patch(lab: Lab, names: Sequence[str], change: Object) -> dict[str, float]:
    """When each patch was sent."""

    async def send() -> dict[str, float]:
        async with fleet(lab.cluster.kubeconfig, lab.namespace) as machines:
            await machines.all()  # a connection is there
            return await machines.patch(names, change)

    return asyncio.run(send())


def in_phase(phase: str) -> Callable[[Object], bool]:
    return lambda state: state.get("status", {}).get("phase") == phase


def asked(lab: Lab, vm: str) -> float:
    """When this guest was asked, by its console."""
    return min(line.at for line in lab.guest(vm).console if "asked" in line.text)


def test_a_hundred_guests_are_all_asked_before_the_first_of_them_is_down(lab: Lab) -> None:
    patch(lab, WEBS, OFF_GRACEFUL)
    lab.vms.wait_all(WEBS, in_phase("Off"))
    assert max(asked(lab, vm) for vm in WEBS) < min(lab.guest(vm).off_at or 0 for vm in WEBS)


def test_a_hard_off_among_200_that_wait_is_done_within_a_second(lab: Lab) -> None:
    patch(lab, DEAF, OFF_GRACEFUL)
    lab.vms.wait_all(DEAF, in_phase("ShuttingDown"))
    sent = patch(lab, ["deaf-0100"], OFF)["deaf-0100"]
    lab.vms.wait("deaf-0100", in_phase("Off"))
    assert (lab.guest("deaf-0100").off_at or math.inf) - sent < 1
