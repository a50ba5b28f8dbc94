"""The world: every guest of one sim, in a SQLite file that outlives the provider's process.

A guest is one row, its state one JSON document. What was read is kept until another process (`control.py`) changes
the file, which SQLite tells (`PRAGMA data_version`). A call takes some 100 microseconds and so is made on the event
loop itself.
The file survives a SIGKILL of the provider, which is its purpose; it is not meant to survive the host.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common.closing import closed_on_failure
from providers.core.clock import boot_id, since_boot
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.sim.guest import Guest
from providers.sim.script import Fault, Faults, GuestCall, GuestScript, Script, SimError, WorldCall, fault_at
from providers.sim.transitions import Transition, create

TABLES = """
CREATE TABLE IF NOT EXISTS guests (id TEXT PRIMARY KEY, name TEXT NOT NULL, script TEXT NOT NULL, state TEXT);
CREATE INDEX IF NOT EXISTS by_name ON guests (name);
CREATE TABLE IF NOT EXISTS hypervisor (only INTEGER PRIMARY KEY CHECK (only = 1), state TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """The hypervisor's own state: faults, calls made, and until when (seconds since 1970) nothing answers.

    `booted_at`: when the host was booted, by its clock when the world was first opened in this boot. `latency`: how
    many seconds each call about a guest takes. `most`: how many of each were ever under way at once.
    """

    faults: dict[WorldCall, Faults] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    unreachable_until: float = 0.0
    boot_id: str = ""
    booted_at: float = 0.0
    latency: float = 0.0
    most: dict[str, int] = field(default_factory=dict)


_GUEST = TypeAdapter(Guest)
_HYPERVISOR = TypeAdapter(Hypervisor)


class World:
    """All guests of one sim. `path` None: in memory only.

    `clock` None: the host's, without the steps it makes while the host is up. Guests live on by it, and no guest that
    is off comes to life again because somebody set the clock back.

    `listener` is called with the id of each guest that was changed through this object.

    Raises:
        SimError: the file is no world.
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], datetime] | None = None) -> None:
        self.path = path
        self.listener: Callable[[str], None] = lambda _vm_id: None
        self._clock = clock
        self._read: dict[str, Guest] = {}
        self._own: Hypervisor | None = None
        self._under_way = Counter[GuestCall]()
        self._version = 0
        try:
            with closed_on_failure(sqlite3.connect(path or ":memory:", isolation_level=None)) as self._db:
                self._db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; {TABLES}")
        except (ValueError, sqlite3.Error) as error:  # sqlite3 cannot decode a message about damaged text
            raise SimError(f"{path}: not a world: {error}; name another file.") from error
        if clock is None:
            self._note_boot()

    def close(self) -> None:
        """Close the file; the guests live on."""
        self._db.close()

    def now(self) -> float:
        """Seconds since 1970."""
        if self._clock is None:
            return self._booted_at + since_boot()
        return self._clock().timestamp()

    def populate(self, script: Script) -> None:
        """Add the guests of a script.

        A guest that is there already keeps its state; if its script was changed since, it follows the new one
        from now on. A guest that was removed stays away.
        """
        known = dict(self._db.execute("SELECT id, script FROM guests"))
        with self._transaction():
            self._keep(replace(self.hypervisor(), faults=script.faults, latency=script.latency))
            for vm_id, name, guest in script.cast():
                text = guest.model_dump_json(exclude_unset=True)
                if known.get(vm_id) == text:
                    continue
                if there := self.find(vm_id):
                    self._insert(replace(there, name=name, script=guest), text)
                elif vm_id not in known:
                    self._insert(create(vm_id, name, guest, self.now()), text)

    def add(self, vm_id: str, name: str, script: GuestScript) -> None:
        """Add a guest; an id that was removed may be added again."""
        with self._transaction():
            self._insert(create(vm_id, name, script, self.now()), script.model_dump_json(exclude_unset=True))
        self.listener(vm_id)

    def remove(self, vm_id: str) -> None:
        """Delete a guest with its console."""
        with self._transaction():
            self.guest(vm_id)
            del self._read[vm_id]
            self._db.execute("UPDATE guests SET state = NULL WHERE id = ?", (vm_id,))
        self.listener(vm_id)

    def guests(self) -> list[Guest]:
        """All guests, by name and id."""
        rows = self._db.execute("SELECT state FROM guests WHERE state IS NOT NULL ORDER BY name, id")
        return [_guest(state) for (state,) in rows]

    def find(self, vm_id: str) -> Guest | None:
        self._forget_what_is_old()
        if vm_id not in self._read:
            row = self._db.execute("SELECT state FROM guests WHERE id = ?", (vm_id,)).fetchone()
            if not row or not row[0]:
                return None
            self._read[vm_id] = _guest(row[0])
        return self._read[vm_id]

    def named(self, name: str) -> list[Guest]:
        """All guests with this name or id."""
        query = "SELECT state FROM guests WHERE (name = ?1 OR id = ?1) AND state IS NOT NULL"
        return [_guest(state) for (state,) in self._db.execute(query, (name,))]

    def guest(self, vm_id: str) -> Guest:
        """The guest with this id; VMNotFound if there is none."""
        if (guest := self.find(vm_id)) is None:
            raise VMNotFound(f"No VM has the id {vm_id!r}; list them and name another.")
        return guest

    def change(self, vm_id: str, transition: Transition) -> Guest:
        """Apply a transition to a guest; atomic, also when another process changes the guest.

        Raises:
            VMNotFound: there is no such guest.
            CommandFailed: by the transition.
        """
        with self._transaction():
            before = self.guest(vm_id)
            guest = transition(before, self.now())
            if guest is not before:
                self._update(guest)
        if guest is not before:
            self.listener(vm_id)
        return guest

    def call(self, vm_id: str, call: GuestCall, transition: Transition | None = None) -> tuple[Fault, Guest]:
        """Count a call that concerns a guest, and apply its transition unless its fault prevents that.

        Raises:
            VMNotFound: there is no such guest.
            CommandFailed: by the transition; the call counts all the same.
        """
        failure = None
        with self._transaction():
            before = self.guest(vm_id)
            number = before.calls.get(call, 0)
            fault = fault_at(before.script.faults.get(call, ()), number)
            guest = counted = replace(before, calls={**before.calls, call: number + 1})
            if transition and fault in (Fault.OK, Fault.LOST):
                try:
                    guest = transition(counted, self.now())
                except CommandFailed as error:
                    failure = error
            self._update(guest)
        if failure:
            raise failure
        if guest is not counted:
            self.listener(vm_id)
        return fault, guest

    def count_own(self, call: WorldCall) -> Fault:
        """Count a call that concerns all guests; its fault."""
        with self._transaction():
            own = self.hypervisor()
            number = own.calls.get(call, 0)
            self._keep(replace(own, calls={**own.calls, call: number + 1}))
        return fault_at(own.faults.get(call, ()), number)

    @contextmanager
    def under_way(self, call: GuestCall) -> Iterator[None]:
        """A call takes its time; how many of a kind do so at once is counted."""
        self._under_way[call] += 1
        own = self.hypervisor()
        if self._under_way[call] > own.most.get(call, 0):
            with self._transaction():
                own = self.hypervisor()
                self._keep(replace(own, most={**own.most, call: self._under_way[call]}))
        try:
            yield
        finally:
            self._under_way[call] -= 1

    def hypervisor(self) -> Hypervisor:
        """What concerns no guest alone."""
        self._forget_what_is_old()
        if self._own is None:
            row = self._db.execute("SELECT state FROM hypervisor").fetchone()
            self._own = _HYPERVISOR.validate_json(row[0]) if row else Hypervisor()
        return self._own

    def hide(self, seconds: float) -> None:
        """From now on nothing answers for so long; the guests go on meanwhile."""
        with self._transaction():
            self._keep(replace(self.hypervisor(), unreachable_until=self.now() + seconds))

    def must_answer(self) -> None:
        """Raise HypervisorUnavailable while the hypervisor is hidden."""
        if self.hypervisor().unreachable_until > self.now():
            raise HypervisorUnavailable("The sim does not answer: it was hidden; wait until it is back.")

    def _note_boot(self) -> None:
        present = boot_id()
        with self._transaction():
            own = self.hypervisor()
            if own.boot_id != present:
                own = replace(own, boot_id=present, booted_at=time.time() - since_boot())
                self._keep(own)
        self._booted_at = own.booted_at

    def _insert(self, guest: Guest, script: str) -> None:
        row = (guest.id, guest.name, script, _GUEST.dump_json(guest))
        self._db.execute("INSERT OR REPLACE INTO guests VALUES (?, ?, ?, ?)", row)
        self._read[guest.id] = guest

    def _update(self, guest: Guest) -> None:
        row = (guest.name, _GUEST.dump_json(guest), guest.id)
        self._db.execute("UPDATE guests SET name = ?, state = ? WHERE id = ?", row)
        self._read[guest.id] = guest

    def _keep(self, hypervisor: Hypervisor) -> None:
        self._db.execute("INSERT OR REPLACE INTO hypervisor VALUES (1, ?)", (_HYPERVISOR.dump_json(hypervisor),))
        self._own = hypervisor

    def _forget_what_is_old(self) -> None:
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._forget()

    def _forget(self) -> None:
        self._read.clear()
        self._own = None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            self._forget()
            raise
        self._db.execute("COMMIT")


def _guest(state: bytes) -> Guest:
    try:
        return _GUEST.validate_json(state)
    except ValidationError as error:
        raise SimError(f"A world that another version wrote cannot be read; delete it. {error}") from error
