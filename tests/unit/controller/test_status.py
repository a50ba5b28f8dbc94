from typing import Any

import pytest

from client.errors import ProviderError
from controller.reconcile import Attempt, Held, Watch
from controller.status import (
    accounts_for,
    carried_over,
    heard,
    is_news,
    just_begun,
    lost,
    report,
    started,
)
from controller.status_models import VirtualMachineStatus
from controller.vm_conditions import Observation
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
    SUCCEEDED,
    WAITING,
    hook_result,
    machine,
    operation,
    record,
    seconds,
    verdict,
    vm,
    with_status,
)

LATER = NOW + seconds(60)
AWAY = ProviderError("UNAVAILABLE", "no answer", "ProviderUnreachable")


def saved() -> VirtualMachineStatus:
    """Of a VM whose memory a shutdown has saved."""
    return heard(VirtualMachineStatus(), operation(state=SUCCEEDED, verdict=verdict("SAVED")), NOW)


@pytest.mark.parametrize(
    ("seen", "resumed"),
    [
        ({"vm": vm(pb.POWER_STATE_SUSPENDED)}, None),
        ({"vm": vm(pb.POWER_STATE_ON)}, True),
        ({"vm": vm(pb.POWER_STATE_OFF)}, True),
        ({"vm": vm(pb.POWER_STATE_UNKNOWN)}, None),
        ({"vm": vm(pb.POWER_STATE_ON), "hypervisor_problem": "away"}, None),
        ({"vm": vm(pb.POWER_STATE_ON), "operation": operation()}, None),
        ({"vm": vm(pb.POWER_STATE_ON), "unread": True}, None),
    ],
)
def test_a_vm_that_was_saved_is_so_until_it_is_seen_on_or_off(seen: dict[str, Any], resumed: bool | None) -> None:
    last = report(
        with_status(machine("On"), last_power_off=saved().last_power_off), Observation(NOW, **seen)
    ).last_power_off
    assert last is not None
    assert last.resumed is resumed


def test_that_a_vm_was_resumed_is_not_forgotten_when_its_end_is_heard_again() -> None:
    resource = with_status(machine("On"), last_power_off=saved().last_power_off)
    resumed = report(resource, Observation(NOW, vm(pb.POWER_STATE_ON)))
    last = heard(resumed, operation(state=SUCCEEDED, verdict=verdict("SAVED")), NOW).last_power_off
    assert last is not None
    assert last.resumed is True


def in_vain(outcome: str = "STILL_RUNNING", reason: str = "SUSPENDED") -> pb.Operation:
    """Another shutdown, of a VM that is suspended."""
    return operation(id="op-8", state=FAILED, verdict=verdict(outcome, reason=reason))


@pytest.mark.parametrize("reason", ["SUSPENDED", "UNSPECIFIED", "HOOK_FAILED", "TIMEOUT"])
@pytest.mark.parametrize("outcome", ["STILL_RUNNING", "UNKNOWN"])
def test_a_shutdown_that_found_it_saved_is_the_last_one_and_leaves_it_saved(outcome: str, reason: str) -> None:
    last = heard(saved(), in_vain(outcome, reason), NOW).last_power_off
    assert last is not None
    assert (last.operation, last.outcome, last.left_saved) == ("op-8", outcome, True)


def test_what_a_shutdown_found_saved_is_so_until_it_is_seen_on() -> None:
    last = heard(saved(), in_vain(), NOW).last_power_off
    seen = report(with_status(machine("On"), last_power_off=last), Observation(NOW, vm(pb.POWER_STATE_ON)))
    assert seen.last_power_off is not None
    assert (seen.last_power_off.outcome, seen.last_power_off.left_saved) == ("STILL_RUNNING", False)


@pytest.mark.parametrize("outcome", ["GRACEFUL", "FORCED"])
def test_one_that_went_off_since_is_not_saved(outcome: str) -> None:
    last = heard(saved(), in_vain(outcome, "UNSPECIFIED"), NOW).last_power_off
    assert last is not None
    assert last.left_saved is False


def test_one_that_was_resumed_before_is_not_saved() -> None:
    resumed = report(
        with_status(machine("On"), last_power_off=saved().last_power_off), Observation(NOW, vm(pb.POWER_STATE_ON))
    )
    last = heard(resumed, in_vain(), NOW).last_power_off
    assert last is not None
    assert (last.outcome, last.left_saved) == ("STILL_RUNNING", False)


