"""Operations on disk, so that a killed provider goes on where it was.

One SQLite file in WAL mode with synchronous=FULL: what `save` has returned from survives a power cut
(https://www.sqlite.org/pragma.html#pragma_synchronous). Saves that arrive together share one commit.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from providers.core.errors import JournalFailed
from providers.core.limiter import Limiter
from providers.core.model import Operation

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
MOST_KNOWN = 100_000
"""So many request_ids' hashes are kept (about 7 MB), so that a new one is not looked for on disk. Of more than that,
which are rarely there (operations are kept for 30 days by default), each is looked for."""
VERSION = 1
"""That of the records (SQLite's user_version)."""
_SAVE = "INSERT OR REPLACE INTO operations VALUES (?, ?, ?, ?, ?, ?)"


class Journal:
    """The one owner of a journal file."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, readable by this user alone.

        Raises:
            JournalFailed: it cannot be opened, or another process owns it.
        """
        self._limiter = Limiter("journal", 1)
        self._waiting: list[tuple[Operation, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._db = _open(path)
            self._known, self._added = _hashes(self._db), set[int]()
        except (OSError, sqlite3.Error) as error:
            raise JournalFailed(
                f"The journal {path} cannot be opened ({error}); the operator frees it or names another --state-dir."
            ) from error

    async def save(self, operation: Operation) -> None:
        """Write the operation; return when it is on disk.

        Raises:
            JournalFailed: it could not be written.
        """
        if len(self._known) <= MOST_KNOWN:
            self._known.add(hash(operation.request.request_id))
            self._added.add(hash(operation.request.request_id))
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await done

    async def get(self, operation_id: str) -> Operation | None:
        return await self._one("SELECT record FROM operations WHERE id = ?", operation_id)

    async def find(self, request_id: str) -> Operation | None:
        """The operation that this request_id began; the disk is read only if it may have it."""
        if len(self._known) <= MOST_KNOWN and hash(request_id) not in self._known:
            return None
        return await self._one("SELECT record FROM operations WHERE request_id = ?", request_id)

    async def active(self) -> list[Operation]:
        return await self._many("SELECT record FROM operations WHERE final = 0 ORDER BY create_time, id")

    async def page(
        self, size: int, before: tuple[str, str] | None = None, vm_id: str = "", active_only: bool = False
    ) -> list[Operation]:
        """Up to `size` operations, newest first, older than `before` (create_time, id)."""
        where, values = ["1"], list[object]()
        if vm_id:
            where.append("vm_id = ?")
            values.append(vm_id)
        if active_only:
            where.append("final = 0")
        if before:
            where.append("(create_time, id) < (?, ?)")
            values.extend(before)
        query = f"SELECT record FROM operations WHERE {' AND '.join(where)}"  # noqa: S608 - fixed words only
        return await self._many(f"{query} ORDER BY create_time DESC, id DESC LIMIT ?", *values, size)

    async def prune(self, before: datetime) -> None:
        with _told_as_failed("written"):
            await self._limiter.run(self._prune, before)
        self._added = set()
        with _told_as_failed("read"):
            self._known = await self._limiter.run(_hashes, self._db) | self._added  # with those saved meanwhile

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer
        await self._limiter.run(self._db.close)

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            failure = await self._try_commit([operation for operation, _ in batch])
            for _, done in batch:
                if done.done():
                    continue
                done.set_exception(failure) if failure else done.set_result(None)

    async def _try_commit(self, batch: Sequence[Operation]) -> JournalFailed | None:
        """Why it could not be written, for those who wait: each must have an answer, whatever failed."""
        try:
            with _told_as_failed("written"):
                await self._limiter.run(self._commit, batch)
        except JournalFailed as failure:
            return failure
        return None

    def _commit(self, batch: Sequence[Operation]) -> None:
        with self._db:
            self._db.executemany(_SAVE, [_row(operation) for operation in batch])

    def _prune(self, before: datetime) -> None:
        with self._db:
            self._db.execute("DELETE FROM operations WHERE final = 1 AND create_time < ?", (moment(before),))

    async def _one(self, query: str, value: str) -> Operation | None:
        found = await self._many(query, value)
        return found[0] if found else None

    async def _many(self, query: str, *values: object) -> list[Operation]:
        with _told_as_failed("read"):
            rows = await self._limiter.run(lambda: self._db.execute(query, values).fetchall())
        return [Operation.model_validate_json(record) for (record,) in rows]


def _hashes(db: sqlite3.Connection) -> set[int]:
    """Those of the request_ids on disk, up to one more than `MOST_KNOWN`."""
    query = "SELECT request_id FROM operations WHERE request_id IS NOT NULL LIMIT ?"
    return {hash(request_id) for (request_id,) in db.execute(query, (MOST_KNOWN + 1,))}


@contextmanager
def _told_as_failed(done: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # mostly sqlite3.Error; also that the machine has no more threads
        raise JournalFailed(f"The journal cannot be {done} ({error}); the operator mends the disk.") from error


def moment(time: datetime) -> str:
    """A time as text that sorts in time order (fixed width, UTC)."""
    return time.isoformat(timespec="microseconds")


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, check_same_thread=False)
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.executescript(_SCHEMA)
    _upgrade(db)
    return db


def _upgrade(db: sqlite3.Connection) -> None:
    """Rewrite the records of a version before `VERSION`: until then a request's timeout had the default filled in, and
    signals had no numbers."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version >= VERSION:
        return
    rows = db.execute("SELECT record, id FROM operations").fetchall()
    with db:
        db.executemany("UPDATE operations SET record = ? WHERE id = ?", [(_upgraded(old), key) for old, key in rows])
        db.execute(f"PRAGMA user_version = {VERSION}")


def _upgraded(record: str) -> str:
    operation = json.loads(record)
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
    return json.dumps(operation)


def _row(operation: Operation) -> tuple[str, str | None, str, str, int, str]:
    request = operation.request
    return (
        operation.id,
        request.request_id or None,
        request.vm_id,
        moment(operation.create_time),
        int(operation.state.final),
        operation.model_dump_json(exclude_none=True),
    )
