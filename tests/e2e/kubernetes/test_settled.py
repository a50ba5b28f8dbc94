"""A settled VM costs nothing: for a minute nobody asks for anything, neither the API nor the provider nor the sim."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.rigs.kubernetes.audit import AuditEvent
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.rigs.kubernetes.resources import virtual_machine
from tests.rigs.tap import Tap

VMS = [f"web-{number:04}" for number in range(1, 21)]
SCRIPT = "guests: {web: {shutdown_time: 1s, count: 20}}"
LIFECYCLE = {"preStop": {"exec": {"command": ["save"]}}}
MINUTE = 60

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class Minute:
    """What happened in it."""

    requests: list[AuditEvent]
    provider_calls: list[str]
    calls_before: dict[str, dict[str, int]]
    calls_after: dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def minute(cluster: Cluster) -> Iterator[Minute]:
    """The minute after 20 VMs have been brought down."""
    with open_lab(cluster, SCRIPT) as lab, Tap(lab.provider.address) as tap:
        lab.vms.declare_provider("lab", tap.address)
        lab.vms.apply(*(virtual_machine(vm, "OffGraceful", LIFECYCLE) for vm in VMS))
        wait_settled(lab)
        yield spend(lab, tap)


def wait_settled(lab: Lab) -> None:
    """All is told: verdicts, the last Event, and what the Provider has and that it is in use."""
    lab.vms.wait_all(VMS, lambda state: state.get("status", {}).get("phase") == "Off")
    for vm in VMS:
        lab.vms.wait_event(vm, "GracefulShutdown")
    lab.vms.wait_status("lab", lambda status: status.get("declaredCount") == len(VMS), kind="vmprov")
    lab.vms.wait("lab", lambda provider: bool(provider["metadata"].get("finalizers")), kind="vmprov")


def spend(lab: Lab, tap: Tap) -> Minute:
    """It ends at once when the API is asked for something."""
    mark, heard, before = lab.cluster.mark(), len(tap.calls), hypervisor_calls(lab)
    with suppress(TimeoutError):  # as it should be
        lab.cluster.wait_audit(lambda events: bool(beyond_the_lease(events)), lab.user, since=mark, timeout=MINUTE)
    requests = lab.cluster.audit(lab.user, since=mark)
    return Minute(requests, [call.method for call in tap.calls[heard:]], before, hypervisor_calls(lab))


def beyond_the_lease(events: list[AuditEvent]) -> list[AuditEvent]:
    return [event for event in events if event.resource != "leases"]


def hypervisor_calls(lab: Lab) -> dict[str, dict[str, int]]:
    """By guest; those about no guest alone under ''."""
    return {guest.name: guest.calls for guest in lab.world.guests()} | {"": lab.world.hypervisor().calls}


def test_the_api_is_asked_for_nothing_but_the_lease(minute: Minute) -> None:
    assert beyond_the_lease(minute.requests) == []


def test_the_lease_is_renewed_all_the_while(minute: Minute) -> None:
    assert any(event.is_write for event in minute.requests)


def test_the_provider_is_not_called(minute: Minute) -> None:
    assert minute.provider_calls == []


def test_the_hypervisor_is_not_called(minute: Minute) -> None:
    assert minute.calls_after == minute.calls_before
