import asyncio
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from plans.frozen import FrozenTier, Target
from plans.history import Aborted, History, Released, Start, TierBegan, TierOver
from plans.journal import Journal, JournalError, Runs
from plans.model import PlanSpec
from tests.unit.plans.builders import EPOCH, here, plan, tier

SPEC: PlanSpec = plan(tier("a", "lab/app", minimum="20s"), bringUp={"ready": {"signal": "Agent"}}, others="First")
TARGET = Target(provider="lab", vm="1", name="app", runs=True, need=timedelta(seconds=65), request={"reason": "r"})
START = Start(
    run="test-1",
    plan="test",
    spec=SPEC,
    tiers=(FrozenTier(name="a", targets=(TARGET,), minimum=timedelta(seconds=20)),),
    at=EPOCH,
    ends=EPOCH + timedelta(minutes=10),
    ahead={"lab": timedelta(milliseconds=-3)},
)
BEGAN = TierBegan(tier="a", at=EPOCH, gets=timedelta(seconds=65))
OVER = TierOver(tier="a", at=EPOCH + timedelta(seconds=5))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", here)


@pytest.fixture
async def journal(runs: Runs) -> Iterator[Journal]:  # type: ignore[misc]  # pytest-asyncio's
    _, journal = await runs.create(START)
    yield journal
    journal.close()


