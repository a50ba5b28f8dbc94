from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.core.adapter import VM, Change, Changed, OffCause, PowerState, Reason, Removed, Signal
from providers.vsphere.properties import Crash, Crashes, Place, Task, Update, VMProperties
from providers.vsphere.states import locked
from providers.vsphere.tracker import CRASH_SECONDS, HOLD_SECONDS, TOOLS_RETURN_SECONDS, Tracker

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
HELD = locked("something")
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


def test_a_vm_that_a_task_ended_was_so_still_when_vcenter_lists_the_task_no_more(tracker: Tracker) -> None:
    tracker.apply([modified(**OFF), task(state="success")])
    tracker.apply([gone("task-1", Task)])
    assert only(tracker.apply([modified(name="shop")])).off_cause is OffCause.HOST


def test_a_vm_whose_power_off_task_was_not_seen_to_end_went_off_by_nobody_knows_whom(tracker: Tracker) -> None:
    assert tracker.apply([task(), modified(**OFF)]) == []
    assert only(tracker.apply([gone("task-1", Task)])).ended is None


def test_a_vm_that_went_off_while_its_host_was_away_was_not_seen_to_end(tracker: Tracker) -> None:
    assert only(tracker.apply([modified(connection="disconnected")])).power_state is PowerState.UNKNOWN
    assert only(tracker.apply([modified(connection="connected", **OFF)])).ended is None


def vapp_off(state: str) -> Update:
    told = {"entity": "vapp-1", "kind": "VirtualApp.powerOff", "state": state, "queued": START}
    return Update(Task, "task-1", told, enters=True)


@pytest.mark.parametrize(("state", "cause"), [("running", None), ("success", None), ("error", OffCause.GUEST)])
def test_a_guest_that_goes_off_while_its_vapp_is_switched_off_may_have_been_cut(
    state: str, cause: OffCause | None
) -> None:
    tracker = Tracker()
    tracker.apply([new(vapp="vapp-1")])
    assert only(tracker.apply([modified(**OFF), vapp_off(state)])).off_cause is cause


def test_a_guest_that_had_gone_by_itself_before_its_vapp_was_switched_off_did_so_still() -> None:
    tracker = Tracker()
    tracker.apply([new(vapp="vapp-1")])
    tracker.apply([modified(**OFF)])
    assert only(tracker.apply([vapp_off("success"), modified(name="shop")])).off_cause is OffCause.GUEST


def test_what_became_of_its_vapp_in_an_earlier_run_does_not_count() -> None:
    tracker = Tracker()
    tracker.apply([vapp_off("success"), new(vapp="vapp-1")])
    assert only(tracker.apply([modified(**OFF)])).off_cause is OffCause.GUEST


def test_a_vm_whose_host_came_back_is_seen_to_end_again(tracker: Tracker) -> None:
    tracker.apply([modified(connection="disconnected")])
    tracker.apply([modified(connection="connected")])
    assert only(tracker.apply([modified(**OFF)])).off_cause is OffCause.GUEST


def test_a_vm_whose_files_cannot_be_read_is_still_the_same(tracker: Tracker) -> None:
    vm = only(tracker.apply([modified(connection="inaccessible", id="")]))
    assert (vm.id, vm.power_state) == ("id-vm-1", PowerState.UNKNOWN)


def test_a_vm_whose_files_cannot_be_read_is_the_same_to_the_next_watch(tracker: Tracker) -> None:
    tracker.listed()
    later = Tracker(ids=tracker.ids)
    assert only(later.apply([new(id="", connection="inaccessible")])).id == "id-vm-1"


def test_a_run_that_ended_between_two_updates_is_another_one(tracker: Tracker) -> None:
    tracker.apply([modified(boot_time="yesterday")])
    assert only(tracker.apply([modified(boot_time="today"), task(state="success")])).run_id == "today"
    assert only(tracker.apply([modified(**OFF)])).off_cause is OffCause.GUEST


