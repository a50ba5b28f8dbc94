"""The decision, as a table; then what must hold for whatever comes."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from client.power import has_ended
from controller.models import VirtualMachine
from controller.reconcile import (
    Action,
    Attempt,
    Cancel,
    Extend,
    Force,
    Held,
    Hold,
    Nothing,
    PowerOff,
    PowerOn,
    StartShutdown,
    Wait,
    Watch,
    reconcile,
    serves,
    unheard,
)
from controller.status_models import LastPowerOff, OperationStatus
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    NOW,
    POWER_OFF,
    POWER_ON,
    REBOOT,
    SHUTDOWN,
    machine,
    operation,
    record,
    seconds,
    vm,
    with_status,
)

ON, OFF, PAUSED, SUSPENDED = pb.POWER_STATE_ON, pb.POWER_STATE_OFF, pb.POWER_STATE_PAUSED, pb.POWER_STATE_SUSPENDED
UNKNOWN = pb.POWER_STATE_UNKNOWN
FIRST = Attempt("uid-web", 1, 1)
SECOND = Attempt("uid-web", 1, 2)
NEW_SPEC = Attempt("uid-web", 2, 1)


def acted_upon(power: str | None, **lifecycle: Any) -> VirtualMachine:
    """A resource whose present spec has been looked at before."""
    return with_status(machine(power, **lifecycle), observed_generation=1)


def working(power: str | None, was: Any = None, generation: int = 1, **lifecycle: Any) -> VirtualMachine:
    """A resource with an operation of ours, begun under generation 1."""
    resource = machine(power, generation=generation, **lifecycle)
    return with_status(resource, observed_generation=1, operation=was or record())


def failed(**fields: Any) -> OperationStatus:
    return record(state=pb.OPERATION_STATE_FAILED, **fields)


def done(**fields: Any) -> OperationStatus:
    return record(state=pb.OPERATION_STATE_SUCCEEDED, **fields)


def older(power: str, was: Any) -> VirtualMachine:
    """A resource whose spec was looked at, while an operation of ours for an older one is active."""
    return with_status(working(power, was, 3), observed_generation=3)


def saved_for(power: str, **lifecycle: Any) -> VirtualMachine:
    """A resource whose VM's memory was saved by a shutdown of its own."""
    resource = working(power, done(observed_end_time=NOW - timedelta(hours=1)), **lifecycle)
    return with_status(resource, last_power_off=last_power_off("SAVED"))


def saved_by_others(power: str, resumed: bool | None = None) -> VirtualMachine:
    """One whose VM's memory was saved by a run of a plan, or a person's shutdown."""
    return with_status(acted_upon(power), last_power_off=last_power_off("SAVED", operation="op-9", resumed=resumed))


def found_saved(power: str) -> VirtualMachine:
    """One whose memory a shutdown had saved when another one found it so, which did nothing."""
    return with_status(acted_upon(power), last_power_off=last_power_off("STILL_RUNNING", "op-9", resumed=False))


def last_power_off(outcome: str, operation: str = "op-1", resumed: bool | None = None) -> LastPowerOff:
    moments: dict[str, Any] = {"start_time": NOW, "completion_time": NOW, "duration_seconds": 0.0}
    return LastPowerOff(operation=operation, outcome=outcome, resumed=resumed, **moments)


