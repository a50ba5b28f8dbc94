from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from providers.core.adapter import VM, Cause, Ended, OffCause, PowerState, Problem, Reason, Signal
from providers.proxmox.guests import Config, Guest, GuestDetails
from providers.proxmox.states import to_vm

WEB = Guest("100", "qemu", "web", "pve1", "running")
CT = Guest("101", "lxc", "cache", "pve1", "running")
AGENT = GuestDetails(Config(agent=True), answers=True)
ASKED_BY_ACPI = GuestDetails(Config(agent=False))


def vm(details: GuestDetails = AGENT, row: Guest = WEB, **fields: Any) -> VM:
    return to_vm(replace(row, **fields), details)


def configured(**fields: Any) -> GuestDetails:
    return GuestDetails(Config(**{"agent": True} | fields), answers=True)


def only(problems: tuple[Problem, ...]) -> Problem:
    [problem] = problems
    return problem


def test_a_healthy_guest_hears_its_agent_and_has_no_problem() -> None:
    found = vm()
    assert (found.id, found.name, found.node, found.power_state) == ("100", "web", "pve1", PowerState.ON)
    assert (found.signals, found.problems, found.refused) == ((Signal.GUEST_AGENT,), (), "")


def test_a_guest_is_called_by_its_kind_and_number_too() -> None:
    assert vm(row=CT).aliases == ("lxc/101",)


# Power


def test_a_guest_whose_node_is_away_is_waited_for() -> None:
    found = vm(status="unknown")
    problem = only(found.problems)
    assert (found.power_state, found.signals, problem.passing) == (PowerState.UNKNOWN, (), True)
    assert "pve1" in problem.message


# How it ended


ENDED = GuestDetails(Config(), ended=Ended(OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=9)))


def test_a_guest_that_is_off_tells_how_it_ended() -> None:
    found = vm(ENDED, status="stopped")
    assert found.ended == Ended(OffCause.HOST, Reason.TIMEOUT, timedelta(seconds=9))


@pytest.mark.parametrize("fields", [{}, {"status": "unknown"}, {"status": "stopped", "lock": "suspended"}])
def test_a_guest_that_is_not_off_tells_of_no_end(fields: dict[str, Any]) -> None:
    found = vm(ENDED, **fields)
    assert found.ended is None


# The agent and ACPI


@pytest.mark.parametrize(
    ("details", "signals"),
    [
        (AGENT, (Signal.GUEST_AGENT,)),
        (replace(AGENT, answers=None), (Signal.GUEST_AGENT,)),
        (replace(AGENT, answers=False), (Signal.ACPI,)),
        (ASKED_BY_ACPI, (Signal.ACPI,)),
        (configured(acpi=False), (Signal.GUEST_AGENT,)),
        (GuestDetails(Config(agent=True, acpi=False), answers=False), ()),
        (GuestDetails(Config(acpi=False)), ()),
    ],
)
def test_proxmox_asks_by_an_agent_that_answers_else_by_acpi(details: GuestDetails, signals: tuple[Signal, ...]) -> None:
    assert vm(details).signals == signals


@pytest.mark.parametrize(
    ("details", "fields", "signals"),
    [
        (AGENT, {}, (Signal.GUEST_AGENT, Signal.ACPI)),
        (replace(AGENT, answers=False), {}, (Signal.ACPI,)),
        (configured(acpi=False), {}, (Signal.GUEST_AGENT,)),
        (AGENT, {"ha": "started"}, (Signal.GUEST_AGENT,)),
        (AGENT, {"lock": "backup"}, ()),
    ],
)
def test_where_we_may_press_its_button_a_guest_hears_that_too(
    details: GuestDetails, fields: dict[str, Any], signals: tuple[Signal, ...]
) -> None:
    assert to_vm(replace(WEB, **fields), details, may_press=True).signals == signals


def test_a_guest_whose_configuration_is_not_known_yet_is_not_said_to_have_no_agent() -> None:
    problem = only(vm(GuestDetails()).problems)
    assert (problem.reason, "has not been read yet" in problem.message) == (None, True)


def test_an_agent_that_is_enabled_and_silent_is_a_warning_where_acpi_is_heard() -> None:
    problem = only(vm(replace(AGENT, answers=False)).problems)
    assert (problem.message, problem.reason) == (
        "Its guest agent is enabled and does not answer; it can be asked by ACPI only.",
        None,
    )


def test_an_agent_that_is_not_enabled_is_a_warning_where_acpi_is_heard() -> None:
    problem = only(vm(ASKED_BY_ACPI).problems)
    assert (problem.message, problem.reason) == ("Its guest agent is not enabled; it can be asked by ACPI only.", None)