def test_a_state_that_nobody_knows_is_one_vms_trouble(tracker: Tracker) -> None:
    changes = tracker.apply([modified(tools="guestToolsDreaming"), new("vm-2", "db")])
    assert [change.vm.power_state for change in changes if isinstance(change, Changed)] == [
        PowerState.UNKNOWN,
        PowerState.ON,
    ]
    assert "guestToolsDreaming" in tracker.listed().vms[0].problems[0].message


# Evidence


def found_off() -> Tracker:
    tracker = Tracker()
    tracker.apply([new(**OFF)])
    return tracker


def test_a_vm_that_is_found_off_is_unexplained() -> None:
    assert found_off().unexplained({"id-vm-1", "other"}) == {"vm-1"}


@pytest.mark.parametrize("properties", [RUNNING, OFF | {"clean_power_off": False}])
def test_a_vm_that_runs_or_crashed_is_not(properties: dict[str, Any]) -> None:
    tracker = Tracker()
    tracker.apply([new(**properties)])
    assert tracker.unexplained({"id-vm-1"}) == frozenset()


def test_what_vcenters_events_tell_is_told() -> None:
    changes = found_off().explain(frozenset({"vm-1"}), {"vm-1": OffCause.GUEST})
    assert only(changes).off_cause is OffCause.GUEST


def test_an_end_is_looked_for_once() -> None:
    tracker = found_off()
    assert tracker.explain(frozenset({"vm-1"}), {}) == []
    assert tracker.unexplained({"id-vm-1"}) == frozenset()


def test_what_was_told_of_one_run_is_not_told_of_the_next() -> None:
    tracker = found_off()
    tracker.explain(frozenset({"vm-1"}), {"vm-1": OffCause.HOST})
    tracker.apply([modified(**RUNNING)])
    assert only(tracker.apply([modified(**OFF)])).off_cause is OffCause.GUEST


# A guest on its way


def test_a_guest_that_goes_down_still_does_when_its_tools_end(tracker: Tracker) -> None:
    tracker.apply([modified(guest_state="shuttingDown", state_change=False)])
    assert tracker.apply([modified(guest_state="notRunning", tools="guestToolsNotRunning")]) == []
    assert tracker.listed().vms[0].problems[0].passing


def test_a_guest_that_restarted_can_be_asked_again(tracker: Tracker) -> None:
    tracker.apply([modified(guest_state="resetting", state_change=False)])
    tracker.apply([modified(guest_state="notRunning", tools="guestToolsNotRunning")])
    assert only(tracker.apply([modified(**RUNNING)])).signals == (Signal.VMWARE_TOOLS,)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(clock: Clock) -> Tracker:
    """One VM that runs, by that clock."""
    tracker = Tracker(clock=clock)
    tracker.apply([new()])
    return tracker


STOPPED = {"tools": "guestToolsNotRunning", "guest_state": "notRunning"}


def test_tools_that_stop_are_expected_back(timed: Tracker) -> None:
    vm = only(timed.apply([modified(**STOPPED)]))
    assert (vm.signals, vm.problems[0].passing) == ((), True)


def test_tools_that_do_not_come_back_are_given_up_which_is_told(timed: Tracker, clock: Clock) -> None:
    timed.apply([modified(**STOPPED)])
    clock.now = TOOLS_RETURN_SECONDS
    assert not only(timed.apply([])).problems[0].passing
    assert timed.apply([]) == []


def test_tools_that_were_not_running_when_the_watch_began_are_not_expected(clock: Clock) -> None:
    vm = only(Tracker(clock=clock).apply([new(**STOPPED)]))
    assert not vm.problems[0].passing


def test_tools_of_a_vm_that_was_just_started_are_not_expected_back(timed: Tracker) -> None:
    timed.apply([modified(**OFF)])
    assert not only(timed.apply([modified(power="poweredOn")])).problems[0].passing


# Guests that crash