AT_REST: list[tuple[str, VirtualMachine, pb.VM | None, Action]] = [
    ("off as wanted", acted_upon("Off"), vm(OFF), Nothing()),
    ("off satisfies OffGraceful", acted_upon("OffGraceful"), vm(OFF), Nothing()),
    ("on as wanted", acted_upon("On"), vm(ON), Nothing()),
    ("paused is on", acted_upon("On"), vm(PAUSED), Nothing()),
    ("on, never looked at before", machine("On"), vm(ON), Nothing()),
    ("power is left to others", machine(None), vm(ON), Nothing()),
    ("no such VM", machine("OffGraceful"), None, Nothing()),
    ("nobody knows whether it runs, is to go down", machine("OffGraceful"), vm(UNKNOWN), Nothing()),
    ("nobody knows whether it runs, is to be cut off", machine("Off"), vm(UNKNOWN), Nothing()),
    ("nobody knows whether it runs, is to run", machine("On"), vm(UNKNOWN), Nothing()),
    ("off, never looked at before", machine("OffGraceful"), vm(OFF), Nothing()),
    ("runs, is to go down", machine("OffGraceful"), vm(ON), StartShutdown(FIRST)),
    ("runs, is to be cut off", machine("Off"), vm(ON), PowerOff(FIRST)),
    ("off, is to run", machine("On"), vm(OFF), PowerOn(FIRST)),
    ("suspended, as hosts do when they shut down, is to run", machine("On"), vm(SUSPENDED), Nothing()),
    ("saved for it, is to run", saved_for("On"), vm(SUSPENDED), PowerOn(SECOND)),
    ("saved by others, is to run", saved_by_others("On"), vm(SUSPENDED), PowerOn(FIRST)),
    ("found saved by the last shutdown, is to run", found_saved("On"), vm(SUSPENDED), PowerOn(FIRST)),
    ("saved by others, resumed, suspended by its host", saved_by_others("On", True), vm(SUSPENDED), Nothing()),
    ("saved as its spec says", saved_for("OffGraceful", escalation="Save"), vm(SUSPENDED), Nothing()),
    ("suspended, is to be off by being asked", machine("OffGraceful"), vm(SUSPENDED), StartShutdown(FIRST)),
    ("saved, is to be off hard", machine("Off", escalation="Save"), vm(SUSPENDED), PowerOff(FIRST)),
    ("paused, is to go down", machine("OffGraceful"), vm(PAUSED), StartShutdown(FIRST)),
    ("suspended, is to be off", machine("Off"), vm(SUSPENDED), PowerOff(FIRST)),
    ("drifted, first time", acted_upon("OffGraceful"), vm(ON), StartShutdown(FIRST)),
]


@pytest.mark.parametrize(
    ("resource", "seen", "expected"), [row[1:] for row in AT_REST], ids=[row[0] for row in AT_REST]
)
def test_without_an_operation(resource: VirtualMachine, seen: pb.VM | None, expected: Action) -> None:
    assert reconcile(resource, seen, None, NOW) == expected


