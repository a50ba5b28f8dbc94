"""From steps to changes, with a hypervisor that answers when the test says so."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from functools import partial

import libvirt
import pytest

from providers.core.adapter import VM, Change, Changed, PowerState, Signal
from providers.core.errors import CommandFailed, HypervisorError, HypervisorUnavailable, Locked, VMNotFound
from providers.libvirt.states import Domain, Host
from providers.libvirt.tracker import Tracker
from providers.libvirt.watch import RECHECK_SECONDS, REFRESH_SECONDS, Inbox, Read, Step, changes

ON = Domain("a", "web", libvirt.VIR_DOMAIN_RUNNING, 1, Host("node1", "", qemu=True), run="1.ab")
OTHER = replace(ON, id="b")


def tracker() -> Tracker:
    tracker = Tracker()
    tracker.listed([ON, OTHER])
    return tracker


def event(vm_id: str, number: int) -> Step:
    return partial(Tracker.lifecycle, vm_id=vm_id, event=number, detail=0)


class Hypervisor:
    """What is read and marked of it."""

    def __init__(self, *domains: Domain) -> None:
        self.domains = {domain.id: domain for domain in domains}
        self.reads = list[str]()
        self.marks = list[str]()
        self.refuses: list[HypervisorError] = []

    async def read(self, vm_id: str) -> Domain:
        self.reads.append(vm_id)
        return self.domains[vm_id]

    async def read_all(self, _known: Mapping[str, Domain]) -> Sequence[Domain]:
        self.reads.append("all")
        return tuple(self.domains.values())

    async def mark(self, vm_id: str) -> str:
        self.marks.append(vm_id)
        if self.refuses:
            raise self.refuses.pop(0)
        return "1.ab"

    def follow(
        self, inbox: Inbox, tracker: Tracker, read: Read | None = None
    ) -> AbstractAsyncContextManager[AsyncGenerator[Change, None]]:
        return aclosing(changes(inbox, tracker, read or self.read, self.read_all, self.mark))


async def next_vm(told: AsyncGenerator[Change, None]) -> VM:
    change = await anext(told)
    assert isinstance(change, Changed)
    return change.vm


async def nothing_for(seconds: float, told: AsyncGenerator[Change, None]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(told), seconds)


async def test_no_event_waits_for_an_answer() -> None:
    inbox, answered = Inbox(), asyncio.Event()

    async def read(_vm_id: str) -> Domain:
        await answered.wait()
        return ON

    inbox.put_nowait(event("a", libvirt.VIR_DOMAIN_EVENT_RESUMED))
    inbox.put_nowait(event("b", libvirt.VIR_DOMAIN_EVENT_STOPPED))
    async with Hypervisor().follow(inbox, tracker(), read) as told:
        change = await anext(told)
        assert isinstance(change, Changed)
        assert (change.vm.id, change.vm.power_state) == ("b", PowerState.OFF)
        answered.set()
        change = await anext(told)
        assert isinstance(change, Changed)
        assert (change.vm.id, change.vm.power_state) == ("a", PowerState.ON)


async def test_an_unreachable_hypervisor_ends_the_watch() -> None:
    inbox = Inbox()

    async def read(_vm_id: str) -> Domain:
        raise HypervisorUnavailable("gone")

    inbox.put_nowait(event("a", libvirt.VIR_DOMAIN_EVENT_RESUMED))
    async with Hypervisor().follow(inbox, tracker(), read) as told:
        with pytest.raises(HypervisorUnavailable, match="gone"):
            await anext(told)


async def test_a_vm_that_is_gone_when_it_is_read_does_not_end_the_watch() -> None:
    inbox = Inbox()

    async def read(_vm_id: str) -> Domain:
        inbox.put_nowait(event("a", libvirt.VIR_DOMAIN_EVENT_STOPPED))
        raise VMNotFound("gone")

    inbox.put_nowait(event("a", libvirt.VIR_DOMAIN_EVENT_RESUMED))
    async with Hypervisor().follow(inbox, tracker(), read) as told:
        change = await anext(told)
        assert isinstance(change, Changed)
        assert change.vm.power_state is PowerState.OFF


# What has no event


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("seconds", "looks"), [(RECHECK_SECONDS + 1, 1), (10 * REFRESH_SECONDS + RECHECK_SECONDS + 1, 11)]
)
async def test_all_are_read_soon_and_once_a_minute_then_and_nothing_else_is(seconds: float, looks: int) -> None:
    world = Hypervisor(ON, OTHER)
    async with world.follow(Inbox(), tracker()) as told:
        await nothing_for(seconds, told)
    assert world.reads == looks * ["all"]


@pytest.mark.looptime
async def test_an_end_that_libvirtd_finds_as_it_starts_and_tells_nobody_is_told_within_seconds() -> None:
    """It lists the guest as running until it has found out."""
    world = Hypervisor(replace(ON, state=libvirt.VIR_DOMAIN_SHUTOFF, run=""), OTHER)
    async with world.follow(Inbox(), tracker()) as told:
        vm = await asyncio.wait_for(next_vm(told), 2 * RECHECK_SECONDS + 1)
    assert (vm.id, vm.power_state) == ("a", PowerState.OFF)


@pytest.mark.looptime
async def test_what_has_changed_without_an_event_is_told_within_a_minute() -> None:
    world = Hypervisor(replace(ON, restarts=True), OTHER)
    async with world.follow(Inbox(), tracker()) as told:
        vm = await asyncio.wait_for(next_vm(told), REFRESH_SECONDS + 1)
    assert (vm.id, vm.signals) == ("a", ())


@pytest.mark.looptime
async def test_a_job_that_ends_without_an_event_is_told_within_seconds() -> None:
    inbox, world = Inbox(), Hypervisor(replace(ON, job="it is being migrated to another host"), OTHER)
    inbox.put_nowait(partial(Tracker.job, vm_id="a", ended=False))
    async with world.follow(inbox, tracker()) as told:
        assert (await next_vm(told)).signals == ()
        world.domains["a"] = ON
        vm = await asyncio.wait_for(next_vm(told), RECHECK_SECONDS + 1)
    assert vm.signals == (Signal.ACPI,)
    assert world.reads == ["a", "all", "a"]


@pytest.mark.looptime
async def test_a_failing_read_of_all_ends_the_watch() -> None:
    class Lost(Hypervisor):
        async def read_all(self, known: Mapping[str, Domain]) -> Sequence[Domain]:
            raise HypervisorUnavailable("gone")

    async with Lost().follow(Inbox(), tracker()) as told:
        with pytest.raises(HypervisorUnavailable, match="gone"):
            await anext(told)


# Marks


UNMARKED = replace(ON, run="")


def unmarked() -> Tracker:
    tracker = Tracker()
    tracker.listed([UNMARKED])
    return tracker


async def test_what_runs_from_the_beginning_is_marked_and_told() -> None:
    world = Hypervisor(UNMARKED)
    async with world.follow(Inbox(), unmarked()) as told:
        assert (await next_vm(told)).run_id == "1.ab"
    assert world.marks == ["a"]


@pytest.mark.looptime
async def test_a_vm_that_is_held_is_marked_later() -> None:
    world = Hypervisor(UNMARKED)
    world.refuses = [Locked("held")]
    async with world.follow(Inbox(), unmarked()) as told:
        assert (await asyncio.wait_for(next_vm(told), REFRESH_SECONDS + 1)).run_id == "1.ab"


@pytest.mark.looptime
async def test_a_vm_that_may_not_be_marked_is_tried_once() -> None:
    world = Hypervisor(UNMARKED)
    world.refuses = [CommandFailed("denied")]
    async with world.follow(Inbox(), unmarked()) as told:
        await nothing_for(3 * REFRESH_SECONDS + 1, told)
    assert world.marks == ["a"]
