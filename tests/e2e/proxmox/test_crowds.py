"""Many at once: none is forgotten, asked twice or forced early by a kill, and none costs more than a few calls."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.crowd import Crowd, Ended, connect
from tests.e2e.proxmox.served import wait_until
from tests.rigs.process import Provider
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import provider as on


class Cast(NamedTuple):
    """Guests that behave alike: how, how long they have, what happens then, and how each must end."""

    behaviour: dict[str, object]
    size: int
    seconds: float
    ending: str
    escalation: pb.Escalation.ValueType = pb.ESCALATION_FORCE

    def names(self, key: str) -> list[str]:
        return [f"{key}-{number:04}" for number in range(1, self.size + 1)]


AGENT, LXC = {"agent": "answers"}, {"kind": "lxc"}
CASTS: dict[str, Cast] = {
    "quick": Cast(AGENT | {"shutdown_secs": 3, "node": "pve2"}, 8, 60, "GRACEFUL"),
    "slow": Cast({"shutdown_secs": 14}, 8, 60, "GRACEFUL"),
    "deaf": Cast({"ignores": True, "node": "pve2"}, 8, 5, "FORCED/TIMEOUT"),
    "sulky": Cast(AGENT | {"ignores": True}, 5, 6, "FORCED/TIMEOUT"),
    "stubborn": Cast({"ignores": True}, 5, 18, "FORCED/TIMEOUT"),
    "spared": Cast({"ignores": True}, 4, 5, "STILL_RUNNING/TIMEOUT", pb.ESCALATION_NEVER),
    "held": Cast({"ignores": True}, 4, 5, "FORCED/REQUESTED", pb.ESCALATION_ASK),
    "ct": Cast(LXC | {"shutdown_secs": 3}, 4, 60, "GRACEFUL"),
    "deaf-ct": Cast(LXC | {"ignores": True, "node": "pve2"}, 4, 5, "FORCED/TIMEOUT"),
}
NAMES = [name for key, cast in CASTS.items() for name in cast.names(key)]
FORCED_BY_US = {"sulky", "held"}
"""Proxmox VE is not told to force where that could not be taken back, nor where somebody is to decide."""


def cast_of(name: str) -> str:
    return name.rpartition("-")[0]


async def begin(crowd: Crowd) -> dict[str, pb.Operation]:
    begun = dict[str, pb.Operation]()
    for key, cast in CASTS.items():
        begun |= await crowd.begin(dict.fromkeys(cast.names(key), cast.seconds), cast.escalation)
    return begun


def shutdowns(cluster: Cluster) -> int:
    return sum(count for call, count in cluster.calls().items() if call.endswith("/status/shutdown"))


def require_right(cluster: Cluster, ended: dict[str, Ended]) -> None:
    assert {name: end.ending for name, end in ended.items()} == {name: CASTS[cast_of(name)].ending for name in NAMES}
    assert not [name for name, end in ended.items() if end.early]
    asked = {name: [how for _, how, _ in cluster.show(name)["asked"]] for name in NAMES}
    assert asked == {name: ["shutdown", *["stop"] * (cast_of(name) in FORCED_BY_US)] for name in NAMES}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster({key: cast.behaviour | {"count": cast.size} for key, cast in CASTS.items()}) as cluster:
        yield cluster


@pytest.fixture
def provider(cluster: Cluster) -> Iterator[Provider]:
    with on(cluster) as provider:
        yield provider


async def through(cluster: Cluster, provider: Provider, meanwhile: Callable[[], None]) -> dict[str, Ended]:
    """Fifty shutdowns, of whom all are asked before something happens."""
    async with connect(provider.address) as channel:
        crowd = Crowd(channel)
        operations = await begin(crowd)
        await asyncio.to_thread(wait_until, lambda: shutdowns(cluster) == len(NAMES))
        ending = asyncio.create_task(crowd.ends(operations))
        await asyncio.to_thread(meanwhile)
        await crowd.force({name: operation for name, operation in operations.items() if cast_of(name) == "held"})
        return await ending


async def test_a_provider_that_is_killed_while_fifty_go_down_forgets_none_and_forces_none_early(
    cluster: Cluster, provider: Provider
) -> None:
    def killed() -> None:
        provider.kill()
        for name in ("deaf-0008", "deaf-ct-0004", "quick-0008"):
            cluster.wait_off(name)
        provider.start()

    require_right(cluster, await through(cluster, provider, killed))


async def test_a_provider_that_is_killed_again_and_again_changes_no_verdict(
    cluster: Cluster, provider: Provider
) -> None:
    def killed() -> None:
        for _ in range(4):
            provider.kill()
            provider.start()

    require_right(cluster, await through(cluster, provider, killed))


def truth(shown: dict[str, Any], seconds: float) -> set[str]:
    """How a guest may be said to have ended. In its last second Proxmox VE looks no more, and says that it forced also
    those that were faster (`_do_vm_stop`)."""
    if shown["off_cause"] != "guest":
        return {"FORCED/TIMEOUT"}
    in_time = shown["off_at"] - shown["heard"][0][0] < seconds - 1
    return {"GRACEFUL"} if in_time else {"GRACEFUL", "FORCED/TIMEOUT"}


async def test_guests_that_go_off_around_their_deadline_are_told_as_they_were() -> None:
    guests: dict[str, dict[str, object]] = {f"vm-{n:03}": {"shutdown_secs": 1 + n / 50} for n in range(200)}
    with Cluster(guests) as cluster, on(cluster) as provider:
        async with connect(provider.address) as channel:
            crowd = Crowd(channel)
            ended = await crowd.ends(await crowd.begin(dict.fromkeys(guests, 3.0)))
        print("endings:", dict(Counter(end.ending for end in ended.values())))
        assert not [name for name, end in ended.items() if end.ending not in truth(cluster.show(name), 3)]
        assert {len(cluster.show(name)["asked"]) for name in guests} == {1}


@pytest.mark.parametrize("seconds", [2, 12])
async def test_a_shutdown_costs_three_calls_at_most_however_long_it_takes(seconds: int) -> None:
    kinds: dict[str, dict[str, object]] = {"vm": {}, "agent": dict(AGENT), "ct": dict(LXC)}
    guests = {key: kind | {"count": 40, "shutdown_secs": seconds} for key, kind in kinds.items()}
    with Cluster(guests) as cluster, on(cluster) as provider:
        names = [f"{key}-{number:04}" for key in guests for number in range(1, 41)]
        cluster.reset_calls()
        async with connect(provider.address) as channel:
            crowd = Crowd(channel)
            ended = await crowd.ends(await crowd.begin(dict.fromkeys(names, 60.0)))
        calls = cluster.calls()
        off = {name: cluster.show(name)["off_at"] for name in names}
    shared = calls.pop("GET /cluster/resources") + calls.pop("GET /nodes/{node}/tasks")
    lags = statistics.quantiles((end.told - off[name] for name, end in ended.items()), n=20)
    print(f"{seconds} s: {calls}, shared {shared}, told {lags[-1]:.3f} s late (p95)")
    assert {end.ending for end in ended.values()} == {"GRACEFUL"}
    assert sum(calls.values()) <= 3 * len(names)
    assert shared <= 2 * (seconds / 2 + 8)


async def test_idle_guests_cost_a_few_calls_however_many_they_are() -> None:
    with Cluster({"vm": dict(AGENT) | {"count": 500}}) as cluster:
        began = time.monotonic()
        with on(cluster):
            print(f"cold start: {time.monotonic() - began:.2f} s, {cluster.reset_calls()}")
            await asyncio.sleep(32)
            calls = cluster.calls()
        assert 1 <= calls["GET /cluster/resources"] <= 3
        assert sum(calls.values()) <= 3 * (1 + 2 * 8)
