"""The sim as the ground of a history. Its world keeps books: a trigger writes down each state of each guest."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from typing import Any, Literal

import yaml

from providers.core.errors import CommandFailed
from providers.sim.control import TRANSITIONS
from providers.sim.guest import Guest as SimGuest
from providers.sim.script import GuestScript, load_script
from providers.sim.wakeup import wake
from providers.sim.world import World
from tests.rigs.process import Provider
from tests.soak.ground import EXTRA, Ground
from tests.soak.history import Cause, Cut, Guest, Harm, History, Record, Run, Said, Saved, now

HOOKS = [{"match": r"echo (\S+) *> */dev/console", "console": r"\1", "takes": "300ms"}]
QUICK: dict[str, Any] = {"boot_time": "1s", "shutdown_time": "1s", "hooks": HOOKS}
SCRIPT: dict[str, dict[str, Any]] = {
    "web": QUICK,
    "db": QUICK | {"shutdown_time": "4s"},
    "legacy": QUICK | {"agent": "none", "shutdown_time": "2s"},
    "deaf": QUICK | {"agent": "none", "acpi": "ignores"},
    "heavy": QUICK | {"agent": "none", "acpi": "ignores", "power_off_time": "1s"},
    "mute": QUICK | {"agent": "none", "acpi": "none"},
    "refuser": QUICK | {"agent": "refuses", "acpi": "none"},
    "sleepy": QUICK | {"agent": "ignores"},
    "fragile": QUICK | {"on_shutdown": "crash"},
    "large": QUICK | {"agent": "none", "acpi": "ignores", "save_time": "4s"},
    "tied": QUICK | {"agent": "none", "acpi": "ignores", "unsavable": "a device is tied to its host"},
}
KEEP_BOOKS = """
CREATE TABLE books (number INTEGER PRIMARY KEY, guest TEXT, state TEXT);
CREATE TRIGGER keep_books AFTER UPDATE OF state ON guests WHEN new.state IS NOT NULL BEGIN
  INSERT INTO books (guest, state) VALUES (new.name, json_extract(CAST(new.state AS TEXT),
    '$.started_at', '$.off_at', '$.off_cause', '$.held', '$.calls.power_off',
    '$.saved_at', '$.powered_at', '$.calls.save'));
END;
"""
HEARD = {"agent asked for shutdown": "GUEST_AGENT", "power button pressed": "ACPI"}
FAULTS = ("lost", "unavailable", "ignore", "refuse")
LASTS = 60.0
"""Seconds, more than a history's: a fault lies in wait for the next calls of its kind."""


@dataclass(frozen=True)
class Entry:
    """One state in the books. Moments are the world's."""

    started_at: float
    off_at: float | None
    off_cause: str | None
    held: str | None
    power_offs: int
    saved_at: float | None
    powered_at: float | None
    saves: int


def keep_books(world: Path) -> None:
    """Let a world write down each state of each guest from now on."""
    with closing(sqlite3.connect(world)) as books:
        books.executescript(KEEP_BOOKS)


def entries_of(world: Path, guest: str) -> list[Entry]:
    """What a world has written down of a guest, oldest first."""
    with closing(sqlite3.connect(world)) as books:
        rows = books.execute("SELECT state FROM books WHERE guest = ? ORDER BY number", (guest,)).fetchall()
    return [_from_books(state) for (state,) in rows]


