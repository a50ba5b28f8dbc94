"""Real guests under a libvirtd of our own as the ground of a history.

The books: libvirtd's own log of each call that it was given, the process of each QEMU, which the kernel tells the end
of, and what the guests print, all of which go on while libvirtd is away.
"""

import asyncio
import os
import re
import select
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from random import Random

import libvirt

from tests.rigs.guests.domain import Guest as RealGuest
from tests.rigs.libvirtd import Libvirtd
from tests.rigs.process import Provider
from tests.soak.ground import EXTRA, Ground
from tests.soak.history import Cause, Cut, Guest, Harm, History, Record, Run, Said, now

GUESTS = (
    RealGuest("web", shutdown_delay=1),
    RealGuest("db", shutdown_delay=5),
    RealGuest("button", agent="off", shutdown_delay=2),
    RealGuest("deaf", agent="off", acpi=False),
    RealGuest("mute", agent="off", acpi_feature=False),
    RealGuest("fragile", agent="off", crash_on="power_button"),
)
CALL = re.compile(r"^(\S+ \S+): \d+: debug : virDomain(\w+):\d+ : .*?name=([^,]+), uuid", re.MULTILINE)
CUT, CUT_BY_US = "DestroyFlags", "Destroy"
"""The provider ends a domain by the one call, we by the other."""
WORK = {CUT, "ShutdownFlags", "Create", "Resume", "PMWakeup", "QemuAgentCommand"}
"""What changes a domain or speaks to its guest."""
HEARD = {"agent asked for shutdown": "GUEST_AGENT", "power button pressed": "ACPI"}
LOOK = 0.02
"""Seconds between two looks at consoles and processes."""
LAG = 3.0
"""Seconds for which libvirtd may take a domain for one that runs after its QEMU has ended (1.8 s were seen)."""
STARTS = 3
"""How often libvirtd is started, if need be."""
LONGEST_CUT = 30.0
"""Seconds that libvirt may take to end a QEMU."""


@dataclass
class Seen:
    """One QEMU process. `text`: where its part of the console begins, and ends."""

    vm: str
    began: float
    handle: int
    text: tuple[int, int]
    ended: float | None = None
    heard: list[tuple[float, str]] = field(default_factory=list)


class LibvirtGround(Ground):
    """A libvirtd whose guests are real, if small."""

    name = "libvirt"
    harms = frozenset({"meddle", "libvirtd", "qemu"})
    quiet = 8.0

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self.guests = [Guest(guest.name, hears=guest.name != "mute", lag=LAG) for guest in GUESTS]
        self._libvirtd = Libvirtd()
        folder = self._libvirtd.folder
        self._log = folder / "calls.log"
        settings = f'log_filters="1:libvirt.domain 1:libvirt.qemu"\nlog_outputs="1:file:{self._log}"\n'
        (folder / "config" / "libvirt" / "libvirtd.conf").write_text(settings)
        self.provider = Provider("libvirt", "--uri", self._libvirtd.uri, *EXTRA)
        self._watcher = Watcher(folder)

    def start(self) -> None:
        """Boot all guests."""
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # it would print them, too
        self._offset = time.time() - now()
        self._libvirtd.start()
        self._watcher.start()
        for guest in GUESTS:
            self._libvirtd.define(guest, start=True)
        for guest in GUESTS:
            self._libvirtd.wait_ready(guest.name, timeout=120)

    def close(self) -> None:
        self._watcher.stop()
        super().close()
        self._libvirtd.close()

    async def do(self, harm: str, rng: Random) -> None:
        vm = rng.choice(GUESTS).name
        match harm:
            case "meddle":
                await asyncio.to_thread(self._meddle, vm, rng.choice(["off", "on", "on", "pause", "resume"]))
            case "libvirtd":
                await asyncio.to_thread(self._end_libvirtd, rng.random() < 0.7, rng.choice([0, 0, 1, 4]))
            case "qemu":
                self._kill_qemu(vm)

    async def heal(self) -> None:
        for guest in GUESTS:
            await asyncio.to_thread(self._meddle, guest.name, "resume")

    def calls(self) -> int:
        return sum(call in WORK for _, call, _ in self._calls())

    def books(self, tokens: Sequence[str]) -> list[Record]:
        self._watcher.stop()
        calls = self._calls()
        records: list[Record] = [replace(guest, blur=self._watcher.blur) for guest in self.guests]
        records += [self._run(seen, calls) for seen in self._watcher.seen]
        records += [Cut(at, vm) for at, call, vm in calls if call == CUT]
        printed = "".join(self._libvirtd.console(guest.name) for guest in GUESTS)
        return records + [Said(token, len(re.findall(rf"{re.escape(token)}\b", printed))) for token in tokens]

    def _meddle(self, vm: str, what: str) -> None:
        """A call that fails may have had its effect: a start fails, too, whose QEMU somebody else ends meanwhile."""
        begun = now()
        with suppress(libvirt.libvirtError), self._libvirtd.connect() as connection:  # else libvirtd is away
            domain = connection.lookupByName(vm)
            try:
                {"off": domain.destroy, "on": domain.create, "pause": domain.suspend, "resume": domain.resume}[what]()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:  # it is so already, or off
                    return
            self.history.add(Harm(begun, now(), what, vm))

    def _end_libvirtd(self, hard: bool, seconds: float) -> None:
        begun = now()
        if hard:
            self._libvirtd.kill()
        else:
            self._libvirtd.stop()
        time.sleep(seconds)
        self._start_libvirtd()
        self.history.add(Harm(begun, now(), f"libvirtd {'killed' if hard else 'stopped'}"))

    def _start_libvirtd(self) -> None:
        """One that does not come up, as happens on a machine that is busy, is killed and started again."""
        for attempt in range(STARTS):
            try:
                return self._libvirtd.start()
            except RuntimeError:
                self._libvirtd.kill()
                if attempt == STARTS - 1:
                    raise
        return None

    def _kill_qemu(self, vm: str) -> None:
        with suppress(OSError, ValueError):  # it does not run
            pid = self._libvirtd.pid(vm)
            begun = now()
            os.kill(pid, signal.SIGKILL)
            self.history.add(Harm(begun, now(), "qemu killed", vm))

    def _calls(self) -> list[tuple[float, str, str]]:
        calls = calls_in(self._log.read_text(errors="replace"))
        return [(at - self._offset, call, vm) for at, call, vm in calls]

    def _run(self, seen: Seen, calls: Sequence[tuple[float, str, str]]) -> Run:
        heard = tuple(seen.heard)
        if seen.ended is None:
            return Run(seen.vm, seen.began, heard=heard)
        return Run(seen.vm, seen.began, seen.ended, tuple(sorted(self._causes(seen, calls))), heard)

    def _causes(self, seen: Seen, calls: Sequence[tuple[float, str, str]]) -> set[Cause]:
        ended = seen.ended or 0
        text = self._watcher.text(seen)
        since = max(seen.began, ended - LONGEST_CUT)
        by = {call for at, call, vm in calls if vm == seen.vm and since <= at <= ended}
        ever = {call for at, call, vm in calls if vm == seen.vm and seen.began <= at <= ended}
        killed = any(
            isinstance(harm, Harm) and harm.vm == seen.vm and harm.what == "qemu killed" and abs(harm.begun - ended) < 1
            for harm in self.history.records
        )
        found: dict[Cause, bool] = {
            "GUEST": "powering off" in text,
            "CRASH": killed or "Kernel panic" in text,
            "PROVIDER": CUT in by,
            "OTHER": killed or CUT_BY_US in by,
        }
        unknown: set[Cause] = {"CRASH", "OTHER"}  # libvirtd, as it started, or QEMU; or a cut that took long
        return {cause for cause, so in found.items() if so} or unknown | ({"PROVIDER"} if CUT in ever else set())