@pytest.mark.parametrize("agent", [True, False])
def test_a_guest_without_agent_and_acpi_hears_no_signal(agent: bool) -> None:
    problem = only(vm(GuestDetails(Config(agent=agent, acpi=False), answers=False)).problems)
    assert (problem.reason, problem.passing) == (Reason.TOOLS_UNAVAILABLE, False)
    assert "ACPI is off in its configuration" in problem.message


def test_an_agent_that_may_not_be_asked_says_why() -> None:
    found = vm(GuestDetails(Config(agent=True), ping_error="The account lacks VM.GuestAgent.Audit."))
    assert only(found.problems).message.endswith("is not known: The account lacks VM.GuestAgent.Audit.")


@pytest.mark.parametrize(("answers", "runs"), [(True, True), (False, False), (None, False)])
def test_only_an_agent_that_answers_runs_programs(answers: bool | None, runs: bool) -> None:
    assert vm(replace(AGENT, answers=answers)).runs_programs is runs


def test_a_container_is_asked_by_its_init_and_needs_neither_agent_nor_acpi() -> None:
    found = vm(GuestDetails(Config(acpi=False)), CT)
    assert (found.signals, found.problems) == ((Signal.INIT,), ())


# Locks


@pytest.mark.parametrize(
    ("lock", "what"),
    [
        ("backup", "a backup"),
        ("clone", "a clone"),
        ("create", "its creation"),
        ("migrate", "a migration"),
        ("rollback", "a rollback"),
        ("snapshot", "a snapshot"),
        ("snapshot-delete", "the removal of a snapshot"),
        ("suspending", "its suspension to disk"),
        ("suspended", "its memory on disk, from which it resumes"),
        ("of-tomorrow", "something"),
    ],
)
def test_a_lock_is_named_and_waited_for(lock: str, what: str) -> None:
    found = vm(lock=lock)
    problem = only(found.problems)
    assert (found.signals, problem.reason, problem.passing) == ((), Reason.LOCKED, True)
    assert f"locked ({lock}) by {what};" in problem.message


def test_the_task_behind_a_lock_is_named() -> None:
    problem = only(vm(replace(AGENT, lock_holder="vzdump by root@pam"), lock="backup").problems)
    assert "by a backup: vzdump by root@pam;" in problem.message


def test_a_container_that_is_locked_hears_nothing() -> None:
    found = vm(GuestDetails(Config()), CT, lock="mounted")
    assert (found.signals, only(found.problems).reason) == ((), Reason.LOCKED)


# Paused, asleep, hibernated


def test_a_paused_guest_hears_nothing_until_it_is_resumed() -> None:
    found = vm(status="paused")
    problem = only(found.problems)
    assert (found.signals, problem.reason, problem.passing) == ((), Reason.PAUSED, False)
    assert problem.message == "It is paused (paused): its owner resumes it."


@pytest.mark.parametrize(
    ("status", "words"),
    [("io-error", "storage failed"), ("internal-error", "an error"), ("guest-panicked", "crashed")],
)
def test_a_pause_that_came_by_itself_says_what_happened(status: str, words: str) -> None:
    problem = only(vm(status=status).problems)
    assert (problem.reason, problem.passing) == (Reason.PAUSED, False)
    assert words in problem.message


@pytest.mark.parametrize("status", ["prelaunch", "inmigrate", "postmigrate", "finish-migrate", "save-vm", "restore-vm"])
def test_a_pause_that_a_task_brings_passes(status: str) -> None:
    problem = only(vm(status=status).problems)
    assert (problem.reason, problem.passing) == (Reason.PAUSED, True)


def test_a_guest_that_is_paused_by_a_backup_is_waited_for() -> None:
    assert [(problem.reason, problem.passing) for problem in vm(status="paused", lock="backup").problems] == [
        (Reason.LOCKED, True),
        (Reason.PAUSED, False),
    ]


def test_a_sleeping_guest_is_suspended() -> None:
    found = vm(status="suspended")
    assert (found.power_state, only(found.problems).reason) == (PowerState.SUSPENDED, Reason.SUSPENDED)
    assert "suspended to RAM" in only(found.problems).message


def test_a_hibernated_guest_is_suspended_and_not_off() -> None:
    found = vm(status="stopped", lock="suspended")
    assert (found.power_state, only(found.problems).reason) == (PowerState.SUSPENDED, Reason.SUSPENDED)
    assert "memory is saved on disk" in only(found.problems).message


# HA


def test_a_guest_that_ha_manages_is_always_forced_and_says_so() -> None:
    found = vm(ha="started")
    assert (found.signals, only(found.problems).reason) == ((Signal.GUEST_AGENT,), None)
    assert "always powers off hard" in found.always_forced
    assert "NEVER and ASK are refused" in only(found.problems).message


@pytest.mark.parametrize("ha", ["", "ignored"])
def test_a_guest_that_ha_does_not_manage_is_not_always_forced(ha: str) -> None:
    assert (vm(ha=ha).always_forced, vm(ha=ha).problems) == ("", ())