ASK: dict[str, Any] = {"escalation": "Ask"}
NEVER: dict[str, Any] = {"escalation": "Never"}
FORCE: dict[str, Any] = {"escalation": "Force"}
SAVE: dict[str, Any] = {"escalation": "Save"}
SAVE_OR_FORCE: dict[str, Any] = SAVE | {"saveFallback": "Force"}
SAVES = operation(escalation="SAVE")
SAVES_OR_FORCES = operation(escalation="SAVE", save_fallback=pb.ESCALATION_FORCE)
SAVING = operation(escalation="SAVE", state=pb.OPERATION_STATE_SAVING)
WAITS = operation()
ASKS = operation(state=pb.OPERATION_STATE_AWAITING_DECISION, escalation="ASK")
FORCING = operation(state=pb.OPERATION_STATE_FORCING)
FOREIGN = operation(id="op-9")
ASKED = operation(POWER_ON, id="op-9", state=pb.OPERATION_STATE_RUNNING_HOOKS)
IN_TIME = record(timeout=seconds(60))
UNDER_WAY: list[tuple[str, VirtualMachine, pb.Operation, Action]] = [
    ("a shutdown, as wanted", working("OffGraceful"), WAITS, Watch("op-1")),
    ("the same timeout", working("OffGraceful", IN_TIME, gracefulShutdownTimeout="60s"), WAITS, Watch("op-1")),
    ("a longer timeout", working("OffGraceful", IN_TIME, 2, gracefulShutdownTimeout="90s"), WAITS,
     Extend("op-1", seconds(90))),
    ("a timeout taken away", working("OffGraceful", IN_TIME, 2), WAITS, Watch("op-1")),
    ("a longer timeout, too late", working("OffGraceful", IN_TIME, 2, gracefulShutdownTimeout="90s"), FORCING,
     Watch("op-1")),
    ("a decision is waited for", working("OffGraceful", **ASK), ASKS, Watch("op-1")),
    ("Force decides", working("OffGraceful", generation=2, **FORCE), ASKS, Force("op-1")),
    ("Force waits for its time", working("OffGraceful", generation=2, **FORCE), WAITS, Watch("op-1")),
    ("Never waits for its time", working("OffGraceful", generation=2, **NEVER), operation(escalation="NEVER"),
     Watch("op-1")),
    ("Ask that becomes Force waits for its time", working("OffGraceful", generation=2, **FORCE),
     operation(escalation="ASK"), Watch("op-1")),
    ("Never decides", working("OffGraceful", generation=2, **NEVER), ASKS, Cancel("op-1")),
    ("more time decides", working("OffGraceful", IN_TIME, 2, gracefulShutdownTimeout="5m", **ASK), ASKS,
     Extend("op-1", seconds(300))),
    ("Force becomes Never", working("OffGraceful", generation=2, **NEVER), WAITS, Cancel("op-1")),
    ("Force becomes Ask", working("OffGraceful", generation=2, **ASK), WAITS, Cancel("op-1")),
    ("Force becomes Save", working("OffGraceful", generation=2, **SAVE), WAITS, Cancel("op-1")),
    ("Save decides", working("OffGraceful", generation=2, **SAVE), ASKS, Cancel("op-1")),
    ("Save becomes Never", working("OffGraceful", generation=2, **NEVER), SAVES, Cancel("op-1")),
    ("Save becomes Force", working("OffGraceful", generation=2, **FORCE), SAVES, Watch("op-1")),
    ("Save waits for its time", working("OffGraceful", **SAVE), SAVES, Watch("op-1")),
    ("what cannot be saved is no more to be forced", working("OffGraceful", generation=2, **SAVE), SAVES_OR_FORCES,
     Cancel("op-1")),
    ("what cannot be saved is forced still", working("OffGraceful", **SAVE_OR_FORCE), SAVES_OR_FORCES, Watch("op-1")),
    ("Never, too late for a save that has begun", working("OffGraceful", generation=2, **NEVER), SAVING, Watch("op-1")),
    ("Off gives a save up", working("Off", generation=2), SAVING, Force("op-1")),
    ("On resumes what is being saved", working("On", generation=2), SAVING, PowerOn(NEW_SPEC)),
    ("Off cuts a shutdown short", working("Off", generation=2), WAITS, Force("op-1")),
    ("Off, being forced already", working("Off", generation=2), FORCING, Watch("op-1")),
    ("Off pre-empts a start", working("Off", record(POWER_ON), 2), operation(POWER_ON), PowerOff(NEW_SPEC)),
    ("On calls a shutdown off", working("On", generation=2), WAITS, PowerOn(NEW_SPEC)),
    ("On waits for a hard power-off", working("On", record(POWER_OFF), 2), operation(POWER_OFF), Watch("op-1")),
    ("a start ends before a shutdown", working("OffGraceful", record(POWER_ON), 2), operation(POWER_ON), Watch("op-1")),
    ("a VM that is asked whether it is ready goes down", machine("OffGraceful"), ASKED, StartShutdown(FIRST)),
    ("somebody else's start is let be", acted_upon("OffGraceful"), ASKED, Watch("op-9")),
    ("power is left to others", working(None, generation=2), WAITS, Watch("op-1")),
    ("somebody else's shutdown is let be", acted_upon("On"), FOREIGN, Watch("op-9")),
    ("somebody else's reboot is let be", acted_upon("Off"), operation(REBOOT, id="op-9"), Watch("op-9")),
    ("somebody else's timeout is theirs", acted_upon("OffGraceful", gracefulShutdownTimeout="5s"), FOREIGN,
     Watch("op-9")),
    ("somebody else's timeout is theirs, also after one of ours",
     working("OffGraceful", done(), gracefulShutdownTimeout="5s"), FOREIGN, Watch("op-9")),
    ("On calls off our shutdown for an older spec", older("On", record()), WAITS, PowerOn(Attempt("uid-web", 3, 1))),
    ("Off pre-empts our start for an older spec", older("Off", record(POWER_ON)), operation(POWER_ON),
     PowerOff(Attempt("uid-web", 3, 1))),
    ("a new spec beats somebody else's shutdown", machine("On"), FOREIGN, PowerOn(FIRST)),
    ("hard off beats somebody else's shutdown", acted_upon("Off"), FOREIGN, Force("op-9")),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "active", "expected"), [r[1:] for r in UNDER_WAY], ids=[r[0] for r in UNDER_WAY])
