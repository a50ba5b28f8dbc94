"""The logs are Proxmox VE's: qemu-server, `_do_vm_stop`; pve-common, `PVE::RESTEnvironment`."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from providers.core.adapter import Ended, OffCause, Reason
from providers.proxmox.api import Api
from providers.proxmox.guests import Config, Guest
from providers.proxmox.history import BY_HA, ended_by, of_guest, of_shutdown, stopped_by
from providers.proxmox.tasks import Task

US = "vmpower@pve!provider"
TASK = Task("UPID:a", "pve1", "qmshutdown", "100", US, 1000)
OVER = replace(TASK, ended=1060, status="OK")
BY_AGENT, BY_ACPI = Config(agent=True), Config()
WAITED = "VM still running - terminating now with SIGTERM"
FAILED = "VM quit/powerdown failed - terminating now with SIGTERM"
KILLED = "VM still running - terminating now with SIGKILL"
SILENT = "QEMU Guest Agent is not running - VM 100 qga command 'guest-ping' failed - got timeout"
WEB, CT = Guest("100", "qemu", "web", "pve1", "stopped"), Guest("100", "lxc", "cache", "pve1", "stopped")
BY_ITSELF, CUT = Ended(OffCause.GUEST), Ended(OffCause.HOST)


class Told:
    """An API that knows these tasks, newest first, each with the same log."""

    def __init__(self, *tasks: Task, log: Sequence[str] = ()) -> None:
        self._tasks, self._log = list(tasks), list(log)

    async def log(self, _task: Task) -> list[str]:
        return self._log

    async def tasks(self, node: str, **_which: Any) -> list[Task]:
        return [task for task in self._tasks if task.node == node]


def api(*tasks: Task, log: Sequence[str] = ()) -> Api:
    return cast(Api, Told(*tasks, log=log))


async def ending(log: Sequence[str], task: Task = OVER, config: Config | None = BY_AGENT) -> Ended:
    return await of_shutdown(api(log=log), task, config)


async def last(*tasks: Task, guest: Guest = WEB, log: Sequence[str] = (), trusted: bool = True) -> Ended:
    return await of_guest(api(*tasks, log=log), guest, BY_AGENT, lambda _task: trusted, US)


async def witnessed(*tasks: Task, log: Sequence[str] = ()) -> Ended:
    return await of_guest(api(*tasks, log=log), WEB, BY_AGENT, lambda _task: True, US, witnessed=True)


# By its shutdown


@pytest.mark.parametrize("status", ["OK", "WARNINGS: 1"])
async def test_a_guest_whose_shutdown_ended_well_shut_itself_down(status: str) -> None:
    assert await ending(["TASK OK"], replace(OVER, status=status)) == BY_ITSELF


async def test_a_guest_that_is_off_before_its_shutdown_has_ended_shut_itself_down() -> None:
    assert await ending([], TASK) == BY_ITSELF


@pytest.mark.parametrize("task", [TASK, OVER])
async def test_a_guest_that_used_up_its_time_was_forced_for_that(task: Task) -> None:
    assert await ending([WAITED], task, BY_ACPI) == Ended(OffCause.HOST, Reason.TIMEOUT)


async def test_qemu_that_had_to_be_killed_was_forced() -> None:
    assert await ending([WAITED, KILLED, "TASK OK"], config=BY_ACPI) == Ended(OffCause.HOST, Reason.TIMEOUT)


@pytest.mark.parametrize("config", [BY_AGENT, None], ids=["enabled", "not read yet"])
async def test_a_guest_whose_agent_was_asked_and_did_not_go_in_time_was_forced_for_that(config: Config | None) -> None:
    assert await ending([FAILED, "TASK OK"], config=config) == Ended(OffCause.HOST, Reason.TIMEOUT)


@pytest.mark.parametrize(("log", "config"), [([FAILED], BY_ACPI), ([SILENT, FAILED], BY_AGENT)])
async def test_a_guest_that_could_not_be_asked_by_acpi_was_forced_for_that(log: list[str], config: Config) -> None:
    assert await ending(log, config=config) == Ended(OffCause.HOST, Reason.COMMAND_FAILED)


async def test_an_agent_that_was_passed_over_is_not_force() -> None:
    assert await ending([SILENT, "TASK OK"]) == BY_ITSELF


@pytest.mark.parametrize(
    "status", ["received interrupt", "unexpected status", "VM quit/powerdown failed - got timeout"]
)
async def test_a_guest_that_goes_off_after_its_shutdown_was_given_up_is_of_unknown_cause(status: str) -> None:
    assert await ending([f"TASK ERROR: {status}"], replace(OVER, status=status)) == Ended()


async def test_a_shutdown_that_has_failed_and_is_still_told_to_run_is_of_unknown_cause() -> None:
    assert await ending(["TASK ERROR: received interrupt"], TASK) == Ended()


async def test_a_shutdown_that_still_waits_for_the_guests_lock_has_not_ended_it() -> None:
    assert await ending(["trying to acquire lock..."], TASK) == Ended()


@pytest.mark.parametrize("log", [["trying to acquire lock... OK"], ["trying to acquire lock...", " OK"]])
async def test_a_shutdown_that_got_the_guests_lock_may_have_ended_it(log: list[str]) -> None:
    assert await ending(log, TASK) == BY_ITSELF


async def test_a_containers_shutdown_tells_only_how_long_it_took() -> None:
    assert await ending([], replace(OVER, kind="vzshutdown")) == Ended(after=timedelta(seconds=60))


async def test_a_container_whose_shutdown_was_ended_before_it_killed_went_down_by_itself() -> None:
    said = ["command 'lxc-stop -n 100 --timeout 1' failed: received interrupt", "TASK OK"]
    assert await ending(said, replace(OVER, kind="vzshutdown")) == BY_ITSELF


@pytest.mark.parametrize(("told", "read"), [(61, False), (60, True), (None, True)])
async def test_a_containers_log_is_read_only_of_a_shutdown_that_may_have_used_up_its_time(
    told: int | None, read: bool
) -> None:
    said = ["command 'lxc-stop -n 100 --timeout 60' failed: received interrupt"]
    ended = await ending(said, replace(OVER, kind="vzshutdown", told=told))
    assert ended == (BY_ITSELF if read else Ended(after=timedelta(seconds=60)))


async def test_a_containers_shutdown_that_runs_tells_nothing() -> None:
    assert await ending([], replace(TASK, kind="vzshutdown")) == Ended()


# By the newest of its tasks


async def test_without_tasks_nothing_is_known() -> None:
    assert await last() == Ended()


@pytest.mark.parametrize("kind", ["qmstop", "vzstop"])
@pytest.mark.parametrize("task", [TASK, OVER])
async def test_a_guest_that_was_stopped_was_cut_off(kind: str, task: Task) -> None:
    assert await last(replace(task, kind=kind)) == CUT


async def test_a_stop_that_failed_ended_nothing() -> None:
    stop = replace(OVER, kind="qmstop", status="VM is locked (backup)", started=1010, ended=1020)
    assert await last(stop, OVER) == BY_ITSELF


async def test_a_stop_found_a_guest_off_that_had_obeyed_before() -> None:
    assert await last(replace(OVER, kind="qmstop", started=1070, ended=1071), OVER) == BY_ITSELF


async def test_a_shutdown_found_a_guest_off_that_was_stopped_before() -> None:
    assert await last(OVER, replace(OVER, kind="qmstop", started=900, ended=901)) == CUT


async def test_a_shutdown_that_failed_ended_nothing() -> None:
    assert await last(replace(OVER, status="received interrupt")) == Ended()


@pytest.mark.parametrize("status", ["received interrupt", "unexpected status"])
async def test_a_shutdown_that_was_ended_while_it_forced_cut_it_off(status: str) -> None:
    log = [WAITED, f"TASK ERROR: {status}"]
    assert await witnessed(replace(OVER, status=status), log=log) == Ended(OffCause.HOST, Reason.TIMEOUT)


async def test_of_somebody_elses_it_is_not_the_deadline_that_we_told() -> None:
    assert await witnessed(replace(OVER, status="received interrupt", user="root@pam"), log=[WAITED]) == CUT


async def test_a_guest_that_was_seen_to_leave_after_a_shutdown_that_never_forced_left_by_itself() -> None:
    status = "VM quit/powerdown failed - got timeout"
    assert await witnessed(replace(OVER, status=status), log=[f"TASK ERROR: {status}"]) == BY_ITSELF


async def test_what_was_seen_to_leave_in_a_later_run_was_not_cut_by_an_earlier_shutdown() -> None:
    start, failed = replace(OVER, kind="qmstart", started=1100), replace(OVER, status="received interrupt")
    assert await witnessed(start, failed, log=[WAITED]) == BY_ITSELF


@pytest.mark.parametrize("kind", ["qmstart", "qmresume", "vzstart"])
@pytest.mark.parametrize("status", ["OK", ""])
async def test_what_was_before_its_last_start_does_not_count(kind: str, status: str) -> None:
    assert await last(replace(OVER, kind=kind, status=status, started=1100), OVER) == Ended()


async def test_a_start_that_failed_began_no_run() -> None:
    failed = replace(OVER, kind="qmstart", status="QEMU exited with code 1", started=1100)
    assert await last(failed, OVER) == BY_ITSELF


async def test_a_task_of_an_earlier_run_that_still_runs_does_not_count() -> None:
    assert await last(TASK, replace(OVER, kind="qmstart", started=1100)) == Ended()


async def test_a_shutdown_counts_that_has_just_ended_its_guest() -> None:
    assert await last(TASK) == BY_ITSELF


async def test_a_stop_counts_that_has_just_ended_the_shutdown_it_overrules() -> None:
    stop = replace(TASK, kind="qmstop", started=1010)
    assert await last(stop, TASK, log=["TASK ERROR: received interrupt"]) == CUT


async def test_a_containers_shutdown_counts_only_when_it_has_ended() -> None:
    running, stop = replace(TASK, kind="vzshutdown", started=1100), replace(OVER, kind="vzstop")
    assert await last(running, stop, guest=CT) == CUT


async def test_tasks_that_end_no_run_are_passed_over() -> None:
    assert await last(replace(OVER, kind="vzdump"), replace(OVER, kind="qmsnapshot"), OVER) == BY_ITSELF


async def test_tasks_that_may_be_of_an_earlier_run_tell_nothing() -> None:
    assert await last(OVER, trusted=False) == Ended()


# Of others


@pytest.mark.parametrize(
    ("log", "ending"),
    [([WAITED], CUT), ([BY_HA, WAITED], Ended(OffCause.HOST, Reason.TIMEOUT)), ([], BY_ITSELF), ([BY_HA], BY_ITSELF)],
    ids=["forced", "forced by HA", "obeyed", "obeyed HA"],
)
async def test_only_we_and_ha_force_for_the_deadline_that_we_told(log: list[str], ending: Ended) -> None:
    assert await last(replace(OVER, user="root@pam"), log=log) == ending


@pytest.mark.parametrize(("log", "ending"), [([], Ended()), ([BY_HA], BY_ITSELF)], ids=["somebody's", "HA's"])
async def test_a_containers_shutdown_of_others_tells_only_of_ha_which_never_forces_one(
    log: list[str], ending: Ended
) -> None:
    assert await last(replace(OVER, kind="vzshutdown", user="root@pam"), guest=CT, log=log) == ending


# Whether it was this stop

STOP = replace(OVER, upid="UPID:s", kind="qmstop", started=1100, ended=1101)


@pytest.mark.parametrize(
    ("others", "ours"),
    [
        ((), True),
        ((replace(OVER, upid="UPID:o"),), False),
        ((replace(OVER, upid="UPID:o", status="received interrupt"),), True),
        ((replace(OVER, upid="UPID:o", kind="qmstart", started=1102),), True),
    ],
    ids=["alone", "after a shutdown", "after one that it ended", "before a start"],
)
async def test_a_stop_ended_the_run_unless_something_did_before(others: tuple[Task, ...], ours: bool) -> None:
    assert await ended_by(api(*others, STOP), WEB, STOP) is ours


async def test_a_stop_that_is_not_listed_is_taken_for_what_ended_the_run() -> None:
    assert await ended_by(api(), WEB, STOP)


@pytest.mark.parametrize(
    ("tasks", "user", "ours"),
    [
        ((STOP,), US, True),
        ((STOP,), "root@pam", False),
        ((STOP, OVER), US, False),
        ((OVER,), US, False),
        ((replace(STOP, status="VM is locked (backup)"),), US, False),
        ((), US, False),
    ],
    ids=["ours", "somebody's", "of one that had obeyed", "a shutdown", "failed", "none"],
)
async def test_whose_stop_ended_the_run_is_told_by_its_user(tasks: tuple[Task, ...], user: str, ours: bool) -> None:
    assert await stopped_by(api(*tasks), WEB, lambda _task: True, user) is ours
