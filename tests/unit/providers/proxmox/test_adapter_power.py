"""How the adapter switches guests on and off, and what it makes of the answers."""

import asyncio
import re

import pytest

from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound, VmpowerError
from providers.proxmox.adapter import ProxmoxAdapter
from providers.proxmox.session import Unanswered
from tests.unit.providers.proxmox.cluster import RUNS, Cluster, refusal, watched

pytestmark = pytest.mark.looptime
WEB, CT = "nodes/pve1/qemu/100", "nodes/pve1/lxc/101"
POWER = [("power_on", "start"), ("power_off", "stop")]


@pytest.mark.parametrize(("vm_id", "path"), [("100", WEB), ("101", CT)])
async def test_a_guest_that_is_off_is_started(adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str, path: str) -> None:
    cluster.rows[vm_id]["status"] = "stopped"
    async with watched(adapter, cluster):
        await asyncio.wait_for(adapter.power_on(vm_id), 30)
    assert cluster.told == [("POST", f"{path}/status/start", {})]


@pytest.mark.parametrize(
    ("fields", "verb"),
    [
        ({"status": "paused"}, "resume"),
        ({"status": "suspended"}, "resume"),
        ({"status": "stopped", "lock": "suspended"}, "start"),
    ],
    ids=["paused", "asleep", "hibernated"],
)
async def test_a_guest_that_stands_still_goes_on(
    adapter: ProxmoxAdapter, cluster: Cluster, fields: dict[str, str], verb: str
) -> None:
    cluster.rows["100"] |= fields
    async with watched(adapter, cluster):
        await asyncio.wait_for(adapter.power_on("100"), 30)
    assert [path for _, path, _ in cluster.told] == [f"{WEB}/status/{verb}"]


@pytest.mark.parametrize(("managed", "told"), [("", {"overrule-shutdown": 1}), ("started", {})])
async def test_a_stop_ends_our_shutdown_where_that_is_not_has(
    adapter: ProxmoxAdapter, cluster: Cluster, managed: str, told: dict[str, int]
) -> None:
    cluster.rows["100"]["hastate"] = managed
    async with watched(adapter, cluster):
        switching = asyncio.create_task(adapter.power_off("100"))
        await asyncio.sleep(1)
        cluster.rows["100"]["status"] = "stopped"
        await asyncio.wait_for(switching, 60)
    assert cluster.told == [("POST", f"{WEB}/status/stop", told)]


@pytest.mark.parametrize("vm_id", ["100", "101"])
async def test_a_guest_that_leaves_while_its_shutdown_is_ended_was_not_cut(
    adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str
) -> None:
    """The stop alone would take its second for that, and then succeed of a guest that is gone."""
    cluster.begin(vm_id, "qmshutdown" if vm_id == "100" else "vzshutdown")
    async with watched(adapter, cluster):
        cluster.leaves_when_ended = vm_id
        assert not await asyncio.wait_for(adapter.power_off(vm_id), 30)
    assert [method for method, _, _ in cluster.told] == ["DELETE"]


