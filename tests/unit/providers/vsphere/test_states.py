from dataclasses import replace
from typing import Any

import pytest

from providers.core.adapter import Cause, OffCause, PowerState, Reason, Signal
from providers.core.errors import UnknownNativeState
from providers.vsphere.properties import Manager, Question, Task, VMProperties
from providers.vsphere.states import has_ended, locked, to_vm

HEALTHY = VMProperties(
    "vm-1",
    name="web",
    id="5012",
    power="poweredOn",
    tools="guestToolsRunning",
    tools_version="guestToolsCurrent",
    guest_state="running",
    state_change=True,
    runs_programs=True,
    seen_running=True,
)
AGENT = Manager("com.example.nsx", "agent")
OFF = replace(HEALTHY, power="poweredOff", clean_power_off=True)


def properties(**fields: Any) -> VMProperties:
    return replace(HEALTHY, **fields)


def test_a_healthy_guest_hears_its_tools_and_has_no_problem() -> None:
    vm = to_vm(HEALTHY)
    assert (vm.id, vm.name, vm.power_state) == ("5012", "web", PowerState.ON)
    assert (vm.signals, vm.problems, vm.refused) == ((Signal.VMWARE_TOOLS,), (), "")


def test_the_addresses_that_its_tools_report_are_its_guests_word() -> None:
    vm = to_vm(properties(addresses=("192.0.2.1",)))
    assert (vm.guest_addresses, vm.addresses) == (("192.0.2.1",), ())
    assert to_vm(replace(OFF, addresses=("192.0.2.1",))).guest_addresses == ()


def test_it_is_called_by_its_path_with_and_without_the_first_slash() -> None:
    vm = to_vm(HEALTHY, path="/dc/vm/web", node="esx1.example")
    assert (vm.aliases, vm.labels, vm.node) == (("/dc/vm/web", "dc/vm/web"), {"path": "/dc/vm/web"}, "esx1.example")


@pytest.mark.parametrize(
    ("fields", "reason", "passing", "words"),
    [
        ({"tools": "guestToolsNotRunning"}, Reason.TOOLS_UNAVAILABLE, False, "not running"),
        ({"tools_version": "guestToolsNotInstalled"}, Reason.TOOLS_UNAVAILABLE, False, "no VMware Tools"),
        ({"tools": "guestToolsExecutingScripts"}, Reason.TOOLS_UNAVAILABLE, True, "are starting"),
        ({"state_change": False}, Reason.TOOLS_UNAVAILABLE, True, "no requests yet"),
        ({"guest_state": "shuttingDown"}, Reason.TOOLS_UNAVAILABLE, True, "going down"),
        ({"guest_state": "resetting"}, Reason.TOOLS_UNAVAILABLE, True, "restarting"),
        ({"guest_state": "standby"}, Reason.TOOLS_UNAVAILABLE, True, "sleeps"),
        ({"going_down": "shuttingDown", "guest_state": "notRunning", "tools": "guestToolsNotRunning"},
         Reason.TOOLS_UNAVAILABLE, True, "going down"),
        ({"connection": "disconnected"}, Reason.TOOLS_UNAVAILABLE, True, "does not answer vCenter"),
        ({"connection": "inaccessible"}, Reason.TOOLS_UNAVAILABLE, True, "cannot be reached"),
        ({"connection": "invalid"}, Reason.TOOLS_UNAVAILABLE, True, "cannot be read"),
        ({"connection": "orphaned"}, Reason.TOOLS_UNAVAILABLE, True, "forgotten it"),
        ({"out_of_scope": True}, Reason.TOOLS_UNAVAILABLE, True, "out of the provider's scope"),
        ({"disabled": frozenset({"ShutdownGuest"})}, Reason.LOCKED, True, "disabled ShutdownGuest"),
        ({"question": Question("Moved?", ("yes", "no"))}, Reason.QUESTION_PENDING, False, "'Moved?' (yes, no)"),
        ({"power": "suspended"}, Reason.SUSPENDED, False, "suspended"),
    ],
)  # fmt: skip
def test_an_obstacle_is_named_and_keeps_the_guest_from_hearing(
    fields: dict[str, Any], reason: Reason, passing: bool, words: str
) -> None:
    vm = to_vm(properties(**fields))
    [problem] = vm.problems
    assert (vm.signals, problem.reason, problem.passing) == ((), reason, passing)
    assert words in problem.message