def test_with_an_operation_under_way(resource: VirtualMachine, active: pb.Operation, expected: Action) -> None:
    assert reconcile(resource, vm(ON), active, NOW) == expected


DONE, FAILED, CANCELLED = done(), failed(), record(state=pb.OPERATION_STATE_CANCELLED)
LATER = timedelta(days=1)
ENDED: list[tuple[str, VirtualMachine, timedelta, Action]] = [
    ("drifted at once", working("OffGraceful", DONE), seconds(0.5), Wait(NOW + seconds(1))),
    ("drifted a while ago", working("OffGraceful", DONE), seconds(1), StartShutdown(SECOND)),
    ("failed", working("OffGraceful", FAILED), seconds(29), Wait(NOW + seconds(30))),
    ("failed a while ago", working("OffGraceful", FAILED), seconds(30), StartShutdown(SECOND)),
    ("failed three times", working("OffGraceful", failed(attempt=3)), seconds(0),
     Wait(NOW + seconds(120))),
    ("failed for days", working("OffGraceful", failed(attempt=99)), seconds(0),
     Wait(NOW + timedelta(hours=1))),
    ("a person cancelled", working("OffGraceful", CANCELLED), LATER, Hold()),
    ("cancelled, then a new spec", working("OffGraceful", CANCELLED, 2), seconds(0), StartShutdown(NEW_SPEC)),
    ("failed, then a new spec", working("OffGraceful", FAILED, 2), seconds(0), StartShutdown(NEW_SPEC)),
    ("start failed", working("On", failed(kind=POWER_ON)), LATER, Nothing()),
    ("the pause begins when the end is learned of",
     working("OffGraceful", failed(observed_end_time=NOW + seconds(60))), seconds(61), Wait(NOW + seconds(90))),
    ("a provider's clock that is ahead does not count", working("OffGraceful", failed(end_time=NOW + seconds(600))),
     seconds(30), StartShutdown(SECOND)),
    ("a provider's clock that is behind does not count", working("OffGraceful", failed(end_time=NOW - seconds(600))),
     seconds(1), Wait(NOW + seconds(30))),
    ("an end that was not seen", working("OffGraceful", failed(observed_end_time=None)), seconds(1),
     Wait(NOW + seconds(31))),
    ("drifted twice", working("OffGraceful", done(attempt=2)), seconds(0),
     Wait(NOW + seconds(2))),
    ("drifts for days", working("OffGraceful", done(attempt=99)), seconds(0),
     Wait(NOW + timedelta(minutes=5))),
    ("the next one has a time of its own", working("OffGraceful", failed(force_after=NOW)), LATER,
     StartShutdown(SECOND)),
    ("a new spec counts from one", working("OffGraceful", failed(attempt=3), 2), LATER,
     StartShutdown(NEW_SPEC)),
    ("is to be cut off again", working("Off", done(kind=POWER_OFF)), seconds(1), PowerOff(SECOND)),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "after", "expected"), [row[1:] for row in ENDED], ids=[row[0] for row in ENDED])
def test_after_an_operation_has_ended(resource: VirtualMachine, after: timedelta, expected: Action) -> None:
    assert reconcile(resource, vm(ON), None, NOW + after) == expected


OFF_BY_ITSELF: list[tuple[str, VirtualMachine, Action]] = [
    ("a new spec wants it so, after one that was acted upon", working("OffGraceful", DONE, 2), Nothing()),
    (
        "a new spec whose operation is known",
        working("Off", done(generation=2), 2),
        Nothing(),
    ),
    ("the spec was acted upon", working("OffGraceful", DONE), Nothing()),
    ("a new spec wants it on", working("On", DONE, 2), PowerOn(NEW_SPEC)),
]


@pytest.mark.parametrize(
    ("resource", "expected"), [row[1:] for row in OFF_BY_ITSELF], ids=[row[0] for row in OFF_BY_ITSELF]
)
def test_a_vm_that_is_off(resource: VirtualMachine, expected: Action) -> None:
    assert reconcile(resource, vm(OFF), None, NOW + timedelta(days=1)) == expected