def test_a_guest_that_ha_has_given_up_hears_nothing() -> None:
    found = vm(ha="error")
    problem = only(found.problems)
    assert (found.signals, problem.reason, problem.passing) == ((), Reason.COMMAND_FAILED, False)
    assert "given it up (state error)" in problem.message


@pytest.mark.parametrize(
    "ha", ["fence", "freeze", "migrate", "recovery", "relocate", "request_start", "request_start_balance"]
)
def test_while_ha_would_lose_the_request_the_guest_is_not_asked_but_waited_for(ha: str) -> None:
    found = vm(ha=ha)
    busy = found.problems[-1]
    assert (found.signals, busy.reason, busy.passing) == ((), Reason.LOCKED, True)
    assert f"(state {ha})" in busy.message


@pytest.mark.parametrize("ha", ["started", "stopped", "error", "request_start", "freeze"])
def test_a_guest_that_disarmed_ha_ignores_is_asked_like_any_other_and_that_is_a_warning(ha: str) -> None:
    found = vm(ha=ha, disarmed=True)
    problem = only(found.problems)
    assert (found.signals, found.always_forced, problem.reason) == ((Signal.GUEST_AGENT,), "", None)
    assert "disarmed" in problem.message


@pytest.mark.parametrize("ha", ["fence", "migrate", "recovery", "relocate"])
def test_what_ha_brings_to_its_end_before_it_is_disarmed_is_waited_for(ha: str) -> None:
    found = vm(ha=ha, disarmed=True)
    assert (found.signals, found.problems[-1].reason, found.problems[-1].passing) == ((), Reason.LOCKED, True)


@pytest.mark.parametrize(
    ("status", "crashed"), [("guest-panicked", True), ("internal-error", False), ("running", False)]
)
def test_a_guest_that_has_panicked_has_crashed(status: str, crashed: bool) -> None:
    assert vm(status=status).crashed is crashed


def test_its_run_is_what_its_details_say() -> None:
    assert (vm(GuestDetails(run="pve1/4711")).run_id, vm(GuestDetails()).run_id) == ("pve1/4711", "")


# What else the forecast tells


def test_a_template_takes_no_operations() -> None:
    assert vm(status="stopped", template=True).refused == "It is a template, which never runs"


def test_protection_is_a_warning() -> None:
    problem = only(vm(configured(protection=True)).problems)
    assert (problem.reason, problem.message[:16]) == (None, "It is protected,")


def test_its_labels_are_its_kind_tags_pool_ha_state_and_startup_order() -> None:
    found = vm(configured(startup="order=2,down=90"), tags="a;b", pool="shop", ha="started")
    assert found.labels == {
        "kind": "qemu",
        "tags": "a;b",
        "pool": "shop",
        "ha": "started",
        "startup": "order=2,down=90",
    }


def test_what_it_has_not_is_no_label() -> None:
    assert vm().labels == {"kind": "qemu"}


DOWN = configured(down=timedelta(seconds=300))


@pytest.mark.parametrize(
    ("details", "row", "seconds"),
    [
        (AGENT, WEB, 60),
        (DOWN, WEB, 300),
        (DOWN, replace(WEB, ha="started"), 60),
        (DOWN, CT, 60),
        (GuestDetails(), WEB, 60),
    ],
    ids=["none", "down", "ha", "container", "not read yet"],
)
def test_the_guest_has_its_down_timeout_where_proxmox_heeds_it_else_60_s(
    details: GuestDetails, row: Guest, seconds: int
) -> None:
    delegation = vm(details, row).delegation
    assert delegation and delegation.own_timeout == timedelta(seconds=seconds)


# What problems come from


@pytest.mark.parametrize(
    ("details", "row", "causes"),
    [
        (configured(agent=False), {}, (Cause.AGENT_MISSING,)),
        (configured(agent=False, acpi=False), {}, (Cause.AGENT_MISSING, Cause.ACPI_MISSING)),
        (replace(AGENT, answers=False), {}, (Cause.AGENT_STOPPED,)),
        (replace(AGENT, ping_error="not allowed"), {}, (Cause.AGENT_UNKNOWN,)),
        (AGENT, {"lock": "backup"}, (Cause.LOCKED,)),
        (AGENT, {"status": "paused"}, (Cause.PAUSED,)),
        (AGENT, {"status": "suspended"}, (Cause.SUSPENDED,)),
        (AGENT, {"status": "unknown"}, (Cause.UNREACHED,)),
        (AGENT, {"ha": "started"}, (Cause.HA,)),
        (AGENT, {"ha": "error"}, (Cause.HA,)),
    ],
)
def test_a_problem_names_what_it_comes_from(
    details: GuestDetails, row: dict[str, Any], causes: tuple[Cause, ...]
) -> None:
    assert only(vm(details, **row).problems).causes == causes
