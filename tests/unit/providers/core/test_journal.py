"""The journal with its real file and its real thread."""

import asyncio
import json
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from providers.core.adapter import Escalation, GuestCredentials, Reason, Signal
from providers.core.errors import JournalFailed
from providers.core.journal import Journal
from providers.core.model import (
    Delivery,
    ExecHook,
    Hook,
    HookResult,
    HookState,
    HttpGetHook,
    Kind,
    Operation,
    Outcome,
    Request,
    Sent,
    SnapshotHook,
    State,
    Step,
    TimeoutOrigin,
    Verdict,
)
from providers.core.store import Store, moment
from tests.unit.providers.fakes import open_files

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def operation(number: int = 1, *, vm: str = "1", request_id: str = "", **fields: Any) -> Operation:
    request = Request(kind=Kind.SHUTDOWN, vm_id=vm, vm_name=f"vm-{vm}", request_id=request_id)
    defaults = {
        "id": f"op-{number}",
        "request": request,
        "create_time": after(number),
        "timeout": timedelta(seconds=60),
    }
    return Operation(**defaults | fields)


FULL = Operation(
    id="full",
    request=Request(
        kind=Kind.REBOOT,
        vm_id="1",
        vm_name="web",
        request_id="r",
        timeout=timedelta(seconds=1.5),
        force_after=after(60),
        escalation=Escalation.ASK,
        hooks=(
            Hook(name="a", handler=ExecHook(command=("sync", "ünï")), timeout=timedelta(hours=2)),
            Hook(name="b", handler=HttpGetHook(url="http://web/", header_names=("X-Token",), expect_status=204)),
            Hook(name="c", handler=SnapshotHook(description="d", include_memory=True)),
        ),
        signal_order=(Signal.ACPI,),
        resend_interval=timedelta(0),
    ),
    state=State.SUCCEEDED,
    create_time=after(0.123456),
    timeout=timedelta(seconds=2),
    grace_start=after(1),
    force_after=after(61),
    force_reason=Reason.TIMEOUT,
    hooks=(HookResult(name="a", state=HookState.FAILED, exit_code=3, output="no\n", duration=timedelta(seconds=1)),),
    sent=(Sent(number=1, time=after(1), signal=Signal.ACPI, delivery=Delivery.REFUSED),),
    steps=(Step(time=after(1), state=State.PENDING, message="m"),),
    starting=True,
    verdict=Verdict(
        outcome=Outcome.FORCED, reason=Reason.TIMEOUT, start_time=after(0), end_time=after(61), message="m"
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sim.journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal(path)
    yield journal
    await journal.close()


async def test_what_was_saved_is_read_back_whole(journal: Journal) -> None:
    await journal.save(FULL)
    assert await journal.get("full") == FULL


async def test_what_was_saved_outlives_the_process(path: Path) -> None:
    first = Journal(path)
    await first.save(FULL)
    await first.close()
    second = Journal(path)
    assert await second.get("full") == FULL
    await second.close()


async def test_the_latest_save_counts(journal: Journal) -> None:
    await journal.save(operation())
    await journal.save(operation(state=State.FORCING))
    found = await journal.get("op-1")
    assert found
    assert found.state is State.FORCING


async def test_saves_at_the_same_time_are_one_write(journal: Journal) -> None:
    took = list[float]()
    journal.on_write.append(took.append)
    await asyncio.gather(*(journal.save(operation(number)) for number in range(1, 20)))
    assert len(took) <= 2
    assert all(seconds > 0 for seconds in took)


async def test_saves_at_the_same_time_are_all_kept_in_their_order(journal: Journal) -> None:
    states = [State.PENDING, State.WAITING_FOR_GUEST, State.FORCING]
    await asyncio.gather(*(journal.save(operation(n, state=state)) for state in states for n in range(200)))
    assert [found.state for found in await journal.page(1000)] == [State.FORCING] * 200


async def test_what_nobody_saved_is_not_found(journal: Journal) -> None:
    assert await journal.get("nothing") is None
    assert await journal.find("nothing") is None


async def test_an_operation_is_found_by_its_request_id(journal: Journal) -> None:
    await journal.save(operation(1, request_id="r"))
    await journal.save(operation(2, request_id="s"))
    found = await journal.find("s")
    assert found
    assert found.id == "op-2"


async def test_operations_without_a_request_id_do_not_replace_each_other(journal: Journal) -> None:
    await journal.save(operation(1))
    await journal.save(operation(2))
    assert len(await journal.page(10)) == 2


async def test_the_active_are_those_without_a_verdict_as_they_were_accepted(journal: Journal) -> None:
    await journal.save(operation(3))
    await journal.save(operation(2, state=State.CANCELLED))
    await journal.save(operation(1, state=State.AWAITING_DECISION))
    assert [found.id for found in await journal.active()] == ["op-3", "op-1"]


async def test_pages_go_from_the_newest_to_the_oldest(journal: Journal) -> None:
    for number in (1, 3, 2):
        await journal.save(operation(number))
    first = await journal.page(2)
    second = await journal.page(2, (moment(first[-1].create_time), first[-1].id))
    assert [found.id for found in (*first, *second)] == ["op-3", "op-2", "op-1"]


async def test_a_page_holds_operations_of_the_same_moment_once(journal: Journal) -> None:
    for number in (1, 2, 3):
        await journal.save(operation(number, create_time=NOW))
    first = await journal.page(2)
    second = await journal.page(2, (moment(NOW), first[-1].id))
    assert [found.id for found in (*first, *second)] == ["op-3", "op-2", "op-1"]


async def test_a_page_may_be_of_one_vm_and_of_the_active_only(journal: Journal) -> None:
    await journal.save(operation(1, vm="1"))
    await journal.save(operation(2, vm="2"))
    await journal.save(operation(3, vm="1", state=State.SUCCEEDED))
    assert [found.id for found in await journal.page(10, vm_id="1")] == ["op-3", "op-1"]
    assert [found.id for found in await journal.page(10, vm_id="1", active_only=True)] == ["op-1"]


async def test_pruning_forgets_what_ended_long_ago_and_nothing_else(journal: Journal) -> None:
    await journal.save(operation(1, state=State.SUCCEEDED))
    await journal.save(operation(2))
    await journal.save(operation(10, state=State.SUCCEEDED))
    await journal.prune(after(5))
    assert [found.id for found in await journal.page(10)] == ["op-10", "op-2"]


async def test_only_its_owner_may_read_the_file(journal: Journal, path: Path) -> None:
    await journal.save(operation())
    files = list(path.parent.iterdir())
    assert [file.name for file in files if stat.S_IMODE(file.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("journal")
async def test_a_second_process_cannot_have_it(path: Path) -> None:
    with pytest.raises(JournalFailed, match=r"another process works with it; .*another --state-dir"):
        Journal(path)


def test_a_file_that_is_no_journal_is_refused_by_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is no database, but it is long enough to be taken for one" * 100)
    with pytest.raises(JournalFailed, match=f"The journal {path} cannot be opened"):
        Journal(path)


def test_a_file_that_is_refused_is_not_left_open(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is no database, but it is long enough to be taken for one" * 100)
    with pytest.raises(JournalFailed) as refused:  # its traceback keeps all that there was
        Journal(path)
    assert refused.tb
    assert str(path) not in open_files()


def test_a_file_whose_damage_sqlite_quotes_in_bytes_that_are_no_text_is_refused_by_name(path: Path) -> None:
    Store(path).close()
    path.write_bytes(path.read_bytes().replace(b"create_time TEXT", b"create_time T\x80XT"))
    with pytest.raises(JournalFailed, match=f"The journal {path} cannot be opened"):
        Journal(path)


def test_a_directory_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalFailed, match="cannot be opened"):
        Journal(tmp_path / "file" / "journal.db")


async def test_a_write_that_fails_is_told_to_who_saved(journal: Journal) -> None:
    journal._store.db.execute("PRAGMA query_only = ON")  # as on a disk that has gone read-only
    with pytest.raises(JournalFailed, match="the operator mends the disk"):
        await journal.save(operation())


async def test_a_machine_without_threads_is_told_to_who_saved(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", exhausted)
    with pytest.raises(JournalFailed, match="can't start new thread"):
        async with asyncio.timeout(5):
            await journal.save(operation())


async def test_a_prune_that_cannot_read_is_a_failed_journal(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr("providers.core.store.Store.request_ids", broken)
    with pytest.raises(JournalFailed, match="disk I/O error"):
        await journal.prune(after(1))


async def test_it_goes_on_when_the_disk_is_mended(journal: Journal) -> None:
    journal._store.db.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalFailed):
        await journal.save(operation())
    journal._store.db.execute("PRAGMA query_only = OFF")
    await journal.save(operation())
    assert await journal.get("op-1") == operation()


async def test_a_read_that_fails_is_a_failed_journal(journal: Journal) -> None:
    def broken(*_args: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    class Broken:
        execute = broken
        close = journal._store.db.close

    real, journal._store.db = journal._store.db, Broken()  # type: ignore[assignment]
    with pytest.raises(JournalFailed, match="disk I/O error"):
        await journal.get("op-1")
    journal._store.db = real


async def test_secrets_are_not_written(journal: Journal, path: Path) -> None:
    hook = HttpGetHook(url="http://web/", headers={"Authorization": "s3cret"}, header_names=("Authorization",))
    login = GuestCredentials("admin-user", "hunter2")
    request = FULL.request.model_copy(update={"hooks": (Hook(name="b", handler=hook),), "credentials": login})
    await journal.save(FULL.model_copy(update={"request": request}))
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"Authorization" in written
    for secret in (b"s3cret", b"hunter2", b"admin-user"):
        assert secret not in written


# A journal of an earlier version


BEFORE = {
    "id": "old",
    "request": {"kind": "SHUTDOWN", "vm_id": "1", "vm_name": "web", "request_id": "r", "timeout": "PT1M"},
    "state": "WAITING_FOR_GUEST",
    "create_time": "2026-01-01T00:00:00Z",
    "timeout": "PT1M",
    "sent": [
        {"time": "2026-01-01T00:00:00Z", "signal": "GUEST_AGENT", "refused": True, "kept": False},
        {"time": "2026-01-01T00:00:05Z", "signal": "ACPI", "refused": False, "kept": False},
    ],
}


def written_before(path: Path, **request: object) -> None:
    """As the first version wrote it."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE operations (id TEXT PRIMARY KEY, request_id TEXT UNIQUE, vm_id TEXT NOT NULL,"
               " create_time TEXT NOT NULL, final INTEGER NOT NULL, record TEXT NOT NULL) STRICT")  # fmt: skip
    record = BEFORE | {"request": BEFORE["request"] | request}  # type: ignore[operator]
    row = ("old", "r", "1", "2026-01-01T00:00:00.000000+00:00", 0, json.dumps(record))
    db.execute("INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?)", row)
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("request_before", "timeout", "origin"),
    [
        ({"timeout_named": True}, timedelta(minutes=1), TimeoutOrigin.CALLER),
        ({"timeout_named": False}, None, TimeoutOrigin.DEFAULT),
        ({"timeout_named": False, "force_after": "2026-01-01T00:01:00Z"}, None, TimeoutOrigin.CALLER),
    ],
)
async def test_an_operation_of_an_earlier_version_goes_on(
    tmp_path: Path, request_before: dict[str, object], timeout: timedelta | None, origin: TimeoutOrigin
) -> None:
    written_before(tmp_path / "journal.db", **request_before)
    journal = Journal(tmp_path / "journal.db")
    [found] = await journal.active()
    assert (found.request.timeout, found.timeout_origin) == (timeout, origin)
    assert [(sent.number, sent.signal) for sent in found.sent] == [(1, Signal.GUEST_AGENT), (2, Signal.ACPI)]
    await journal.close()


async def test_an_extension_of_an_earlier_version_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BEFORE, "timeout", "PT31M")  # extended while its hooks ran
    written_before(tmp_path / "journal.db", timeout_named=False)
    journal = Journal(tmp_path / "journal.db")
    [found] = await journal.active()
    assert (found.timeout, found.timeout_origin) == (timedelta(minutes=31), TimeoutOrigin.EXTENSION)
    await journal.close()


async def test_it_is_upgraded_once(tmp_path: Path) -> None:
    written_before(tmp_path / "journal.db", timeout_named=True)
    for _ in range(2):
        journal = Journal(tmp_path / "journal.db")
        assert [each.id for each in await journal.active()] == ["old"]
        await journal.close()


async def test_what_is_saved_while_old_ones_are_forgotten_is_known_afterwards(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.save(operation(1, request_id="first"))
    pruned = asyncio.create_task(journal.prune(after(-1)))
    await asyncio.gather(pruned, *(journal.save(operation(n, request_id=f"r{n}")) for n in range(2, 50)))
    found = [await journal.find(f"r{n}") for n in range(2, 50)]
    assert None not in found
    await journal.close()


async def test_what_has_happened_is_written_as_soon_as_the_disk_is_mended(journal: Journal) -> None:
    journal._store.db.execute("PRAGMA query_only = ON")
    written = asyncio.Event()
    assert not await journal.keep(operation(state=State.FORCING), written.set)
    journal._store.db.execute("PRAGMA query_only = OFF")
    async with asyncio.timeout(10):
        await written.wait()
    assert await journal.get("op-1") == operation(state=State.FORCING)


async def test_nothing_newer_goes_to_disk_before_what_has_happened(journal: Journal) -> None:
    journal._store.db.execute("PRAGMA query_only = ON")
    assert not await journal.keep(operation(1, state=State.SUCCEEDED), lambda: None)
    journal._store.db.execute("PRAGMA query_only = OFF")
    await journal.save(operation(2))
    assert [(found.id, found.state) for found in await journal.page(10)] == [
        ("op-2", State.PENDING),
        ("op-1", State.SUCCEEDED),
    ]


async def test_a_promise_that_failed_is_not_written_later(journal: Journal) -> None:
    await journal.save(operation(1))
    journal._store.db.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalFailed):
        await journal.save(operation(1, force_after=after(900)))
    journal._store.db.execute("PRAGMA query_only = OFF")
    await journal.save(operation(2))
    assert await journal.get("op-1") == operation(1)


async def test_who_listens_is_told_that_it_fails_and_that_it_works_again(journal: Journal) -> None:
    told = list[str]()
    journal.on_failure.append(told.append)
    journal._store.db.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalFailed):
        await journal.save(operation())
    journal._store.db.execute("PRAGMA query_only = OFF")
    await journal.save(operation())
    assert ["readonly" in why for why in told] == [True, False]
    assert journal.failure == ""


async def test_what_was_kept_is_written_when_it_is_closed(path: Path) -> None:
    first = Journal(path)
    first._store.db.execute("PRAGMA query_only = ON")
    await first.keep(operation(state=State.FORCING), lambda: None)
    first._store.db.execute("PRAGMA query_only = OFF")
    await first.close()
    second = Journal(path)
    assert await second.get("op-1") == operation(state=State.FORCING)
    await second.close()


async def test_a_later_operation_that_ended_has_overtaken_an_earlier_one(journal: Journal) -> None:
    await journal.save(operation(1))
    await journal.save(operation(2, state=State.SUCCEEDED))
    assert await journal.overtaken() == {"op-1"}


async def test_one_that_came_after_the_clock_was_set_back_is_the_later_one(journal: Journal) -> None:
    await journal.save(operation(2))
    await journal.save(operation(2, state=State.SUCCEEDED))
    await journal.save(operation(1))
    assert await journal.overtaken() == set()


async def test_what_is_saved_again_keeps_its_place(journal: Journal) -> None:
    for number in (3, 1, 2, 3):
        await journal.save(operation(number))
    assert [each.id for each in await journal.active()] == ["op-3", "op-1", "op-2"]


async def test_those_of_an_earlier_version_were_accepted_in_the_order_of_their_times(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.db")
    for number in (2, 1):
        await first.save(operation(number))
    first._store.db.execute("PRAGMA user_version = 2")
    await first.close()
    second = Journal(tmp_path / "journal.db")
    assert [each.id for each in await second.active()] == ["op-1", "op-2"]
    await second.close()


async def test_of_another_vm_none_is_overtaken(journal: Journal) -> None:
    await journal.save(operation(1, vm="1"))
    await journal.save(operation(2, vm="2", state=State.SUCCEEDED))
    assert await journal.overtaken() == set()


async def test_a_listener_that_breaks_neither_ends_the_writer_nor_keeps_an_answer_back(journal: Journal) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    journal.on_failure.append(broken)
    async with asyncio.timeout(5):
        both = await asyncio.gather(*(journal.keep(operation(number), broken) for number in (1, 2)))
        journal._store.db.execute("PRAGMA query_only = ON")
        assert not await journal.keep(operation(3), broken)
        journal._store.db.execute("PRAGMA query_only = OFF")
        await journal.save(operation(4))
    assert both == [True, True]
    assert len(await journal.page(10)) == 4


async def test_a_journal_whose_disk_refuses_answers(journal: Journal) -> None:
    assert await journal.answers()
    journal._store.db.execute("PRAGMA query_only = ON")
    assert await journal.answers()


async def test_a_journal_without_threads_does_not_answer(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", exhausted)
    assert not await journal.answers()