NEWER: Any = 99
"""A number of an enum that a newer provider has and we do not know."""


NOT_KNOWN = [pb.POWER_STATE_UNSPECIFIED, pb.POWER_STATE_UNKNOWN, NEWER]


@pytest.mark.parametrize("wanted", ["On", "Off", "OffGraceful", None])
@pytest.mark.parametrize("power", NOT_KNOWN)
def test_a_power_state_that_is_not_known_is_neither_on_nor_off(wanted: str | None, power: Any) -> None:
    assert reconcile(machine(wanted), vm(power), None, NOW) == Nothing()


@pytest.mark.parametrize("power", NOT_KNOWN)
@pytest.mark.parametrize("was", [done(kind=POWER_ON), failed(kind=POWER_ON), record(POWER_ON, id="")])
def test_a_vm_that_is_to_run_and_was_moved_away_is_never_started(was: OperationStatus, power: Any) -> None:
    assert reconcile(working("On", was), vm(power), None, NOW + timedelta(days=1)) == Nothing()


@pytest.mark.parametrize("seen", [None, *map(vm, NOT_KNOWN)])
@pytest.mark.parametrize(
    ("resource", "active"),
    [
        (working("On", generation=2), WAITS),
        (working("Off", generation=2), WAITS),
        (working("Off", record(POWER_ON), 2), operation(POWER_ON)),
        (working("OffGraceful", generation=2, **FORCE), ASKS),
    ],
)
def test_what_is_under_way_is_not_answered_by_a_start_or_a_cut_while_the_power_is_not_known(
    resource: VirtualMachine, active: pb.Operation, seen: pb.VM | None
) -> None:
    assert reconcile(resource, seen, active, NOW) == Watch("op-1")


def test_force_is_taken_away_from_a_running_shutdown_also_while_the_power_is_not_known() -> None:
    assert reconcile(working("OffGraceful", generation=2, **NEVER), vm(UNKNOWN), WAITS, NOW) == Cancel("op-1")


def test_a_vm_that_is_to_run_and_is_not_there_is_never_started() -> None:
    assert reconcile(working("On", done(kind=POWER_ON)), None, None, NOW + timedelta(days=1)) == Nothing()


def test_an_operation_in_a_state_of_a_newer_provider_has_not_ended() -> None:
    assert reconcile(working("OffGraceful"), vm(OFF), operation(state=NEWER), NOW) == Watch("op-1")


def test_an_operation_of_a_kind_or_escalation_that_only_a_newer_provider_knows_serves_no_spec() -> None:
    assert not any(serves(machine(power), operation(NEWER)) for power in ("On", "Off", "OffGraceful"))
    unknown = operation()
    unknown.escalation = NEWER
    assert not serves(machine(**FORCE), unknown)


def test_a_restarted_controller_listens_to_its_operation_before_anything_else() -> None:
    assert reconcile(working("OffGraceful"), vm(OFF), None, NOW) == Watch("op-1")


def test_an_operation_that_has_ended_is_not_listened_to_because_its_record_is_old() -> None:
    ended = operation(state=pb.OPERATION_STATE_SUCCEEDED)
    assert reconcile(working("OffGraceful"), vm(ON), ended, NOW) == StartShutdown(FIRST)


def test_an_operation_that_is_active_is_listened_to_also_when_the_provider_forgot_ours() -> None:
    forgotten, ended = working("OffGraceful", record(id="")), operation(id="op-9", state=pb.OPERATION_STATE_SUCCEEDED)
    assert reconcile(forgotten, vm(ON, active="op-5"), ended, NOW) == Watch("op-5")


@pytest.mark.parametrize(
    ("action", "last", "expected"),
    [
        (Watch("op-9"), None, True),
        (Watch("op-9"), FOREIGN, False),
        (Watch("op-9"), WAITS, True),
        (Nothing(), None, False),
        (None, WAITS, False),
    ],
)
def test_an_operation_is_unheard_of_until_there_was_news_of_it(
    action: Action | None, last: pb.Operation | None, expected: bool
) -> None:
    assert unheard(action, last) is expected


