"""Operations on disk, so that a killed provider goes on where it was. Saves that arrive together share one commit.

Where the disk cannot be written, a promise (`save`) fails and is not made. What has happened (`keep`) cannot be taken
back: it is tried again until it is on disk, and nothing newer goes to disk before it.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from common.backoff import Backoff
from common.closing import closed_on_failure
from providers.core.errors import JournalFailed
from providers.core.limiter import Limiter
from providers.core.model import Operation
from providers.core.store import ACCEPTED, Store, moment

MOST_KNOWN = 100_000
"""So many request_ids' hashes are kept (about 7 MB), so that a new one is not looked for on disk. Of more than that,
which are rarely there (operations are kept for 30 days by default), each is looked for."""
FIRST_RETRY, LAST_RETRY = 0.2, 5.0
"""Seconds between tries to write what must be kept."""

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What is to be written, and who waits for the answer. `on_disk` is called when it is written, however long that
    takes; None: it is given up if it fails."""

    operation: Operation
    done: asyncio.Future[None]
    on_disk: Callable[[], None] | None = None


class Journal:
    """The one owner of a journal file."""

    def __init__(self, path: Path, limiter: Limiter | None = None) -> None:
        """Open or create the file.

        Raises:
            JournalFailed: it cannot be opened, or another process owns it.
        """
        self._limiter = limiter or Limiter("journal", 1, stays=True)
        self._waiting: list[_Waiting] = []
        self._kept: dict[str, _Waiting] = {}
        """What is to be written again, by id."""
        self._more = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self.failure = ""
        """Why nothing can be written now; empty: it can, as far as is known."""
        self.on_failure: list[Callable[[str], None]] = []
        """Told of each change of `failure`."""
        self.on_write: list[Callable[[float], None]] = []
        """Told of each write, be it refused, and how many seconds it took."""
        try:
            with closed_on_failure(Store(path)) as self._store:
                self._known, self._added = self._store.request_ids(MOST_KNOWN + 1), set[int]()
        except (OSError, ValueError, sqlite3.Error) as error:  # sqlite3 cannot decode a message about damaged text
            why = "another process works with it" if _is_taken(error) else str(error)
            raise JournalFailed(
                f"The journal {path} cannot be opened: {why}; the operator frees it or names another --state-dir."
            ) from error

    async def save(self, operation: Operation) -> None:
        """Write the operation; return when it is on disk.

        Raises:
            JournalFailed: it could not be written.
        """
        await self._written(operation)

    async def keep(self, operation: Operation, on_disk: Callable[[], None]) -> bool:
        """Write what has happened. False: it could not be written now, and is written as soon as that is possible.

        `on_disk` is called when it is, unless a later state of the same operation was kept meanwhile.
        """
        try:
            await self._written(operation, on_disk)
        except JournalFailed:
            return False
        return True

    async def answers(self) -> bool:
        """Whether a write that changes nothing reaches the disk, be it refused there (`failure` tells that).

        False: this process cannot even try, for it gets no threads.
        """
        try:
            await self._limiter.run(self._store.touch)
        except (OSError, sqlite3.Error):
            return True
        except Exception:
            log.exception("a write does not reach the journal")
            return False
        return True

    async def get(self, operation_id: str) -> Operation | None:
        """One operation.

        Raises:
            JournalFailed: it cannot be read.
        """
        return await self._read(self._store.one, "id", operation_id)

    async def find(self, request_id: str) -> Operation | None:
        """The operation that this request_id began; the disk is read only if it may have it.

        Raises:
            JournalFailed: it cannot be read.
        """
        if len(self._known) <= MOST_KNOWN and hash(request_id) not in self._known:
            return None
        return await self._read(self._store.one, "request_id", request_id)

    async def active(self) -> list[Operation]:
        """Those that have not ended, in the order in which they were accepted."""
        return await self._read(self._store.many, {"final = 0": ()}, ACCEPTED)

    async def overtaken(self) -> set[str]:
        """The ids of active ones of which a later one on the same VM has ended: they had ended before, but that was not
        written."""
        return await self._read(self._store.overtaken)

    async def still_running(self, since: datetime) -> list[Operation]:
        """Those that began since then and left their VMs running, or perhaps so, in the order in which they were
        accepted."""
        outcomes = {"(record LIKE ? OR record LIKE ?)": ('%"STILL_RUNNING"%', '%"UNKNOWN"%')}
        given = {"final = 1": (), "create_time > ?": (moment(since),)} | outcomes
        found = await self._read(self._store.many, given, ACCEPTED)
        return [operation for operation in found if operation.may_run]

    async def page(
        self, size: int, before: tuple[str, str] | None = None, vm_id: str = "", active_only: bool = False
    ) -> list[Operation]:
        """Up to `size` operations, newest first, older than `before` (create_time, id)."""
        given = {
            "vm_id = ?": (vm_id,) if vm_id else None,
            "final = 0": () if active_only else None,
            "(create_time, id) < (?, ?)": before,
        }
        conditions = {condition: values for condition, values in given.items() if values is not None}
        return await self._read(self._store.many, conditions, "create_time DESC, id DESC", size)

    async def prune(self, before: datetime) -> None:
        with _told_as_failed("written"):
            await self._limiter.run(self._store.prune, before)
        self._added = set()
        known = await self._read(self._store.request_ids, MOST_KNOWN + 1)
        self._known = known | self._added  # with those saved meanwhile

    async def close(self) -> None:
        """Write what can be written, and close the file."""
        self._closing = True
        self._more.set()
        if self._writer is not None:
            await self._writer
        await self._limiter.run(self._store.close)
        self._limiter.close()

    async def _written(self, operation: Operation, on_disk: Callable[[], None] | None = None) -> None:
        if len(self._known) <= MOST_KNOWN:
            self._known.add(hash(operation.request.request_id))
            self._added.add(hash(operation.request.request_id))
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(operation, done, on_disk))
        self._more.set()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_waiting())
        await done

    async def _write_waiting(self) -> None:
        backoff = Backoff(FIRST_RETRY, LAST_RETRY)
        while self._waiting or self._kept:
            self._more.clear()
            written = await self._try_commit()
            if self._closing and not self._waiting:
                return
            if written or self._waiting:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.next()):
                    await self._more.wait()

    async def _try_commit(self) -> bool:
        """Commit all that waits, and answer: each must have an answer, whatever failed. Whether it is on disk."""
        waiting, self._waiting = self._waiting, []
        batch, failure = self._kept | {each.operation.id: each for each in waiting}, None
        now = asyncio.get_running_loop().time
        began = now()
        try:
            with _told_as_failed("written"):
                await self._limiter.run(self._store.commit, [each.operation for each in batch.values()])
        except JournalFailed as error:
            failure = error
            self._kept |= {each.operation.id: each for each in waiting if each.on_disk}
        else:
            self._kept = {}
        for each in waiting:
            if not each.done.done():
                each.done.set_exception(failure) if failure else each.done.set_result(None)
        if failure is None:
            for each in batch.values():
                if each.on_disk:
                    _tell(each.on_disk)
        self._note(str(failure or ""))
        for listener in self.on_write:
            _tell(listener, now() - began)
        return failure is None

    def _note(self, failure: str) -> None:
        if failure != self.failure:
            self.failure = failure
            for listener in self.on_failure:
                _tell(listener, failure)

    async def _read(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with _told_as_failed("read"):
            return await self._limiter.run(partial(query, *args, **kwargs))


def _is_taken(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY


def _tell(listener: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call it; a listener that breaks must not end the writer, which all operations wait for."""
    try:
        listener(*args, **kwargs)
    except Exception:
        log.exception("a bug in vmpower: a listener of the journal failed")


@contextmanager
def _told_as_failed(done: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # mostly sqlite3.Error; also that the machine has no more threads
        raise JournalFailed(f"The journal cannot be {done} ({error}); the operator mends the disk.") from error
