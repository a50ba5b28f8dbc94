"""Fifty calls to agents that hang, and guests whose QEMU is frozen, hold up nothing else."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable

from providers.core.adapter import PowerState, Signal
from providers.libvirt.adapter import LibvirtAdapter
from tests.e2e.libvirt_adapter.waiting import GRACE, Run, watching
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd

SOON = 8.0
"""Seconds; fifty agents' calls, one after the other, take minutes."""


async def soon(what: str, call: Awaitable[object]) -> None:
    begun = time.monotonic()
    await asyncio.wait_for(call, SOON)
    print(f"{what}: {time.monotonic() - begun:.2f} s")


async def test_fifty_calls_to_agents_that_hang_hold_up_nothing_else(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    ignores, hangs = run(Guest("ignores", agent="ignore")), run(Guest("hangs", agent="hang"))
    other = run(Guest("other", agent="off"))
    async with watching(adapter) as watch:
        asks = [adapter.send_signal(vm_id, Signal.GUEST_AGENT, GRACE) for vm_id in (ignores, hangs) * 13]
        hooks = [adapter.guest_exec(vm_id, ["/bin/true"], None) for vm_id in (ignores, hangs) * 12]
        hanging = [asyncio.create_task(call) for call in (*asks, *hooks)]
        await asyncio.sleep(1)
        assert sum(not call.done() for call in hanging) > 40
        await soon("read", adapter.get(hangs))
        await soon("list", adapter.list())
        await soon("press", adapter.send_signal(other, Signal.ACPI, GRACE))
        await watch.until_off(other)
        await soon("start", adapter.power_on(other))
        await soon("cut", adapter.power_off(other))
        await soon("cut of one whose agent hangs", adapter.power_off(hangs))
        await soon("cut of one that is being asked", adapter.power_off(ignores))
        await watch.until_off(ignores)
        for call in hanging:
            call.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_qemu_that_is_frozen_keeps_one_press_waiting_and_can_be_cut(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    frozen, other = run(Guest("frozen", agent="off")), run(Guest("hears", agent="off"))
    async with watching(adapter) as watch:
        os.kill(rig.pid("frozen"), signal.SIGSTOP)
        pressing = asyncio.create_task(adapter.send_signal(frozen, Signal.ACPI, GRACE))
        await asyncio.sleep(0.5)
        await soon("press of another", adapter.send_signal(other, Signal.ACPI, GRACE))
        await watch.until_off(other)
        await soon("read of the frozen one", adapter.get(frozen))
        assert not pressing.done()
        begun = time.monotonic()
        await asyncio.wait_for(adapter.power_off(frozen), 40)  # SIGTERM is given 15 s
        print(f"cut of the frozen one: {time.monotonic() - begun:.2f} s")
        assert (await adapter.get(frozen)).power_state is PowerState.OFF
        await asyncio.wait({pressing}, timeout=30)
        assert pressing.done()
        pressing.exception()
