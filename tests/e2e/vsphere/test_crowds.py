"""Many at once: calls and connections do not grow with the crowd or the wait; an outage loses none of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from tests.e2e.crowd import Crowd, Ended, connect
from tests.e2e.vsphere.settled import wait_settled
from tests.rigs.polling import poll
from tests.rigs.process import Provider
from tests.rigs.usage import rss
from tests.rigs.vsphere.provider import provider as on
from tests.rigs.vsphere.vcenter import VCenter

CASTS: dict[str, tuple[dict[str, object], float, str]] = {
    "quick": ({"count": 10, "shutdown_time": "1s"}, 60, "GRACEFUL"),
    "slow": ({"count": 10, "shutdown_time": "8s"}, 60, "GRACEFUL"),
    "patient": ({"count": 10, "shutdown_time": "15s"}, 60, "GRACEFUL"),
    "deaf": ({"count": 10, "ignores": True}, 7, "FORCED/TIMEOUT"),
    "stubborn": ({"count": 10, "ignores": True}, 18, "FORCED/TIMEOUT"),
}
"""Fifty VMs: how they behave, how long they have, and how each must end."""


def timeouts() -> dict[str, float]:
    return {f"{key}-{number:04}": seconds for key, (_, seconds, _) in CASTS.items() for number in range(1, 11)}


def require_right(ended: Mapping[str, Ended]) -> None:
    assert {name: end.ending for name, end in ended.items()} == {
        name: CASTS[name.partition("-")[0]][2] for name in timeouts()
    }
    assert not [name for name, end in ended.items() if end.early]


@pytest.fixture
def vcenter() -> Iterator[VCenter]:
    with VCenter({key: behaviour for key, (behaviour, _, _) in CASTS.items()}) as vcenter:
        yield vcenter


@pytest.fixture
def provider(vcenter: VCenter) -> Iterator[Provider]:
    with on(vcenter) as provider:
        yield provider


async def test_a_provider_that_is_killed_while_fifty_go_down_forgets_none_and_forces_none_early(
    vcenter: VCenter, provider: Provider
) -> None:
    async with connect(provider.address) as channel:
        crowd = Crowd(channel)
        operations = await crowd.begin(timeouts())
        await crowd.accepted(operations)
        ending = asyncio.create_task(crowd.ends(operations))
        await asyncio.to_thread(provider.kill)
        await asyncio.to_thread(poll, lambda: vcenter.show("quick-0010")["power"] == "poweredOff")
        await asyncio.to_thread(provider.start)
        require_right(await ending)
    assert vcenter.calls()["ShutdownGuest"] == 50


@pytest.mark.parametrize("keep_sessions", [True, False], ids=["kept", "lost"])
async def test_a_vcenter_that_is_gone_for_ten_seconds_changes_no_verdict(
    vcenter: VCenter, provider: Provider, keep_sessions: bool
) -> None:
    async with connect(provider.address) as channel:
        crowd = Crowd(channel)
        operations = await crowd.begin(timeouts())
        await asyncio.to_thread(poll, lambda: vcenter.calls().get("ShutdownGuest") == 50)
        vcenter.outage(10, keep_sessions=keep_sessions)
        require_right(await crowd.ends(operations))


async def test_a_guest_that_goes_off_in_the_moment_of_its_deadline_is_told_as_it_was() -> None:
    """Guests whose ends are spread around their common deadline, some of them within the same milliseconds."""
    vms: dict[str, dict[str, object]] = {f"vm-{n:03}": {"shutdown_time": 1.9 + n / 1000} for n in range(200)}
    with VCenter(vms) as vcenter, on(vcenter) as provider:
        async with connect(provider.address) as channel:
            crowd = Crowd(channel)
            ended = await crowd.ends(await crowd.begin(dict.fromkeys(vms, 2.0)))
        truth = {
            name: {"guest": "GRACEFUL", "power_off": "FORCED/TIMEOUT"}[vcenter.show(name)["off_cause"]] for name in vms
        }
    print("endings:", dict(Counter(truth.values())))
    assert {name: end.ending for name, end in ended.items()} == truth
    assert not [name for name, end in ended.items() if end.early]


# Cost


@pytest.mark.parametrize("seconds", [2, 12])
async def test_a_shutdown_costs_less_than_two_calls_however_long_it_takes(seconds: int) -> None:
    with VCenter({"vm": {"count": 100, "shutdown_time": seconds}}) as vcenter, on(vcenter) as provider:
        names = [f"vm-{number:04}" for number in range(1, 101)]
        wait_settled(vcenter)
        vcenter.reset_calls()
        async with connect(provider.address) as channel:
            crowd = Crowd(channel)
            ended = await crowd.ends(await crowd.begin(dict.fromkeys(names, 60)))
        calls, connections = vcenter.calls(), vcenter.connections()
    stream = calls.pop("WaitForUpdatesEx")
    print(f"{seconds} s: {calls}, stream {stream}, {connections}")
    assert {end.ending for end in ended.values()} == {"GRACEFUL"}
    assert calls.keys() == {"ShutdownGuest", "RetrievePropertiesEx"}
    assert calls["ShutdownGuest"] == 100
    assert sum(calls.values()) < 200


async def test_two_thousand_idle_vms_cost_one_call_that_waits() -> None:
    with VCenter({"vm": {"count": 2000}}) as vcenter:
        begun = time.monotonic()
        with on(vcenter) as provider:
            print(f"cold start: {time.monotonic() - begun:.2f} s, {rss(provider.process.pid):.0f} MiB")
            wait_settled(vcenter)
            vcenter.reset_calls()
            await asyncio.sleep(5)
            assert vcenter.calls().get("WaitForUpdatesEx", 0) <= 1
            assert vcenter.calls().keys() <= {"WaitForUpdatesEx"}
            poll(lambda: vcenter.connections().open == 1)  # the one of what was asked at the beginning is given up
