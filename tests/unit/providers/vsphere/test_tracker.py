from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.core.adapter import VM, Change, Changed, OffCause, PowerState, Reason, Removed, Signal
from providers.vsphere.properties import Place, Task, Update, VMProperties
from providers.vsphere.tracker import Tracker

START = datetime(2030, 1, 1, tzinfo=UTC)
RUNNING: dict[str, Any] = {
    "power": "poweredOn",
    "tools": "guestToolsRunning",
    "guest_state": "running",
    "state_change": True,
}
OFF: dict[str, Any] = {
    "power": "poweredOff",
    "tools": "guestToolsNotRunning",
    "guest_state": "notRunning",
    "clean_power_off": True,
}
FOLDERS = (
    Update(Place, "root", {"name": "Datacenters"}),
    Update(Place, "dc", {"name": "dc", "parent": "root"}),
    Update(Place, "group-v", {"name": "vm", "parent": "dc"}),
)


def new(moid: str = "vm-1", name: str = "web", **fields: Any) -> Update:
    return Update(VMProperties, moid, RUNNING | {"name": name, "id": f"id-{moid}"} | fields, enters=True)


def modified(moid: str = "vm-1", **fields: Any) -> Update:
    return Update(VMProperties, moid, fields)


def task(moid: str = "task-1", state: str = "running", kind: str = "powerOff", **fields: Any) -> Update:
    told = {"entity": "vm-1", "kind": f"VirtualMachine.{kind}", "state": state, "queued": START} | fields
    return Update(Task, moid, told, enters=True)


def gone(moid: str = "vm-1", kind: type[VMProperties | Task | Place] = VMProperties) -> Update:
    return Update(kind, moid, None)


@pytest.fixture
def tracker() -> Tracker:
    """One VM that runs."""
    tracker = Tracker()
    tracker.apply([new()])
    return tracker


def only(changes: Sequence[Change]) -> VM:
    [change] = changes
    assert isinstance(change, Changed)
    return change.vm


def test_all_vms_are_listed() -> None:
    tracker = Tracker()
    tracker.apply([new(), new("vm-2", "db")])
    assert [(vm.id, vm.name) for vm in tracker.listed().vms] == [("id-vm-1", "web"), ("id-vm-2", "db")]


def test_a_vm_that_is_just_being_made_is_told_when_it_has_its_id(tracker: Tracker) -> None:
    assert tracker.apply([Update(VMProperties, "vm-2", {"name": "new", "power": "poweredOff"}, enters=True)]) == []
    assert only(tracker.apply([modified("vm-2", id="id-vm-2")])).name == "new"


def test_a_change_that_does_not_show_is_not_told(tracker: Tracker) -> None:
    assert tracker.apply([modified(guest_id="debian12_64Guest")]) == []


def test_a_new_name_is_told(tracker: Tracker) -> None:
    assert only(tracker.apply([modified(name="shop")])).name == "shop"


def test_a_vm_that_is_off_and_leaves_is_removed(tracker: Tracker) -> None:
    tracker.apply([modified(**OFF)])
    assert tracker.apply([gone()]) == [Removed("id-vm-1")]
    assert tracker.moid("id-vm-1") == ""


def test_a_vm_that_changes_its_id_is_another_one(tracker: Tracker) -> None:
    changes = tracker.apply([modified(id="other")])
    assert changes[0] == Removed("id-vm-1")
    assert only(changes[1:]).id == "other"


def test_of_two_with_one_id_the_later_is_meant_until_it_leaves(tracker: Tracker) -> None:
    tracker.apply([modified(**OFF), new("vm-2", id="id-vm-1", **OFF)])
    assert tracker.moid("id-vm-1") == "vm-2"
    assert only(tracker.apply([gone("vm-2")])).id == "id-vm-1"
    assert tracker.moid("id-vm-1") == "vm-1"


# Places


def test_a_path_is_made_of_folders_below_the_root() -> None:
    tracker = Tracker()
    assert only(tracker.apply([*FOLDERS, new(parent="group-v")])).labels == {"path": "/dc/vm/web"}