def test_a_task_that_holds_it_is_named_and_waited_for() -> None:
    vm = to_vm(HEALTHY, held=locked("VirtualMachine.createSnapshot"))
    assert (vm.signals, vm.problems[0].reason, vm.problems[0].passing) == ((), Reason.LOCKED, True)
    assert "VirtualMachine.createSnapshot" in vm.problems[0].message


def test_a_task_under_way_is_a_warning_and_its_guest_is_asked_all_the_same() -> None:
    vm = to_vm(HEALTHY, busy="VirtualMachine.migrate")
    assert vm.signals == (Signal.VMWARE_TOOLS,)
    assert [(problem.reason, "VirtualMachine.migrate" in problem.message) for problem in vm.problems] == [(None, True)]


def test_tools_that_stopped_a_moment_ago_are_expected_back() -> None:
    vm = to_vm(properties(tools="guestToolsNotRunning"), tools_return=True)
    assert vm.signals == ()
    assert [(problem.reason, problem.passing) for problem in vm.problems] == [(Reason.TOOLS_UNAVAILABLE, True)]


def test_tools_that_were_removed_are_not_expected_back() -> None:
    gone = properties(tools="guestToolsNotRunning", tools_version="guestToolsNotInstalled")
    assert not to_vm(gone, tools_return=True).problems[0].passing


@pytest.mark.parametrize("power", ["poweredOn", "poweredOff", "suspended"])
@pytest.mark.parametrize("connection", ["disconnected", "inaccessible", "invalid", "orphaned"])
def test_whether_a_vm_runs_that_vcenter_does_not_reach_is_unknown(connection: str, power: str) -> None:
    vm = to_vm(properties(connection=connection, power=power))
    assert (vm.power_state, vm.ended) == (PowerState.UNKNOWN, None)


def test_whether_a_vm_still_runs_that_was_moved_out_of_sight_is_unknown() -> None:
    assert to_vm(properties(out_of_scope=True)).power_state is PowerState.UNKNOWN


# Its run


def test_a_run_is_known_by_when_it_was_started() -> None:
    assert to_vm(properties(boot_time="2030-01-01T00:00:00+00:00")).run_id == "2030-01-01T00:00:00+00:00"


@pytest.mark.parametrize("fields", [{"power": "poweredOff"}, {"connection": "disconnected"}])
def test_a_vm_that_is_not_known_to_run_has_no_run(fields: dict[str, Any]) -> None:
    assert to_vm(properties(boot_time="2030-01-01T00:00:00+00:00", **fields)).run_id == ""


# Who manages it


def test_whose_a_vm_is_is_a_label() -> None:
    assert to_vm(properties(managed_by=AGENT)).labels == {"managed-by": "com.example.nsx"}


def test_whose_a_vm_is_is_a_warning_beside_whatever_else_there_is() -> None:
    vm = to_vm(properties(managed_by=AGENT, tools="guestToolsNotRunning"))
    assert [problem.reason for problem in vm.problems] == [Reason.TOOLS_UNAVAILABLE, None]
    assert "com.example.nsx (agent)" in vm.problems[1].message


def test_the_guest_of_a_solution_is_asked_like_any_other() -> None:
    vm = to_vm(properties(managed_by=AGENT))
    assert (vm.signals, vm.refused) == ((Signal.VMWARE_TOOLS,), "")


@pytest.mark.parametrize(
    "fields",
    [
        {"managed_by": Manager("com.vmware.vim.eam", "cluster-agent")},
        {"managed_by": Manager("VirtualCenter", "vcls-entity")},
        {"managed_by": Manager("com.vmware.vim.eam", "agent"), "name": "vCLS (1)"},
    ],
)
def test_a_vm_of_the_clusters_own_services_takes_no_operations(fields: dict[str, Any]) -> None:
    assert "retreat mode" in to_vm(properties(**fields)).refused


def test_a_vm_that_only_bears_such_a_name_takes_operations() -> None:
    assert to_vm(properties(name="vCLS-test")).refused == ""


@pytest.mark.parametrize("version", ["guestToolsSupportedOld", "guestToolsNeedUpgrade", "guestToolsTooOld"])
def test_old_tools_are_a_warning_and_are_asked_all_the_same(version: str) -> None:
    vm = to_vm(properties(tools_version=version))
    assert vm.signals == (Signal.VMWARE_TOOLS,)
    assert [(problem.reason, "old" in problem.message) for problem in vm.problems] == [(None, True)]


def test_tools_of_a_host_that_does_not_say_what_they_can_do_are_asked() -> None:
    assert to_vm(properties(state_change=None)).signals == (Signal.VMWARE_TOOLS,)


