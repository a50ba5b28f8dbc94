"""What is known of runs, with records on a disk. No run is carried out."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.hosted_run import Hosted
from controller.hosted_runs import HostedRuns
from controller.plan_terms import RunRefused
from controller.source import Key
from plans.clock import Clock
from plans.history import Aborted, Event, History, Released, Start, TierBegan
from plans.journal import Runs
from tests.unit.plans.builders import EPOCH, here, plan, tier
from tests.unit.plans.fake import wall

pytestmark = pytest.mark.looptime

START = Start(
    run="lab-1",
    plan="lab",
    spec=plan(tier("apps", "lab/app")),
    tiers=(),
    at=EPOCH,
    ends=EPOCH + timedelta(minutes=10),
    namespace="default",
    resource="tonight",
    uid="uid-1",
)
SECOND = START.model_copy(update={"run": "lab-2", "at": EPOCH + timedelta(days=1), "uid": "uid-2"})
BEGAN = TierBegan(tier="apps", at=EPOCH, gets=timedelta(seconds=65))
ABORTED = Aborted(at=EPOCH + timedelta(seconds=5))
RELEASED = Released(at=EPOCH + timedelta(seconds=9))


@pytest.fixture
def records(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs", here)


@pytest.fixture
def noted() -> list[Event]:
    return []


@pytest.fixture
def make(records: Runs, noted: list[Event]) -> Iterator[Callable[[], HostedRuns]]:
    """As each process makes it."""
    made = list[HostedRuns]()

    def make() -> HostedRuns:
        made.append(HostedRuns(records, lambda: Clock(wall), here, lambda _, fact: noted.append(fact)))
        return made[-1]

    yield make
    for runs in made:
        for hosted in runs.clear():
            hosted.close()


@pytest.fixture
def runs(make: Callable[[], HostedRuns]) -> HostedRuns:
    return make()


async def write(records: Runs, start: Start, *events: Event) -> None:
    """As another process has left a run."""
    _, journal = await records.create(start)
    for event in events:
        await journal.write(event)
    journal.close()


def history(start: Start, *events: Event) -> History:
    known = History(start)
    for event in events:
        known.note(event)
    return known


def nowhere(_: Start) -> bool:
    return False


def called(hosted: list[Hosted]) -> list[str]:
    return [each.history.start.run for each in hosted]


# Which there are


async def test_they_are_told_oldest_first(runs: HostedRuns) -> None:
    runs.add(History(SECOND))
    runs.add(History(START))
    assert called(runs.all()) == ["lab-1", "lab-2"]


async def test_what_is_known_counts_before_another_record(runs: HostedRuns) -> None:
    known = runs.add(History(START))
    assert runs.add(History(START)) is known


async def test_what_happens_in_a_run_is_noted(runs: HostedRuns, noted: list[Event]) -> None:
    runs.add(History(START)).history.note(BEGAN)
    assert noted == [BEGAN]


async def test_those_of_a_plans_triggers_are_told_apart(runs: HostedRuns) -> None:
    runs.add(History(START))
    runs.add(History(SECOND.model_copy(update={"trigger": "nut"})))
    assert called(runs.triggered(Key("PowerPlan", "default", "lab"))) == ["lab-2"]


async def test_one_that_is_released_is_known_by_its_resource_still(runs: HostedRuns) -> None:
    runs.remove(runs.add(History(START)))
    assert (runs.of_resource("uid-1"), runs.knows("uid-1")) == (None, True)


# By the record that a PowerRun has


async def test_a_resources_record_that_knows_more_takes_the_place_of_ours(runs: HostedRuns) -> None:
    runs.add(History(START))
    taken = runs.take_in(history(START, BEGAN))
    assert taken is not None
    assert (runs.get("lab-1"), taken.is_behind) == (taken, True)


async def test_a_resources_record_that_knows_no_more_is_left(runs: HostedRuns) -> None:
    runs.add(history(START, BEGAN))
    assert runs.take_in(History(START)) is None


async def test_a_resources_record_of_a_run_that_is_released_is_left(runs: HostedRuns) -> None:
    runs.remove(runs.add(History(START)))
    assert runs.take_in(history(START, BEGAN)) is None


async def test_a_resources_record_of_a_run_that_is_written_here_is_left(runs: HostedRuns, records: Runs) -> None:
    await write(records, START)
    await runs.resume(runs.add(records.read("lab-1")))
    assert runs.take_in(history(START, BEGAN)) is None


# Which are asked for


@pytest.mark.parametrize("name", ["lab-1", "tonight", "default/tonight", ""])
async def test_a_run_is_found_by_its_resource_and_by_its_own_name(runs: HostedRuns, name: str) -> None:
    hosted = runs.add(History(START))
    assert await runs.history(name) is hosted.history


async def test_of_several_of_a_name_the_latest_is_found(runs: HostedRuns) -> None:
    later = runs.add(History(SECOND))
    runs.add(History(START))
    assert await runs.history("tonight") is later.history


async def test_one_that_is_released_is_found_on_the_disk(runs: HostedRuns, records: Runs) -> None:
    await write(records, START, RELEASED)
    assert (await runs.history("tonight")).events == [RELEASED]


async def test_with_one_that_is_released_nothing_can_be_done(runs: HostedRuns, records: Runs) -> None:
    await write(records, START, RELEASED)
    with pytest.raises(RunRefused, match="is released") as refused:
        await runs.found("tonight")
    assert refused.value.reason == "RUN_RELEASED"


async def test_one_that_there_is_not_is_refused(runs: HostedRuns) -> None:
    with pytest.raises(RunRefused, match="There is no run 'other' here") as refused:
        await runs.found("other")
    assert refused.value.reason == "RUN_NOT_FOUND"


async def test_what_is_known_here_counts_before_the_disk(runs: HostedRuns, records: Runs) -> None:
    await write(records, START)
    known = runs.add(history(START, BEGAN))
    assert await runs.histories() == [known.history]


async def test_what_comes_close_together_is_told_together(runs: HostedRuns) -> None:
    followed = runs.add(History(START)).history
    changes = runs.follow(followed)
    assert await anext(changes) == []
    followed.note(BEGAN)
    followed.note(ABORTED)
    assert await anext(changes) == [BEGAN, ABORTED]
    await changes.aclose()


async def test_who_follows_a_run_is_told_when_it_is_known_here_no_more(runs: HostedRuns) -> None:
    hosted = runs.add(History(START))
    changes = runs.follow(hosted.history)
    await anext(changes)
    waits = asyncio.create_task(anext(changes, None))
    await asyncio.sleep(1)
    runs.clear()
    hosted.pause()
    assert await waits == []
    assert await anext(changes, None) is None


# Their records


async def test_those_that_are_not_released_are_taken_in_from_the_disk(runs: HostedRuns, records: Runs) -> None:
    await write(records, START, RELEASED)
    await write(records, SECOND, BEGAN)
    released = await runs.read(nowhere)
    assert ([each.start.run for each in released], called(runs.all())) == (["lab-1"], ["lab-2"])


async def test_one_that_ended_elsewhere_is_ended_on_the_disk(runs: HostedRuns, records: Runs) -> None:
    await write(records, START, BEGAN)
    await runs.read(lambda start: start.run == "lab-1")
    assert (runs.all(), records.read("lab-1").released is not None) == ([], True)


async def test_what_another_process_wrote_meanwhile_is_known_when_the_record_is_ours(
    runs: HostedRuns, records: Runs
) -> None:
    await write(records, START)
    hosted = runs.add(records.read("lab-1"))
    _, journal = records.resume("lab-1")
    await journal.write(BEGAN)
    journal.close()
    await runs.resume(hosted)
    assert hosted.history.events == [BEGAN]


async def test_a_record_that_another_process_has_is_refused(
    runs: HostedRuns, make: Callable[[], HostedRuns], records: Runs
) -> None:
    await write(records, START)
    other = make()
    await other.resume(other.add(records.read("lab-1")))
    with pytest.raises(RunRefused) as refused:
        await runs.resume(runs.add(records.read("lab-1")))
    assert refused.value.reason == "NO_RECORD"


async def test_a_record_that_a_resource_had_is_ours_when_it_is_on_the_disk(runs: HostedRuns, records: Runs) -> None:
    hosted = runs.take_in(history(START, BEGAN))
    assert hosted is not None
    await runs.resume(hosted)
    assert (records.read("lab-1").events, hosted.is_behind) == ([BEGAN], False)


async def test_the_records_of_a_plans_triggers_are_forgotten_but_for_the_newest(
    runs: HostedRuns, records: Runs
) -> None:
    for start in (START, SECOND):
        await write(records, start.model_copy(update={"trigger": "nut"}), RELEASED)
    await runs.forget(Key("PowerPlan", "default", "lab"), 1)
    assert [each.start.run for each in records.all()] == ["lab-2"]


async def test_two_that_write_into_a_record_at_once_are_told_of_no_other_process(records: Runs) -> None:
    async def elsewhere(call: Callable[[], None]) -> None:
        await asyncio.sleep(0.01)
        call()

    await write(records, START)
    runs = HostedRuns(records, lambda: Clock(wall), elsewhere, lambda _, fact: None)
    hosted = runs.add(History(START))
    one, other = await asyncio.gather(runs.resume(hosted), runs.resume(hosted))
    assert one is other
    hosted.close()


async def test_a_record_that_cannot_be_read_is_told(runs: HostedRuns, records: Runs, tmp_path: Path) -> None:
    await write(records, START)
    (tmp_path / "runs" / "lab-2.jsonl").write_text('{"event": "started"}\n')
    with capture_logs() as logs:
        await runs.read(nowhere)
    assert called(runs.all()) == ["lab-1"]
    assert [each["log_level"] for each in logs if "lab-2.jsonl" in each["error"]] == ["error"]