def test_a_renamed_folder_renames_the_paths_below_it() -> None:
    tracker = Tracker()
    tracker.apply([*FOLDERS, new(parent="group-v"), new("vm-2", "elsewhere")])
    assert only(tracker.apply([Update(Place, "group-v", {"name": "prod"})])).aliases[0] == "/dc/prod/web"


def test_a_moved_vm_has_another_path() -> None:
    tracker = Tracker()
    tracker.apply([*FOLDERS, Update(Place, "f", {"name": "f", "parent": "group-v"}), new(parent="group-v")])
    assert only(tracker.apply([modified(parent="f")])).aliases[0] == "/dc/vm/f/web"


def test_where_a_folder_above_is_hidden_there_is_no_path() -> None:
    tracker = Tracker()
    assert only(tracker.apply([*FOLDERS[1:], new(parent="group-v")])).aliases == ()


def test_its_node_is_the_name_of_its_host(tracker: Tracker) -> None:
    changes = tracker.apply([Update(Place, "host-1", {"name": "esx1.example"}), modified(host="host-1")])
    assert only(changes).node == "esx1.example"


# Going off


def test_a_guest_that_goes_off_by_itself_was_ended_by_itself(tracker: Tracker) -> None:
    vm = only(tracker.apply([modified(**OFF)]))
    assert (vm.power_state, vm.off_cause) == (PowerState.OFF, OffCause.GUEST)


def test_a_vm_that_goes_off_with_a_power_off_task_was_ended_by_its_host(tracker: Tracker) -> None:
    assert only(tracker.apply([modified(**OFF), task(state="success")])).off_cause is OffCause.HOST


@pytest.mark.parametrize(("state", "cause"), [("success", OffCause.HOST), ("error", OffCause.GUEST)])
def test_who_was_faster_is_told_when_the_power_off_task_has_ended(
    tracker: Tracker, state: str, cause: OffCause
) -> None:
    assert tracker.apply([task(), modified(**OFF)]) == []
    assert only(tracker.apply([task(state=state)])).off_cause is cause


def test_a_power_off_task_that_failed_ended_nothing(tracker: Tracker) -> None:
    tracker.apply([task()])
    assert only(tracker.apply([modified(**OFF), task(state="error")])).off_cause is OffCause.GUEST


def test_another_task_ends_nothing(tracker: Tracker) -> None:
    assert (
        only(tracker.apply([modified(**OFF), task(kind="shutdownGuest", state="success")])).off_cause is OffCause.GUEST
    )


def test_a_power_off_task_of_an_earlier_run_does_not_count(tracker: Tracker) -> None:
    tracker.apply([task(state="success"), modified(**OFF)])
    tracker.apply([modified(**RUNNING, clean_power_off=None)])
    assert only(tracker.apply([modified(**OFF)])).off_cause is OffCause.GUEST


def test_of_a_vm_found_off_the_last_task_counts() -> None:
    tracker = Tracker()
    later = task("task-2", kind="powerOn", state="success", queued=START + timedelta(seconds=1))
    assert only(tracker.apply([later, task(state="success"), new(**OFF)])).off_cause is None


def test_of_a_vm_found_off_after_a_power_off_task_the_host_ended_it() -> None:
    assert only(Tracker().apply([task(state="success"), new(**OFF)])).off_cause is OffCause.HOST


def test_a_suspended_vm_that_goes_off_was_not_seen_to_end(tracker: Tracker) -> None:
    tracker.apply([modified(power="suspended")])
    assert only(tracker.apply([modified(**OFF)])).off_cause is None


# A guest on its way


def test_a_guest_that_goes_down_still_does_when_its_tools_end(tracker: Tracker) -> None:
    tracker.apply([modified(guest_state="shuttingDown", state_change=False)])
    assert tracker.apply([modified(guest_state="notRunning", tools="guestToolsNotRunning")]) == []
    assert tracker.listed().vms[0].problems[0].passing