async def test_a_shutdown_that_is_not_ours_to_end_is_left_to_the_stop(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    task = cluster.begin("100", "qmshutdown")
    cluster.answers[f"nodes/pve1/tasks/{task['upid']}"] = refusal("Permission check failed (/, Sys.Modify)", 403)
    async with watched(adapter, cluster):
        assert await asyncio.wait_for(adapter.power_off("100"), 30)
    assert cluster.told[-1] == ("POST", f"{WEB}/status/stop", {"overrule-shutdown": 1})


@pytest.mark.parametrize(("method", "verb"), POWER)
async def test_a_switch_returns_when_its_task_has_ended(
    adapter: ProxmoxAdapter, cluster: Cluster, method: str, verb: str
) -> None:
    cluster.ends[f"qm{verb}"] = RUNS
    async with watched(adapter, cluster):
        switching = asyncio.create_task(getattr(adapter, method)("100"))
        await asyncio.sleep(60)
        assert not switching.done()
        cluster.end(cluster.tasks[0])
        await asyncio.wait_for(switching, 30)


@pytest.mark.parametrize(("method", "verb", "said"), [("power_on", "start", "already"), ("power_off", "stop", "not")])
async def test_a_task_that_found_its_guest_as_wanted_is_no_error(
    adapter: ProxmoxAdapter, cluster: Cluster, method: str, verb: str, said: str
) -> None:
    cluster.ends[f"qm{verb}"] = f"VM 100 {said} running"
    async with watched(adapter, cluster):
        await asyncio.wait_for(getattr(adapter, method)("100"), 30)


@pytest.mark.parametrize(("method", "verb", "said"), [("power_on", "start", "already"), ("power_off", "stop", "not")])
async def test_a_container_that_is_as_wanted_is_no_error_although_the_call_itself_fails(
    adapter: ProxmoxAdapter, cluster: Cluster, method: str, verb: str, said: str
) -> None:
    cluster.answers[f"{CT}/status/{verb}"] = refusal(f"CT 101 {said} running")
    await asyncio.wait_for(getattr(adapter, method)("101"), 30)


@pytest.mark.parametrize(("method", "verb", "said"), [("power_on", "start", "not"), ("power_off", "stop", "already")])
async def test_a_container_that_is_in_the_other_state_is_an_error(
    adapter: ProxmoxAdapter, cluster: Cluster, method: str, verb: str, said: str
) -> None:
    cluster.answers[f"{CT}/status/{verb}"] = refusal(f"CT 101 {said} running")
    with pytest.raises(CommandFailed, match="state does not allow"):
        await asyncio.wait_for(getattr(adapter, method)("101"), 30)


@pytest.mark.parametrize(("method", "verb"), POWER)
@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("VM is locked (backup)", Locked),
        ("QEMU exited with code 1", CommandFailed),
        ("no quorum", HypervisorUnavailable),
    ],
)
async def test_a_task_that_failed_is_an_error_in_proxmox_ves_words(
    adapter: ProxmoxAdapter, cluster: Cluster, method: str, verb: str, end: str, error: type[VmpowerError]
) -> None:
    cluster.ends[f"qm{verb}"] = end
    async with watched(adapter, cluster):
        with pytest.raises(error, match=re.escape(end.removeprefix("VM is "))) as raised:
            await asyncio.wait_for(getattr(adapter, method)("100"), 30)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("method", "before", "after"), [("power_on", "stopped", "running"), ("power_off", "running", "stopped")]
)
async def test_of_a_guest_of_has_the_guest_is_waited_for_and_not_the_task(
    adapter: ProxmoxAdapter, cluster: Cluster, method: str, before: str, after: str
) -> None:
    cluster.rows["100"] |= {"status": before, "hastate": "started"}
    async with watched(adapter, cluster):
        switching = asyncio.create_task(getattr(adapter, method)("100"))
        await asyncio.sleep(60)
        assert (cluster.tasks[0]["status"], switching.done()) == ("OK", False)
        cluster.rows["100"]["status"] = after
        await asyncio.wait_for(switching, 30)


