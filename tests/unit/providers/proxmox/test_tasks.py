from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.proxmox.tasks import LOST, AwaitedTasks, Task, decode, ended, gave_up, is_already, listed

UPID = "UPID:pve1:000A3F01:00B2C3D4:68A1B2C3:qmshutdown:100:vmpower@pve!operator:"
SHUTDOWN = Task(UPID, "pve1", "qmshutdown", "100", "vmpower@pve!operator", 0x68A1B2C3)
ROW = {
    "upid": UPID,
    "node": "pve1",
    "type": "qmshutdown",
    "id": "100",
    "user": "vmpower@pve!operator",
    "starttime": 0x68A1B2C3,
}


def task(upid: str = "a", **fields: Any) -> Task:
    return replace(SHUTDOWN, upid=upid, **fields)


# What a UPID says


def test_a_upid_tells_its_node_kind_guest_user_and_start() -> None:
    assert decode(UPID) == SHUTDOWN


@given(st.integers(0, 2**36 - 1), st.integers(0, 2**32 - 1))
def test_a_upid_is_read_whatever_its_numbers_are(pstart: int, started: int) -> None:
    assert decode(f"UPID:pve1:000A3F01:{pstart:08X}:{started:08X}:vzstop:101:root@pam:").started == started


def test_a_task_about_no_guest_has_none() -> None:
    assert decode("UPID:pve1:000A3F01:00B2C3D4:68A1B2C3:aptupdate::root@pam:").vm_id == ""


@pytest.mark.parametrize(
    "text",
    ["", "OK", UPID[5:], "UPID:pve1", UPID.replace("68A1B2C3", "yesterday"), UPID.replace("UPID", "GUID"), UPID + "x:"],
)
def test_what_is_no_upid_raises(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_a_task_is_found_at_its_node() -> None:
    assert SHUTDOWN.path == f"nodes/pve1/tasks/{UPID}"


# Lists


@pytest.mark.parametrize("row", [ROW, ROW | {"status": "RUNNING"}])
def test_a_listed_task_without_an_end_runs(row: dict[str, Any]) -> None:
    assert (listed(row), listed(row).runs) == (SHUTDOWN, True)


def test_a_listed_task_that_has_ended_tells_when_and_how() -> None:
    found = listed(ROW | {"status": "OK", "endtime": 0x68A1B2C9})
    assert (found.runs, found.ended, found.status) == (False, 0x68A1B2C9, "OK")


def test_a_listed_task_that_has_ended_without_a_status_is_lost() -> None:
    found = listed(ROW | {"endtime": 0x68A1B2C9})
    assert (found.runs, found.succeeded, found.status) == (False, False, LOST)


def test_a_listed_users_token_belongs_to_its_name() -> None:
    assert listed(ROW | {"user": "vmpower@pve", "tokenid": "operator"}).user == "vmpower@pve!operator"


# Its status


def test_a_task_that_runs_is_as_it_was() -> None:
    assert ended(SHUTDOWN, {"status": "running"}) is SHUTDOWN


def test_a_task_that_has_stopped_tells_how() -> None:
    assert ended(SHUTDOWN, {"status": "stopped", "exitstatus": "OK"}).succeeded


def test_a_task_that_has_stopped_and_does_not_tell_how_is_lost() -> None:
    assert ended(SHUTDOWN, {"status": "stopped"}).status == LOST


@pytest.mark.parametrize(
    ("status", "succeeded"),
    [("", False), ("OK", True), ("WARNINGS: 2", True), ("unexpected status", False), (LOST, False)],
)
def test_warnings_do_no_harm(status: str, succeeded: bool) -> None:
    assert task(status=status).succeeded is succeeded


@pytest.mark.parametrize(
    "status",
    [
        "VM quit/powerdown failed - got timeout",
        "VM quit/powerdown failed",
        "container did not stop",
        "received interrupt",
        "unexpected status",
    ],
)
def test_a_shutdown_that_waited_in_vain_or_was_ended_had_asked(status: str) -> None:
    assert gave_up(status)


@pytest.mark.parametrize(
    "status",
    [
        "VM is locked (backup)",
        "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
        "can't lock file '/var/lock/qemu-server/lock-100.conf' - received interrupt",
        "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
        LOST,
    ],
)
def test_a_shutdown_that_was_refused_had_not_asked(status: str) -> None:
    assert not gave_up(status)


@pytest.mark.parametrize(
    ("kind", "status", "already"),
    [
        ("qmstart", "VM 100 already running", True),
        ("vzstart", "CT 101 already running", True),
        ("qmstop", "VM 100 not running", True),
        ("vzstop", "CT 101 not running", True),
        ("qmstart", "VM 100 not running", False),
        ("qmresume", "VM 100 not running", False),
        ("qmsnapshot", "VM 100 not running", False),
        ("qmstart", "start failed: QEMU exited with code 1", False),
    ],
)
def test_a_start_or_a_stop_has_nothing_to_do_where_its_guest_is_as_wanted(
    kind: str, status: str, already: bool
) -> None:
    assert is_already(task(kind=kind, status=status)) is already


# Following


async def test_an_end_is_told_to_all_who_wait_for_it() -> None:
    awaited = AwaitedTasks()
    first, second = awaited.follow(task()), awaited.follow(task())
    awaited.end(task(status="OK"))
    assert {await first, await second} == {task(status="OK")}


async def test_a_task_that_has_ended_is_not_followed_any_more() -> None:
    awaited = AwaitedTasks()
    awaited.follow(task())
    awaited.end(task(status="OK"))
    assert awaited.running() == ()


async def test_an_end_that_is_waited_for_no_more_does_no_harm() -> None:
    awaited = AwaitedTasks()
    awaited.follow(task()).cancel()
    awaited.end(task(status="OK"))
    assert awaited.running() == ()


async def test_who_waits_no_more_ends_nobody_elses_waiting() -> None:
    awaited = AwaitedTasks()
    awaited.follow(task()).cancel()
    later = awaited.follow(task())
    awaited.end(task(status="OK"))
    assert await later == task(status="OK")


async def test_the_nodes_are_asked_since_their_oldest_task() -> None:
    awaited = AwaitedTasks()
    for one in (task("a", started=5), task("b", started=3), task("c", node="pve2", started=9)):
        awaited.follow(one)
    assert awaited.nodes() == {"pve1": 3, "pve2": 9}


async def test_a_guests_newest_shutdown_counts() -> None:
    awaited = AwaitedTasks()
    newest = task("b", kind="vzshutdown", started=5)
    for one in (task("a", started=3), newest, task("c", kind="qmstop", started=9), task("d", vm_id="1", started=9)):
        awaited.follow(one)
    assert awaited.shutdown_of("100") == newest


async def test_a_guest_that_is_not_shut_down_has_no_shutdown() -> None:
    assert AwaitedTasks().shutdown_of("100") is None