def test_a_guest_that_restarted_can_be_asked_again(tracker: Tracker) -> None:
    tracker.apply([modified(guest_state="resetting", state_change=False)])
    tracker.apply([modified(guest_state="notRunning", tools="guestToolsNotRunning")])
    assert only(tracker.apply([modified(**RUNNING)])).signals == (Signal.VMWARE_TOOLS,)


# Locks


def test_a_vm_that_a_task_holds_is_locked_until_that_ends(tracker: Tracker) -> None:
    tracker.apply([task(kind="createSnapshot")])
    tracker.lock("vm-1", "task-1")
    locked = tracker.vm(new())
    assert locked
    assert (locked.signals, locked.problems[0].reason) == ((), Reason.LOCKED)
    assert "VirtualMachine.createSnapshot" in locked.problems[0].message
    tracker.apply([task(state="success", kind="createSnapshot")])
    free = tracker.vm(new())
    assert free
    assert (free.signals, free.problems) == ((Signal.VMWARE_TOOLS,), ())


def test_a_lock_by_a_task_that_has_ended_meanwhile_is_none(tracker: Tracker) -> None:
    tracker.apply([task(state="success", kind="createSnapshot")])
    tracker.lock("vm-1", "task-1")
    vm = tracker.vm(new())
    assert vm
    assert vm.problems == ()


def test_a_lock_ends_with_a_task_that_vcenter_lists_no_more(tracker: Tracker) -> None:
    tracker.apply([task(kind="relocate")])
    tracker.lock("vm-1", "task-1")
    tracker.apply([gone("task-1", Task)])
    vm = tracker.vm(new())
    assert vm
    assert vm.problems == ()


def test_the_end_of_a_lock_that_only_a_read_told_of_is_told(tracker: Tracker) -> None:
    tracker.apply([task(kind="relocate")])
    tracker.lock("vm-1", "task-1")
    tracker.vm(new())
    assert only(tracker.apply([task(state="success", kind="relocate")])).problems == ()


# Out of sight


def test_a_running_vm_that_leaves_is_not_told_before_vcenter_was_asked(tracker: Tracker) -> None:
    assert tracker.apply([gone()]) == []
    assert tracker.take_missing() == {"vm-1"}
    assert tracker.take_missing() == set()


def test_a_running_vm_that_exists_no_more_is_removed(tracker: Tracker) -> None:
    tracker.apply([gone()])
    assert tracker.settle_missing("vm-1", None) == [Removed("id-vm-1")]


def test_a_running_vm_that_left_the_scope_still_runs_and_takes_no_operations(tracker: Tracker) -> None:
    tracker.apply([gone()])
    vm = only(tracker.settle_missing("vm-1", new()))
    assert (vm.power_state, vm.signals) == (PowerState.ON, ())
    assert "scope" in vm.refused


def test_a_vm_that_left_and_was_off_in_the_end_went_off(tracker: Tracker) -> None:
    tracker.apply([gone()])
    assert only(tracker.settle_missing("vm-1", new(**OFF))).off_cause is OffCause.GUEST


def test_a_vm_that_comes_back_takes_operations_again(tracker: Tracker) -> None:
    tracker.apply([gone()])
    tracker.settle_missing("vm-1", new())
    assert only(tracker.apply([new()])).refused == ""


# Reading one


def test_a_vm_that_is_read_off_before_the_news_has_the_cause_that_the_news_would_tell(tracker: Tracker) -> None:
    vm = tracker.vm(new(**OFF))
    assert vm
    assert vm.off_cause is OffCause.GUEST


def test_what_was_read_and_is_borne_out_is_not_told_again(tracker: Tracker) -> None:
    tracker.vm(new(name="shop"))
    assert tracker.apply([modified(name="shop")]) == []


def test_what_was_read_and_had_passed_before_the_news_is_put_right_by_them(tracker: Tracker) -> None:
    tracker.vm(new(name="shop"))
    assert only(tracker.apply([])).name == "web"


def test_a_vm_without_id_cannot_be_told_of(tracker: Tracker) -> None:
    assert tracker.vm(Update(VMProperties, "vm-9", {"power": "poweredOff"}, enters=True)) is None