class Watcher:
    """Sees each QEMU begin and end and each line that a guest prints, with its moment, on a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[Seen] = []
        self.blur = LOOK
        """Seconds that passed between two looks at the most."""
        self._pids, self._consoles = folder / "run" / "libvirt" / "qemu" / "run", folder / "console"
        self._read: dict[str, str] = {guest.name: "" for guest in GUESTS}
        self._running: dict[str, Seen] = {}
        self._pid: dict[str, int] = {}
        """That of the last QEMU of each; libvirtd may leave the file that names it."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """See nothing more."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def text(self, seen: Seen) -> str:
        """What the guest printed in this run."""
        begin, end = seen.text
        return self._read[seen.vm][begin:end]

    def _go_on(self) -> None:
        last = now()
        while not self._ending.wait(LOOK):
            for name in self._read:
                self._look(name)
            self.blur, last = max(self.blur, now() - last), now()

    def _look(self, name: str) -> None:
        seen = self._running.get(name)
        over = bool(seen and select.select([seen.handle], [], [], 0)[0])
        at = now()
        self._tail(name, seen, at)
        if seen and over:
            seen.ended, seen.text = at, (seen.text[0], len(self._read[name]))
            os.close(seen.handle)
            del self._running[name]
        if not seen or over:
            self._find(name, at)

    def _find(self, name: str, at: float) -> None:
        with suppress(OSError, ValueError):  # none runs
            pid = int((self._pids / f"{name}.pid").read_text())
            if pid != self._pid.get(name):
                begins = len(self._read[name])
                found = Seen(name, at, os.pidfd_open(pid), (begins, begins))
                self.seen.append(found)
                self._pid[name], self._running[name] = pid, found

    def _tail(self, name: str, seen: Seen | None, at: float) -> None:
        with suppress(FileNotFoundError):
            text = (self._consoles / f"{name}.log").read_text(errors="replace")
            if seen:
                seen.heard += [(at, signal) for signal in heard_since(self._read[name], text)]
            self._read[name] = text


def calls_in(log: str) -> list[tuple[float, str, str]]:
    """The calls about one domain that libvirtd was given: seconds since 1970, the call, the domain's name."""
    return [(_moment(when), call, vm) for when, call, vm in CALL.findall(log)]


def heard_since(read: str, text: str) -> list[str]:
    """The signals that a guest says it heard, by its console's `text` of which `read` was seen before. A console is
    slow: what was seen may end within a line, and then the whole line counts as new."""
    begins = read.rfind("\n") + 1
    found = re.finditer("|".join(HEARD), text[begins:])
    return [HEARD[match.group()] for match in found if begins + match.end() > len(read)]


def _moment(text: str) -> float:
    """libvirtd's way of writing a moment, in UTC."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f%z").timestamp()
