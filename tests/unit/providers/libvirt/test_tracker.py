"""What libvirt's events mean, without libvirt."""

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
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, OffCause.HOST),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, OffCause.HOST),
    ],
)
def test_going_off_is_told_with_its_cause_and_nothing_is_read(detail: int, cause: OffCause) -> None:
    world = tracker(ON)
    vm = only(world.lifecycle("a", libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)).vm
    assert (vm.power_state, vm.off_cause, vm.signals) == (PowerState.OFF, cause, ())
    assert world.take_stale() == {}


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