def test_an_operation_that_the_provider_forgot_is_asked_for_again_with_its_force_after() -> None:
    forgotten = record(id="", force_after=NOW + seconds(7))
    expected = StartShutdown(FIRST, NOW + seconds(7))
    assert reconcile(working("OffGraceful", forgotten), vm(ON), None, NOW) == expected


def test_somebody_elses_operation_is_listened_to() -> None:
    assert reconcile(acted_upon("OffGraceful"), vm(ON, active="op-9"), None, NOW) == Watch("op-9")


def test_a_vm_that_still_names_an_ended_operation_is_past_it() -> None:
    ended = operation(id="op-9", state=pb.OPERATION_STATE_SUCCEEDED)
    assert reconcile(acted_upon("OffGraceful"), vm(ON, active="op-9"), ended, NOW) == StartShutdown(FIRST)


@pytest.mark.parametrize(
    ("power", "kind", "escalation", "expected"),
    [
        ("On", POWER_ON, "FORCE", True),
        ("On", SHUTDOWN, "FORCE", False),
        ("Off", POWER_OFF, "FORCE", True),
        ("Off", SHUTDOWN, "ASK", True),
        ("OffGraceful", SHUTDOWN, "NEVER", True),
        ("OffGraceful", SHUTDOWN, "FORCE", False),
        ("OffGraceful", POWER_OFF, "FORCE", False),
        (None, POWER_ON, "FORCE", False),
    ],
)
def test_an_operation_serves_the_spec_whose_end_and_way_it_has(
    power: str | None, kind: "pb.OperationKind.ValueType", escalation: str, expected: bool
) -> None:
    resource = machine(power, **NEVER)
    assert serves(resource, operation(kind, escalation=escalation)) is expected


@pytest.mark.parametrize(
    ("lifecycle", "active", "expected"),
    [
        (SAVE, SAVES, True),
        (SAVE, SAVES_OR_FORCES, False),
        (SAVE_OR_FORCE, SAVES_OR_FORCES, True),
        (SAVE_OR_FORCE, SAVES, False),
        ({}, SAVES_OR_FORCES, True),
    ],
)
def test_what_becomes_of_a_vm_that_cannot_be_saved_is_part_of_the_way(
    lifecycle: dict[str, Any], active: pb.Operation, expected: bool
) -> None:
    assert serves(machine("OffGraceful", **lifecycle), active) is expected


def test_the_same_attempt_has_the_same_request_id_and_no_other_has() -> None:
    attempts = [Attempt(uid, generation, number) for uid in "ab" for generation in (1, 11) for number in (1, 11)]
    assert len({attempt.request_id for attempt in attempts}) == len(attempts)
    assert Attempt("a", 1, 1).request_id == "a-1-1"


def test_an_attempt_is_recognised_by_its_request_id_and_no_other_is() -> None:
    assert Attempt.of("uid-1", "uid-1-22-3") == Attempt("uid-1", 22, 3)
    others = ("", "by-hand", "uid-1", "uid-1-2", "uid-1-2-3-4", "uid-12-2-3", "xuid-1-2-3", "uid-1-2-x")
    assert [each for each in others if Attempt.of("uid-1", each)] == []
    assert Attempt.of("a.c", "abc-1-1") is None