def file(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "test-1.jsonl"


def resumed(runs: Runs) -> History:
    history, journal = runs.resume("test-1")
    journal.close()
    return history


async def test_a_run_is_read_as_it_was_written(runs: Runs, journal: Journal) -> None:
    await journal.write(BEGAN)
    await journal.write(OVER)
    read = runs.read("test-1")
    assert (read.start, read.events) == (START, [BEGAN, OVER])


async def test_what_was_written_is_there_when_write_returns(journal: Journal, tmp_path: Path) -> None:
    await journal.write(BEGAN)
    assert file(tmp_path).read_bytes().endswith(BEGAN.model_dump_json().encode() + b"\n")


async def test_a_record_is_for_its_user_alone(journal: Journal, tmp_path: Path) -> None:
    assert file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert file(tmp_path).parent.stat().st_mode & 0o777 == 0o700


async def test_of_a_last_line_that_is_half_there_nothing_is_read_and_the_next_takes_its_place(
    runs: Runs, journal: Journal, tmp_path: Path
) -> None:
    await journal.write(BEGAN)
    journal.close()
    with file(tmp_path).open("ab") as torn:
        torn.write(OVER.model_dump_json().encode()[:-7])
    history, again = runs.resume("test-1")
    assert history.events == [BEGAN]
    await again.write(OVER)
    again.close()
    assert runs.read("test-1").events == [BEGAN, OVER]


@pytest.mark.parametrize("cut", range(0, 60, 7))
async def test_wherever_a_write_is_cut_off_what_was_promised_before_is_read(
    runs: Runs, journal: Journal, tmp_path: Path, cut: int
) -> None:
    await journal.write(BEGAN)
    whole = file(tmp_path).stat().st_size
    await journal.write(OVER)
    journal.close()
    os.truncate(file(tmp_path), whole + cut)
    assert resumed(runs).events == [BEGAN]


async def test_what_could_not_be_written_is_written_with_the_next(
    runs: Runs, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _full)
        with pytest.raises(JournalError, match=r"test-1.jsonl cannot be written .*the operator mends the disk"):
            await journal.write(BEGAN)
    await journal.write(OVER)
    assert runs.read("test-1").events == [BEGAN, OVER]


async def test_events_that_come_together_are_in_their_order(runs: Runs, journal: Journal) -> None:
    await asyncio.gather(*(journal.write(event) for event in (BEGAN, OVER, Aborted(at=EPOCH))))
    assert runs.read("test-1").events == [BEGAN, OVER, Aborted(at=EPOCH)]


async def test_a_write_goes_on_though_its_caller_is_gone(tmp_path: Path) -> None:
    slow = asyncio.Event()

    async def later(call: Callable[[], None]) -> None:
        await slow.wait()
        call()

    slow.set()
    runs = Runs(tmp_path / "runs", later)
    _, journal = await runs.create(START)
    slow.clear()
    first = asyncio.ensure_future(journal.write(BEGAN))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    slow.set()
    await journal.write(OVER)
    journal.close()
    assert runs.read("test-1").events == [BEGAN, OVER]


async def test_a_run_whose_asker_has_left_while_it_was_written_down_is_found_by_no_other(tmp_path: Path) -> None:
    going_on = asyncio.Event()

    async def slow(call: Callable[[], None]) -> None:
        await going_on.wait()
        call()

    runs = Runs(tmp_path / "runs", slow)
    creating = asyncio.ensure_future(runs.create(START))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    going_on.set()
    async with asyncio.timeout(5):
        while any((tmp_path / "runs").iterdir()):  # noqa: ASYNC110 - it ends by itself, and tells nobody
            await asyncio.sleep(0)


async def test_a_second_run_of_one_name_is_refused(runs: Runs, journal: Journal) -> None:
    with pytest.raises(JournalError, match="File exists"):
        await runs.create(START)


async def test_a_run_that_another_process_carries_out_is_read_all_the_same(runs: Runs, journal: Journal) -> None:
    with pytest.raises(JournalError, match="Another process carries out run test-1"):
        runs.resume("test-1")
    assert runs.read("test-1").start == START


@pytest.mark.parametrize("name", ["nothing", "../test-1", ""])
def test_a_run_that_is_not_there_is_told(runs: Runs, name: str) -> None:
    with pytest.raises(JournalError, match=r"There is no run 'nothing'|is no name of a run"):
        runs.read(name)


async def test_a_record_of_another_version_is_told_and_not_taken_for_one(
    runs: Runs, journal: Journal, tmp_path: Path
) -> None:
    with file(tmp_path).open("ab") as newer:
        newer.write(b'{"event": "saved"}\n')
    with pytest.raises(JournalError, match="no record of a run that this version can read"):
        runs.read("test-1")


async def test_all_runs_are_listed_oldest_first(runs: Runs, journal: Journal) -> None:
    earlier = START.model_copy(update={"run": "test-0", "at": EPOCH - timedelta(days=1)})
    _, other = await runs.create(earlier)
    other.close()
    assert [history.start.run for history in runs.all()] == ["test-0", "test-1"]


async def test_what_cannot_be_read_is_told_but_for_what_never_began(
    runs: Runs, journal: Journal, tmp_path: Path
) -> None:
    file(tmp_path).with_name("old.jsonl").write_text('{"event": "started"}\n')
    file(tmp_path).with_name("begun.jsonl").write_text('{"event": "sta')
    told = list[str]()
    found = runs.all(lambda error: told.append(str(error)))
    assert [history.start.run for history in found] == ["test-1"]
    assert ["old.jsonl is no record of a run that this version can read" in each for each in told] == [True]


async def test_a_record_that_is_adopted_replaces_what_there_was(runs: Runs, journal: Journal) -> None:
    await journal.write(OVER, OVER)
    journal.close()
    history = History(START)
    history.note(BEGAN)
    adopted = runs.adopt(history)
    await adopted.write(OVER)
    adopted.close()
    assert runs.read("test-1").events == [BEGAN, OVER]


async def test_a_record_is_adopted_where_there_was_none(runs: Runs) -> None:
    runs.adopt(History(START)).close()
    assert (runs.read("test-1").start, resumed(runs).events) == (START, [])


async def test_a_record_that_another_process_has_is_not_adopted(runs: Runs, journal: Journal) -> None:
    await journal.write(BEGAN)
    with pytest.raises(JournalError, match="Another process carries out run test-1"):
        runs.adopt(History(START))
    assert runs.read("test-1").events == [BEGAN]


def test_without_a_folder_there_are_no_runs(runs: Runs) -> None:
    assert runs.all() == []


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


async def test_of_records_that_are_released_the_newest_are_kept(runs: Runs) -> None:
    for number in range(5):
        at = EPOCH + timedelta(hours=number)
        _, journal = await runs.create(START.model_copy(update={"run": f"run-{number}", "at": at}))
        if number != 1:
            await journal.write(Released(at=at))
        journal.close()
    runs.forget(lambda start: start.run != "run-0", 2)
    assert [history.start.run for history in runs.all()] == ["run-0", "run-1", "run-3", "run-4"]
