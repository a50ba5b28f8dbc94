"""The rig of Proxmox VE as the ground of a history: PVE's tasks, deadlines that PVE keeps, guests and a container.

The books: what the rig itself has noted of each guest and of all its runs.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

from tests.rigs.process import Provider
from tests.rigs.proxmox.cluster import Cluster
from tests.rigs.proxmox.provider import flags
from tests.soak.audit import ALIKE
from tests.soak.ground import EXTRA, Ground
from tests.soak.history import Cause, Cut, Guest, Harm, History, Record, Run, Said, now

GUESTS: dict[str, dict[str, Any]] = {
    "web": {"agent": "answers", "shutdown_secs": 1.4},
    "db": {"agent": "answers", "shutdown_secs": 4.4},
    "button": {"shutdown_secs": 2.4},
    "deaf": {"ignores": True},
    "slow": {"ignores": True, "stop_secs": 1},
    "sleepy": {"agent": "answers", "ignores": "agent", "shutdown_secs": 1.4},
    "box": {"kind": "lxc", "shutdown_secs": 1.4},
}
"""PVE counts in whole seconds, and these do not: so it is plain which of the two was first."""
CAUSES: dict[str, Cause] = {"guest": "GUEST", "pve-forced": "PROVIDER", "ha": "OTHER"}
"""What PVE forces at a deadline it was told by the provider; a `stop` is the provider's or a colleague's."""
SIGNALS = {"agent": "GUEST_AGENT", "acpi": "ACPI", "init": "INIT"}
LONGEST_STOP = 5.0
"""Seconds from a stop to its effect."""
AFTER = 0.5
"""Seconds that a colleague's task may take."""
UNSEEN = 16.0
"""Seconds after which a guest that goes off while no operation is active is found off: the provider's idle interval."""
LOST = 596
"""The status that a node's silence becomes."""


class ProxmoxGround(Ground):
    """A cluster of two nodes with guests of all kinds."""

    name = "proxmox"
    harms = frozenset({"meddle", "api", "lost"})
    quiet = 6.0

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self.guests = [Guest(name, unseen=UNSEEN) for name in GUESTS]
        self._cluster = Cluster(GUESTS)
        self.provider = Provider("proxmox", *EXTRA, "--active-interval", "1s")

    def start(self) -> None:
        """Its guests are on."""
        self._offset = time.time() - now()
        self._cluster.start()
        self.provider.command += flags(self._cluster)

    def close(self) -> None:
        super().close()
        self._cluster.close()

    async def do(self, harm: str, rng: Random) -> None:
        vm, begun = rng.choice(list(GUESTS)), now()
        match harm:
            case "meddle":
                what = rng.choice(["on", "on", "off", "pause", "resume", "crash", "off-by-guest"])
                await asyncio.to_thread(self._meddle, vm, what)
            case "api":
                await asyncio.to_thread(self._cluster.stop)
                await asyncio.sleep(rng.choice([0.2, 1, 3]))
                await asyncio.to_thread(self._cluster.start)
                self.history.add(Harm(begun, now(), "no API server answers"))
            case "lost":
                suffix = rng.choice(["/status/shutdown", "/status/stop", "/status/start"])
                await asyncio.to_thread(self._cluster.fail, "POST", suffix, LOST, "no answer", 1, lost=True)
                self.history.add(Harm(begun, begun + 60, f"the next answer to {suffix} is lost"))

    async def heal(self) -> None:
        for name in GUESTS:
            await asyncio.to_thread(self._meddle, name, "resume")

    def calls(self) -> int:
        work = ((call, count) for call, count in self._cluster.calls().items() if call.startswith("POST"))
        return sum(count for call, count in work if not call.endswith("/ping"))

    def books(self, tokens: Sequence[str]) -> list[Record]:
        records: list[Record] = [*self.guests]
        argv: list[str] = []
        for name in GUESTS:
            guest = self._cluster.show(name)
            records += self._runs(name, guest)
            records += [Cut(at - self._offset, name) for at, how, _ in guest["asked"] if how == "stop"]
            forced = (end for end in guest["ends"] if end["off_cause"] == "pve-forced")
            records += [Cut(end["off_at"] - self._offset, name) for end in forced]
            argv += [" ".join(program["argv"]) for program in guest["execs"]]
        return records + [Said(token, sum(f"{token} " in line for line in argv)) for token in tokens]

    def _meddle(self, vm: str, what: str) -> None:
        begun, needed = now(), {"pause": "running", "resume": "paused"}
        if vm == "box" and what == "pause":  # PVE pauses no containers
            return
        power = self._cluster.show(vm)["power"]
        if (what in needed and power != needed[what]) or (what == "on" and power in needed.values()):
            return  # to start one that runs would be another run in the rig's books alone
        with suppress(ValueError):  # it is so already
            self._cluster.power(vm, what)
            self.history.add(Harm(begun, now() + AFTER, "poweroff" if what == "off-by-guest" else what, vm))

    def _runs(self, name: str, guest: dict[str, Any]) -> list[Run]:
        runs = []
        ends = guest["ends"]
        going_on = guest["on_at"] if not ends or guest["on_at"] != ends[-1]["on_at"] else None
        for end in [*ends, *([{"on_at": going_on, "off_at": None}] if going_on else [])]:
            on_at, off_at = end["on_at"], end["off_at"]
            hears = [
                (at - self._offset, SIGNALS[signal])
                for at, signal in guest["heard"]
                if on_at <= at and (off_at is None or at <= off_at)
            ]
            causes = causes_of(end, guest["asked"], GUESTS[name], self._cut_by_others(name)) if off_at else ()
            ended = None if off_at is None else off_at - self._offset
            runs.append(Run(name, on_at - self._offset, ended, causes, tuple(hears)))
        return runs

    def _cut_by_others(self, name: str) -> list[float]:
        """When, in seconds since 1970."""
        harms = (record for record in self.history.records if isinstance(record, Harm))
        return [harm.begun + self._offset for harm in harms if (harm.vm, harm.what) == (name, "off")]