def test_a_shutdown_in_vain_of_one_that_nobody_saved_is_told_as_it_is() -> None:
    last = heard(VirtualMachineStatus(), in_vain(), NOW).last_power_off
    assert last is not None
    assert (last.outcome, last.left_saved) == ("STILL_RUNNING", False)


NEWER: Any = 99
"""A number of an enum that a newer provider has and we do not know."""


def test_a_power_state_of_a_newer_provider_is_unknown() -> None:
    assert report(machine(), Observation(NOW, vm(NEWER))).power_state == "Unknown"


def test_a_kind_of_operation_of_a_newer_provider_is_work() -> None:
    assert report(machine(), Observation(NOW, vm(), operation(NEWER))).phase == "Working"


def test_what_a_newer_provider_says_of_an_end_is_shown_in_words() -> None:
    end = verdict(hooks=[pb.HookResult(name="drain", state=NEWER)])
    end.reason, end.signal = NEWER, NEWER
    last = heard(VirtualMachineStatus(), operation(state=SUCCEEDED, verdict=end), NOW).last_power_off
    assert last
    assert (last.reason, last.signal, last.hooks[0].state) == ("", "", "UNSPECIFIED")


def test_power_and_forecast_hold_still_while_an_operation_is_under_way() -> None:
    before = report(machine(), Observation(NOW, vm()))
    begun = with_status(machine(), **dict(before) | {"operation": record()})
    first = report(begun, Observation(NOW, vm(), operation()))
    second = report(with_status(begun, **dict(first)), Observation(LATER, vm(pb.POWER_STATE_OFF), operation()))
    assert second == first


def test_an_operation_that_has_just_begun_waits_for_its_first_step() -> None:
    pending = VirtualMachineStatus(operation=record(state=PENDING))
    assert just_begun(pending, seconds(0.5))
    assert not just_begun(pending, seconds(1))
    assert not just_begun(VirtualMachineStatus(operation=record()), seconds(0))


def test_a_spec_counts_as_observed_once_it_was_acted_upon() -> None:
    resource = machine(generation=7)
    assert report(resource, Observation(NOW, trouble=AWAY)).observed_generation == 0
    assert report(resource, Observation(NOW, vm(), error=AWAY)).observed_generation == 0
    assert report(resource, Observation(NOW, vm(), action=Watch("op-9"))).observed_generation == 0
    assert report(resource, Observation(NOW, vm())).observed_generation == 7


def test_steps_between_start_and_end_are_no_news() -> None:
    hooks = VirtualMachineStatus(operation=record(state=RUNNING_HOOKS))
    waiting = VirtualMachineStatus(operation=record())
    assert not is_news(hooks, waiting)


def test_when_an_end_was_learned_of_is_no_news_by_itself() -> None:
    ended = VirtualMachineStatus(operation=record(state=SUCCEEDED))
    again = VirtualMachineStatus(operation=record(state=SUCCEEDED, observed_end_time=LATER))
    assert not is_news(ended, again)


@pytest.mark.parametrize(
    "change",
    [
        {"state": AWAITING_DECISION},
        {"state": SUCCEEDED},
        {"force_after": LATER},
        {"id": "op-2"},
    ],
)
def test_these_are_news(change: dict[str, Any]) -> None:
    before = VirtualMachineStatus(operation=record())
    after = VirtualMachineStatus(operation=record().model_copy(update=change))
    assert is_news(before, after)


def test_a_verdict_becomes_the_last_power_off() -> None:
    ours = with_status(machine(), operation=record())
    result = hook_result("drain", "FAILED", 3, "queue on fire\n", 0.5)
    said = verdict("FORCED", 61, reason="TIMEOUT", hooks=(result,), message="Powered off hard.")
    status = heard(ours.status, operation(state=SUCCEEDED, verdict=said, timeout=seconds(60)), LATER)
    assert status.model_dump(mode="json", by_alias=True)["lastPowerOff"] == {
        "operation": "op-1",
        "outcome": "FORCED",
        "reason": "TIMEOUT",
        "signal": "",
        "startTime": "2030-01-01T12:00:00Z",
        "completionTime": "2030-01-01T12:01:01Z",
        "durationSeconds": 61.0,
        "timeoutSeconds": 60.0,
        "hooks": [
            {"name": "drain", "state": "FAILED", "exitCode": 3, "output": "queue on fire\n", "durationSeconds": 0.5}
        ],
        "message": "Powered off hard.",
        "requestedBy": "",
        "onBehalfOf": "",
        "requestReason": "",
        "resumed": None,
    }