BOOTED = {"boot_time": START.isoformat()}


@pytest.fixture
def running(clock: Clock) -> Tracker:
    """One VM that runs since START, by that clock; no crash has been told."""
    tracker = Tracker(clock=clock)
    tracker.apply([new(**BOOTED), crashes(enters=True)])
    return tracker


def crashes(*numbers: int, vm: str = "vm-1", at: datetime = START, enters: bool = False) -> Update:
    latest = tuple(Crash(number, vm, at + timedelta(seconds=number)) for number in numbers)
    return Update(Crashes, "collector", {"latest": latest}, enters)


def crashed(tracker: Tracker) -> bool:
    return tracker.listed().vms[0].crashed


def test_a_guest_that_crashed_is_told_with_its_problem(running: Tracker) -> None:
    vm = only(running.apply([crashes(1), modified(**STOPPED)]))
    assert (vm.crashed, vm.power_state, vm.signals) == (True, PowerState.ON, ())
    assert (vm.problems[0].reason, vm.problems[0].passing) == (Reason.TOOLS_UNAVAILABLE, False)


@pytest.mark.parametrize("first", [crashes(1), modified(**STOPPED)], ids=["the event", "its tools' end"])
def test_it_has_crashed_whatever_is_told_first(running: Tracker, first: Update) -> None:
    running.apply([first])
    assert not crashed(running)
    running.apply([crashes(1), modified(**STOPPED)])
    assert crashed(running)


def test_a_guest_that_crashes_while_it_goes_down_has_crashed(running: Tracker) -> None:
    running.apply([modified(guest_state="shuttingDown", state_change=False)])
    running.apply([modified(**STOPPED)])
    running.apply([crashes(1)])
    assert crashed(running)


def test_a_guest_whose_tools_run_on_has_not_crashed(running: Tracker) -> None:
    assert running.apply([crashes(1)]) == []


def test_a_guest_that_lives_again_has_not_crashed_when_it_shuts_down_later(running: Tracker) -> None:
    running.apply([crashes(1), modified(**STOPPED)])
    running.apply([modified(**RUNNING)])
    assert not crashed(running)
    running.apply([modified(**STOPPED)])
    assert not crashed(running)


@pytest.mark.parametrize("down", ["shuttingDown", "resetting"])
def test_a_guest_that_says_that_it_goes_down_after_a_crash_lives(running: Tracker, down: str) -> None:
    running.apply([crashes(1)])
    running.apply([modified(guest_state=down, state_change=False)])
    running.apply([modified(**STOPPED)])
    assert not crashed(running)


def test_a_guest_whose_tools_run_on_for_long_lives(running: Tracker, clock: Clock) -> None:
    running.apply([crashes(1)])
    clock.now = CRASH_SECONDS
    running.apply([modified(**STOPPED)])
    assert not crashed(running)


def test_a_crash_is_of_its_run_alone(running: Tracker) -> None:
    running.apply([crashes(1), modified(**STOPPED)])
    running.apply([modified(boot_time=(START + timedelta(seconds=9)).isoformat())])
    assert not crashed(running)
    running.apply([crashes(1, 2)])
    assert not crashed(running)


def test_a_crash_that_was_told_before_is_not_told_of_again(running: Tracker) -> None:
    running.apply([crashes(1), modified(**STOPPED)])
    running.apply([modified(**RUNNING)])
    running.apply([modified(**STOPPED)])
    running.apply([crashes(1)])
    assert not crashed(running)


@pytest.mark.parametrize(
    ("tools", "at", "has_crashed"),
    [
        ("guestToolsNotRunning", START, True),
        ("guestToolsNotRunning", START - timedelta(hours=1), False),
        ("guestToolsRunning", START, False),
    ],
    ids=["in this run", "in an earlier one", "it lives again"],
)
def test_what_crashed_before_the_watch_began_is_known(tools: str, at: datetime, has_crashed: bool) -> None:
    tracker = Tracker()
    tracker.apply([crashes(1, at=at, enters=True), new(tools=tools, **BOOTED)])
    assert crashed(tracker) is has_crashed
    tracker.apply([modified(**STOPPED)])
    assert crashed(tracker) is has_crashed


