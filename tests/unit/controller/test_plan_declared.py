import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from controller.models import PowerRun, PowerRunSpec
from controller.plan_declared import Declared
from controller.plan_terms import Asked, RunRefused
from controller.run_record import recorded_status
from controller.run_status import PowerRunStatus
from controller.source import Key, Rejected, ResourceGone, SourceError, key_of
from plans.history import History
from tests.unit.controller.fakes import FakeSource
from tests.unit.controller.plan_world import plan, run
from tests.unit.plans.test_journal import START

pytestmark = pytest.mark.looptime

NIGHT, TONIGHT = key_of(plan()), key_of(run())
AWAY = SourceError("The API server does not answer.")
HELD = PowerRunStatus(phase="Held", run="tonight-1")


class FakeHost:
    """Begins what it is asked for, unless a test has it fail; and the world in which that is declared."""

    def __init__(self) -> None:
        self.source = FakeSource()
        self.asked: list[Asked] = []
        self.failures: list[Exception] = []
        self.statuses: dict[str, PowerRunStatus] = {}
        self.taken_in: list[History] = []
        self.given_up: list[str] = []
        self.writes: list[Key] = []
        self.changes = 0
        self.declared = Declared(self, lambda: self)  # type: ignore[arg-type, return-value]  # as far as it is used
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, asked: Asked) -> None:
        self.asked.append(asked)
        await asyncio.sleep(1)
        if self.failures:
            raise self.failures.pop(0)

    def status(self, uid: str) -> PowerRunStatus | None:
        return self.statuses.get(uid)

    def knows(self, uid: str) -> bool:
        return uid in self.statuses

    def take_in(self, history: History) -> None:
        self.taken_in.append(history)

    def give_up(self, uid: str) -> None:
        self.given_up.append(uid)

    def plans_changed(self) -> None:
        self.changes += 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def write_within(self, key: Key, seconds: float) -> None:
        self.writes.append(key)

    def apply(self, *resources: Any) -> None:
        for resource in resources:
            self.declared.apply(key_of(resource), resource)

    def written(self) -> list[str]:
        """The phases that were written."""
        return [status.phase for status in self.source.statuses.get(TONIGHT, []) if isinstance(status, PowerRunStatus)]


@pytest.fixture
async def host() -> FakeHost:
    return FakeHost()


def is_gone(key: Key) -> bool:
    """Nothing is."""
    return False


def known(status: PowerRunStatus, uid: str = run().metadata.uid) -> PowerRun:
    meta = run().metadata.model_copy(update={"uid": uid})
    return run().model_copy(update={"status": status, "metadata": meta})


def recorded(uid: str = run().metadata.uid) -> PowerRunStatus:
    """The status of a run of this PowerRun."""
    history = History(START.model_copy(update={"namespace": "default", "resource": "tonight", "uid": uid}))
    return recorded_status(history)


# What is begun


async def test_nothing_is_begun_before_all_is_known(host: FakeHost) -> None:
    host.apply(plan(), run(reason="new UPS", emergency=True))
    await asyncio.sleep(20)
    assert host.asked == []
    host.declared.count(is_gone)
    await asyncio.sleep(2)
    assert host.asked == [Asked(NIGHT, "new UPS", True, "tonight", run().metadata.uid)]


async def test_a_run_is_begun_once(host: FakeHost) -> None:
    host.declared.count(is_gone)
    for _ in range(3):
        host.apply(plan(), run())
        host.declared.count(is_gone)
    await asyncio.sleep(20)
    assert len(host.asked) == 1


@pytest.mark.parametrize("phase", ["Refused", "Released", "Lost"])
async def test_one_that_has_ended_is_not_begun(host: FakeHost, phase: Any) -> None:
    host.apply(plan(), known(PowerRunStatus(phase=phase)))
    host.declared.count(is_gone)
    await asyncio.sleep(20)
    assert (host.asked, host.taken_in) == ([], [])


async def test_one_whose_status_has_the_record_is_taken_in(host: FakeHost) -> None:
    host.declared.count(is_gone)
    host.apply(plan(), known(recorded()))
    await asyncio.sleep(20)
    assert ([history.start.uid for history in host.taken_in], host.asked) == ([run().metadata.uid], [])


