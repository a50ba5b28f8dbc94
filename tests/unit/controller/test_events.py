from datetime import UTC, datetime

from client.errors import ProviderError
from controller.events import drift, ended_operation, events, provider_events
from controller.source import Event
from controller.status import heard, report
from controller.status_models import Condition, ProviderStatus, VirtualMachineStatus
from controller.vm_conditions import Observation
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    NOW,
    POWER_ON,
    SUCCEEDED,
    forecast,
    hook_result,
    machine,
    operation,
    record,
    verdict,
    vm,
)

NONE = VirtualMachineStatus()


def test_a_start_is_told_once() -> None:
    begun = VirtualMachineStatus(operation=record())
    (event,) = events(NONE, begun)
    assert (event.type, event.reason) == ("Normal", "ShutdownStarted")
    assert list(events(begun, begun)) == []


def test_an_operation_that_had_ended_before_it_was_written_down_is_told_by_its_end_alone() -> None:
    known = VirtualMachineStatus(operation=record())
    ended = heard(known, operation(state=SUCCEEDED, verdict=verdict("GRACEFUL", message="Done.")), NOW)
    assert [event.reason for event in events(NONE, ended)] == ["GracefulShutdown"]


def test_a_graceful_end_is_normal_and_a_forced_one_is_a_warning() -> None:
    said = {}
    for outcome in ("GRACEFUL", "FORCED", "OUT_OF_BAND", "UNKNOWN"):
        ended = heard(NONE, operation(state=SUCCEEDED, verdict=verdict(outcome, message="Done.")), NOW)
        (event,) = events(NONE, ended)
        said[event.reason] = (event.type, event.message)
    assert said == {
        "GracefulShutdown": ("Normal", "Done. It took 5.0 s."),
        "ForcedOff": ("Warning", "Done. It took 5.0 s."),
        "OutOfBand": ("Warning", "Done. It took 5.0 s."),
        "PowerOffUnknown": ("Warning", "Done. It took 5.0 s."),
    }


def test_that_a_saved_vm_was_resumed_is_no_other_end() -> None:
    ended = heard(NONE, operation(state=SUCCEEDED, verdict=verdict("SAVED")), NOW)
    last = ended.last_power_off
    assert last is not None
    resumed = ended.model_copy(update={"last_power_off": last.model_copy(update={"resumed": True})})
    assert list(events(ended, resumed)) == []


def test_a_hook_that_failed_is_told_with_its_exit_code_and_last_words() -> None:
    hooks = (hook_result("drain", "FAILED", 3, "queue on fire\n"), hook_result("sync", "SUCCEEDED"))
    ended = heard(NONE, operation(state=SUCCEEDED, verdict=verdict("GRACEFUL", hooks=hooks)), NOW)
    failed, _ = events(NONE, ended)
    assert failed == Event("Warning", "HookFailed", "Hook drain: FAILED, exit code 3: queue on fire")


def test_a_forecast_that_turns_bad_is_told_once() -> None:
    deaf = vm(forecast=forecast(False, (), "TOOLS_UNAVAILABLE", ("no agent",)))
    good, bad = report(machine("On"), Observation(NOW, vm())), report(machine("On"), Observation(NOW, deaf))
    assert list(events(good, bad)) == [Event("Warning", "GracefulShutdownNotReady", "TOOLS_UNAVAILABLE: no agent")]
    assert list(events(bad, bad)) == list(events(bad, good)) == []


def test_a_refusal_is_told_when_it_begins_and_not_again() -> None:
    refused = report(machine(), Observation(NOW, vm(), error=ProviderError("X", "a template", "VM_REFUSED")))
    assert list(events(NONE, refused)) == [Event("Warning", "VM_REFUSED", "a template")]
    assert list(events(refused, refused)) == []


def test_two_thousand_vms_do_not_each_tell_that_their_provider_is_away() -> None:
    away = report(machine(), Observation(NOW, trouble=ProviderError("UNAVAILABLE", "gone", "ProviderUnreachable")))
    assert list(events(NONE, away)) == []


def test_a_provider_tells_that_it_went_and_that_it_came_back() -> None:
    def ready(status: str, reason: str) -> ProviderStatus:
        said = {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": NOW}
        return ProviderStatus(conditions=(Condition.model_validate(said),))

    there, away = ready("True", "Connected"), ready("False", "ProviderUnreachable")
    assert [event.type for event in provider_events(there, away)] == ["Warning"]
    assert [event.type for event in provider_events(away, there)] == ["Normal"]
    assert list(provider_events(away, away)) == []


def test_a_start_that_took_the_place_of_another_is_told_as_done() -> None:
    first = VirtualMachineStatus(operation=record(POWER_ON, SUCCEEDED, id="op-1"))
    second = VirtualMachineStatus(operation=record(POWER_ON, SUCCEEDED, id="op-2"))
    assert [event.reason for event in events(first, second)] == ["PowerOnSucceeded"]


def test_an_operation_that_ended_and_was_never_written_down_is_told() -> None:
    ended = VirtualMachineStatus(operation=record(POWER_ON, SUCCEEDED))
    assert [event.reason for event in ended_operation(NONE, ended, "op-2")] == ["PowerOnSucceeded"]
    assert ended_operation(ended, ended, "op-2") == []


def test_drift_names_what_is_and_what_is_wanted_and_who_did_it() -> None:
    off = vm(pb.POWER_STATE_OFF)
    off.off_cause = pb.OFF_CAUSE_GUEST
    event = drift(machine("On"), off)
    message = "The VM is Off, shut down by its guest, although the spec wants On; it is brought back."
    assert event == Event("Warning", "Drifted", message)


def test_an_event_is_one_line_whatever_guests_say_in_it() -> None:
    event = Event("Warning", "HookFailed", "Hook drain: FAILED: db[/old]\nWarning ForcedOff\x1b[2J\x9b\u202e")
    assert event.message == r"Hook drain: FAILED: db[/old]\nWarning ForcedOff\x1b[2J\x9b\u202e"


def test_a_condition_is_one_line_whatever_guests_say_in_it() -> None:
    now = datetime.now(UTC)
    condition = Condition(type="Ready", status="False", reason="X", message="a\nb\u202e", last_transition_time=now)
    assert condition.message == r"a\nb\u202e"


def test_why_it_was_asked_for_is_told_with_the_start_and_the_end() -> None:
    begun = VirtualMachineStatus(operation=record(reason="kernel update"))
    (start,) = events(NONE, begun)
    ended = operation(state=SUCCEEDED, verdict=verdict("GRACEFUL", message="Done."), reason="kernel update")
    (end,) = events(begun, heard(begun, ended, NOW))
    assert start.message.endswith(" Reason: kernel update")
    assert end.message.endswith(" Reason: kernel update")


def test_who_asked_is_told_where_that_was_not_the_resource() -> None:
    others = operation(
        id="op-9",
        state=SUCCEEDED,
        verdict=verdict("FORCED", message="Done."),
        requested_by="cn:alice",
        on_behalf_of="the night shift",
    )
    (end,) = events(NONE, heard(NONE, others, NOW))
    assert end.message.endswith(" Asked for by cn:alice on behalf of the night shift.")
