"""Operations in one SQLite file, in WAL mode with synchronous=FULL: what `commit` has returned from survives a power
cut (https://www.sqlite.org/pragma.html#pragma_synchronous). Everything here blocks; `journal.py` calls it on its
thread.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from common.closing import closed_on_failure
from common.text import encodable
from providers.core.model import Operation
from providers.core.private_files import make_private

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY,
    request_id TEXT UNIQUE,
    vm_id TEXT NOT NULL,
    create_time TEXT NOT NULL,
    final INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_time ON operations (create_time, id);
CREATE INDEX IF NOT EXISTS by_vm ON operations (vm_id, create_time, id);
CREATE INDEX IF NOT EXISTS by_final ON operations (final, create_time, id);
"""
VERSION = 3
"""That of the records (SQLite's user_version)."""
ACTIVE, FINAL, SET_ASIDE = 0, 1, 2
"""`final`. A record that cannot be read, of a newer version perhaps, is set aside: its bytes stay where they are, and
it is tried again at the next start."""
ACCEPTED = "rowid"
"""The order in which they were accepted, whatever the clock was set to meanwhile: a row keeps its place when it is
saved again (https://www.sqlite.org/rowidtable.html)."""
_SAVE = (
    "INSERT OR REPLACE INTO operations VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
    "SET create_time = excluded.create_time, final = excluded.final, record = excluded.record"
)

log = structlog.get_logger()


class Unreadable(Exception):
    """This record cannot be read."""