def test_an_outcome_of_a_newer_provider_leaves_the_last_power_off_standing() -> None:
    end = verdict()
    end.outcome = NEWER
    assert heard(VirtualMachineStatus(), operation(state=SUCCEEDED, verdict=end), NOW).last_power_off is None


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED])
def test_an_end_of_which_nobody_can_know_how_is_the_last_power_off_with_what_is_known(state: Any) -> None:
    known = "It went off while libvirt was away; asked by ACPI 12 s before."
    status = heard(VirtualMachineStatus(), operation(state=state, verdict=verdict("UNKNOWN", message=known)), NOW)
    assert status.last_power_off
    assert (status.last_power_off.outcome, status.last_power_off.message) == ("UNKNOWN", known)


def test_a_start_of_a_vm_that_is_not_there_any_more_is_no_power_off() -> None:
    lost = operation(POWER_ON, FAILED, verdict=verdict("UNKNOWN"))
    assert heard(VirtualMachineStatus(), lost, NOW).last_power_off is None


@pytest.mark.parametrize("outcome", ["ALREADY_OFF", "STARTED", "ALREADY_ON", "UNSPECIFIED"])
def test_an_outcome_without_a_power_off_leaves_the_last_one_standing(outcome: str) -> None:
    before = heard(VirtualMachineStatus(), operation(state=SUCCEEDED, verdict=verdict()), NOW)
    after = heard(before, operation(state=SUCCEEDED, verdict=verdict(outcome), id="op-2"), NOW)
    assert after.last_power_off == before.last_power_off


def test_somebody_elses_operation_does_not_take_the_place_of_ours() -> None:
    before = VirtualMachineStatus(operation=record())
    assert heard(before, operation(id="op-9", state=FORCING), NOW).operation == before.operation


def test_an_operation_that_was_taken_on_is_remembered_with_its_attempt() -> None:
    status = started(machine(generation=3), operation(), Attempt("uid-web", 3, 2), seconds(60))
    assert status.operation
    assert (status.operation.id, status.operation.generation, status.operation.attempt) == ("op-1", 3, 2)


def test_a_lost_operation_keeps_all_but_its_id() -> None:
    before = VirtualMachineStatus(operation=record(force_after=LATER))
    after = lost(before, "op-1").operation
    assert after
    assert (after.id, after.force_after) == ("", LATER)
    assert lost(before, "op-9") == before
    assert lost(VirtualMachineStatus(), "op-9") == VirtualMachineStatus()


def test_an_operation_that_serves_the_new_spec_is_carried_over_to_it() -> None:
    ours = with_status(machine(generation=2), operation=record())
    carried = carried_over(ours, operation(), seconds(90)).operation
    assert carried
    assert (carried.generation, carried.timeout) == (2, seconds(90))


def test_an_operation_that_does_not_serve_the_new_spec_stays_with_the_old() -> None:
    ours = with_status(machine("On", generation=2), operation=record())
    carried = carried_over(ours, operation()).operation
    assert carried
    assert carried.generation == 1


def test_the_power_state_follows_the_vm_once_it_is_known() -> None:
    known = with_status(machine("On"), power_state="On", phase="Running", id="id-web")
    status = report(known, Observation(NOW, vm(pb.POWER_STATE_OFF)))
    assert (status.power_state, status.phase) == ("Off", "Off")


def test_the_power_state_stays_while_the_provider_is_away() -> None:
    known = with_status(machine("On"), power_state="On", phase="Running", id="id-web")
    status = report(known, Observation(NOW, trouble=AWAY))
    assert (status.power_state, status.phase, status.id) == ("On", "Running", "id-web")


def test_a_power_state_that_was_never_known_is_shown_also_while_an_operation_is_active() -> None:
    assert report(machine("On"), Observation(NOW, vm(), operation())).power_state == "On"


@pytest.mark.parametrize(("state", "told"), [(AWAITING_DECISION, "Suspended"), (WAITING, "On")])
def test_the_power_state_stays_while_an_operation_is_at_work_but_not_while_it_waits_for_a_decision(
    state: pb.OperationState.ValueType, told: str
) -> None:
    known = with_status(machine(), power_state="On")
    assert report(known, Observation(NOW, vm(pb.POWER_STATE_SUSPENDED), operation(state=state))).power_state == told


