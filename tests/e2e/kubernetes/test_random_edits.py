"""A thousand random edits of fifty machines, on the API and behind its back: all end as they are wanted, nobody's power
was cut before its time, and memory was saved only where that was wanted, and not lost again."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations, count, pairwise
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, Phase, given, seed, settings

from protos.power.v1 import power_pb2 as pb
from tests.e2e.kubernetes.crowd import History, Written, crowd
from tests.e2e.kubernetes.edits import GUESTS, NAMES, Edit, endings, rounds
from tests.rigs.calls import FINAL
from tests.rigs.kubernetes.cluster import Cluster
from tests.rigs.kubernetes.lab import Lab, open_lab
from tests.soak.sim import Entry, entries_of, keep_books

pytestmark = pytest.mark.timeout(400)
ROUNDS = 5
SEED = secrets.randbelow(1 << 32)
UNHEARD = {
    pb.REASON_PAUSED,
    pb.REASON_SUSPENDED,
    pb.REASON_TOOLS_UNAVAILABLE,
    pb.REASON_COMMAND_FAILED,
}
"""The guest could hear nothing: it is not waited for."""
ASKED = {pb.REASON_REQUESTED, pb.REASON_PREEMPTED}
NOTES = (" came", "its power was cut for this")
"""Ends of steps in which an operation notes what happened meanwhile."""
BY_VMPOWER = "Its memory was saved and it was stopped"
"""So the verdict of a Shutdown begins whose provider knows that it was the one that saved the VM."""
SUPERSEDED_BY = {
    pb.OPERATION_KIND_SHUTDOWN: {pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_POWER_OFF},
    pb.OPERATION_KIND_POWER_ON: {pb.OPERATION_KIND_POWER_OFF},
}


@dataclass
class Outcome:
    """What was done, and all that is told of it."""

    history: History = field(default_factory=History)
    operations: list[pb.Operation] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""
    books: dict[str, Sequence[Entry]] = field(default_factory=dict)
    """By machine, its states in the hypervisor's own record."""

    def saved(self) -> list[pb.Operation]:
        """Shutdowns that say that they have saved their machine's memory, in the order in which they began."""
        saved = [one for one in self.operations if one.verdict.outcome == pb.OUTCOME_SAVED]
        own = [one for one in saved if one.verdict.message.startswith(BY_VMPOWER)]
        return sorted(own, key=lambda one: one.create_time.ToNanoseconds())

    def forced(self, *reasons: pb.Reason.ValueType) -> list[pb.Operation]:
        """Shutdowns that ended by force for one of these reasons."""
        shutdowns = [one for one in self.operations if one.kind == pb.OPERATION_KIND_SHUTDOWN]
        forced = [one for one in shutdowns if one.verdict.outcome == pb.OUTCOME_FORCED]
        return [one for one in forced if one.verdict.reason in reasons]

    def overlapping(self) -> list[tuple[pb.Operation, pb.Operation]]:
        """Two of one machine of which the second was begun before the first had ended."""
        by_age = sorted(self.operations, key=lambda one: one.create_time.ToNanoseconds())
        pairs = [(a, b) for a, b in combinations(by_age, 2) if a.vm == b.vm]
        return [(a, b) for a, b in pairs if moment(b.create_time) < moment(a.verdict.end_time)]

    def specs(self, operation: pb.Operation) -> list[Written]:
        """Those that counted while it lived, the one that it was begun for first."""
        begun_for, ended = int(operation.request_id.split("-")[-2]), moment(operation.verdict.end_time).timestamp()
        written = self.history.specs[operation.vm_name]
        return [one for one in written if one.generation >= begun_for and one.sent <= ended]

    def decided(self, operation: pb.Operation, text: str) -> bool:
        """Whether somebody decided so by the annotation."""
        told = [one for one in self.events if one["reason"] == "DecisionTaken" and operation.id in one["message"]]
        return any(one["message"].startswith(text) for one in told)


