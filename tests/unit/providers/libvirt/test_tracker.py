"""What libvirt's events mean, without libvirt."""

import asyncio
from dataclasses import replace

import libvirt
import pytest

from providers.core.adapter import Change, Changed, Listed, OffCause, PowerState, Removed, Signal
from providers.core.errors import UnknownNativeState
from providers.libvirt.states import Agent, Domain, Host
from providers.libvirt.tracker import Tracker

HOST = Host("node1", "", qemu=True)
ON = Domain("a", "web", libvirt.VIR_DOMAIN_RUNNING, 1, HOST, agent=Agent.CONNECTED)
OFF = replace(
    ON, state=libvirt.VIR_DOMAIN_SHUTOFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, agent=Agent.DISCONNECTED
)


def tracker(*domains: Domain) -> Tracker:
    tracker = Tracker()
    tracker.listed(domains)
    return tracker


def only(changes: list[Change]) -> Changed:
    (change,) = changes
    assert isinstance(change, Changed)
    return change


def read_again(tracker: Tracker, domain: Domain | None, vm_id: str = "a") -> list[Change]:
    (number,) = (number for stale, number in tracker.take_stale().items() if stale == vm_id)
    return tracker.read(vm_id, number, domain)


def test_it_begins_with_all_there_is() -> None:
    listed = Tracker().listed([ON, replace(OFF, id="b")])
    assert isinstance(listed, Listed)
    assert [(vm.id, vm.power_state) for vm in listed.vms] == [("a", PowerState.ON), ("b", PowerState.OFF)]


@pytest.mark.parametrize(
    ("detail", "cause"),
    [
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, OffCause.GUEST),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED, OffCause.HOST),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, OffCause.CRASHED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED, OffCause.CRASHED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, OffCause.HOST),
    ],
)
def test_going_off_is_told_with_its_cause_and_nothing_is_read(detail: int, cause: OffCause) -> None:
    world = tracker(ON)
    vm = only(world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)).vm
    assert (vm.power_state, vm.off_cause, vm.signals) == (PowerState.OFF, cause, ())
    assert world.take_stale() == {}


def test_an_event_that_is_older_than_a_read_is_told_all_the_same_and_then_what_followed_it() -> None:
    world, again = tracker(ON), replace(ON, run="2")
    assert world.vm(again).run_id == "2"
    assert only(world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)).vm.power_state is PowerState.OFF
    assert world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0) == []
    assert only(read_again(world, again)).vm.run_id == "2"


def test_an_unknown_way_of_stopping_is_an_error() -> None:
    with pytest.raises(UnknownNativeState, match="99"):
        tracker(ON).lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, 99)


def test_a_shutdown_that_the_host_began_is_the_hosts() -> None:
    world = tracker(ON)
    assert world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST) == []
    vm = only(world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)).vm
    assert vm.off_cause is OffCause.HOST
    assert world.vm(OFF).off_cause is OffCause.HOST


def test_who_began_the_last_shutdown_is_forgotten_at_the_next_start() -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    assert world.vm(OFF).off_cause is OffCause.GUEST


def test_a_guest_that_began_its_shutdown_itself_takes_it_over() -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST)
    assert world.vm(OFF).off_cause is OffCause.GUEST


def test_a_transient_vm_goes_off_and_is_gone() -> None:
    changes = tracker(replace(ON, persistent=False)).lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)
    assert only(changes[:1]).vm.off_cause is OffCause.GUEST
    assert changes[1:] == [Removed("a")]


def test_a_vm_undefined_while_it_runs_is_gone_when_it_is_off() -> None:
    world = tracker(ON)
    assert only(world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0)).vm.power_state is PowerState.ON
    assert world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)[1:] == [Removed("a")]


def test_a_vm_undefined_while_it_is_off_is_gone() -> None:
    assert tracker(OFF).lifecycle("a", libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0) == [Removed("a")]


def test_a_vm_that_gets_a_new_name_is_never_gone() -> None:
    world = tracker(OFF)
    assert world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_UNDEFINED, libvirt.VIR_DOMAIN_EVENT_UNDEFINED_RENAMED) == []
    assert world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_DEFINED_RENAMED) == []
    assert only(read_again(world, replace(OFF, name="new"))).vm.name == "new"


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, 0),
        (libvirt.VIR_DOMAIN_EVENT_STARTED, 0),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, 0),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, 0),
        (libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED, 0),
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, 0),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED),
        (4711, 0),
    ],
)
def test_what_an_event_does_not_tell_is_read(event: int, detail: int) -> None:
    world = tracker(OFF)
    assert world.lifecycle("a", event, detail) == []
    assert only(read_again(world, ON)).vm.power_state is PowerState.ON