powers = st.sampled_from(["On", "Off", "OffGraceful", None])
states = st.sampled_from(pb.OperationState.values())
operations = st.none() | st.builds(
    operation, kind=st.sampled_from(pb.OperationKind.values()), state=states, id=st.sampled_from(["op-1", "op-9"])
)
records = st.none() | st.builds(
    record,
    kind=st.sampled_from(pb.OperationKind.values()),
    state=states,
    id=st.sampled_from(["", "op-1"]),
    generation=st.integers(1, 3),
    attempt=st.integers(1, 100),
    observed_end_time=st.just(NOW),
)
vms = st.none() | st.builds(vm, st.sampled_from(pb.PowerState.values()), active=st.sampled_from(["", "op-1", "op-9"]))
ages = st.integers(0, 10_000)
lifecycles = st.fixed_dictionaries(
    {},
    optional={
        "escalation": st.sampled_from(["Force", "Never", "Ask", "Save"]),
        "gracefulShutdownTimeout": st.just("9s"),
    },
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[VirtualMachine, pb.VM | None, pb.Operation | None, Any]:
    power, lifecycle = draw(powers), draw(lifecycles)
    assume(power != "Off" or lifecycle.get("escalation") != "Ask")
    resource = machine(power, generation=3, **lifecycle)
    known = with_status(resource, operation=draw(records), observed_generation=draw(st.integers(0, 3)))
    return known, draw(vms), draw(operations), NOW + seconds(draw(ages))


@given(situations())
def test_nobody_who_wants_a_vm_on_brings_it_down(situation: tuple[Any, ...]) -> None:
    if situation[0].spec.power_state == "On":
        assert not isinstance(reconcile(*situation), StartShutdown | PowerOff | Force)


@given(situations())
def test_never_is_never_answered_by_force(situation: tuple[Any, ...]) -> None:
    resource = situation[0]
    if resource.spec.power_state == "OffGraceful" and resource.spec.lifecycle.escalation == "Never":
        assert not isinstance(reconcile(*situation), PowerOff | Force)


@given(situations())
def test_a_vm_that_is_as_wanted_has_nothing_begun_for_it(situation: tuple[Any, ...]) -> None:
    resource, seen, active, _ = situation
    if seen and seen.power_state == OFF and resource.spec.power_state in {"Off", "OffGraceful"} and not active:
        assert not isinstance(reconcile(*situation), StartShutdown | PowerOff | PowerOn)


@given(situations(), st.sampled_from([None, *map(vm, NOT_KNOWN)]))
def test_nothing_is_begun_or_forced_for_a_vm_of_which_nobody_knows_whether_it_runs(
    situation: tuple[Any, ...], seen: pb.VM | None
) -> None:
    resource, _, active, now = situation
    action = reconcile(resource, seen, active, now)
    assert not isinstance(action, PowerOn | PowerOff | StartShutdown | Force)
    if active is None or has_ended(active):
        assert isinstance(action, Nothing | Watch)


@given(situations())
def test_every_attempt_is_of_the_present_spec(situation: tuple[Any, ...]) -> None:
    attempt = getattr(reconcile(*situation), "attempt", None)
    assert attempt is None or (attempt.generation == 3 and attempt.number >= 1)


@given(situations())
def test_the_decision_depends_on_nothing_else(situation: tuple[Any, ...]) -> None:
    assert reconcile(*situation) == reconcile(*situation)


# Held by a run of a plan


@pytest.mark.parametrize("power", ["On", "Off", "OffGraceful", None])
@pytest.mark.parametrize("state", [ON, OFF, UNKNOWN])
def test_what_a_run_holds_is_left_to_it(power: str | None, state: Any) -> None:
    assert reconcile(acted_upon(power), vm(state), None, NOW, "tonight") == Held("tonight")


def test_an_operation_of_our_own_is_not_steered_while_a_run_holds_the_vm() -> None:
    assert reconcile(working("Off"), vm(), operation(), NOW, "tonight") == Held("tonight", "op-1")


def test_of_what_a_run_does_there_is_news() -> None:
    action = reconcile(acted_upon("On"), vm(active="op-7"), None, NOW, "tonight")
    assert action == Held("tonight", "op-7")
    assert unheard(action, None)


def test_of_a_vm_that_is_held_and_idle_there_is_nothing_to_hear() -> None:
    assert not unheard(Held("tonight"), None)


@pytest.mark.parametrize(
    ("state", "last", "heard_of"),
    [
        (SUSPENDED, None, "op-7"),
        (SUSPENDED, "op-3", "op-7"),
        (SUSPENDED, "op-7", ""),
        (ON, None, ""),
        (OFF, "op-3", ""),
    ],
)
def test_the_operation_that_has_saved_a_held_vm_is_heard_of_once(
    state: "pb.PowerState.ValueType", last: str | None, heard_of: str
) -> None:
    resource = with_status(acted_upon("On"), last_power_off=last_power_off("SAVED", last) if last else None)
    assert reconcile(resource, vm(state), None, NOW, "tonight", saved_by="op-7") == Held("tonight", heard_of)