class Store:
    """The file, which one process owns."""

    def __init__(self, path: Path) -> None:
        """Open or create it, readable by this user alone.

        Raises:
            OSError, sqlite3.Error: it cannot be opened, or another process or user owns it.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(path)
        self._path = path
        self._unreadable: list[str] = []
        with closed_on_failure(sqlite3.connect(path, timeout=0, check_same_thread=False)) as self.db:
            self.db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.executescript(_SCHEMA)
            with self.db:
                _upgrade(self.db)
                self.db.execute("UPDATE operations SET final = ? WHERE final = ?", (ACTIVE, SET_ASIDE))

    def close(self) -> None:
        self.db.close()

    def commit(self, batch: Iterable[Operation]) -> None:
        """Write them, all or none. Each is made into text just before it is written: two thousand at once are 10 MB."""
        with self.db:
            self.db.executemany(_SAVE, map(_row, batch))

    def touch(self) -> None:
        """Commit a write that changes nothing: the version is set to what it is."""
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            (version,) = self.db.execute("PRAGMA user_version").fetchone()
            self.db.execute(f"PRAGMA user_version = {version}")

    def prune(self, before: datetime) -> None:
        with self.db:
            self.db.execute("DELETE FROM operations WHERE final = 1 AND create_time < ?", (moment(before),))

    def request_ids(self, most: int) -> set[int]:
        """The hashes of those on disk, up to so many."""
        query = "SELECT request_id FROM operations WHERE request_id IS NOT NULL LIMIT ?"
        return {hash(request_id) for (request_id,) in self.db.execute(query, (most,))}

    def one(self, column: str, value: str) -> Operation | None:
        """The operation with this `id` or `request_id`.

        Raises:
            Unreadable: its record cannot be read.
        """
        found = self.db.execute(f"SELECT id, record FROM operations WHERE {column} = ?", (value,)).fetchall()  # noqa: S608
        if not found:
            return None
        operation = self._read(*found[0])
        self._set_aside()
        if operation is None:
            raise Unreadable(f"the record of operation {found[0][0]} in {self._path} cannot be read")
        return operation

    def many(self, conditions: Mapping[str, Any], order: str, limit: int = -1) -> list[Operation]:
        """Those that meet all conditions (SQL with one `?` or none each) and can be read."""
        where = " AND ".join(("final < 2", *conditions))
        query = f"SELECT id, record FROM operations WHERE {where} ORDER BY {order}"  # noqa: S608 - fixed words
        rows = self.db.execute(query, [value for given in conditions.values() for value in given])
        readable = (operation for row in rows if (operation := self._read(*row)))
        found = list(readable if limit < 0 else islice(readable, limit))
        self._set_aside()
        return found

    def overtaken(self) -> set[str]:
        """The ids of active operations of which a later one on the same VM has ended."""
        query = (
            "SELECT id FROM operations AS earlier WHERE final = 0 AND EXISTS (SELECT 1 FROM operations AS later "  # noqa: S608
            "WHERE later.vm_id = earlier.vm_id AND later.final = 1 "
            f"AND later.{ACCEPTED} > earlier.{ACCEPTED})"
        )
        return {operation_id for (operation_id,) in self.db.execute(query)}

    def _read(self, operation_id: str, record: str) -> Operation | None:
        try:
            return Operation.model_validate_json(record)
        except ValidationError:
            log.exception(
                "a record cannot be read; it is set aside, and tried again at the next start",
                operation=operation_id,
                journal=str(self._path),
            )
            self._unreadable.append(operation_id)
        return None

    def _set_aside(self) -> None:
        """After the read: a write would begin another transaction in the middle of it."""
        unreadable, self._unreadable = self._unreadable, []
        if unreadable:
            with self.db:
                rows = [(SET_ASIDE, operation_id) for operation_id in unreadable]
                self.db.executemany("UPDATE operations SET final = ? WHERE id = ?", rows)


def moment(time: datetime) -> str:
    """A time as text that sorts in time order (fixed width, UTC)."""
    return time.isoformat(timespec="microseconds")


def _row(operation: Operation) -> tuple[str, str | None, str, str, int, str]:
    request = operation.request
    return (
        operation.id,
        request.request_id or None,
        request.vm_id,
        moment(operation.create_time),
        int(operation.state.final),
        _json(operation),
    )


def _json(operation: Operation) -> str:
    try:
        return operation.model_dump_json(exclude_none=True)
    except PydanticSerializationError:  # text that no UTF-8 can hold: one record must not fail all
        scrubbed: Operation = _scrubbed(operation)
        return scrubbed.model_dump_json(exclude_none=True)


def _scrubbed(value: Any) -> Any:
    """With all its text as UTF-8 can hold it."""
    if type(value) is str:  # and no word of an enum
        return encodable(value)
    if isinstance(value, tuple):
        return tuple(_scrubbed(each) for each in value)
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _scrubbed(getattr(value, name)) for name in type(value).model_fields})
    return value


def _upgrade(db: sqlite3.Connection) -> None:
    """Before version 3, each save gave its row another place, and before 2 records were written otherwise."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version >= VERSION:
        return
    db.execute("INSERT OR REPLACE INTO operations SELECT * FROM operations ORDER BY create_time, id")
    if version < 2:
        _rewrite(db, version)
    db.execute(f"PRAGMA user_version = {VERSION}")


def _rewrite(db: sqlite3.Connection, version: int) -> None:
    """The records: before 1, a request's timeout had the default filled in, and signals had no numbers; before 2,
    signals were refused or not. One that is no record of a version stays as it is."""
    rows = db.execute("SELECT record, id FROM operations").fetchall()
    for record, key in rows:
        try:
            upgraded = _upgraded(record, version)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        db.execute("UPDATE operations SET record = ? WHERE id = ?", (upgraded, key))


def _upgraded(record: str, version: int) -> str:
    operation = json.loads(record)
    if version < 1:
        _number(operation)
    for sent in operation["sent"]:
        sent["delivery"] = "REFUSED" if sent.pop("refused", False) else "ACCEPTED"
    return json.dumps(operation)


def _number(operation: dict[str, Any]) -> None:
    request = operation["request"]
    named, requested = request.pop("timeout_named", False), request["timeout"]
    if not named:
        del request["timeout"]
    if named or "force_after" in request:
        operation["timeout_origin"] = "CALLER"
    else:
        operation["timeout_origin"] = "DEFAULT" if operation["timeout"] == requested else "EXTENSION"
    for number, sent in enumerate(operation["sent"], 1):
        sent["number"] = number