async def test_one_that_is_deleted_while_it_is_begun_is_given_up(host: FakeHost) -> None:
    host.declared.count(is_gone)
    host.apply(plan(), run())
    await asyncio.sleep(0.5)
    host.declared.delete(TONIGHT)
    host.given_up.clear()
    await asyncio.sleep(2)
    assert host.given_up == [run().metadata.uid]


async def test_one_of_its_name_that_is_made_anew_gives_the_first_one_up(host: FakeHost) -> None:
    host.declared.count(is_gone)
    host.apply(plan(), run(), known(PowerRunStatus(), uid="another"))
    await asyncio.sleep(20)
    assert host.given_up[0] == run().metadata.uid
    assert [asked.uid for asked in host.asked] == [run().metadata.uid, "another"]


async def test_what_cannot_be_written_down_is_tried_again(host: FakeHost) -> None:
    host.failures = [AWAY, AWAY]
    host.declared.count(is_gone)
    host.apply(plan(), run())
    await asyncio.sleep(30)
    assert len(host.asked) == 3


async def test_what_is_gone_is_not(host: FakeHost) -> None:
    host.failures = [ResourceGone("tonight")]
    host.declared.count(is_gone)
    host.apply(plan(), run())
    await asyncio.sleep(30)
    await host.declared.write_down(TONIGHT)
    assert (len(host.asked), host.written()) == (1, [])


async def test_what_the_host_is_not_ready_for_is_begun_when_all_is_known_again(host: FakeHost) -> None:
    host.failures = [RunRefused("NOT_READY", "Not yet.")]
    host.declared.count(is_gone)
    host.apply(plan(), run())
    await asyncio.sleep(5)
    host.declared.count(is_gone)
    await asyncio.sleep(5)
    assert len(host.asked) == 2


# Plans


async def test_a_plan_that_is_invalid_is_told_to_who_asks_for_it(host: FakeHost) -> None:
    host.apply(plan())
    host.declared.reject(Rejected(NIGHT, 2, "spec.tiers: a circle", plan().status))
    with pytest.raises(RunRefused, match=r"spec\.tiers: a circle"):
        host.declared.plan(NIGHT)
    host.apply(plan())
    assert host.declared.plan(NIGHT) == plan()


async def test_a_plan_that_is_not_there_is_told_by_its_field(host: FakeHost) -> None:
    with pytest.raises(RunRefused) as refused:
        host.declared.plan(NIGHT)
    assert [each.field for each in refused.value.violations] == ["spec.planRef.name"]


async def test_plans_are_told_of_once_all_is_known_and_at_each_change_from_then_on(host: FakeHost) -> None:
    host.apply(plan())
    assert host.changes == 0
    host.declared.count(is_gone)
    host.apply(plan())
    host.declared.delete(NIGHT)
    assert host.changes == 3


# Runs of triggers

AT_LB: dict[str, Any] = {"emergency": True, "trigger": "a says LB"}


async def test_a_run_that_is_declared_here_is_begun_by_who_declares_it_alone(host: FakeHost) -> None:
    host.declared.count(is_gone)
    made = await host.declared.make(TONIGHT, run(**AT_LB).spec)
    host.apply(plan(), made)
    await asyncio.sleep(20)
    assert (host.asked, host.declared.uid(TONIGHT)) == ([], made.metadata.uid)


async def test_nor_is_it_begun_when_it_is_seen_before_it_is_known_to_be_declared(host: FakeHost) -> None:
    class Slow(FakeSource):
        async def make_run(self, name: str, namespace: str, spec: PowerRunSpec) -> PowerRun:
            made = await super().make_run(name, namespace, spec)
            host.apply(made)
            await asyncio.sleep(1)
            return made

    host.source = Slow()
    host.apply(plan())
    host.declared.count(is_gone)
    await host.declared.make(TONIGHT, run(**AT_LB).spec)
    await asyncio.sleep(20)
    await host.declared.write_down(TONIGHT)
    assert (host.asked, host.written()) == ([], [])


async def test_one_that_nobody_here_declared_is_refused(host: FakeHost) -> None:
    host.apply(plan(), run(**AT_LB))
    host.declared.count(is_gone)
    await host.declared.write_down(TONIGHT)
    assert (host.asked, host.written()) == ([], ["Refused"])