@pytest.fixture(scope="module")
def outcome(cluster: Cluster) -> Iterator[Outcome]:
    print(f"hypothesis seed: {SEED}")
    found = Outcome()
    with open_lab(cluster, GUESTS) as lab:
        world = lab.provider.folder / "world.db"
        keep_books(world)
        asyncio.run(create(lab, found.history))
        make_random_edits(lab, found.history)
        lab.vms.declare("nobody", "On")
        lab.vms.wait_event("nobody", "VMNotFound")  # Events are sent in order, so all others have been sent
        lab.controller.stop()
        found.operations = list(operations(lab))
        found.events = json.loads(lab.vms.kubectl("get", "events", "--output", "json"))["items"]
        found.log = lab.controller.output()
        found.books = {name: entries_of(world, name) for name in NAMES}
    yield found


def make_random_edits(lab: Lab, history: History) -> None:
    """Round after round, until one fails. Hypothesis only draws: a round that it repeated would end otherwise."""
    timeouts = (f"{1000 + round_}ms" for round_ in count())
    failed: list[Exception] = []

    @seed(SEED)
    @settings(
        max_examples=ROUNDS,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),  # two hundred edits are a large draw, and real machines are slow
    )
    @given(rounds, endings)
    def round_(visits: Mapping[str, Sequence[Edit]], ending: Mapping[str, str]) -> None:
        if failed:
            return
        try:
            asyncio.run(one_round(lab, history, visits, ending, next(timeouts)))
        except Exception as error:
            failed.append(error)

    round_()
    for error in failed:
        raise error


async def create(lab: Lab, history: History) -> None:
    async with crowd(lab, history) as machines:
        await machines.create()


async def one_round(
    lab: Lab, history: History, visits: Mapping[str, Sequence[Edit]], ending: Mapping[str, str], timeout: str
) -> None:
    async with crowd(lab, history) as machines:
        await machines.round(visits, ending, timeout)


def operations(lab: Lab) -> Iterator[pb.Operation]:
    token = ""
    while True:
        page = lab.calls.stub.ListOperations(pb.ListOperationsRequest(page_size=200, page_token=token))
        yield from page.operations
        if not (token := page.next_page_token):
            return


def moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def test_a_thousand_edits_end_settled(outcome: Outcome) -> None:
    assert len(outcome.history.wanted) == ROUNDS
    assert outcome.history.edits >= 1000


def test_every_machine_ends_in_its_wanted_state(outcome: Outcome) -> None:
    assert outcome.history.reached == outcome.history.wanted


def test_every_status_says_so(outcome: Outcome) -> None:
    assert outcome.history.told == outcome.history.wanted


def test_no_operation_is_left_active(outcome: Outcome) -> None:
    assert none_of(one for one in outcome.operations if one.state not in FINAL)


def test_nobody_is_forced_for_lack_of_time_before_its_time_is_over(outcome: Outcome) -> None:
    timed_out = outcome.forced(pb.REASON_TIMEOUT)
    assert timed_out
    assert none_of(one for one in timed_out if moment(forcing(one).time) < moment(one.force_after))


def test_nobody_is_forced_for_another_reason_than_these(outcome: Outcome) -> None:
    others = set(pb.Reason.values()) - {pb.REASON_TIMEOUT, *UNHEARD, *ASKED}
    assert none_of(outcome.forced(*others))


def test_nobody_is_forced_on_request_unless_somebody_asked(outcome: Outcome) -> None:
    """By a decision, by Off, or by Force where a decision was awaited."""
    requested = outcome.forced(*ASKED)
    assert requested
    assert none_of(one for one in requested if not outcome.decided(one, "force") and not wanted_off(outcome, one))


def wanted_off(outcome: Outcome, operation: pb.Operation) -> bool:
    later = outcome.specs(operation)[1:]
    return any(one.spec["powerState"] == "Off" or one.spec["lifecycle"].get("escalation") == "Force" for one in later)


def test_nobody_is_forced_unasked_while_force_is_not_wanted(outcome: Outcome) -> None:
    unasked = outcome.forced(pb.REASON_TIMEOUT, *UNHEARD)
    assert none_of(one for one in unasked if pb.ESCALATION_FORCE not in (one.escalation, one.save_fallback))
    assert none_of(one for one in unasked if not any(map(forces, outcome.specs(one))))