@pytest.mark.parametrize(
    ("outcome", "fields", "power", "expected"),
    [
        ("GRACEFUL", {}, pb.POWER_STATE_OFF, True),
        ("GRACEFUL", {}, pb.POWER_STATE_ON, False),
        ("GRACEFUL", {}, pb.POWER_STATE_SUSPENDED, False),
        ("SAVED", {}, pb.POWER_STATE_SUSPENDED, True),
        ("ALREADY_OFF", {}, pb.POWER_STATE_OFF, True),
        ("STILL_RUNNING", {}, pb.POWER_STATE_ON, True),
        ("STILL_RUNNING", {}, pb.POWER_STATE_OFF, False),
        ("STILL_RUNNING", {"state": CANCELLED}, pb.POWER_STATE_ON, False),
        ("FORCED", {"reason": "PREEMPTED"}, pb.POWER_STATE_OFF, False),
        ("STARTED", {}, pb.POWER_STATE_ON, True),
        ("STARTED", {}, pb.POWER_STATE_SUSPENDED, False),
    ],
)
def test_an_operation_accounts_for_a_vm_that_is_as_it_left_it(
    outcome: str, fields: dict[str, Any], power: pb.PowerState.ValueType, expected: bool
) -> None:
    state, reason = fields.get("state", SUCCEEDED), fields.get("reason", "UNSPECIFIED")
    assert accounts_for(operation(state=state, verdict=verdict(outcome, reason=reason)), vm(power)) is expected


def test_a_vm_is_shown_by_its_id() -> None:
    assert report(with_status(machine(), id="id-old"), Observation(NOW, vm())).id == "id-web"


@pytest.mark.parametrize(
    ("power", "active", "expected"),
    [
        (pb.POWER_STATE_ON, None, "Running"),
        (pb.POWER_STATE_OFF, None, "Off"),
        (pb.POWER_STATE_PAUSED, None, "Paused"),
        (pb.POWER_STATE_ON, operation(), "ShuttingDown"),
        (pb.POWER_STATE_ON, operation(REBOOT), "Rebooting"),
        (pb.POWER_STATE_ON, operation(state=AWAITING_DECISION), "AwaitingDecision"),
        (pb.POWER_STATE_OFF, operation(state=SUCCEEDED), "Off"),
    ],
)
def test_the_phase_is_what_happens_or_the_power_state(
    power: pb.PowerState.ValueType, active: Any, expected: str
) -> None:
    assert report(machine(), Observation(NOW, vm(power), active)).phase == expected


@pytest.mark.parametrize(
    ("wanted", "done", "expected"),
    [
        ("OffGraceful", record(state=SUCCEEDED), "Off"),
        ("Off", record(POWER_OFF, SUCCEEDED), "Off"),
        ("Off", record(state=SUCCEEDED), "Off"),
        ("OffGraceful", record(POWER_OFF, SUCCEEDED), "Unknown"),
        ("OffGraceful", record(state=FAILED), "Unknown"),
        ("OffGraceful", record(), "Unknown"),
        ("On", record(POWER_ON, SUCCEEDED), "Unknown"),
        (None, record(state=SUCCEEDED), "Unknown"),
        ("OffGraceful", None, "Unknown"),
    ],
)
def test_a_vm_that_vanished_is_off_only_if_our_operation_brought_it_there(
    wanted: str | None, done: Any, expected: str
) -> None:
    assert report(with_status(machine(wanted), operation=done), Observation(NOW)).power_state == expected


def test_the_run_that_holds_a_vm_is_named_and_its_spec_is_not_acted_upon() -> None:
    found = report(machine("On"), Observation(NOW, vm(), action=Held("tonight")))
    assert (found.held_by, found.observed_generation) == ("tonight", 0)


def test_once_released_a_vm_is_held_by_none() -> None:
    held = with_status(machine("On"), held_by="tonight")
    assert report(held, Observation(NOW, vm())).held_by is None


def test_a_provider_that_is_away_does_not_release_a_vm() -> None:
    held = with_status(machine("On"), held_by="tonight")
    assert report(held, Observation(NOW, trouble=AWAY)).held_by == "tonight"
