"""From steps to changes, with a hypervisor that answers when the test says so."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import libvirt
import pytest

from providers.core.adapter import Changed, PowerState
from providers.core.errors import HypervisorUnavailable, VMNotFound
from providers.libvirt.states import Domain, Host
from providers.libvirt.tracker import Tracker
from providers.libvirt.watch import Inbox, Step, changes

ON = Domain("a", "web", libvirt.VIR_DOMAIN_RUNNING, 1, Host("node1", "", qemu=True))
OTHER = replace(ON, id="b")


def tracker() -> Tracker:
    tracker = Tracker()
    tracker.listed([ON, OTHER])
    return tracker


def event(vm_id: str, number: int) -> Step:
    return partial(Tracker.lifecycle, vm_id=vm_id, event=number, detail=0)


async def test_no_event_waits_for_an_answer() -> None:
    inbox, answered = Inbox(), asyncio.Event()

    async def read(_vm_id: str) -> Domain:
        await answered.wait()
        return ON

    inbox.put_nowait(event("a", libvirt.VIR_DOMAIN_EVENT_RESUMED))
    inbox.put_nowait(event("b", libvirt.VIR_DOMAIN_EVENT_STOPPED))
    async with aclosing(changes(inbox, tracker(), read)) as told:
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
    with pytest.raises(HypervisorUnavailable, match="gone"):
        await anext(changes(inbox, tracker(), read))


async def test_a_vm_that_is_gone_when_it_is_read_does_not_end_the_watch() -> None:
    inbox = Inbox()

    async def read(_vm_id: str) -> Domain:
        inbox.put_nowait(event("a", libvirt.VIR_DOMAIN_EVENT_STOPPED))
        raise VMNotFound("gone")

    inbox.put_nowait(event("a", libvirt.VIR_DOMAIN_EVENT_RESUMED))
    async with aclosing(changes(inbox, tracker(), read)) as told:
        change = await anext(told)
        assert isinstance(change, Changed)
        assert change.vm.power_state is PowerState.OFF