class SimGround(Ground):
    """A world whose guests behave in all the ways that the sim knows."""

    name = "sim"
    harms = frozenset({"meddle", "fault", "hide"})
    quiet = 5.0
    keeps_saves = True

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self.guests = [
            Guest(name, hears=name != "mute", refuses=name == "refuser", savable=name != "tied") for name in SCRIPT
        ]
        self.provider = Provider("sim", *EXTRA)
        script, self._path = self.provider.folder / "script.yaml", self.provider.folder / "world.db"
        script.write_text(yaml.safe_dump({"guests": SCRIPT}))
        self.provider.command += ["--script", str(script), "--world", str(self._path)]
        self._script = load_script(script)
        self.world = World(self._path)

    def start(self) -> None:
        """Let the guests in, long before a provider comes."""
        self.world.listener = lambda vm_id: wake(self._path, vm_id)
        self.world.populate(self._script)
        self.ids = {name: vm_id for vm_id, name, _ in self._script.cast()}
        self._first = {guest.name: guest for guest in self.world.guests()}
        self._offset = self.world.now() - now()
        keep_books(self._path)

    def close(self) -> None:
        self.world.close()
        super().close()

    async def do(self, harm: str, rng: Random) -> None:
        begun, vm = now(), rng.choice(list(SCRIPT))
        with suppress(CommandFailed, sqlite3.OperationalError):  # it is off already; the provider is frozen in a write
            match harm:
                case "meddle":
                    what = rng.choice([*TRANSITIONS, "on"])
                    self.world.change(self.ids[vm], TRANSITIONS[what])
                    self.history.add(Harm(begun, now(), what, vm))
                case "fault":
                    call, kind = rng.choice(["send_signal", "power_off", "power_on", "save", "get"]), rng.choice(FAULTS)
                    self._set_faults(vm, call, kind, rng.randint(1, 2))
                    self.history.add(Harm(begun, begun + LASTS, f"fault {call} {kind}", vm))
                case "hide":
                    seconds = rng.choice([0.1, 0.5, 2])
                    self.world.hide(seconds)
                    wake(self._path)
                    self.history.add(Harm(begun, begun + seconds, "hypervisor hidden"))

    async def heal(self) -> None:
        self.world.hide(0)
        for name, vm_id in self.ids.items():
            self.world.change(vm_id, lambda guest, _: replace(guest, script=_without_faults(guest.script)))
            if self.world.guest(vm_id).saved_at is not None:  # it is down, as somebody wants it
                continue
            with suppress(CommandFailed):
                self.world.change(vm_id, TRANSITIONS["resume"])
                self.history.add(Harm(now(), now(), "resume", name))

    def calls(self) -> int:
        own = sum(self.world.hypervisor().calls.values())
        return own + sum(count for guest in self.world.guests() for count in guest.calls.values())

    def books(self, tokens: Sequence[str]) -> list[Record]:
        guests = {guest.name: guest for guest in self.world.guests()}
        records: list[Record] = [*self.guests]
        for name, guest in guests.items():
            entries = [_entry(self._first[name]), *entries_of(self._path, name)]
            records += self._runs(guest, entries)
            records += self._cuts(guest, entries)
            records += self._saves(guest, entries)
        printed = [line.text for guest in guests.values() for line in guest.console]
        return records + [Said(token, printed.count(token)) for token in tokens]

    def _runs(self, guest: SimGuest, entries: Sequence[Entry]) -> list[Run]:
        runs: list[Run] = []
        for started_at, group in groupby(entries, key=lambda entry: entry.started_at):
            states = list(group)
            last = states[-1]
            over = last.held is None and last.off_at is not None and last.off_at <= self.world.now()
            ended = last.off_at if over else None
            heard = [
                (line.at - self._offset, signal)
                for line in guest.console
                for text, signal in HEARD.items()
                if text in line.text and started_at <= line.at and (ended is None or line.at <= ended)
            ]
            causes = _causes(states) if over else ()
            end = None if ended is None else ended - self._offset
            runs.append(Run(guest.name, started_at - self._offset, end, causes, tuple(heard)))
        return runs

    def _cuts(self, guest: SimGuest, entries: Sequence[Entry]) -> list[Cut]:
        delay = guest.script.power_off_time + self._offset
        return [
            Cut(after.off_at - delay, guest.name)
            for before, after in pairwise(entries)
            if after.off_at is not None and _cut_by_provider(before, after)
        ]

    def _saves(self, guest: SimGuest, entries: Sequence[Entry]) -> list[Saved]:
        saves: list[Saved] = []
        for before, after in pairwise(entries):
            if before.saved_at is None and after.saved_at is not None:
                began, at = after.saved_at - guest.script.save_time - self._offset, after.saved_at - self._offset
                by: Literal["PROVIDER", "OTHER"] = "PROVIDER" if after.saves > before.saves else "OTHER"
                saves.append(Saved(began, at, guest.name, by))
            elif before.saved_at is not None and after.saved_at is None:
                cut = after.powered_at == before.powered_at and after.off_at is not None
                ended = after.off_at - guest.script.power_off_time if cut and after.off_at else after.powered_at or 0.0
                lost = after.started_at != before.started_at
                saves[-1] = replace(saves[-1], ended=ended - self._offset, lost=lost)
        return saves

    def _set_faults(self, vm: str, call: str, kind: str, times: int) -> None:
        made = self.world.guest(self.ids[vm]).calls.get(call, 0)
        entries = ([f"ok x{made}"] if made else []) + [f"{kind} x{times}"]

        def failing(guest: SimGuest, _now: float) -> SimGuest:
            script = guest.script.model_dump(exclude_unset=True) | {"faults": {call: entries}}
            return replace(guest, script=GuestScript.model_validate(script))

        self.world.change(self.ids[vm], failing)


def _causes(states: Sequence[Entry]) -> tuple[Cause, ...]:
    match states[-1].off_cause:
        case "GUEST":
            return ("GUEST",)
        case "CRASHED":
            return ("CRASH",)
    cut = any(_cut_by_provider(*pair) for pair in pairwise(states))
    return ("PROVIDER",) if cut else ("OTHER",)


def _cut_by_provider(before: Entry, after: Entry) -> bool:
    """Whether this change is the provider's: its calls are counted, those of others are not."""
    ends_so = after.off_cause == "HOST" and (before.off_at, before.off_cause) != (after.off_at, after.off_cause)
    return ends_so and after.power_offs > before.power_offs and after.started_at == before.started_at


def _entry(guest: SimGuest) -> Entry:
    made = guest.calls
    return Entry(
        guest.started_at,
        guest.off_at,
        guest.off_cause,
        guest.held,
        made.get("power_off", 0),
        guest.saved_at,
        guest.powered_at,
        made.get("save", 0),
    )


def _from_books(state: str) -> Entry:
    started_at, off_at, off_cause, held, power_offs, saved_at, powered_at, saves = json.loads(state)
    return Entry(started_at, off_at, off_cause, held, power_offs or 0, saved_at, powered_at, saves or 0)


def _without_faults(script: GuestScript) -> GuestScript:
    return script.model_copy(update={"faults": {}})
