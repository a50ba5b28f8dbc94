"""What becomes of real guests while libvirtd, or the provider, is not there to see it."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

import libvirt
import pytest

from providers.core.adapter import VM, Ended, Listed, OffCause, PowerState, Removed, Signal
from providers.core.errors import VMNotFound
from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.config import LibvirtSettings
from tests.e2e.libvirt_adapter.waiting import GRACE, Run, following, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.polling import poll
from tests.rigs.process import wait_for_end


@pytest.fixture
async def restarted(rig: Libvirtd, tmp_path: Path) -> AsyncIterator[LibvirtAdapter]:
    """Of a provider that knows nothing of what was."""
    adapter = LibvirtAdapter(LibvirtSettings(listen="unix:///unused", uri=rig.uri, state_dir=tmp_path / "another"))
    yield adapter
    await adapter.close()


async def found(adapter: LibvirtAdapter, vm_id: str) -> VM:
    """The VM as it is told when it is off."""
    async with following(adapter) as watch:
        return await watch.until_off(vm_id)


# libvirtd away


async def test_a_guest_that_leaves_while_libvirtd_is_away_is_known_to_have_left(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    """Its QEMU waits for libvirtd (-no-shutdown), which finds the guest shut down."""
    vm_id = run(Guest("leaves", agent="off", shutdown_delay=1))
    await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
    rig.wait_console("leaves", "power button pressed")
    rig.kill()
    rig.wait_console("leaves", "powering off")
    rig.start()
    assert (await found(adapter, vm_id)).ended == Ended(OffCause.GUEST)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_qemu_that_ends_while_libvirtd_is_away_has_no_known_cause(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run, how: signal.Signals
) -> None:
    name = f"unseen-{how.name.lower()}"
    vm_id = run(Guest(name, agent="off"))
    pid = rig.pid(name)
    rig.kill()
    os.kill(pid, how)
    wait_for_end(pid)
    rig.start()
    assert (await found(adapter, vm_id)).ended is None
    assert (await adapter.get(vm_id)).ended is None


async def test_a_qemu_and_a_libvirtd_that_are_killed_at_once_leave_no_known_cause(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("both", agent="off"))
    async with watching(adapter):
        os.kill(rig.pid("both"), signal.SIGKILL)
        rig.kill()
        rig.start()
    assert (await found(adapter, vm_id)).ended is None


async def test_a_guest_that_is_cut_while_libvirtd_is_killed_has_no_known_cause(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("cut-by-other", agent="off"))
    pid = rig.pid("cut-by-other")
    os.kill(pid, signal.SIGSTOP)  # or it would be off before libvirtd is killed
    cutting = threading.Thread(target=_cut, args=(rig, "cut-by-other"))
    cutting.start()
    poll(lambda: _is_told_to_end(pid))
    rig.kill()
    os.kill(pid, signal.SIGCONT)
    wait_for_end(pid)
    cutting.join()
    rig.start()
    assert (await found(adapter, vm_id)).ended is None


async def test_a_transient_guest_that_ends_unseen_is_simply_not_there(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("vanishes", agent="off"), transient=True)
    pid = rig.pid("vanishes")
    rig.kill()
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    rig.start()
    async with asyncio.timeout(30), aclosing(adapter.watch()) as changes:
        listed = await anext(changes)
        assert isinstance(listed, Listed)
        if vm_id in {vm.id for vm in listed.vms}:  # by a libvirtd that has yet to find its QEMU gone
            while await anext(changes) != Removed(vm_id):
                pass
    with pytest.raises(VMNotFound):
        await adapter.get(vm_id)


# The provider away


async def test_a_guest_that_leaves_while_the_provider_is_away_is_known_to_have_left(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run, restarted: LibvirtAdapter
) -> None:
    vm_id = run(Guest("quiet", agent="off"))
    await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
    rig.wait_stop("quiet")
    assert (await found(restarted, vm_id)).ended == Ended(OffCause.GUEST)


async def test_a_cut_while_the_provider_is_away_is_the_hosts(
    rig: Libvirtd, run: Run, restarted: LibvirtAdapter
) -> None:
    vm_id = run(Guest("cut-quietly", agent="off"))
    _cut(rig, "cut-quietly")
    assert (await found(restarted, vm_id)).ended == Ended(OffCause.HOST)


async def test_a_crash_that_is_only_found_has_no_known_cause(
    rig: Libvirtd, run: Run, restarted: LibvirtAdapter
) -> None:
    vm_id = run(Guest("found-crashed", agent="off"))
    os.kill(rig.pid("found-crashed"), signal.SIGKILL)
    rig.wait_stop("found-crashed")
    assert (await found(restarted, vm_id)).ended is None


# Which run


async def marked(adapter: LibvirtAdapter, vm_id: str) -> str:
    """Its run, as soon as it is told."""
    async with following(adapter) as watch:
        return (await watch.until(lambda vm: vm.id == vm_id and vm.run_id != "")).run_id


@pytest.mark.parametrize("transient", [False, True])
async def test_a_run_is_the_same_after_libvirtd_and_the_provider_were_restarted(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run, restarted: LibvirtAdapter, transient: bool
) -> None:
    vm_id = run(Guest(f"same-{transient}", agent="off"), transient=transient)
    before = await marked(adapter, vm_id)
    rig.kill()
    rig.start()
    assert await marked(restarted, vm_id) == before


async def test_another_run_is_told_from_the_last_also_if_libvirtd_counts_from_anew(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run, restarted: LibvirtAdapter
) -> None:
    vm_id = run(Guest("counted", agent="off"))
    before = await marked(adapter, vm_id)
    await adapter.power_off(vm_id)
    rig.restart()
    await restarted.power_on(vm_id)
    after = await marked(restarted, vm_id)
    assert after != before
    assert after.partition(".")[0] == "1"


async def test_a_guest_that_restarts_itself_is_in_the_same_run(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("reboots"))
    before = await marked(adapter, vm_id)
    with rig.connect() as connection:
        connection.lookupByName("reboots").reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
    rig.wait_ready("reboots", boot=2)
    assert await marked(adapter, vm_id) == before


async def test_two_providers_tell_the_same_run(adapter: LibvirtAdapter, run: Run, restarted: LibvirtAdapter) -> None:
    vm_id = run(Guest("shared", agent="off"))
    async with watching(adapter) as one, watching(restarted) as other:
        await adapter.power_off(vm_id)
        for watch in (one, other):
            await watch.until_off(vm_id)
        await adapter.power_on(vm_id)
        for watch in (one, other):
            await watch.until(lambda vm: vm.id == vm_id and vm.power_state is PowerState.ON and vm.run_id != "")
        assert (await adapter.get(vm_id)).run_id == (await restarted.get(vm_id)).run_id != ""


def _is_told_to_end(pid: int) -> bool:
    """Whether SIGTERM waits for a process that was stopped: libvirtd has sent it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (pending,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(pending >> (signal.SIGTERM - 1) & 1)


def _cut(rig: Libvirtd, name: str) -> None:
    with suppress(libvirt.libvirtError), rig.connect() as connection:
        connection.lookupByName(name).destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
