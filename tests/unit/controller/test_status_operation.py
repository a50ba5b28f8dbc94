"""What status says of an operation, from its beginning to its verdict."""

from typing import Any

import pytest

from controller.models import VirtualMachine
from controller.reconcile import Attempt
from controller.status import carried_over, end_observed, heard, just_begun, recognised, started
from controller.status_models import OperationStatus, VirtualMachineStatus
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    CANCELLED,
    FAILED,
    FORCING,
    NOW,
    PENDING,
    POWER_OFF,
    POWER_ON,
    REBOOT,
    RUNNING_HOOKS,
    SHUTDOWN,
    SUCCEEDED,
    machine,
    operation,
    record,
    seconds,
    verdict,
    with_status,
)

LATER = NOW + seconds(600)
BEGUN = with_status(machine(), operation=record())


def heard_of(status: VirtualMachineStatus = BEGUN.status, **fields: Any) -> OperationStatus:
    known = heard(status, operation(**fields), LATER).operation
    assert known
    return known


def test_an_operation_that_was_begun_is_written_with_all_that_is_known_of_it() -> None:
    begun = operation(POWER_ON, RUNNING_HOOKS, create_time=NOW + seconds(3))
    assert started(BEGUN, begun, Attempt("uid-web", 1, 2), seconds(60)).operation == OperationStatus(
        id="op-1",
        kind=POWER_ON,
        state=PENDING,
        start_time=NOW + seconds(3),
        timeout=seconds(60),
        generation=1,
        attempt=2,
    )


def test_each_state_of_our_operation_is_shown_and_its_deadline() -> None:
    known = heard_of(state=FORCING, force_after=NOW + seconds(60))
    assert (known.state, known.force_after, known.end_time) == (FORCING, NOW + seconds(60), None)


def test_a_deadline_that_is_taken_back_is_no_longer_shown() -> None:
    before = VirtualMachineStatus(operation=record(force_after=NOW + seconds(60)))
    assert heard_of(before, state=AWAITING_DECISION).force_after is None


def test_an_operation_ended_when_its_verdict_says_not_when_we_heard_of_it() -> None:
    assert heard_of(state=SUCCEEDED, verdict=verdict(took=61)).end_time == NOW + seconds(61)


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED, CANCELLED])
def test_an_operation_that_ended_without_a_verdict_ended_when_we_heard_of_it(
    state: "pb.OperationState.ValueType",
) -> None:
    assert heard_of(state=state).end_time == LATER


def test_an_operation_that_has_not_ended_has_no_end_whatever_its_verdict() -> None:
    assert heard_of(state=FORCING, verdict=verdict()).end_time is None


def test_the_time_of_an_end_is_not_changed_by_hearing_of_it_again() -> None:
    ended = heard(BEGUN.status, operation(state=FAILED), NOW)
    assert heard_of(ended, state=FAILED).end_time == NOW


def test_why_an_operation_failed_is_shown() -> None:
    assert heard_of(state=FAILED, error="The guest still runs.").message == "The guest still runs."


def test_what_is_unset_stays_unset() -> None:
    known = heard(BEGUN.status, pb.Operation(id="op-1"), LATER)
    assert known.operation
    assert (known.operation.force_after, known.operation.end_time, known.operation.message) == (None, None, "")
    assert known.last_power_off is None


def test_a_deadline_is_shown_to_the_microsecond() -> None:
    assert heard_of(force_after=NOW + seconds(1e-6)).force_after == NOW + seconds(1e-6)


def test_a_state_of_a_newer_provider_is_no_end_and_is_written_as_unspecified() -> None:
    known = heard_of(state=99)
    assert (known.ended, known.model_dump(mode="json")["state"]) == (False, "UNSPECIFIED")


def test_the_last_power_off_is_told_by_its_verdicts_times_not_by_ours() -> None:
    last = heard(BEGUN.status, operation(state=SUCCEEDED, verdict=verdict(took=61)), LATER).last_power_off
    assert last
    assert (last.start_time, last.completion_time, last.duration_seconds) == (NOW, NOW + seconds(61), 61.0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SHUTDOWN, 60.0),
        (REBOOT, 60.0),
        (POWER_OFF, None),
        (POWER_ON, None),
    ],
)
def test_only_what_asks_the_guest_has_a_timeout(kind: "pb.OperationKind.ValueType", expected: float | None) -> None:
    ended = operation(kind, SUCCEEDED, verdict=verdict(), timeout=seconds(60))
    last = heard(BEGUN.status, ended, LATER).last_power_off
    assert last
    assert last.timeout_seconds == expected


