"""The connection to a real libvirtd: lost and found, few calls, fast events."""

import os
import signal
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from providers.core.adapter import OffCause, PowerState, Signal
from providers.core.errors import HypervisorUnavailable
from providers.libvirt.adapter import LibvirtAdapter
from providers.libvirt.session import Link, Session
from tests.e2e.libvirt_adapter.waiting import GRACE, Run, following, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd


async def test_a_killed_libvirtd_ends_the_watch_and_the_next_one_goes_on(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    stays, leaves = run(Guest("stays", agent="off")), run(Guest("leaves", agent="off"))
    async with watching(adapter) as watch:
        rig.kill()
        try:
            with pytest.raises(HypervisorUnavailable, match="lost"):
                await watch.next()
            with pytest.raises(HypervisorUnavailable):
                await adapter.get(stays)
            with pytest.raises(HypervisorUnavailable, match="cannot be reached"):
                await anext(adapter.watch())
            os.kill(rig.pid("leaves"), signal.SIGKILL)
        finally:
            rig.start()
    async with following(adapter) as watch:
        assert (await watch.until(lambda vm: vm.id == stays)).power_state is PowerState.ON
        await adapter.power_off(stays)
        assert (await watch.until_off(stays)).off_cause is OffCause.HOST
        assert (await adapter.get(leaves)).power_state is PowerState.OFF


async def test_the_calls_of_a_shutdown_do_not_grow_with_its_length(
    adapter: LibvirtAdapter, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = [run(Guest(f"takes{delay}", shutdown_delay=delay)) for delay in (0, 5)]
    calls = list[tuple[str, str]]()
    run_call = Session.run

    async def counted(self: Session, link: Link, call: Callable[..., Any], *args: object) -> Any:
        calls.extend((vm_id, call.__name__) for vm_id in guests if vm_id in args)
        return await run_call(self, link, call, *args)

    async with watching(adapter) as watch:
        unmarked = set(guests)  # which is a call for each run, whether it is shut down or not
        while unmarked:
            unmarked.discard((await watch.until(lambda vm: vm.id in unmarked and vm.run_id != "")).id)
        monkeypatch.setattr(Session, "run", counted)
        for vm_id in guests:
            await adapter.send_signal(vm_id, Signal.GUEST_AGENT, GRACE)
            await watch.until_off(vm_id)
    assert calls == [(vm_id, "ask") for vm_id in guests]


async def test_going_off_is_told_within_moments_of_libvirts_own_record(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    delays = []
    async with watching(adapter) as watch:
        for number in range(3):
            vm_id = run(Guest(f"moment{number}", agent="off"))
            await adapter.send_signal(vm_id, Signal.ACPI, GRACE)
            await watch.until_off(vm_id)
            seen = datetime.now(UTC)
            delays.append((seen - rig.wait_stop(f"moment{number}").time).total_seconds())
    print("from libvirt's record to the change, in seconds:", delays)
    assert statistics.median(delays) < 0.05