def forces(written: Written) -> bool:
    lifecycle = written.spec["lifecycle"]
    return "Force" in (lifecycle.get("escalation", "Force"), lifecycle.get("saveFallback"))


def test_memory_is_saved_only_where_that_was_wanted(outcome: Outcome) -> None:
    saved = outcome.saved()
    assert saved
    assert none_of(one for one in saved if one.escalation != pb.ESCALATION_SAVE)
    assert none_of(one for one in saved if not any(map(saves, outcome.specs(one))))


def saves(written: Written) -> bool:
    return bool(written.spec["lifecycle"].get("escalation") == "Save")


def test_no_memory_is_saved_for_lack_of_time_before_its_time_is_over(outcome: Outcome) -> None:
    timed_out = [one for one in outcome.saved() if one.verdict.reason == pb.REASON_TIMEOUT]
    assert timed_out
    assert none_of(one for one in timed_out if moment(saving(one).time) < moment(one.force_after))


def test_memory_that_can_be_saved_is_not_cut_instead(outcome: Outcome) -> None:
    unasked = outcome.forced(pb.REASON_TIMEOUT, *UNHEARD)
    instead = [one for one in unasked if one.escalation == pb.ESCALATION_SAVE]
    assert none_of(one for one in instead if not one.vm_name.startswith("tied"))


def test_who_is_told_to_be_saved_was_saved_by_the_hypervisor_s_own_record(outcome: Outcome) -> None:
    told = Counter(one.vm_name for one in outcome.saved())
    kept = {name: sum(began_to_save(*pair) for pair in pairwise(states)) for name, states in outcome.books.items()}
    assert {name: count for name, count in told.items() if count > kept[name]} == {}


def began_to_save(before: Entry, after: Entry) -> bool:
    return before.saved_at is None and after.saved_at is not None


def test_who_was_saved_is_resumed_and_never_booted_without_its_memory(outcome: Outcome) -> None:
    """Nothing ends a machine that is saved but a cut, and nothing starts it but with its memory."""
    left = {name: [pair for pair in pairwise(states) if leaves(*pair)] for name, states in outcome.books.items()}
    assert [after for pairs in left.values() for _, after in pairs if after.off_at is None]
    assert {name: pairs for name, pairs in left.items() if any(a.started_at != b.started_at for a, b in pairs)} == {}


def leaves(before: Entry, after: Entry) -> bool:
    return before.saved_at is not None and after.saved_at is None


def test_power_is_cut_at_once_only_for_those_that_are_wanted_off(outcome: Outcome) -> None:
    cuts = [one for one in outcome.operations if one.kind == pb.OPERATION_KIND_POWER_OFF]
    assert cuts
    assert none_of(one for one in cuts if outcome.specs(one)[0].spec["powerState"] != "Off")


def test_a_machine_has_one_operation_at_a_time_but_for_those_that_are_superseded(outcome: Outcome) -> None:
    assert none_of(b for a, b in outcome.overlapping() if b.kind not in SUPERSEDED_BY.get(a.kind, ()))


def test_what_supersedes_another_operation_does_nothing_before_that_has_ended(outcome: Outcome) -> None:
    assert outcome.overlapping()
    assert none_of(b for a, b in outcome.overlapping() if begun(b) < moment(a.verdict.end_time))


def begun(operation: pb.Operation) -> datetime:
    """When it did something; what others did because of it, or to it, is nothing of its own doing."""
    return next(moment(step.time) for step in operation.steps if not step.message.endswith(NOTES))


def test_the_controller_never_meets_a_bug(outcome: Outcome) -> None:
    assert "started" in outcome.log
    assert "a bug in vmpower" not in outcome.log
    assert "raceback" not in outcome.log


def forcing(operation: pb.Operation) -> pb.OperationStep:
    return next(step for step in operation.steps if step.state == pb.OPERATION_STATE_FORCING)


def saving(operation: pb.Operation) -> pb.OperationStep:
    return next(step for step in operation.steps if step.state == pb.OPERATION_STATE_SAVING)


def none_of(wrong: Iterable[pb.Operation]) -> bool:
    """Whether there is none; a failure shows them whole."""
    found = list(wrong)
    print(*found, sep="\n")
    return not found
