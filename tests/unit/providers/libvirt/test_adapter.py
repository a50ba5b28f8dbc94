"""The adapter over libvirt's test driver."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

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
from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings

GRACE = Grace(datetime.max.replace(tzinfo=UTC), Escalation.NEVER)


async def next_vm(changes: AsyncGenerator[Change, None]) -> VM:
    change = await anext(changes)
    assert isinstance(change, Changed)
    return change.vm


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
    await adapter.power_off(vm_id)
    assert (await adapter.get(vm_id)).power_state is PowerState.OFF


async def test_programs_run_in_qemus_guests_only(adapter: LibvirtAdapter, vm_id: str) -> None:
    with pytest.raises(Unsupported, match="QEMU"):
        await adapter.guest_exec(vm_id, ["true"], None)


async def test_a_watch_lists_and_then_tells_each_change(adapter: LibvirtAdapter, vm_id: str) -> None:
    async with aclosing(adapter.watch()) as changes:
        listed = await anext(changes)
        assert isinstance(listed, Listed)
        assert vm_id in {vm.id for vm in listed.vms}
        await adapter.power_on(vm_id)
        assert (await next_vm(changes)).power_state is PowerState.ON
        await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
        assert (await next_vm(changes)).off_cause is OffCause.GUEST


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
        assert await next_vm(first) == await next_vm(second)


async def test_a_libvirt_that_cannot_be_reached_is_unavailable_without_credentials_in_the_words() -> None:
    uri = "qemu+unix://user:secret@/session?socket=/no/such/socket"
    adapter = LibvirtAdapter(LibvirtSettings(listen="unix:///unused", uri=uri))
    for attempt in (adapter.list(), anext(adapter.watch())):
        with pytest.raises(HypervisorUnavailable, match="/no/such/socket") as caught:
            await attempt
        assert "secret" not in caught.value.message + adapter.endpoint
    await adapter.close()
