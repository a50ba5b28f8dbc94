"""A run's record on the local disk: a file of lines, the first says how the run started, each other one is an event.

What `write` has returned from survives a loss of power. The last line may be half there after one: it was not promised,
and is dropped. The file belongs to one process at a time.
"""

import asyncio
import fcntl
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from pydantic import TypeAdapter, ValidationError

from plans.history import Event, History, Start

ENDING = ".jsonl"
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_ID = re.compile(r"[a-z0-9][-a-z0-9.]*")


class JournalError(Exception):
    """A record cannot be read or written; the message says what the operator does."""


class NeverBegan(JournalError):
    """A record ends in its first line: the run ended while it was begun, and has done nothing."""


def line(record: Start | Event) -> str:
    """A record as it is written, without the end of the line."""
    return record.model_dump_json(by_alias=True)


def event_of(written: str | bytes) -> Event:
    """What a line that is not the first one says; raises ValueError."""
    return _EVENT.validate_json(written)


def history_of(lines: Sequence[str | bytes]) -> History:
    """What all lines say; raises ValueError: this version cannot read them."""
    history = History(Start.model_validate_json(lines[0]))
    for each in lines[1:]:
        history.note(event_of(each))
    return history


class Off(Protocol):
    """Runs what blocks off the event loop."""

    def __call__(self, call: Callable[[], None], /) -> Awaitable[None]: ...


class Journal:
    """The one writer of a run's file. Events that are written together share one write."""

    def __init__(self, file: IO[bytes], length: int, off: Off = asyncio.to_thread) -> None:
        """`length`: how much of the file is whole."""
        self._file, self._length, self._off = file, length, off
        self._waiting: list[bytes] = []
        self._turn = asyncio.Lock()

    async def write(self, *records: Start | Event) -> None:
        """Return when they are on disk.

        Raises:
            JournalError: they could not be written; they are written together with the next ones.
        """
        self._waiting += [line(record).encode() + b"\n" for record in records]
        if error := await asyncio.shield(self._write_waiting()):  # a write goes on though its caller is gone
            raise JournalError(
                f"{self._file.name} cannot be written ({error}); the operator mends the disk."
            ) from error

    async def _write_waiting(self) -> OSError | None:
        async with self._turn:
            batch, self._waiting = self._waiting, []
            try:
                if batch:  # else one that came before has taken ours along
                    await self._off(partial(self._append, b"".join(batch)))
            except OSError as error:
                self._waiting = batch + self._waiting
                return error
        return None

    def write_now(self, *records: Start | Event) -> None:
        """The same before anything is written by `write`, and on this thread.

        Raises:
            OSError
        """
        self._append(b"".join(line(record).encode() + b"\n" for record in records))

    def close(self) -> None:
        """Let another process have the file."""
        self._file.close()

    def _append(self, lines: bytes) -> None:
        self._file.seek(self._length)
        self._file.truncate()  # what a write that failed has left
        self._file.write(lines)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._length += len(lines)


class Runs:
    """The records of all runs, in a folder of this user's."""

    def __init__(self, folder: Path, off: Off = asyncio.to_thread) -> None:
        self._folder, self._off = folder, off

    async def create(self, start: Start) -> tuple[History, Journal]:
        """A new run, on disk when this returns.

        Raises:
            JournalError
        """
        creating = asyncio.ensure_future(self._create(start))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            creating.add_done_callback(self._forget)
            raise

    async def _create(self, start: Start) -> tuple[History, Journal]:
        journal = Journal(_opened(self._path(start.run), create=True), 0, self._off)
        try:
            await journal.write(start)
            await self._off(partial(_sync, self._folder))
        except OSError as error:
            journal.close()
            raise JournalError(f"{self._folder} cannot be written ({error}).") from error
        except JournalError:
            journal.close()
            raise
        return History(start), journal

    def _forget(self, created: asyncio.Task[tuple[History, Journal]]) -> None:
        """Who asked for it has left meanwhile: no later process is to find a run that nothing has carried out."""
        if created.cancelled() or created.exception() is not None:
            return
        history, journal = created.result()
        with suppress(OSError):
            self._path(history.start.run).unlink()
        journal.close()

    def resume(self, run: str) -> tuple[History, Journal]:
        """A run that was left.

        Raises:
            JournalError: there is none of this name, it is not readable, or another process carries it out.
        """
        file = _opened(self._path(run), create=False)
        try:
            history, length = _read(file)
        except JournalError:
            file.close()
            raise
        return history, Journal(file, length, self._off)

    def adopt(self, history: History) -> Journal:
        """Make this the record of its run, whatever there was of it. It is on disk when this returns.

        Raises:
            JournalError: it cannot be written, or another process carries it out.
        """
        file = _opened(self._path(history.start.run), create=True, anew=False)
        journal = Journal(file, 0, self._off)
        try:
            journal.write_now(history.start, *history.events)
            _sync(self._folder)
        except OSError as error:
            journal.close()
            raise JournalError(f"{self._folder} cannot be written ({error}).") from error
        return journal

    def read(self, run: str) -> History:
        """A run as it stands, whoever carries it out.

        Raises:
            JournalError
        """
        try:
            with self._path(run).open("rb") as file:
                return _read(file)[0]
        except OSError as error:
            raise JournalError(f"There is no run {run!r} in {self._folder} ({error.strerror}).") from error

    def all(self, unreadable: Callable[[JournalError], None] = lambda _: None) -> list[History]:
        """Every run that can be read, oldest first; `unreadable` is told of those that cannot be."""
        found = []
        for file in self._folder.glob(f"*{ENDING}"):
            try:
                found.append(self.read(file.name.removesuffix(ENDING)))
            except NeverBegan:
                continue
            except JournalError as error:
                unreadable(error)
        return sorted(found, key=lambda history: history.start.at)

    def forget(self, which: Callable[[Start], bool], kept: int) -> None:
        """Delete the records of these runs, where they are released, but for the newest ones."""
        over = [history.start for history in self.all() if history.released and which(history.start)]
        for start in over[:-kept]:
            with suppress(OSError):
                self._path(start.run).unlink()

    def _path(self, run: str) -> Path:
        if not _ID.fullmatch(run):
            raise JournalError(f"{run!r} is no name of a run.")
        return self._folder / f"{run}{ENDING}"


def _opened(path: Path, *, create: bool, anew: bool = True) -> IO[bytes]:
    """The file, locked, and readable by this user alone; `anew`: one that is created is not there yet.

    Raises:
        JournalError
    """
    made = os.O_CREAT | (os.O_EXCL if anew else 0) if create else 0
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | made
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(path, "r+b", opener=lambda name, _: os.open(name, flags, 0o600))  # noqa: SIM115 - it is kept
    except OSError as error:
        raise JournalError(f"{path} cannot be opened ({error.strerror}); name another --state-dir.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise JournalError(f"Another process carries out run {path.stem}.") from error
    return file


def _read(file: IO[bytes]) -> tuple[History, int]:
    """The history, and how much of the file is whole.

    Raises:
        JournalError
    """
    whole = file.read().rpartition(b"\n")[0]
    if not whole:
        raise NeverBegan(f"{file.name} is of a run that never began.")
    try:
        history = history_of(whole.split(b"\n"))
    except ValidationError as error:
        raise JournalError(f"{file.name} is no record of a run that this version can read.") from error
    return history, len(whole) + 1


def _sync(folder: Path) -> None:
    """That a file is there is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