async def test_why_ha_could_not_be_told_stands_in_the_tasks_log(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows["100"]["hastate"] = "started"
    cluster.ends["hastop"] = "command 'ha-manager crm-command stop vm:100 0' failed: exit code 255"
    cluster.log = ["cluster not ready - no quorum?", f"TASK ERROR: {cluster.ends['hastop']}"]
    async with watched(adapter, cluster):
        with pytest.raises(HypervisorUnavailable, match="no quorum"):
            await asyncio.wait_for(adapter.power_off("100"), 30)


async def test_the_memory_of_a_hibernated_guest_is_not_thrown_away(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows["100"] |= {"status": "stopped", "lock": "suspended"}
    with pytest.raises(CommandFailed, match="hibernated"):
        await adapter.power_off("100")
    assert cluster.told == []


@pytest.mark.parametrize("method", ["power_on", "power_off"])
async def test_a_guest_that_does_not_exist_is_not_switched(adapter: ProxmoxAdapter, method: str) -> None:
    with pytest.raises(VMNotFound):
        await getattr(adapter, method)("999")


async def test_a_guest_that_has_moved_is_switched_where_it_is_now(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster):
        cluster.rows["100"]["node"] = "pve2"
        await asyncio.wait_for(adapter.power_off("100"), 30)
    assert [path for _, path, _ in cluster.told] == ["nodes/pve2/qemu/100/status/stop"]


# Whose cut it was


async def test_a_stop_that_ended_a_guest_did_it(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster):
        assert await asyncio.wait_for(adapter.power_off("100"), 30)


@pytest.mark.parametrize(("vm_id", "path"), [("100", WEB), ("101", CT)])
async def test_a_guest_that_is_off_is_not_stopped(
    adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str, path: str
) -> None:
    async with watched(adapter, cluster):
        cluster.current[vm_id] = {"status": "stopped"}
        assert not await asyncio.wait_for(adapter.power_off(vm_id), 30)
    assert cluster.told == []


@pytest.mark.parametrize(("rights", "ours"), [({"Sys.Audit": 1}, True), ({}, False)], ids=["with", "without"])
async def test_a_stop_of_ours_from_before_a_restart_did_it_if_nobody_can_have_started_the_guest_since(
    adapter: ProxmoxAdapter, cluster: Cluster, rights: dict[str, int], ours: bool
) -> None:
    cluster.granted_on_nodes = rights
    cluster.begin("100", "qmstop", "OK")
    async with watched(adapter, cluster):
        assert await asyncio.wait_for(adapter.power_off("100"), 30) is ours


async def test_a_stop_whose_answer_was_lost_did_it(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.granted_on_nodes = {}
    async with watched(adapter, cluster):
        cluster.answers[f"{WEB}/status/stop"] = Unanswered("silence")
        with pytest.raises(Unanswered):
            await adapter.power_off("100")
        cluster.begin("100", "qmstop", "OK")
        assert await asyncio.wait_for(adapter.power_off("100"), 30)


async def test_a_stop_that_found_the_container_off_did_not_do_it(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.answers[f"{CT}/status/stop"] = refusal("CT 101 not running")
    assert not await asyncio.wait_for(adapter.power_off("101"), 30)


@pytest.mark.parametrize("kind", ["qmshutdown", "qmstop"])
async def test_a_stop_that_came_after_somebody_elses_did_not_do_it(
    adapter: ProxmoxAdapter, cluster: Cluster, kind: str
) -> None:
    """Proxmox VE's stop of QEMU that is gone already succeeds."""
    cluster.ends["qmstop"] = RUNS
    async with watched(adapter, cluster):
        other = cluster.begin("100", kind)
        stopping = asyncio.create_task(adapter.power_off("100"))
        await asyncio.sleep(1)
        cluster.end(other)
        cluster.end(cluster.tasks[0])
        assert not await asyncio.wait_for(stopping, 30)


@pytest.mark.parametrize(("tasks", "cut"), [(["qmstop"], True), (["qmshutdown"], False), ([], False)])
async def test_of_a_guest_of_has_its_tasks_tell_whether_it_was_cut(
    adapter: ProxmoxAdapter, cluster: Cluster, tasks: list[str], cut: bool
) -> None:
    cluster.rows["100"]["hastate"] = "started"
    async with watched(adapter, cluster, lambda: frozenset({"100"})):
        stopping = asyncio.create_task(adapter.power_off("100"))
        await asyncio.sleep(5)
        cluster.rows["100"]["status"] = "stopped"
        for kind in tasks:
            cluster.begin("100", kind, "OK")
        assert await asyncio.wait_for(stopping, 30) is cut