def test_events_that_come_together_are_read_once() -> None:
    world = tracker(OFF)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    assert len(world.take_stale()) == 1


def test_going_off_overtakes_an_answer_that_still_says_on() -> None:
    world = tracker(OFF)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    (number,) = world.take_stale().values()
    assert only(world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)).vm.power_state is PowerState.OFF
    assert world.read("a", number, ON) == []


def test_an_event_during_a_read_makes_it_read_again() -> None:
    world = tracker(OFF)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    (number,) = world.take_stale().values()
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_SUSPENDED, 0)
    assert world.read("a", number, ON) == []
    assert only(read_again(world, ON)).vm.power_state is PowerState.ON


def test_an_agent_that_goes_and_comes_is_told_and_nothing_is_read() -> None:
    world = tracker(ON)
    assert only(world.agent("a", connected=False)).vm.signals == (Signal.ACPI,)
    assert only(world.agent("a", connected=True)).vm.signals == (Signal.GUEST_AGENT, Signal.ACPI)
    assert world.take_stale() == {}


def test_an_agent_that_comes_during_a_read_makes_it_read_again() -> None:
    world = tracker(OFF)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    (number,) = world.take_stale().values()
    assert world.agent("a", connected=True) == []
    assert world.read("a", number, replace(ON, agent=Agent.DISCONNECTED)) == []
    assert only(read_again(world, ON)).vm.signals == (Signal.GUEST_AGENT, Signal.ACPI)


def test_the_agent_of_a_vm_that_is_off_tells_nothing() -> None:
    assert tracker(OFF).agent("a", connected=False) == []
    assert tracker().agent("a", connected=False) == []


def test_a_new_vm_is_read_and_shown() -> None:
    world = tracker()
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    assert only(read_again(world, ON)).vm.id == "a"


def test_a_vm_that_stopped_before_it_was_ever_read_is_gone() -> None:
    world = tracker()
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)
    assert read_again(world, None) == [Removed("a")]


def test_a_running_vm_that_cannot_be_found_waits_for_its_stop_event_and_its_cause() -> None:
    world = tracker(replace(ON, persistent=False))
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
    assert read_again(world, None) == []
    changes = world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED)
    assert only(changes[:1]).vm.off_cause is OffCause.CRASHED
    assert changes[1:] == [Removed("a")]


def test_a_transient_vm_saved_to_a_file_goes_off_and_is_gone() -> None:
    world = tracker(replace(ON, persistent=False))
    changes = world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED)
    assert only(changes[:1]).vm.off_cause is OffCause.HOST
    assert changes[1:] == [Removed("a")]


def test_a_vm_saved_and_undefined_is_gone() -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0)
    assert read_again(world, None) == [Removed("a")]


def test_a_vm_undefined_while_it_is_read_is_read_again() -> None:
    world = tracker(OFF)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    assert world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0) == []
    assert only(read_again(world, replace(ON, persistent=False))).vm.labels == {"persistent": "false"}


# Elsewhere

MOVED = replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
FORGOTTEN = replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN)
COMING = replace(ON, state=libvirt.VIR_DOMAIN_PAUSED, reason=libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
STARTED, STOPPED = libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STOPPED


def test_a_vm_that_is_migrated_away_is_neither_on_nor_off() -> None:
    world = tracker(ON)
    vm = only(world.lifecycle("a", STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED)).vm
    assert (vm.power_state, vm.ended) == (PowerState.UNKNOWN, None)
    assert "moved to another host" in world.elsewhere("a")


def test_a_vm_that_was_moved_stays_moved_when_libvirtd_has_forgotten_it() -> None:
    (vm,) = Tracker(["a"]).listed([FORGOTTEN]).vms
    assert vm.power_state is PowerState.UNKNOWN


@pytest.mark.parametrize("crashed_or_cut", [libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED])
def test_a_vm_that_was_moved_stays_moved_when_a_migration_back_may_have_failed(crashed_or_cut: int) -> None:
    (vm,) = Tracker(["a"]).listed([replace(OFF, reason=crashed_or_cut)]).vms
    assert vm.power_state is PowerState.UNKNOWN


def test_a_vm_that_was_moved_and_shut_down_here_since_is_off() -> None:
    (vm,) = Tracker(["a"]).listed([OFF]).vms
    assert (vm.power_state, vm.off_cause) == (PowerState.OFF, OffCause.GUEST)


def test_a_vm_that_was_moved_and_started_here_by_hand_is_here() -> None:
    world = tracker(MOVED)
    world.lifecycle("a", STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED)
    assert only(read_again(world, ON)).vm.power_state is PowerState.ON
    assert only(world.lifecycle("a", STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)).vm.off_cause is OffCause.GUEST


def test_a_migration_to_here_that_fails_leaves_the_vm_elsewhere() -> None:
    world = tracker(FORGOTTEN)
    world.lifecycle("a", STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED)
    assert only(read_again(world, COMING)).vm.power_state is PowerState.UNKNOWN
    assert "to this host" in world.elsewhere("a")
    vm = only(world.lifecycle("a", STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED)).vm
    assert (vm.power_state, vm.ended) == (PowerState.UNKNOWN, None)


def test_a_vm_that_was_migrated_to_here_is_here() -> None:
    world = tracker(MOVED)
    world.lifecycle("a", STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED)
    read_again(world, COMING)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
    assert only(read_again(world, ON)).vm.power_state is PowerState.ON
    assert world.elsewhere("a") == ""


# What was heard


@pytest.mark.parametrize("detail", [libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED])
def test_a_crash_that_was_heard_of_is_one_also_when_it_is_read(detail: int) -> None:
    crashed = replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
    world = tracker(ON)
    world.lifecycle("a", STOPPED, detail)
    assert world.vm(crashed).off_cause is OffCause.CRASHED


def test_a_crash_that_was_only_found_is_no_known_cause() -> None:
    (vm,) = Tracker().listed([replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)]).vms
    assert (vm.power_state, vm.ended) == (PowerState.OFF, None)


