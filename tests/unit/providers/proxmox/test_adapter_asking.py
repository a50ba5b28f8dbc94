"""What the adapter asks of guests, what it makes of the answers, and how it takes it back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from providers.core.adapter import Escalation, Grace, Reason, Signal
from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, VMNotFound, VmpowerError
from providers.proxmox.adapter import ProxmoxAdapter
from providers.proxmox.session import Unanswered
from tests.unit.providers.proxmox.cluster import RUNS, Call, Cluster, refusal, watched

pytestmark = pytest.mark.looptime
WEB, CT = "nodes/pve1/qemu/100", "nodes/pve1/lxc/101"
ASKED: Call = ("POST", f"{WEB}/status/shutdown", {})
LATER = datetime.max.replace(tzinfo=UTC)
GRACE = Grace(LATER, Escalation.NEVER)


def send(adapter: ProxmoxAdapter, vm_id: str = "100", signal: Signal = Signal.ACPI) -> asyncio.Task[None]:
    return asyncio.create_task(adapter.send_signal(vm_id, signal, GRACE))


async def lose_the_answer(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    """To a request for a shutdown."""
    cluster.answers[f"{WEB}/status/shutdown"] = Unanswered("silence")
    with pytest.raises(Unanswered):
        await send(adapter)
    cluster.answers.clear()
    cluster.asked.clear()


# What is asked


@pytest.mark.parametrize(
    ("seconds", "escalation", "told"),
    [
        (300, Escalation.FORCE, {"timeout": 300, "forceStop": 1}),
        (300, Escalation.NEVER, {"timeout": 300}),
        (300, Escalation.ASK, {"timeout": 300}),
        (20.001, Escalation.NEVER, {"timeout": 21}),
        (0, Escalation.NEVER, {"timeout": 1}),
        (-5, Escalation.FORCE, {"timeout": 1, "forceStop": 1}),
        (None, Escalation.FORCE, {"forceStop": 1}),
        (None, Escalation.NEVER, {}),
    ],
)
async def test_the_grace_is_handed_over_in_whole_seconds(
    adapter: ProxmoxAdapter, cluster: Cluster, seconds: float | None, escalation: Escalation, told: dict[str, int]
) -> None:
    cluster.ends["qmshutdown"] = "OK"
    timeout = None if seconds is None else timedelta(seconds=seconds)
    async with watched(adapter, cluster):
        await adapter.send_signal("100", Signal.ACPI, Grace(LATER, escalation, timeout))
    assert cluster.told == [("POST", f"{WEB}/status/shutdown", told)]


async def test_a_container_is_asked_by_its_init(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.ends["vzshutdown"] = "OK"
    async with watched(adapter, cluster):
        await send(adapter, "101", Signal.INIT)
    assert cluster.told == [("POST", f"{CT}/status/shutdown", {})]


async def test_a_button_that_is_pressed_beside_an_agent_is_no_shutdown_of_proxmox_ves(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.granted, cluster.configs["100"] = {"Sys.Modify": 1}, {"agent": "1"}
    async with watched(adapter, cluster):
        await asyncio.wait_for(send(adapter), 5)
    assert cluster.told == [("POST", f"{WEB}/monitor", {"command": "system_powerdown"})]


@pytest.mark.parametrize(("vm_id", "signal"), [("100", Signal.GUEST_AGENT), ("101", Signal.ACPI)])
async def test_a_signal_that_does_not_reach_is_refused_and_nothing_asked(
    adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str, signal: Signal
) -> None:
    async with watched(adapter, cluster):
        with pytest.raises(CommandFailed, match=f"{signal} does not reach vm-{vm_id}"):
            await send(adapter, vm_id, signal)
    assert cluster.told == []


async def test_a_guest_that_does_not_exist_is_not_asked(adapter: ProxmoxAdapter) -> None:
    with pytest.raises(VMNotFound):
        await send(adapter, "999")


async def test_a_guest_that_has_moved_is_asked_where_it_is_now(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.ends["qmshutdown"] = "OK"
    async with watched(adapter, cluster):
        cluster.rows["100"]["node"] = "pve2"
        await send(adapter)
    assert cluster.told[-1] == ("POST", "nodes/pve2/qemu/100/status/shutdown", {})


# What becomes of it


async def test_the_asking_returns_when_proxmox_ve_has_done_with_the_guest(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    async with watched(adapter, cluster):
        asking = send(adapter)
        await asyncio.sleep(300)
        assert not asking.done()
        cluster.end(cluster.tasks[0])
        await asyncio.wait_for(asking, 5)


async def test_a_guest_of_has_is_asked_when_ha_was_told(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows["100"]["hastate"] = "started"
    async with watched(adapter, cluster):
        await asyncio.wait_for(send(adapter), 5)
    assert (cluster.tasks[0]["type"], cluster.rows["100"]["status"]) == ("hastop", "running")


@pytest.mark.parametrize(
    ("vm_id", "signal", "end"),
    [
        ("100", Signal.ACPI, "VM quit/powerdown failed - got timeout"),
        ("100", Signal.ACPI, "VM quit/powerdown failed"),
        ("100", Signal.ACPI, "received interrupt"),
        ("100", Signal.ACPI, "unexpected status"),
        ("101", Signal.INIT, "container did not stop"),
    ],
)
async def test_a_guest_for_which_proxmox_ve_waited_in_vain_was_asked(
    adapter: ProxmoxAdapter, cluster: Cluster, vm_id: str, signal: Signal, end: str
) -> None:
    cluster.ends |= {"qmshutdown": end, "vzshutdown": end}
    async with watched(adapter, cluster):
        await asyncio.wait_for(send(adapter, vm_id, signal), 5)


async def test_where_telling_ha_was_interrupted_no_guest_was_asked(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows["100"]["hastate"] = "started"
    cluster.ends["hastop"] = "received interrupt"
    async with watched(adapter, cluster):
        with pytest.raises(CommandFailed, match="received interrupt"):
            await asyncio.wait_for(send(adapter), 5)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("VM 100 qmp command 'system_powerdown' failed - unable to connect", CommandFailed),
        ("VM is locked (backup)", Locked),
        ("cluster not ready - no quorum?", HypervisorUnavailable),
    ],
)
async def test_a_refusal_that_the_task_tells_is_an_error(
    adapter: ProxmoxAdapter, cluster: Cluster, end: str, error: type[VmpowerError]
) -> None:
    cluster.ends["qmshutdown"] = end
    async with watched(adapter, cluster):
        with pytest.raises(error) as raised:
            await asyncio.wait_for(send(adapter), 5)
    assert type(raised.value) is error


async def test_a_refusal_of_the_call_itself_is_an_error(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.answers[f"{WEB}/status/shutdown"] = refusal("Permission check failed (/vms/100, VM.PowerMgmt)", 403)
    with pytest.raises(CommandFailed, match=r"VM\.PowerMgmt on /vms/100"):
        await send(adapter)


async def test_a_container_that_does_not_run_cannot_be_asked(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.answers[f"{CT}/status/shutdown"] = refusal("CT 101 not running")
    with pytest.raises(CommandFailed, match="not running"):
        await send(adapter, "101", Signal.INIT)


@pytest.mark.parametrize("agent", ["0", "1"], ids=["acpi", "agent"])
async def test_a_guest_that_turns_out_to_be_locked_is_shown_so_from_then_on(
    adapter: ProxmoxAdapter, cluster: Cluster, agent: str
) -> None:
    cluster.configs["100"], cluster.ends["qmshutdown"] = {"agent": agent}, "VM is locked (backup)"
    async with watched(adapter, cluster):
        cluster.rows["100"]["lock"] = "backup"
        with pytest.raises(Locked):
            await send(adapter, signal=Signal.GUEST_AGENT if agent == "1" else Signal.ACPI)
        problems = (await adapter.get("100")).problems
    assert (Reason.LOCKED, True) in [(problem.reason, problem.passing) for problem in problems]


# Answers that are lost


async def test_a_shutdown_whose_answer_was_lost_is_not_asked_for_twice(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    async with watched(adapter, cluster):
        await lose_the_answer(adapter, cluster)
        task = cluster.begin("100", "qmshutdown")
        asking = send(adapter)
        await asyncio.sleep(60)
        assert (cluster.told, asking.done()) == ([], False)
        cluster.end(task)
        await asyncio.wait_for(asking, 5)


@pytest.mark.parametrize(("kind", "end"), [("qmstart", RUNS), ("qmshutdown", "received interrupt")])
async def test_a_shutdown_that_did_not_arrive_is_asked_for_again(
    adapter: ProxmoxAdapter, cluster: Cluster, kind: str, end: str
) -> None:
    cluster.ends["qmshutdown"] = "OK"
    async with watched(adapter, cluster):
        await lose_the_answer(adapter, cluster)
        cluster.begin("100", kind, end)
        await asyncio.wait_for(send(adapter), 5)
    assert cluster.told == [ASKED]


@pytest.mark.parametrize("arrived", [False, True])
async def test_a_lost_answer_is_looked_up_once(adapter: ProxmoxAdapter, cluster: Cluster, arrived: bool) -> None:
    cluster.ends["qmshutdown"] = "received interrupt"
    async with watched(adapter, cluster):
        await lose_the_answer(adapter, cluster)
        if arrived:
            asyncio.get_running_loop().call_later(
                5, cluster.end, cluster.begin("100", "qmshutdown"), "unexpected status"
            )
        await send(adapter)
        cluster.asked.clear()
        await send(adapter)
    assert cluster.told == [ASKED]
    assert not [params for _, path, params in cluster.asked if path.endswith("/tasks") and "vmid" in params]


async def test_a_shutdown_from_before_the_start_whose_node_was_away_then_is_gone_on_with(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    task = cluster.begin("100", "qmshutdown")
    cluster.answers["nodes/pve1/tasks"] = HypervisorUnavailable("away")
    async with watched(adapter, cluster, lambda: frozenset({"100"})):
        cluster.answers.clear()
        asking = send(adapter)
        await asyncio.sleep(10)
        assert (cluster.told, asking.done()) == ([], False)
        cluster.end(task)
        await asyncio.wait_for(asking, 5)


async def test_a_shutdown_that_runs_from_before_the_start_is_gone_on_with(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    task = cluster.begin("100", "qmshutdown")
    async with watched(adapter, cluster, lambda: frozenset({"100"})):
        asking = send(adapter)
        await asyncio.sleep(10)
        assert (cluster.told, asking.done()) == ([], False)
        cluster.end(task)
        await asyncio.wait_for(asking, 5)


async def test_a_shutdown_that_keeps_the_same_deadline_is_gone_on_with(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    async with watched(adapter, cluster):
        first = send(adapter)
        await asyncio.sleep(5)
        second = send(adapter)
        await asyncio.sleep(5)
        assert cluster.told == [ASKED]
        cluster.end(cluster.tasks[0])
        await asyncio.wait_for(asyncio.gather(first, second), 5)


async def test_a_shutdown_that_keeps_another_deadline_is_ended_before_it_is_asked_with_the_right_one(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    async with watched(adapter, cluster):
        first = send(adapter)
        await asyncio.sleep(5)
        grace = Grace(LATER - timedelta(days=1), Escalation.FORCE, timedelta(seconds=30))
        second = asyncio.create_task(adapter.send_signal("100", Signal.ACPI, grace))
        await asyncio.wait_for(first, 10)
        await asyncio.sleep(1)  # until the guest is asked anew
        assert not second.done()
        cluster.end(cluster.tasks[0])
        await asyncio.wait_for(second, 5)
    upid = cluster.tasks[1]["upid"]
    ended: Call = ("DELETE", f"nodes/pve1/tasks/{upid}", {})
    assert cluster.told == [ASKED, ended, ("POST", f"{WEB}/status/shutdown", {"timeout": 30, "forceStop": 1})]


async def test_a_shutdown_of_somebody_else_that_holds_the_guest_is_waited_for_as_ours(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.ends["qmshutdown"] = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    async with watched(adapter, cluster):
        other = cluster.begin("100", "qmshutdown")
        asking = send(adapter)
        await asyncio.sleep(30)
        assert not asking.done()
        cluster.end(other)
        await asyncio.wait_for(asking, 5)


async def test_a_guest_that_has_gone_off_unseen_is_not_asked(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster):
        await asyncio.sleep(5)
        cluster.current["100"] = {"status": "stopped"}
        with pytest.raises(CommandFailed, match="does not reach"):
            await send(adapter)
    assert cluster.told == []


async def test_an_agent_that_stops_answering_while_its_guest_goes_down_is_a_signal_no_more(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    cluster.configs["100"] = {"agent": "1"}
    async with watched(adapter, cluster):
        asking = send(adapter, signal=Signal.GUEST_AGENT)
        await asyncio.sleep(5)
        cluster.answers[f"{WEB}/agent/ping"] = refusal("QEMU guest agent is not running")
        assert (await adapter.get("100")).signals == (Signal.ACPI,)
        cluster.end(cluster.tasks[0])
        await asyncio.wait_for(asking, 5)


# Taking it back


async def test_what_is_taken_back_ends_and_so_does_the_asking(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster):
        asking = send(adapter)
        await asyncio.sleep(10)
        await adapter.withdraw("100")
        await asyncio.wait_for(asking, 5)
    assert cluster.told == [ASKED, ("DELETE", f"nodes/pve1/tasks/{cluster.tasks[0]['upid']}", {})]


async def test_what_is_followed_is_taken_back_without_being_looked_for(
    adapter: ProxmoxAdapter, cluster: Cluster
) -> None:
    async with watched(adapter, cluster):
        asking = send(adapter)
        await asyncio.sleep(10)
        await adapter.withdraw("100")
        await asking
    assert not [params for _, path, params in cluster.asked if path.endswith("/tasks") and "vmid" in params]


async def test_taking_it_back_returns_when_it_has_ended(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    async with watched(adapter, cluster):
        task = cluster.begin("100", "qmshutdown")
        cluster.answers[f"nodes/pve1/tasks/{task['upid']}"] = "told to end"
        withdrawing = asyncio.create_task(adapter.withdraw("100"))
        await asyncio.sleep(10)
        assert not withdrawing.done()
        cluster.end(task, "unexpected status")
        await asyncio.wait_for(withdrawing, 5)


async def test_a_shutdown_that_began_before_we_did_is_taken_back_too(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    task = cluster.begin("101", "vzshutdown")
    async with watched(adapter, cluster):
        await adapter.withdraw("101")
    assert cluster.told == [("DELETE", f"nodes/pve1/tasks/{task['upid']}", {})]


async def test_where_no_shutdown_runs_nothing_is_taken_back(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.begin("100", "qmshutdown", "received interrupt")
    cluster.begin("100", "qmsnapshot")
    async with watched(adapter, cluster):
        await adapter.withdraw("100")
    assert cluster.told == []


async def test_what_is_on_its_way_is_taken_back_when_it_has_arrived(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.held = asyncio.Event()
    async with watched(adapter, cluster):
        asking = send(adapter)
        await asyncio.sleep(1)
        withdrawing = asyncio.create_task(adapter.withdraw("100"))
        await asyncio.sleep(10)
        assert cluster.told == [ASKED]
        cluster.held.set()
        await asyncio.wait_for(asyncio.gather(asking, withdrawing), 10)
    assert [method for method, _, _ in cluster.told] == ["POST", "DELETE"]


async def test_what_ha_was_told_cannot_be_taken_back(adapter: ProxmoxAdapter, cluster: Cluster) -> None:
    cluster.rows["100"]["hastate"] = "request_stop"
    with pytest.raises(CommandFailed, match="cannot be taken back"):
        await adapter.withdraw("100")
    assert cluster.told == []
