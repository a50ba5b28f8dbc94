from dataclasses import replace
from typing import Any

import pytest

from providers.core.adapter import OffCause, PowerState, Reason, Signal
from providers.core.errors import (
    UnknownNativeState,
)
from providers.vsphere.properties import Question, Task, VMProperties
from providers.vsphere.states import has_ended, to_vm

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
OFF = replace(HEALTHY, power="poweredOff", clean_power_off=True)


def properties(**fields: Any) -> VMProperties:
    return replace(HEALTHY, **fields)


def test_a_healthy_guest_hears_its_tools_and_has_no_problem() -> None:
    vm = to_vm(HEALTHY)
    assert (vm.id, vm.name, vm.power_state) == ("5012", "web", PowerState.ON)
    assert (vm.signals, vm.problems, vm.refused) == ((Signal.VMWARE_TOOLS,), (), "")


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
        ({"going_down": True}, Reason.TOOLS_UNAVAILABLE, True, "going down"),
        ({"going_down": True, "tools": "guestToolsNotRunning"}, Reason.TOOLS_UNAVAILABLE, True, "going down"),
        ({"connection": "disconnected"}, Reason.TOOLS_UNAVAILABLE, True, "does not answer vCenter"),
        ({"connection": "inaccessible"}, Reason.TOOLS_UNAVAILABLE, True, "cannot be reached"),
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
    vm = to_vm(HEALTHY, lock="VirtualMachine.createSnapshot")
    assert (vm.signals, vm.problems[0].reason, vm.problems[0].passing) == ((), Reason.LOCKED, True)
    assert "VirtualMachine.createSnapshot" in vm.problems[0].message


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
    assert to_vm(replace(OFF, clean_power_off=clean), ended_by_task=True).off_cause is OffCause.HOST


@pytest.mark.parametrize("seen", [True, False])
def test_a_vm_that_did_not_go_off_cleanly_has_crashed(seen: bool) -> None:
    assert to_vm(replace(OFF, clean_power_off=False, seen_running=seen)).off_cause is OffCause.CRASHED


def test_a_vm_that_runs_has_no_cause() -> None:
    assert to_vm(HEALTHY, ended_by_task=True).off_cause is None


# What is not lookup


@pytest.mark.parametrize(
    "fields", [{"power": "hibernated"}, {"connection": "haunted"}, {"tools": "guestToolsDreaming"}]
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