@pytest.mark.parametrize("update", [crashes(1, vm="vm-2"), Update(Crashes, "collector", None)])
def test_what_is_told_of_no_vm_of_ours_is_nothing(running: Tracker, update: Update) -> None:
    assert running.apply([update]) == []


# Tasks that are under way


def test_a_task_under_way_is_named_until_it_ends(tracker: Tracker) -> None:
    vm = only(tracker.apply([task(kind="migrate")]))
    assert vm.signals == (Signal.VMWARE_TOOLS,)
    assert "VirtualMachine.migrate" in vm.problems[0].message
    assert only(tracker.apply([task(kind="migrate", state="success")])).problems == ()


@pytest.mark.parametrize("kind", ["powerOff", "shutdownGuest", "reset"])
def test_a_task_of_its_power_is_no_work_on_it(tracker: Tracker, kind: str) -> None:
    assert tracker.apply([task(kind=kind)]) == []


# Locks


def test_a_vm_that_a_task_holds_is_locked_until_that_ends(tracker: Tracker) -> None:
    tracker.apply([task(kind="createSnapshot")])
    tracker.hold("vm-1", HELD, "task-1")
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
    tracker.hold("vm-1", HELD, "task-1")
    vm = tracker.vm(new())
    assert vm
    assert vm.problems == ()


def test_a_lock_ends_with_a_task_that_vcenter_lists_no_more(tracker: Tracker) -> None:
    tracker.apply([task(kind="relocate")])
    tracker.hold("vm-1", HELD, "task-1")
    tracker.apply([gone("task-1", Task)])
    vm = tracker.vm(new())
    assert vm
    assert vm.problems == ()


def test_the_end_of_a_lock_that_only_a_read_told_of_is_told(tracker: Tracker) -> None:
    tracker.apply([task(kind="relocate")])
    tracker.hold("vm-1", HELD, "task-1")
    tracker.vm(new())
    assert only(tracker.apply([task(state="success", kind="relocate")])).problems == ()


def test_what_no_task_ends_holds_it_for_a_moment_and_its_end_is_told(timed: Tracker, clock: Clock) -> None:
    timed.hold("vm-1", HELD)
    held = timed.vm(new())
    assert held
    assert held.problems == (HELD,)
    clock.now = HOLD_SECONDS
    assert only(timed.apply([])).problems == ()


def test_a_task_that_is_never_listed_holds_it_for_a_moment(timed: Tracker, clock: Clock) -> None:
    timed.hold("vm-1", HELD, "task-hidden")
    clock.now = HOLD_SECONDS
    vm = timed.vm(new())
    assert vm
    assert vm.problems == ()


def test_a_task_that_is_listed_holds_it_for_as_long_as_it_runs(timed: Tracker, clock: Clock) -> None:
    timed.apply([task(kind="relocate")])
    timed.hold("vm-1", HELD, "task-1")
    clock.now = HOLD_SECONDS * 100
    timed.apply([])
    vm = timed.vm(new())
    assert vm
    assert vm.problems[0].reason is Reason.LOCKED


# Out of sight


def test_a_running_vm_that_leaves_is_not_told_before_vcenter_was_asked(tracker: Tracker) -> None:
    assert tracker.apply([gone()]) == []
    assert tracker.take_missing() == {"vm-1"}
    assert tracker.take_missing() == set()


def test_a_running_vm_that_exists_no_more_is_removed(tracker: Tracker) -> None:
    tracker.apply([gone()])
    assert tracker.settle_missing("vm-1", None) == [Removed("id-vm-1")]


