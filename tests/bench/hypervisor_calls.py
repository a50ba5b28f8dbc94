"""How many calls a shutdown costs the hypervisor, when it is short and when it is long."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.client import Client, client
from tests.bench.control import INTERVAL
from tests.bench.poll import poll
from tests.bench.sim import sim
from tests.bench.table import Result, Row
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Provider
from tests.rigs.sim import control

CONF = 'log_filters="1:libvirt.domain"\nlog_outputs="1:file:{log}"\n'
CALL = re.compile(r" debug : (vir\w+):\d+ : .*uuid=([0-9a-f-]{36})")
"""What libvirtd notes of each call about a domain: there is one such line for each request that it gets."""

Calls = Mapping[str, int]


class Case(NamedTuple):
    """One way of being shut down, by guests that take so many seconds. `resend` None: by the agent."""

    title: str
    seconds: Sequence[int]
    resend: float | None = None
    polled: bool = False

    def guests(self) -> dict[int, str]:
        """The guests' names by the seconds they take."""
        return {seconds: re.sub(r"\W+", "-", f"{self.title} {seconds}") for seconds in self.seconds}


QEMU = (
    Case("qemu, agent", (2, 20)),
    Case("qemu, ACPI, not repeated", (2, 20), resend=0),
    Case("qemu, ACPI each 10 s", (2, 20), resend=10),
    Case(f"control: qemu, ACPI, a {INTERVAL:g}-second poll", (2, 20), resend=0, polled=True),
)
SIM = (
    Case("sim, agent", (2, 60)),
    Case("sim, ACPI, not repeated", (2, 60), resend=0),
    Case("sim, ACPI each 10 s", (2, 60), resend=10),
)


async def bench() -> Result:
    """libvirtd's own log and the sim's own counters do the counting."""
    counted = await _qemu() | await _sim()
    notes = ("ACPI is pressed again each 10 s unless the request says otherwise: a guest that still boots drops it",)
    rows = [_row(case, counted) for case in (*QEMU, *SIM)]
    return Result("calls that the hypervisor gets for one shutdown", rows, notes)


async def _qemu() -> dict[str, Calls]:
    rig = Libvirtd()
    log = rig.folder / "calls.log"
    (rig.folder / "config" / "libvirt" / "libvirtd.conf").write_text(CONF.format(log=log))
    with rig:
        ids = {name: rig.define(guest, start=True) for name, guest in _guests().items()}
        for name in ids:
            rig.wait_ready(name)
        # Only now the provider: what it reads of guests that come up is no part of a shutdown.
        with Provider("libvirt", "--uri", rig.uri) as provider:
            before = log.stat().st_size
            async with client(provider.address) as power:
                await asyncio.gather(*(_shut_down(rig, power, case, ids) for case in QEMU))
        counts = _count(log, before)
    return {name: counts[vm_id] for name, vm_id in ids.items()}


def _guests() -> dict[str, Guest]:
    return {
        name: Guest(name, agent="on" if case.resend is None else "off", shutdown_delay=seconds)
        for case in QEMU
        for seconds, name in case.guests().items()
    }


async def _shut_down(rig: Libvirtd, power: Client, case: Case, ids: Mapping[str, str]) -> None:
    names = case.guests().values()
    if case.polled:
        await asyncio.gather(*(asyncio.to_thread(poll, rig.uri, ids[name], ask=True) for name in names))
    else:
        await _gracefully(power, case)


async def _gracefully(power: Client, case: Case) -> None:
    ended = await asyncio.gather(*(power.shutdown(name, 300, case.resend) for name in case.guests().values()))
    if wrong := [e.verdict for e in ended if e.verdict != "GRACEFUL"]:
        raise RuntimeError(f"{case.title}: {wrong}")


def _count(log: Path, start: int) -> dict[str, Calls]:
    counts: dict[str, Counter[str]] = {}
    for call, vm_id in CALL.findall(log.read_bytes()[start:].decode(errors="replace")):
        counts.setdefault(vm_id, Counter())[call] += 1
    return dict(counts)


async def _sim() -> dict[str, Calls]:
    agents = {True: "up", False: "none"}
    script = {
        name: {"shutdown_time": seconds, "agent": agents[case.resend is None]}
        for case in SIM
        for seconds, name in case.guests().items()
    }
    with sim(script) as provider:
        async with client(provider.address) as power:
            await asyncio.gather(*(_gracefully(power, case) for case in SIM))
        return {name: json.loads(control(provider.folder / "world.db", "show", name))["calls"] for name in script}


def _row(case: Case, counted: Mapping[str, Calls]) -> Row:
    (short, of_short), (long, of_long) = case.guests().items()
    few, many = counted[of_short], counted[of_long]
    return {
        "": case.title,
        "short, long": f"{short} s, {long} s",
        "calls of the short": sum(few.values()),
        "of the long": sum(many.values()),
        "more": sum(many.values()) - sum(few.values()),
        "namely, of the long": ", ".join(f"{call.removeprefix('virDomain')} {count}" for call, count in many.items()),
    }
