"""What the adapter reads, runs and watches, on a cluster that says what a test wants; tests/e2e/proxmox has one that
lives. Power and the asking of guests have files of their own."""

import asyncio
from typing import Any

import pytest

from providers.core.adapter import Changed, GuestExit, Listed, PowerState, Signal
from providers.core.errors import (
    CommandFailed,
    HypervisorError,
    HypervisorUnavailable,
    UnknownNativeState,
    Unsupported,
    VMNotFound,
)
from providers.proxmox.adapter import ProxmoxAdapter
from providers.proxmox.details import FRESH_SECONDS
from tests.unit.providers.proxmox.cluster import RUNS, Cluster, refusal, row, watched

pytestmark = pytest.mark.looptime
WEB, CT = "nodes/pve1/qemu/100", "nodes/pve1/lxc/101"
LISTING = ("GET", "cluster/resources", {"type": "vm"})


# Reading


async def test_a_guest_with_an_agent_is_read_at_its_node_and_its_agent_is_pinged(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.configs["100"] = {"agent": "1"}
    await adapter.get("100")
    cluster.asked.clear()
    assert (await adapter.get("100")).signals == (Signal.GUEST_AGENT,)
    assert cluster.asked == [("GET", f"{WEB}/status/current", {}), ("POST", f"{WEB}/agent/ping", {})]


async def test_an_agent_that_answers_is_no_proof_of_the_run_that_it_is_in(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.configs["100"] = {"agent": "1"}
    first = await adapter.get("100")
    cluster.pids["100"] = 4712
    assert (first.run_id, (await adapter.get("100")).run_id) == ("pve1/4711", "pve1/4712")


@pytest.mark.parametrize(("vm_id", "run"), [("100", "pve1/4711"), ("101", "pve1/815")])
async def test_a_run_is_called_the_same_on_every_read_and_after_a_restart(
    adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str, run: str
) -> None:
    async with watched(adapter, cluster) as told:
        [listed] = told
    assert isinstance(listed, Listed)
    assert {vm.run_id for vm in listed.vms if vm.id == vm_id} == {(await adapter.get(vm_id)).run_id} == {run}


async def test_a_configuration_that_is_old_is_read_again(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    await adapter.get("100")
    cluster.configs["100"] = {"agent": "1"}
    await asyncio.sleep(FRESH_SECONDS + 1)
    assert (await adapter.get("100")).signals == (Signal.GUEST_AGENT,)


@pytest.mark.parametrize(("vm_id", "path"), [("100", WEB), ("101", CT)])
async def test_a_guest_without_an_agent_is_read_at_its_node(
    adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str, path: str
) -> None:
    await adapter.get(vm_id)
    cluster.asked.clear()
    assert (await adapter.get(vm_id)).power_state is PowerState.ON
    assert cluster.asked == [("GET", f"{path}/status/current", {})]


async def test_a_guest_whose_agent_is_silent_is_read_at_its_node(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.configs["100"] = {"agent": "1"}
    cluster.answers[f"{WEB}/agent/ping"] = refusal("QEMU guest agent is not running")
    assert (await adapter.get("100")).signals == (Signal.ACPI,)
    assert ("GET", f"{WEB}/status/current", {}) in cluster.asked


async def test_an_agent_that_may_not_be_asked_is_not_taken_for_a_silent_one(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.configs["100"] = {"agent": "1"}
    cluster.answers[f"{WEB}/agent/ping"] = refusal("Permission check failed (/vms/100, VM.Monitor)", 403)
    assert (await adapter.get("100")).signals == (Signal.GUEST_AGENT,)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"status": "stopped"}, PowerState.OFF),
        ({"status": "running", "qmpstatus": "paused"}, PowerState.PAUSED),
        ({"status": "stopped", "lock": "suspended"}, PowerState.SUSPENDED),
    ],
)
async def test_what_a_guests_own_node_tells_counts(
    adapter: ProxmoxAdapter, cluster: Cluster, told: dict[str, Any], state: PowerState
) -> None:
    cluster.current["100"] = told
    assert (await adapter.get("100")).power_state is state


async def test_a_guest_that_does_not_exist_is_not_found(adapter: ProxmoxAdapter) -> None:
    with pytest.raises(VMNotFound, match="no VM 999"):
        await adapter.get("999")


async def test_a_guest_that_is_gone_since_the_last_poll_is_not_found(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    await adapter.list()
    del cluster.rows["100"]
    with pytest.raises(VMNotFound):
        await adapter.get("100")


async def test_a_guest_that_is_not_listed_is_found_where_it_is(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    await adapter.list()
    cluster.omitted.add("100")
    assert [vm.power_state for vm in await adapter.list()] == [PowerState.ON, PowerState.ON]
    assert (await adapter.get("100")).power_state is PowerState.ON


async def test_a_guest_that_is_between_two_nodes_is_asked_about_again(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    await adapter.list()
    del cluster.rows["100"]
    cluster.moving.add("100")
    with pytest.raises(HypervisorUnavailable, match="moves"):
        await adapter.get("100")


async def test_a_guest_that_was_never_listed_and_exists_is_not_said_to_be_none(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.omitted.add("100")
    with pytest.raises(HypervisorUnavailable, match="has a guest 100"):
        await adapter.get("100")


async def test_a_guest_that_the_account_may_not_see_is_none_for_us(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    await adapter.list()
    cluster.omitted.add("100")
    cluster.answers[f"{WEB}/status/current"] = refusal("Permission check failed (/vms/100, VM.Audit)", 403)
    with pytest.raises(VMNotFound):
        await adapter.get("100")
    with pytest.raises(VMNotFound):
        await adapter.get("100")


async def test_a_guest_that_has_moved_is_read_where_it_is_now(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    await adapter.list()
    cluster.rows["100"]["node"] = "pve2"
    assert (await adapter.get("100")).node == "pve2"


async def test_who_reads_a_guest_hurries_the_polls_although_its_agent_hangs(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.configs["100"], busy = {"agent": "1"}, set[str]()
    async with watched(adapter, cluster, lambda: frozenset(busy)):
        busy.add("100")
        cluster.held = asyncio.Event()
        reading = asyncio.create_task(adapter.get("100"))
        await asyncio.sleep(5)
        assert LISTING in cluster.asked
        cluster.held.set()
        await reading


async def test_a_guest_whose_node_is_away_is_neither_on_nor_off(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows["100"]["status"] = "unknown"
    with pytest.raises(HypervisorUnavailable, match="node pve1 does not answer"):
        await adapter.get("100")


@pytest.mark.parametrize("status", ["unknown", "dreaming"])
async def test_a_guest_whose_state_cannot_be_told_is_asked_nothing(
    adapter: ProxmoxAdapter, cluster: Cluster, status: str
) -> None:
    cluster.rows["100"]["status"] = status
    with pytest.raises(HypervisorError):
        await adapter.get("100")
    assert cluster.asked == [LISTING]


async def test_a_run_state_that_is_in_no_table_is_an_error(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows["100"]["status"] = "dreaming"
    with pytest.raises(UnknownNativeState, match="dreaming"):
        await adapter.get("100")


async def test_a_run_state_that_only_its_node_tells_and_is_in_no_table_is_an_error(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.current["100"] = {"status": "running", "qmpstatus": "dreaming"}
    with pytest.raises(UnknownNativeState, match="dreaming"):
        await adapter.get("100")


async def test_a_run_state_that_is_in_no_table_is_listed_as_unknown(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows = {"100": row(100, status="dreaming")}
    assert [vm.power_state for vm in await adapter.list()] == [PowerState.UNKNOWN]


async def test_all_guests_are_listed_by_one_call(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    assert [vm.id for vm in await adapter.list()] == ["100", "101"]
    assert cluster.asked == [LISTING]


# Programs and snapshots


async def test_a_program_is_started_by_the_agent_at_the_guests_node(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    program = await adapter.guest_exec("100", ["/bin/echo", "a b"], None)
    assert (program.pid, cluster.told) == ("7", [("POST", f"{WEB}/agent/exec", {"command": ["/bin/echo", "a b"]})])


async def test_the_end_of_a_program_is_asked_for_where_its_guest_is_then(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    program = await adapter.guest_exec("100", ["/bin/true"], None)
    cluster.rows["100"]["node"] = "pve2"
    assert await program.poll() == GuestExit(3, b"said")
    assert ("GET", "nodes/pve2/qemu/100/agent/exec-status", {"pid": 7}) in cluster.asked


async def test_a_program_that_the_agent_refuses_is_an_error(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.answers[f"{WEB}/agent/exec"] = refusal("QEMU guest agent is not running")
    with pytest.raises(CommandFailed, match="does not answer"):
        await adapter.guest_exec("100", ["/bin/true"], None)


async def test_in_containers_no_programs_are_run(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    with pytest.raises(Unsupported, match="containers"):
        await adapter.guest_exec("101", ["/bin/true"], None)
    assert cluster.told == []


@pytest.mark.parametrize(
    ("vm_id", "path", "memory", "params"),
    [("100", WEB, False, {}), ("100", WEB, True, {"vmstate": 1}), ("101", CT, False, {})],
    ids=["disks", "memory", "container"],
)
async def test_a_snapshot_has_its_name_its_description_and_memory_if_wanted(
    adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str, path: str, memory: bool, params: dict[str, int]
) -> None:
    async with watched(adapter, cluster):
        await asyncio.wait_for(adapter.snapshot(vm_id, "before", "why", memory), 30)
    assert cluster.told == [("POST", f"{path}/snapshot", {"snapname": "before", "description": "why"} | params)]


async def test_a_snapshot_is_complete_when_its_task_is(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.ends["qmsnapshot"] = RUNS
    async with watched(adapter, cluster):
        taking = asyncio.create_task(adapter.snapshot("100", "before", "", include_memory=False))
        await asyncio.sleep(60)
        assert not taking.done()
        cluster.end(cluster.tasks[0])
        await asyncio.wait_for(taking, 30)


async def test_a_snapshot_that_failed_is_an_error_in_proxmox_ves_words(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.ends["qmsnapshot"] = "snapshot name 'before' already used"
    async with watched(adapter, cluster):
        with pytest.raises(CommandFailed, match="already used"):
            await asyncio.wait_for(adapter.snapshot("100", "before", "", include_memory=False), 30)


async def test_the_memory_of_a_container_cannot_be_kept(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    with pytest.raises(CommandFailed, match="cannot keep its memory"):
        await adapter.snapshot("101", "before", "", include_memory=True)
    assert cluster.told == []


# Watching


async def test_a_watch_begins_with_all_guests(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster) as told:
        [listed] = told
    assert isinstance(listed, Listed)
    assert [vm.id for vm in listed.vms] == ["100", "101"]


async def test_a_watch_goes_on_with_changes(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster) as told:
        cluster.rows["100"]["name"] = "shop"
        await asyncio.sleep(60)
    assert [change.vm.name for change in told if isinstance(change, Changed)] == ["shop"]


async def test_the_version_is_known_from_the_first_watch_on(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster):
        assert adapter.version == "Proxmox VE 9.0.10"


@pytest.mark.parametrize(
    ("granted", "signals"),
    [({}, (Signal.GUEST_AGENT,)), ({"Sys.Modify": 1}, (Signal.GUEST_AGENT, Signal.ACPI))],
)
async def test_a_watch_finds_out_whether_power_buttons_may_be_pressed_beside_agents(
    adapter: ProxmoxAdapter, cluster: Cluster, granted: dict[str, int], signals: tuple[Signal, ...]
) -> None:
    cluster.granted, cluster.configs["100"] = granted, {"agent": "1"}
    async with watched(adapter, cluster):
        assert (await adapter.get("100")).signals == signals


async def test_a_watch_ends_when_the_cluster_cannot_be_reached(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    changes = adapter.watch()
    await anext(changes)
    cluster.gone = HypervisorUnavailable("gone")
    with pytest.raises(HypervisorUnavailable):
        await asyncio.wait_for(anext(changes), 60)


async def test_closing_gives_back_the_session(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    await adapter.close()
    assert cluster.closed


# Addresses


async def test_a_guest_is_asked_for_its_addresses_by_one_call_to_its_agent(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.answers[f"{WEB}/agent/network-get-interfaces"] = {
        "result": [{"ip-addresses": [{"ip-address": "192.0.2.1"}]}]
    }
    await adapter.get("100")
    cluster.asked.clear()
    assert await adapter.guest_addresses("100") == ("192.0.2.1",)
    assert cluster.asked == [("GET", f"{WEB}/agent/network-get-interfaces", {})]


async def test_a_containers_addresses_are_asked_of_its_node(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.answers[f"{CT}/interfaces"] = [{"name": "eth0", "inet": "192.0.2.1/24"}]
    assert await adapter.guest_addresses("101") == ("192.0.2.1",)