def test_a_power_off_by_another_client_is_the_last_one_too() -> None:
    foreign = heard(BEGUN.status, operation(id="op-9", state=SUCCEEDED, verdict=verdict()), LATER)
    assert foreign.last_power_off
    assert (foreign.last_power_off.operation, foreign.operation) == ("op-9", BEGUN.status.operation)


def test_without_an_operation_of_ours_none_is_shown() -> None:
    assert heard(VirtualMachineStatus(), operation(), LATER) == VirtualMachineStatus()


def ours(resource: VirtualMachine, **fields: Any) -> OperationStatus | None:
    return recognised(resource, operation(**({"id": "op-2", "request_id": "uid-web-1-2"} | fields))).operation


def test_an_operation_with_our_request_id_is_recognised_with_its_attempt() -> None:
    known = ours(machine())
    assert known
    assert (known.id, known.generation, known.attempt) == ("op-2", 1, 2)


def test_an_operation_with_another_request_id_is_not_ours() -> None:
    assert ours(BEGUN, request_id="uid-db-1-2") == BEGUN.status.operation


def test_the_operation_that_is_known_is_not_begun_again() -> None:
    known = with_status(machine(), operation=record(state=FORCING))
    assert ours(known, id="op-1") == known.status.operation


def test_an_operation_that_is_older_than_the_one_we_know_does_not_take_its_place() -> None:
    later = with_status(machine(), operation=record(start_time=NOW + seconds(1)))
    assert ours(later) == later.status.operation


@pytest.mark.parametrize("age", [0, 1])
def test_a_newer_operation_takes_the_place_of_the_one_we_know(age: float) -> None:
    known = ours(BEGUN, create_time=NOW + seconds(age))
    assert known
    assert known.id == "op-2"


@pytest.mark.parametrize(("generation", "expected"), [(1, 90), (2, 60)])
def test_a_recognised_operation_has_the_timeout_that_its_spec_gave_it(generation: int, expected: float) -> None:
    resource = machine(generation=generation, gracefulShutdownTimeout="90s")
    known = ours(resource, timeout=seconds(60))
    assert known
    assert known.timeout == seconds(expected)


def test_an_operation_that_is_carried_over_keeps_its_timeout_unless_it_has_another() -> None:
    resource = with_status(machine(generation=2), operation=record(timeout=seconds(60)))
    carried = carried_over(resource, operation()).operation
    assert carried
    assert (carried.generation, carried.timeout) == (2, seconds(60))


def test_only_our_operation_is_carried_over() -> None:
    resource = with_status(machine(generation=2), operation=record())
    assert carried_over(resource, operation(id="op-9"), seconds(90)) == resource.status
    assert carried_over(machine(), operation(), seconds(90)) == machine().status


def test_without_an_operation_none_has_just_begun() -> None:
    assert not just_begun(VirtualMachineStatus(), seconds(0))


@pytest.mark.parametrize("skew", [-600, 0, 600])
def test_when_an_end_was_learned_of_is_by_our_clock_and_the_end_by_the_providers(skew: float) -> None:
    ended = verdict(began=NOW + seconds(skew))
    known = heard_of(state=FAILED, verdict=ended)
    assert (known.end_time, known.observed_end_time) == (NOW + seconds(skew + 5), LATER)


def test_hearing_of_an_end_again_does_not_make_it_later() -> None:
    ended = heard(BEGUN.status, operation(state=FAILED), NOW)
    assert heard_of(ended, state=FAILED).observed_end_time == NOW


def test_an_operation_that_has_not_ended_was_not_seen_to_end() -> None:
    assert heard_of(state=FORCING).observed_end_time is None


ENDED = VirtualMachineStatus(operation=record(state=FAILED))


@pytest.mark.parametrize("drift", [-5, 0, 5])
def test_an_end_stays_where_it_was_seen_while_the_clock_only_drifts(drift: float) -> None:
    assert end_observed(ENDED, seconds(20), NOW + seconds(20 + drift)) == ENDED


@pytest.mark.parametrize("step", [-3600, 3600])
def test_an_end_moves_with_a_clock_that_is_set(step: float) -> None:
    moved = end_observed(ENDED, seconds(20), NOW + seconds(20 + step)).operation
    assert moved
    assert (moved.observed_end_time, moved.end_time) == (NOW + seconds(step), NOW)


def test_an_end_that_an_older_controller_wrote_without_its_time_was_seen_as_long_ago_as_we_know() -> None:
    old = VirtualMachineStatus(operation=record(state=FAILED, observed_end_time=None))
    known = end_observed(old, seconds(0), NOW).operation
    assert known
    assert known.observed_end_time == NOW


def test_without_an_operation_no_end_was_seen() -> None:
    assert end_observed(VirtualMachineStatus(), seconds(0), NOW) == VirtualMachineStatus()
