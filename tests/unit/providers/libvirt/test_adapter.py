"""The adapter over libvirt's test driver."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import libvirt
import pytest

from providers.core.adapter import (
    VM,
    Adapter,
    Change,
    Changed,
    Escalation,
    Grace,
    Listed,
    OffCause,
    PowerState,
    Removed,
    Signal,
    supports,
)
from providers.core.errors import CommandFailed, HypervisorUnavailable, Unsupported, VMNotFound
from providers.libvirt import adapter as module
from providers.libvirt import domains, guest_exec
from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings
from providers.libvirt.tracker import Tracker

GRACE = Grace(datetime.max.replace(tzinfo=UTC), Escalation.NEVER)


async def vm_when(changes: AsyncGenerator[Change, None], vm_id: str, state: PowerState, marked: bool = False) -> VM:
    """The VM, when it is next told in this state; `marked`: and with its run. The driver has others, which run."""
    async for change in changes:
        if not isinstance(change, Changed) or (change.vm.id, change.vm.power_state) != (vm_id, state):
            continue
        if change.vm.run_id or not marked:
            return change.vm
    raise AssertionError("the watch has ended")


async def test_it_is_an_adapter_that_can_do_everything(adapter: LibvirtAdapter) -> None:
    checked: Adapter = adapter
    assert (checked.type, checked.signals) == ("libvirt", (Signal.GUEST_AGENT, Signal.ACPI))
    assert supports(checked, "guest_exec")
    assert supports(checked, "snapshot")


async def test_libvirts_version_is_known_after_the_first_call(adapter: LibvirtAdapter) -> None:
    assert adapter.version == ""
    await adapter.list()
    assert adapter.version.startswith("libvirt ")


async def test_the_hypervisors_version_is_known_once_it_is_watched(adapter: LibvirtAdapter, vm_id: str) -> None:
    async with aclosing(adapter.watch()) as changes:
        await anext(changes)
        while " / TEST " not in adapter.version:
            for switch in (adapter.power_on, adapter.power_off):
                await switch(vm_id)
                await anext(changes)


async def test_get_and_list_agree(adapter: LibvirtAdapter, handle: Any, vm_id: str) -> None:
    vm = await adapter.get(vm_id)
    assert (vm.id, vm.name, vm.power_state) == (vm_id, handle.name(), PowerState.OFF)
    assert vm.node
    assert vm in await adapter.list()


@pytest.mark.parametrize("unknown", ["", "web", "0a5d2a52-93f6-4d6d-9d0c-2f2f3a1c7b11"])
async def test_an_unknown_id_is_not_found(adapter: LibvirtAdapter, unknown: str) -> None:
    with pytest.raises(VMNotFound):
        await adapter.get(unknown)


async def test_on_and_off_may_be_repeated(adapter: LibvirtAdapter, vm_id: str) -> None:
    for _ in range(2):
        await adapter.power_on(vm_id)
        assert (await adapter.get(vm_id)).power_state is PowerState.ON
    for _ in range(2):
        await adapter.power_off(vm_id)
        assert (await adapter.get(vm_id)).off_cause is OffCause.HOST


async def test_a_guest_that_is_asked_goes_down_by_itself(adapter: LibvirtAdapter, vm_id: str) -> None:
    await adapter.power_on(vm_id)
    await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
    assert (await adapter.get(vm_id)).off_cause is OffCause.GUEST


async def test_asking_a_guest_that_is_off_already_is_no_error(adapter: LibvirtAdapter, vm_id: str) -> None:
    await adapter.send_signal(vm_id, Signal.ACPI, GRACE)


async def test_a_signal_that_libvirt_does_not_have_is_refused(adapter: LibvirtAdapter, vm_id: str) -> None:
    with pytest.raises(CommandFailed, match="VMWARE_TOOLS"):
        await adapter.send_signal(vm_id, Signal.VMWARE_TOOLS, GRACE)


async def test_a_paused_guest_is_resumed_by_power_on(adapter: LibvirtAdapter, handle: Any, vm_id: str) -> None:
    handle.create()
    handle.suspend()
    assert (await adapter.get(vm_id)).power_state is PowerState.PAUSED
    await adapter.power_on(vm_id)
    assert (await adapter.get(vm_id)).power_state is PowerState.ON


async def test_a_managed_save_is_discarded_by_power_off(adapter: LibvirtAdapter, handle: Any, vm_id: str) -> None:
    handle.create()
    handle.managedSave()
    assert (await adapter.get(vm_id)).power_state is PowerState.SUSPENDED
    assert await adapter.power_off(vm_id)
    assert (await adapter.get(vm_id)).power_state is PowerState.OFF


async def test_a_saved_guest_is_resumed_by_power_on(adapter: LibvirtAdapter, handle: Any, vm_id: str) -> None:
    handle.create()
    assert await adapter.save(vm_id)
    vm = await adapter.get(vm_id)
    assert (vm.power_state, vm.saved, vm.run_id) == (PowerState.SUSPENDED, True, "")
    await adapter.power_on(vm_id)
    assert (await adapter.get(vm_id)).power_state is PowerState.ON


async def test_what_is_saved_or_off_already_was_not_saved_by_us(
    adapter: LibvirtAdapter, handle: Any, vm_id: str
) -> None:
    handle.create()
    assert [await adapter.save(vm_id) for _ in range(2)] == [True, False]
    await adapter.power_off(vm_id)
    assert not await adapter.save(vm_id)


async def test_programs_run_in_qemus_guests_only(adapter: LibvirtAdapter, vm_id: str) -> None:
    with pytest.raises(Unsupported, match="QEMU"):
        await adapter.guest_exec(vm_id, ["true"], None)


async def test_a_watch_lists_and_then_tells_each_change(adapter: LibvirtAdapter, vm_id: str) -> None:
    async with aclosing(adapter.watch()) as changes:
        listed = await anext(changes)
        assert isinstance(listed, Listed)
        assert vm_id in {vm.id for vm in listed.vms}
        await adapter.power_on(vm_id)
        await vm_when(changes, vm_id, PowerState.ON)
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await vm_when(changes, vm_id, PowerState.OFF)).off_cause is OffCause.GUEST


async def test_a_run_is_told_also_by_get_and_list_and_the_next_one_is_another(
    adapter: LibvirtAdapter, vm_id: str
) -> None:
    runs = []
    async with aclosing(adapter.watch()) as changes:
        await anext(changes)
        for _ in range(2):
            await adapter.power_on(vm_id)
            runs.append((await vm_when(changes, vm_id, PowerState.ON, marked=True)).run_id)
            assert (await adapter.get(vm_id)).run_id == runs[-1]
            assert runs[-1] in [vm.run_id for vm in await adapter.list()]
            await adapter.power_off(vm_id)
            assert (await vm_when(changes, vm_id, PowerState.OFF)).run_id == ""
    assert len(set(runs)) == 2


async def test_a_vm_that_was_just_started_is_read_with_its_run(adapter: LibvirtAdapter, vm_id: str) -> None:
    runs = set[str]()
    for _ in range(2):
        await adapter.power_on(vm_id)
        runs |= {(await adapter.get(vm_id)).run_id, (await adapter.get(vm_id)).run_id}
        await adapter.power_off(vm_id)
    assert len(runs - {""}) == len(runs) == 2


@pytest.mark.parametrize("refusal", [CommandFailed("read-only"), None], ids=["refused", "silent"])
async def test_a_vm_that_cannot_be_marked_is_read_all_the_same(
    adapter: LibvirtAdapter, vm_id: str, monkeypatch: pytest.MonkeyPatch, refusal: CommandFailed | None
) -> None:
    async def mark(_vm_id: str) -> str:
        if refusal:
            raise refusal
        await asyncio.Event().wait()
        return ""

    await adapter.power_on(vm_id)
    monkeypatch.setattr(adapter, "_mark", mark)
    monkeypatch.setattr(module, "MARK_SECONDS", 0.01)
    vm = await adapter.get(vm_id)
    assert (vm.power_state, vm.run_id) == (PowerState.ON, "")


async def test_a_run_outlives_the_provider(adapter: LibvirtAdapter, vm_id: str) -> None:
    runs = []
    await adapter.power_on(vm_id)
    async with aclosing(adapter.watch()) as changes:
        await anext(changes)
        runs.append((await vm_when(changes, vm_id, PowerState.ON, marked=True)).run_id)
    async with aclosing(adapter.watch()) as changes:
        listed = await anext(changes)
        assert isinstance(listed, Listed)
        assert runs[0] in [vm.run_id for vm in listed.vms]


async def test_a_power_off_tells_whether_it_cut_the_power(adapter: LibvirtAdapter, vm_id: str) -> None:
    assert not await adapter.power_off(vm_id)
    await adapter.power_on(vm_id)
    assert await adapter.power_off(vm_id)


async def test_nothing_is_done_to_a_vm_that_is_elsewhere(adapter: LibvirtAdapter, vm_id: str) -> None:
    """A migration to here began, and the VM was not seen here since."""
    coming = Tracker()
    coming.lifecycle(vm_id, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED)
    adapter._tracker = coming
    for command in (adapter.power_on(vm_id), adapter.power_off(vm_id), adapter.send_signal(vm_id, Signal.ACPI, GRACE)):
        with pytest.raises(CommandFailed, match="moved to another host"):
            await command
    assert (await adapter.get(vm_id)).power_state is PowerState.UNKNOWN


async def test_what_was_found_off_is_told_with_what_its_event_says(adapter: LibvirtAdapter, vm_id: str) -> None:
    """The watch knows it to run until the event is read from it."""
    await adapter.power_on(vm_id)
    async with aclosing(adapter.watch()) as changes:
        await anext(changes)
        await adapter.power_off(vm_id)
        reading = asyncio.create_task(adapter.get(vm_id))
        await vm_when(changes, vm_id, PowerState.OFF)
        assert (await reading).off_cause is OffCause.HOST


async def test_an_event_that_does_not_come_is_not_waited_for_long(
    adapter: LibvirtAdapter, vm_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.libvirt.adapter.EVENT_SECONDS", 0.01)
    await adapter.power_on(vm_id)
    async with aclosing(adapter.watch()) as changes:
        await anext(changes)
        await adapter.power_off(vm_id)
        assert (await adapter.get(vm_id)).power_state is PowerState.OFF


async def test_a_vm_that_is_undefined_is_removed(adapter: LibvirtAdapter, handle: Any, vm_id: str) -> None:
    async with aclosing(adapter.watch()) as changes:
        await anext(changes)
        handle.undefine()
        assert await anext(changes) == Removed(vm_id)


async def test_two_watches_hear_the_same(adapter: LibvirtAdapter, vm_id: str) -> None:
    async with aclosing(adapter.watch()) as first, aclosing(adapter.watch()) as second:
        await anext(first)
        await anext(second)
        await adapter.power_on(vm_id)
        for changes in (first, second):
            await vm_when(changes, vm_id, PowerState.ON)


async def test_a_libvirt_that_cannot_be_reached_is_unavailable_without_credentials_in_the_words() -> None:
    uri = "qemu+unix://user:secret@/session?socket=/no/such/socket"
    adapter = LibvirtAdapter(LibvirtSettings(listen="unix:///unused", uri=uri))
    for attempt in (adapter.list(), anext(adapter.watch())):
        with pytest.raises(HypervisorUnavailable, match="/no/such/socket") as caught:
            await attempt
        assert "secret" not in caught.value.message + adapter.endpoint
    await adapter.close()


# Lanes


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets one of the calls of `domains` hang, until the test has ended."""
    free = threading.Event()

    def hang(name: str) -> None:
        monkeypatch.setattr(domains, name, lambda *_: free.wait(60))

    yield hang
    free.set()