async def test_one_that_came_though_it_could_not_be_declared_is_refused(host: FakeHost) -> None:
    class Deaf(FakeSource):
        async def make_run(self, name: str, namespace: str, spec: PowerRunSpec) -> PowerRun:
            host.apply(await super().make_run(name, namespace, spec))
            raise AWAY

    host.source = Deaf()
    host.declared.count(is_gone)
    with pytest.raises(SourceError):
        await host.declared.make(TONIGHT, run(**AT_LB).spec)
    await host.declared.write_down(TONIGHT)
    assert (host.asked, host.written()) == ([], ["Refused"])


async def test_those_of_a_plan_that_have_ended_are_told_oldest_first(host: FakeHost) -> None:
    for name, phase in (("night-2", "Released"), ("night-1", "Refused"), ("night-3", "Held")):
        status = PowerRunStatus(phase=phase)
        host.apply(run(name, **AT_LB).model_copy(update={"status": status}))
    host.apply(run("by-hand").model_copy(update={"status": PowerRunStatus(phase="Released")}))
    host.apply(run("others", "other", **AT_LB).model_copy(update={"status": PowerRunStatus(phase="Released")}))
    assert [key.name for key in host.declared.over_by_triggers(NIGHT)] == ["night-1", "night-2"]


async def test_a_run_of_some_tiers_is_asked_for_with_these(host: FakeHost) -> None:
    host.apply(plan(), run(tiers=["apps"]))
    host.declared.count(is_gone)
    await asyncio.sleep(2)
    assert [asked.tiers for asked in host.asked] == [("apps",)]


# Statuses


async def test_a_status_is_written_when_it_has_changed(host: FakeHost) -> None:
    host.apply(run())
    host.statuses[run().metadata.uid] = HELD
    for _ in range(2):
        await host.declared.write_down(TONIGHT)
    assert (host.written(), [event.reason for _, event in host.source.events]) == (["Held"], ["RunHeld"])


async def test_a_status_that_could_not_be_written_is_written_the_next_time(host: FakeHost) -> None:
    host.apply(run())
    host.statuses[run().metadata.uid] = HELD
    host.source.failures = [AWAY]
    with pytest.raises(SourceError):
        await host.declared.write_down(TONIGHT)
    await host.declared.write_down(TONIGHT)
    assert host.written() == ["Held"]


async def test_all_statuses_have_another_look_when_all_is_known_again(host: FakeHost) -> None:
    host.apply(plan(), run())
    host.writes.clear()
    host.declared.count(is_gone)
    assert host.writes == [TONIGHT]


async def test_the_records_are_those_of_runs_that_are_not_over(host: FakeHost) -> None:
    host.apply(known(recorded()))
    (found,) = host.declared.records()
    assert found.start.run == START.run
    host.declared.clear()
    assert list(host.declared.records()) == []
    host.apply(known(recorded("another's")))
    assert list(host.declared.records()) == []


async def test_what_was_deleted_during_a_pause_is_gone(host: FakeHost) -> None:
    host.apply(plan(), run())
    host.declared.pause()
    host.declared.count(lambda _: True)
    assert (dict(host.declared.plans), host.given_up) == ({}, [run().metadata.uid])


async def test_what_cannot_be_told_to_be_gone_stays(host: FakeHost) -> None:
    host.apply(plan(), run())
    host.declared.pause()
    host.declared.count(is_gone)
    assert (list(host.declared.plans), host.given_up) == ([NIGHT], [])


async def test_what_is_declared_again_stays(host: FakeHost) -> None:
    host.apply(plan(), run())
    host.declared.pause()
    host.apply(plan(), run())
    host.declared.count(lambda _: True)
    assert (list(host.declared.plans), host.given_up) == ([NIGHT], [])


async def test_a_run_that_is_declared_is_claimed(host: FakeHost) -> None:
    host.apply(run())
    await host.declared.claim(TONIGHT, run().metadata.uid, recorded())
    assert host.written() == ["Running"]


async def test_one_that_was_made_anew_is_not_claimed_for_the_first_one(host: FakeHost) -> None:
    host.apply(known(PowerRunStatus(), uid="another"))
    with pytest.raises(ResourceGone):
        await host.declared.claim(TONIGHT, run().metadata.uid, recorded())
    assert host.written() == []