def test_a_vm_that_is_off_has_no_problems() -> None:
    assert to_vm(replace(OFF, tools="guestToolsNotRunning")).problems == ()


def test_a_vm_that_asks_something_before_it_starts_says_so() -> None:
    vm = to_vm(replace(OFF, question=Question("Moved?", ("yes", "no"))))
    assert [problem.reason for problem in vm.problems] == [Reason.QUESTION_PENDING]


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"template": True}, "template"), ({"ft_role": 2}, "fault tolerant"), ({"out_of_scope": True}, "scope")],
)
def test_what_takes_no_operations_says_why(fields: dict[str, Any], word: str) -> None:
    assert word in to_vm(properties(**fields)).refused


def test_the_primary_of_a_fault_tolerant_vm_takes_operations() -> None:
    assert to_vm(properties(ft_role=1)).refused == ""


# Who ended it


def test_a_vm_that_was_seen_to_go_off_by_itself_was_ended_by_its_guest() -> None:
    assert to_vm(OFF).off_cause is OffCause.GUEST


def test_a_vm_that_was_not_seen_to_run_is_off_for_an_unknown_cause() -> None:
    assert to_vm(replace(OFF, seen_running=False)).off_cause is None


@pytest.mark.parametrize("clean", [True, False, None])
def test_a_vm_that_a_task_ended_was_ended_by_its_host(clean: bool | None) -> None:
    assert to_vm(replace(OFF, clean_power_off=clean, cut_by="colleague")).off_cause is OffCause.HOST


def test_a_task_that_no_user_began_cuts_as_well() -> None:
    assert to_vm(replace(OFF, cut_by="")).off_cause is OffCause.HOST


@pytest.mark.parametrize("cause", list(OffCause))
def test_a_vm_that_was_not_seen_to_end_was_ended_as_vcenters_events_tell(cause: OffCause) -> None:
    assert to_vm(replace(OFF, seen_running=False, recorded=cause)).off_cause is cause


@pytest.mark.parametrize("seen", [True, False])
def test_a_vm_that_did_not_go_off_cleanly_has_crashed(seen: bool) -> None:
    assert to_vm(replace(OFF, clean_power_off=False, seen_running=seen)).off_cause is OffCause.CRASHED


def test_a_vm_that_runs_has_no_cause() -> None:
    assert to_vm(HEALTHY).ended is None


# What is not lookup


@pytest.mark.parametrize(
    "fields",
    [
        {"power": "hibernated"},
        {"connection": "haunted"},
        {"tools": "guestToolsDreaming"},
        {"guest_state": "meditating"},
    ],
)
def test_an_unknown_state_raises(fields: dict[str, Any]) -> None:
    with pytest.raises(UnknownNativeState, match=next(iter(fields.values()))):
        to_vm(properties(**fields))


def test_an_unknown_state_of_a_task_raises() -> None:
    with pytest.raises(UnknownNativeState, match="paused"):
        has_ended(Task("task-1", state="paused"))


@pytest.mark.parametrize(
    ("state", "ended"), [("queued", False), ("running", False), ("success", True), ("error", True)]
)
def test_a_task_has_ended_by_success_or_error(state: str, ended: bool) -> None:
    assert has_ended(Task("task-1", state=state)) is ended


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"tools_version": "guestToolsNotInstalled"}, Cause.AGENT_MISSING),
        ({"tools": "guestToolsNotRunning"}, Cause.AGENT_STOPPED),
        ({"tools": "guestToolsExecutingScripts"}, Cause.AGENT_BUSY),
        ({"state_change": False}, Cause.AGENT_BUSY),
        ({"guest_state": "standby"}, Cause.AGENT_BUSY),
        ({"tools_version": "guestToolsTooOld"}, Cause.AGENT_OUTDATED),
        ({"disabled": frozenset({"ShutdownGuest"})}, Cause.LOCKED),
        ({"question": Question("Moved?", ("yes", "no"))}, Cause.QUESTION),
        ({"connection": "disconnected"}, Cause.UNREACHED),
        ({"out_of_scope": True}, Cause.UNREACHED),
        ({"managed_by": AGENT}, Cause.MANAGED),
        ({"power": "suspended"}, Cause.SUSPENDED),
    ],
)
def test_a_problem_names_what_it_comes_from(fields: dict[str, Any], cause: Cause) -> None:
    assert to_vm(properties(**fields)).problems[0].causes == (cause,)