async def test_presses_that_hang_hold_up_neither_reads_nor_power(
    adapter: LibvirtAdapter, vm_id: str, stuck: Callable[[str], None]
) -> None:
    stuck("ask")
    asks = [asyncio.create_task(adapter.send_signal(vm_id, Signal.ACPI, GRACE)) for _ in range(50)]
    async with asyncio.timeout(10):
        await adapter.power_on(vm_id)
        assert (await adapter.get(vm_id)).power_state is PowerState.ON
        await adapter.power_off(vm_id)
        assert (await adapter.get(vm_id)).power_state is PowerState.OFF
    assert not any(ask.done() for ask in asks)
    for ask in asks:
        ask.cancel()


async def test_of_guests_that_are_asked_at_once_none_waits_for_those_that_take_their_time(
    adapter: LibvirtAdapter, stuck: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck("ask")
    asked = set[str]()
    monkeypatch.setattr(guest_exec, "shut_down", lambda _, vm_id: asked.add(vm_id))
    await adapter.list()  # the host is known from then on, so that they are asked in this order
    vms = [f"web-{number}" for number in range(LibvirtSettings.model_fields["max_asks"].default + 2)]
    asks = [asyncio.create_task(adapter.send_signal(vm, Signal.GUEST_AGENT, GRACE)) for vm in vms]
    async with asyncio.timeout(10):
        await asyncio.gather(*asks[-2:])
    assert asked == set(vms[-2:])
    assert not any(ask.done() for ask in asks[:-2])
    for ask in asks:
        ask.cancel()


async def test_starts_that_hang_hold_up_no_cut(
    adapter: LibvirtAdapter, vm_id: str, stuck: Callable[[str], None]
) -> None:
    await adapter.power_on(vm_id)
    stuck("power_on")
    starts = [asyncio.create_task(adapter.power_on(vm_id)) for _ in range(50)]
    async with asyncio.timeout(10):
        assert await adapter.power_off(vm_id)
    for start in starts:
        start.cancel()


async def test_a_cut_that_hangs_becomes_a_kill(
    adapter: LibvirtAdapter, vm_id: str, stuck: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    await adapter.power_on(vm_id)
    stuck("power_off")
    monkeypatch.setattr(module, "TERM_SECONDS", 0.1)
    async with asyncio.timeout(10):
        assert await adapter.power_off(vm_id)
    assert (await adapter.get(vm_id)).power_state is PowerState.OFF


async def test_a_cut_that_answers_late_is_ours_though_the_kill_found_the_vm_off(
    adapter: LibvirtAdapter, vm_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, power_off, kill = threading.Event(), domains.power_off, domains.kill

    def answers_late(connection: Any, vm_id: str) -> bool:
        ours = power_off(connection, vm_id)
        killed.wait(60)
        return ours

    def kill_then(connection: Any, vm_id: str) -> bool:
        try:
            return kill(connection, vm_id)
        finally:
            killed.set()

    await adapter.power_on(vm_id)
    monkeypatch.setattr(domains, "power_off", answers_late)
    monkeypatch.setattr(domains, "kill", kill_then)
    monkeypatch.setattr(module, "TERM_SECONDS", 0.5)
    async with asyncio.timeout(10):
        assert await adapter.power_off(vm_id)


async def test_a_vm_whose_job_does_not_end_is_read_at_once_and_is_said_to_have_one(
    adapter: LibvirtAdapter, vm_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, read = threading.Event(), domains.read

    def hangs_with_the_job(connection: Any, host: Any, vm_id: str, job: bool = False) -> Any:
        if job:
            free.wait(60)
        return read(connection, host, vm_id)

    await adapter.power_on(vm_id)
    await adapter.list()
    monkeypatch.setattr(domains, "read", hangs_with_the_job)
    monkeypatch.setattr(module, "JOB_SECONDS", 0.1)
    adapter._tracker.hold(vm_id, Signal.ACPI)
    async with asyncio.timeout(10):
        vm = await adapter.get(vm_id)
    free.set()
    assert vm.power_state is PowerState.ON
    assert vm.problems