def causes_of(
    end: dict[str, Any], asked: Sequence[Any], guest: dict[str, Any], cut_by_others: Sequence[float] = ()
) -> tuple[Cause, ...]:
    """Who may have ended a run. Of a guest that leaves while its QEMU, which takes so long, ends because of a stop,
    either may be said to have been the first, and so of two stops, ours and a colleague's; and of one that leaves in
    the last second of its time, Proxmox VE's own record says that it was forced: it looks no more then at a QEMU, and
    tells a container's time in whole seconds. A QEMU that dies it does not tell from a guest that leaves."""
    if end["off_cause"] == "crash":
        return ("CRASH", "GUEST")
    if cause := CAUSES.get(end["off_cause"]):
        stop_seconds = guest.get("stop_secs", 0)
        both = cause == "GUEST" and (
            (stop_seconds and _was_stopped(end, asked, stop_seconds + ALIKE))
            or _was_in_its_last_second(end, asked, stop_seconds)
        )
        return (cause, "PROVIDER") if both else (cause,)
    if not _was_stopped(end, asked, LONGEST_STOP):
        return ("OTHER",)
    others = any(end["off_at"] - LONGEST_STOP <= at <= end["off_at"] for at in cut_by_others)
    return ("PROVIDER", "OTHER") if others else ("PROVIDER",)


def _was_in_its_last_second(end: dict[str, Any], asked: Sequence[Any], stop_seconds: float) -> bool:
    """Whether it went off in the last second of a time after which Proxmox VE forces, or while it did so."""
    ends = [
        at + int(told["timeout"])
        for at, how, told in asked
        if how == "shutdown" and at >= end["on_at"] and str(told.get("forceStop")) == "1" and told.get("timeout")
    ]
    return any(due - 1 - ALIKE <= end["off_at"] <= due + stop_seconds + ALIKE for due in ends)


def _was_stopped(end: dict[str, Any], asked: Sequence[Any], seconds: float) -> bool:
    """Whether the provider told Proxmox VE to stop it within so many seconds before its end."""
    since = max(end["on_at"], end["off_at"] - seconds)
    return any(how == "stop" and since <= at <= end["off_at"] for at, how, _ in asked)
