"""The logs are Proxmox VE's: qemu-server, `_do_vm_stop`; pve-common, `PVE::RESTEnvironment`."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from providers.core.adapter import Ended, OffCause, Reason
from providers.proxmox.api import Api
from providers.proxmox.guests import Config, Guest
from providers.proxmox.history import of_guest, of_shutdown
from providers.proxmox.tasks import Task

TASK = Task("UPID:a", "pve1", "qmshutdown", "100", "root@pam", 1000)
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


async def last(*tasks: Task, guest: Guest = WEB) -> Ended:
    return await of_guest(api(*tasks), guest, BY_AGENT)


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


async def test_a_containers_shutdown_tells_only_how_long_it_took() -> None:
    assert await ending([], replace(OVER, kind="vzshutdown")) == Ended(after=timedelta(seconds=60))


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
    assert await last(replace(OVER, kind="qmstop", status="VM is locked (backup)"), OVER) == BY_ITSELF


async def test_a_shutdown_that_failed_ended_nothing() -> None:
    assert await last(replace(OVER, status="received interrupt")) == Ended()


@pytest.mark.parametrize("kind", ["qmstart", "qmresume", "vzstart"])
async def test_what_was_before_its_last_start_does_not_count(kind: str) -> None:
    assert await last(replace(OVER, kind=kind), OVER) == Ended()


async def test_a_shutdown_counts_that_has_just_ended_its_guest() -> None:
    assert await last(TASK) == BY_ITSELF


async def test_a_containers_shutdown_counts_only_when_it_has_ended() -> None:
    assert await last(replace(TASK, kind="vzshutdown"), replace(OVER, kind="vzstop"), guest=CT) == CUT


async def test_tasks_that_end_no_run_are_passed_over() -> None:
    assert await last(replace(OVER, kind="vzdump"), replace(OVER, kind="qmsnapshot"), OVER) == BY_ITSELF