def test_a_running_vm_that_left_the_scope_is_not_followed_and_takes_no_operations(tracker: Tracker) -> None:
    tracker.apply([gone()])
    vm = only(tracker.settle_missing("vm-1", new()))
    assert (vm.power_state, vm.signals) == (PowerState.UNKNOWN, ())
    assert "scope" in vm.refused


def test_a_vm_that_left_and_was_off_in_the_end_went_off_by_nobody_knows_whom(tracker: Tracker) -> None:
    tracker.apply([gone()])
    changes = tracker.settle_missing("vm-1", new(**OFF))
    vm = only(changes[:1])
    assert (vm.power_state, vm.ended) == (PowerState.OFF, None)
    assert changes[1:] == [Removed("id-vm-1")]


def test_a_vm_that_leaves_one_view_for_another_at_once_is_not_missing(tracker: Tracker) -> None:
    tracker.apply([gone(), new()])
    assert tracker.take_missing() == set()


def test_a_vm_that_comes_back_takes_operations_again(tracker: Tracker) -> None:
    tracker.apply([gone()])
    tracker.settle_missing("vm-1", new())
    assert only(tracker.apply([new()])).refused == ""


# Reading one


def test_a_vm_that_is_read_off_before_the_news_was_ended_by_nobody_knows_whom_yet(tracker: Tracker) -> None:
    assert tracker.is_behind(new(**OFF))
    vm = tracker.vm(new(**OFF))
    assert vm
    assert (vm.power_state, vm.ended) == (PowerState.OFF, None)


def test_a_vm_that_is_read_off_after_the_news_was_ended_as_they_tell(tracker: Tracker) -> None:
    tracker.apply([modified(**OFF)])
    assert not tracker.is_behind(new(**OFF))
    vm = tracker.vm(new(**OFF))
    assert vm
    assert vm.off_cause is OffCause.GUEST


def test_the_news_are_behind_as_long_as_a_task_that_may_have_ended_it_is_under_way(tracker: Tracker) -> None:
    tracker.apply([task(), modified(**OFF)])
    assert tracker.is_behind(new(**OFF))
    tracker.apply([task(state="success")])
    assert not tracker.is_behind(new(**OFF))


def test_of_a_vm_out_of_scope_no_news_come(tracker: Tracker) -> None:
    tracker.apply([gone()])
    tracker.settle_missing("vm-1", new())
    assert not tracker.is_behind(new(**OFF))


def test_a_vm_that_runs_is_read_as_it_is(tracker: Tracker) -> None:
    assert not tracker.is_behind(new())


def test_a_vm_that_is_read_and_not_followed_is_out_of_scope() -> None:
    tracker = Tracker(scoped=True)
    vm = tracker.vm(new())
    assert vm
    assert "scope" in vm.refused


def test_without_a_scope_every_vm_is_in_it() -> None:
    assert not Tracker().is_outside("vm-9")


def test_what_was_read_and_is_borne_out_is_not_told_again(tracker: Tracker) -> None:
    tracker.vm(new(name="shop"))
    assert tracker.apply([modified(name="shop")]) == []


def test_what_was_read_and_had_passed_before_the_news_is_put_right_by_them(tracker: Tracker) -> None:
    tracker.vm(new(name="shop"))
    assert only(tracker.apply([])).name == "web"


def test_news_that_are_older_than_a_read_are_told_all_the_same_and_then_what_followed_them(tracker: Tracker) -> None:
    again = {"boot_time": "2030-01-02T00:00:00+00:00"}
    read = tracker.vm(new(**again))
    assert read
    assert only(tracker.apply([modified(**OFF)])).power_state is PowerState.OFF
    told = only(tracker.apply([modified(power="poweredOn", **again)]))
    assert (told.power_state, told.run_id) == (PowerState.ON, read.run_id)


def test_a_vm_without_id_cannot_be_told_of(tracker: Tracker) -> None:
    assert tracker.vm(Update(VMProperties, "vm-9", {"power": "poweredOff"}, enters=True)) is None