def test_a_guest_that_had_shut_down_when_it_was_cut_went_by_itself() -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST)
    assert world.left("a")
    vm = only(world.lifecycle("a", STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)).vm
    assert vm.off_cause is OffCause.GUEST


def test_a_guest_that_shut_down_to_be_reset_has_not_left() -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
    assert not world.left("a")
    assert only(world.lifecycle("a", STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)).vm.off_cause is OffCause.HOST


def test_a_panic_is_told_of_its_run_alone() -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED)
    assert only(read_again(world, ON)).vm.crashed
    world.lifecycle("a", STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
    world.lifecycle("a", STARTED, 0)
    assert not only(read_again(world, ON)).vm.crashed


def test_a_guest_that_wakes_is_in_the_same_run() -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_CRASHED, 0)
    world.lifecycle("a", STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_WAKEUP)
    assert only(read_again(world, ON)).vm.crashed


@pytest.mark.parametrize("found", [OFF, None])
def test_what_is_found_off_or_gone_waits_for_its_stop_event(found: Domain | None) -> None:
    world = tracker(ON)
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
    assert read_again(world, found) == []


async def test_the_end_of_what_runs_can_be_waited_for() -> None:
    world = tracker(ON)
    waiting = asyncio.create_task(world.ended("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    world.lifecycle("a", STOPPED, 0)
    await waiting


async def test_no_end_is_to_come_of_what_does_not_run() -> None:
    await tracker(OFF).ended("a")
    await tracker().ended("a")


# Held

BUSY = replace(ON, job="it is being migrated to another host")


def test_a_migration_is_read_once_when_it_begins_and_again_when_it_ends() -> None:
    world = tracker(ON)
    world.job("a", ended=False)
    assert world.may_have_job("a")
    assert only(read_again(world, BUSY)).vm.signals == (Signal.GUEST_AGENT,)
    world.job("a", ended=False)
    assert world.take_stale() == {}
    world.job("a", ended=True)
    assert only(read_again(world, ON)).vm.signals == (Signal.GUEST_AGENT, Signal.ACPI)
    assert not world.may_have_job("a")


def test_the_end_of_a_job_that_held_nothing_is_not_read() -> None:
    world = tracker(ON)
    world.job("a", ended=True)
    assert world.take_stale() == {}


def test_what_is_held_is_looked_at_until_it_is_free() -> None:
    world = tracker(ON)
    world.hold("a", Signal.ACPI)
    read_again(world, BUSY)
    assert world.recheck() == []
    read_again(world, ON)
    assert world.recheck() == []
    assert world.take_stale() == {}


def test_what_is_being_read_is_not_read_a_second_time() -> None:
    world = tracker(ON)
    world.hold("a", Signal.ACPI)
    world.take_stale()
    world.recheck()
    assert world.take_stale() == {}


def test_an_agent_that_was_busy_is_offered_again_after_a_while() -> None:
    world = tracker(ON)
    world.hold("a", Signal.GUEST_AGENT)
    assert only(read_again(world, ON)).vm.signals == (Signal.ACPI,)
    assert only(world.recheck()).vm.signals == (Signal.GUEST_AGENT, Signal.ACPI)
    assert world.recheck() == []


def test_what_went_off_is_not_held() -> None:
    world = tracker(BUSY)
    world.hold("a", Signal.ACPI)
    world.lifecycle("a", STOPPED, 0)
    assert not world.may_have_job("a")


# Marks

MARKED = replace(ON, run="1.ab")


def test_what_runs_without_a_mark_is_marked_once() -> None:
    world = tracker(ON)
    assert world.take_unmarked() == {"a"}
    world.agent("a", connected=False)
    assert world.take_unmarked() == set()
    assert only(world.marked("a", "1.ab")).vm.run_id == "1.ab"
    assert world.take_stale() == {}


def test_a_mark_that_comes_while_it_is_read_makes_it_read_again() -> None:
    world = tracker(ON)
    world.take_unmarked()
    world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_RESUMED, 0)
    (number,) = world.take_stale().values()
    assert world.marked("a", "1.ab") == []
    assert world.read("a", number, ON) == []
    assert only(read_again(world, MARKED)).vm.run_id == "1.ab"


def test_a_mark_of_a_run_that_is_over_is_not_told() -> None:
    world = tracker(ON)
    world.take_unmarked()
    world.lifecycle("a", STOPPED, 0)
    assert world.marked("a", "1.ab") == []
    world.lifecycle("a", STARTED, 0)
    read_again(world, ON)
    assert world.marked("a", "1.ab") == []


def test_what_has_a_mark_is_not_marked() -> None:
    assert tracker(MARKED, replace(OFF, id="b")).take_unmarked() == set()


def test_what_was_held_is_marked_later() -> None:
    world = tracker(ON)
    world.take_unmarked()
    world.marked("a", "")
    world.agent("a", connected=False)
    assert world.take_unmarked() == {"a"}


def test_each_run_is_marked() -> None:
    world = tracker(ON)
    world.take_unmarked()
    world.lifecycle("a", STOPPED, 0)
    world.lifecycle("a", STARTED, 0)
    read_again(world, ON)
    assert world.take_unmarked() == {"a"}


# Reading all


def refreshed(world: Tracker, *found: Domain) -> list[Change]:
    world.begin_refresh()
    return world.refreshed(found)


def test_nothing_new_is_not_told() -> None:
    known = replace(ON, addresses=("192.0.2.1",), job="it is being dumped")
    assert refreshed(tracker(known), ON) == []


def test_what_has_no_event_is_found() -> None:
    assert only(refreshed(tracker(MARKED), replace(MARKED, restarts=True))).vm.signals == ()


def test_addresses_are_kept() -> None:
    world = tracker(replace(MARKED, addresses=("192.0.2.1",)))
    assert only(refreshed(world, replace(MARKED, restarts=True))).vm.addresses == ("192.0.2.1",)


def test_a_new_vm_is_found() -> None:
    assert only(refreshed(tracker(), OFF)).vm.id == "a"


def test_an_event_is_newer_than_what_was_read_meanwhile() -> None:
    world = tracker(OFF)
    world.begin_refresh()
    world.lifecycle("a", STARTED, 0)
    assert world.refreshed([OFF]) == []
    assert only(read_again(world, ON)).vm.power_state is PowerState.ON


def test_going_off_without_an_event_is_believed_the_second_time() -> None:
    found = replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
    world = tracker(ON)
    assert refreshed(world, found) == []
    vm = only(refreshed(world, found)).vm
    assert (vm.power_state, vm.ended) == (PowerState.OFF, None)


def test_vanishing_without_an_event_is_believed_the_second_time() -> None:
    world = tracker(ON)
    assert refreshed(world) == []
    assert refreshed(world) == [Removed("a")]


def test_a_vm_that_is_off_and_vanishes_is_removed() -> None:
    assert refreshed(tracker(OFF)) == [Removed("a")]


def test_what_was_found_ended_is_read_again_soon_and_believed_then() -> None:
    world = tracker(ON)
    refreshed(world, OFF)
    world.recheck()
    assert only(read_again(world, OFF)).vm.power_state is PowerState.OFF


def test_what_was_found_ended_and_runs_after_all_is_not_looked_at_again() -> None:
    world = tracker(MARKED)
    refreshed(world, OFF)
    world.recheck()
    read_again(world, MARKED)
    world.recheck()
    assert world.take_stale() == {}


def test_an_event_between_two_looks_begins_the_count_anew() -> None:
    world = tracker(ON)
    refreshed(world)
    world.begin_refresh()
    world.agent("a", connected=False)
    assert world.refreshed([]) == []
    assert refreshed(world) == []
    assert refreshed(world) == [Removed("a")]


def test_a_mark_that_is_still_missing_is_tried_again() -> None:
    world = tracker(ON)
    world.take_unmarked()
    world.marked("a", "")
    refreshed(world, ON)
    assert world.take_unmarked() == {"a"}
