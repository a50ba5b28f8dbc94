"""The audit itself: each invariant finds a made-up history that breaks it, and nothing in one that does not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.soak.audit import audit
from tests.soak.history import (
    ENDED_BY_ITSELF,
    Active,
    Call,
    Cut,
    Guest,
    Harm,
    History,
    Record,
    Run,
    Said,
    Saved,
    Settled,
    Told,
    describe,
    load,
)

VM = "web"
GUEST = Guest(VM)
SETTLED = Settled(100)


def shutdown(sent: float = 10, **fields: Any) -> Call:
    """A Shutdown of 5 s, accepted at once."""
    usual: dict[str, Any] = {"operation": "s", "request_id": "r", "timeout": 5.0, "escalation": "FORCE"}
    return Call(sent, sent + 0.01, "Shutdown", VM, **(usual | fields))


def begun(method: str, sent: float, operation: str, **fields: Any) -> Call:
    return Call(sent, sent + 0.01, method, VM, operation=operation, request_id=f"r-{operation}", **fields)


def decided(method: str, sent: float, **fields: Any) -> Call:
    return Call(sent, sent + 0.01, method, VM, operation="s", **fields)


def ended(at: float, outcome: str, state: str = "SUCCEEDED", **fields: Any) -> Told:
    """The Shutdown's end."""
    usual: dict[str, Any] = {"request_id": "r", "outcome": outcome, "ending": f"{state} {outcome}"}
    return Told(at, "s", VM, fields.pop("kind", "SHUTDOWN"), state, **(usual | fields))


def waiting(at: float) -> Told:
    return Told(at, "s", VM, "SHUTDOWN", "WAITING_FOR_GUEST", request_id="r")


def other_end(operation: str, kind: str, at: float, outcome: str, state: str = "SUCCEEDED") -> Told:
    return Told(at, operation, VM, kind, state, f"r-{operation}", outcome, ending=f"{state} {outcome}")


def found(*records: Record, guest: Guest = GUEST) -> list[str]:
    """The invariants that this history breaks."""
    return [finding.invariant for finding in audit(History([guest, *records]))]


CUT_EARLY = "no vm is cut unless it is due or asked for"
ONE_VERDICT = "every accepted operation ends in one verdict"
UNTRUE = "verdicts are true"
HOOKS = "hooks run at most once"
ONE_ACTIVE = "one operation is active on a vm"
DECISIONS = "accepted decisions hold"
LAST_WISH = "vms end as they were last wished"

GRACEFUL = (
    shutdown(),
    Run(VM, 0, 12, ("GUEST",), ((10.1, "ACPI"),)),
    ended(12.1, "GRACEFUL", signal="ACPI"),
    SETTLED,
)
FORCED = (shutdown(), Run(VM, 0, 15.1, ("PROVIDER",)), Cut(15.05, VM), ended(15.2, "FORCED", reason="TIMEOUT"), SETTLED)


@pytest.mark.parametrize("history", [GRACEFUL, FORCED])
def test_a_true_history_is_clean(history: tuple[Record, ...]) -> None:
    assert found(*history) == []


# No VM is cut unless it is due or asked for


def test_a_cut_before_its_time_is_found() -> None:
    assert found(shutdown(), Run(VM, 0, 13, ("PROVIDER",)), Cut(13, VM), ended(13.1, "FORCED")) == [CUT_EARLY]


def test_a_cut_that_no_request_asked_for_is_found() -> None:
    assert found(Run(VM, 0, 13, ("PROVIDER",)), Cut(13, VM)) == [CUT_EARLY]


def test_a_cut_within_a_promised_extension_is_found() -> None:
    extended = decided("ExtendOperation", 11, extension=10)
    assert CUT_EARLY in found(*FORCED, extended)


def test_a_cut_after_an_extension_that_was_refused_is_none_of_it() -> None:
    refused = decided("ExtendOperation", 11, extension=10, code="ABORTED", reason="X")
    assert found(*FORCED, refused) == []


def test_a_cut_after_an_accepted_cancel_is_found() -> None:
    cancelled = ended(11.5, "STILL_RUNNING", "CANCELLED")
    assert CUT_EARLY in found(
        shutdown(), decided("CancelOperation", 11), cancelled, Run(VM, 0, 15.1, ("PROVIDER",)), Cut(15.1, VM)
    )


def test_a_cut_after_a_power_on_called_it_off_is_found() -> None:
    power_on = begun("PowerOn", 12, "on")
    assert CUT_EARLY in found(*FORCED, power_on, other_end("on", "POWER_ON", 15.2, "ALREADY_ON"))


def test_a_power_on_that_comes_when_force_has_begun_calls_nothing_off() -> None:
    deaf = Guest(VM, hears=False)
    forcing = replace(waiting(10.2), state="FORCING")
    history: list[Record] = [shutdown(), forcing, Run(VM, 0, 12, ("PROVIDER",)), Cut(11.9, VM)]
    end = ended(12.1, "FORCED", reason="TOOLS_UNAVAILABLE")
    assert CUT_EARLY not in found(*history, begun("PowerOn", 10.3, "o"), end, guest=deaf)
    assert CUT_EARLY in found(*history, begun("PowerOn", 10.1, "o"), end, guest=deaf)


def test_a_cut_of_another_run_is_found() -> None:
    runs = (Run(VM, 0, 12, ("GUEST",), ((10.1, "ACPI"),)), Run(VM, 13, 15.1, ("PROVIDER",)))
    assert CUT_EARLY in found(shutdown(), *runs, Cut(15.1, VM), ended(15.2, "FORCED"))


@pytest.mark.parametrize("escalation", ["NEVER", "ASK"])
def test_a_cut_without_leave_to_force_is_found(escalation: str) -> None:
    assert CUT_EARLY in found(shutdown(escalation=escalation), *FORCED[1:])


def test_a_force_is_reason_enough() -> None:
    forced = ended(11.2, "FORCED", reason="REQUESTED")
    cut = (Run(VM, 0, 11.1, ("PROVIDER",)), Cut(11.1, VM))
    assert found(shutdown(escalation="NEVER"), decided("ForceOperation", 11), *cut, forced) == []


def test_a_force_whose_answer_was_lost_may_have_been_the_reason() -> None:
    lost = decided("ForceOperation", 11, code="UNAVAILABLE")
    cut = (Run(VM, 0, 11.1, ("PROVIDER",)), Cut(11.1, VM), Harm(11, 12, "provider killed"))
    assert found(shutdown(), lost, *cut, ended(11.2, "FORCED", reason="REQUESTED")) == []


def test_a_power_off_is_reason_enough() -> None:
    cut = (Run(VM, 0, 10.1, ("PROVIDER",)), Cut(10.1, VM))
    assert found(begun("PowerOff", 10, "off"), *cut, other_end("off", "POWER_OFF", 10.2, "FORCED")) == []


@pytest.mark.parametrize(
    ("reason", "guest", "harm"),
    [
        ("TOOLS_UNAVAILABLE", replace(GUEST, hears=False), None),
        ("COMMAND_FAILED", replace(GUEST, refuses=True), None),
        ("PAUSED", GUEST, Harm(9, 9, "pause", VM)),
    ],
)
def test_a_guest_that_cannot_hear_may_be_cut_at_once(reason: str, guest: Guest, harm: Harm | None) -> None:
    cut = (Run(VM, 0, 10.1, ("PROVIDER",)), Cut(10.1, VM), ended(10.2, "FORCED", reason=reason))
    assert found(shutdown(), *cut, *([harm] if harm else []), guest=guest) == []


@pytest.mark.parametrize("reason", ["TOOLS_UNAVAILABLE", "COMMAND_FAILED", "PAUSED"])
def test_a_guest_that_hears_is_not_cut_for_that(reason: str) -> None:
    cut = (Run(VM, 0, 10.3, ("PROVIDER",)), Cut(10.3, VM))
    assert found(shutdown(), *cut, ended(10.4, "FORCED", reason=reason)) == [CUT_EARLY]


# Every accepted operation ends in one verdict


def test_an_operation_without_a_verdict_is_found() -> None:
    assert found(shutdown(), waiting(11), Run(VM, 0), SETTLED) == [ONE_VERDICT]


def test_a_request_that_was_never_accepted_needs_none() -> None:
    lost = shutdown(code="UNAVAILABLE", operation="")
    assert found(lost, Harm(9, 12, "provider killed"), Run(VM, 0), SETTLED) == []


def test_a_verdict_that_changes_is_found() -> None:
    assert found(*GRACEFUL, ended(50, "GRACEFUL", ending="another")) == [ONE_VERDICT]


def test_an_operation_that_goes_on_after_its_end_is_found() -> None:
    assert found(*GRACEFUL, waiting(50)) == [ONE_VERDICT]


def test_a_request_that_began_two_operations_is_found() -> None:
    twin = Told(13, "twin", VM, "SHUTDOWN", "SUCCEEDED", "r", "GRACEFUL", ending="SUCCEEDED GRACEFUL")
    assert "one request is one operation" in found(*GRACEFUL, twin)


# Verdicts are true


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        ("GRACEFUL", "PROVIDER"),
        ("GRACEFUL", "OTHER"),
        ("GRACEFUL", "CRASH"),
        ("FORCED", "GUEST"),
        ("FORCED", "OTHER"),
        ("CRASHED", "GUEST"),
        ("OUT_OF_BAND", "PROVIDER"),
        ("OUT_OF_BAND", "GUEST"),
    ],
)
def test_another_end_than_the_true_one_is_found(outcome: str, cause: Any) -> None:
    run = Run(VM, 0, 15.1, (cause,), ((10.1, "ACPI"),))
    assert found(shutdown(), run, ended(15.2, outcome)) == [UNTRUE]


@pytest.mark.parametrize("cause", ["GUEST", "PROVIDER", "OTHER", "CRASH"])
def test_not_to_know_is_never_untrue(cause: Any) -> None:
    away = Harm(11, 12, "provider killed")
    assert found(shutdown(), away, Run(VM, 0, 15.1, (cause,)), ended(15.2, "UNKNOWN")) == []


UNSEEN = Run(VM, 0, 8, ("OTHER",))
BEFORE = "Somebody else cut its power before it was asked."


def test_what_goes_off_before_the_request_is_off_already_even_if_that_is_not_seen_at_once() -> None:
    late = replace(GUEST, unseen=3)
    assert found(shutdown(), UNSEEN, ended(10.2, "OUT_OF_BAND", message=BEFORE), guest=late) == [UNTRUE]
    assert found(shutdown(), UNSEEN, ended(10.2, "ALREADY_OFF"), guest=late) == []


@pytest.mark.parametrize(
    ("unseen", "message", "harm", "wrong"),
    [
        (3, BEFORE, "no API server answers", []),
        (3, BEFORE, "provider killed", []),
        (3, BEFORE, "the next answer to /status/shutdown is lost", [UNTRUE]),
        (3, "Somebody else cut its power while we waited.", "no API server answers", [UNTRUE]),
        (1, BEFORE, "no API server answers", [UNTRUE]),
    ],
)
def test_it_is_out_of_band_only_where_the_provider_could_not_look_at_once_and_says_no_more(
    unseen: float, message: str, harm: str, wrong: list[str]
) -> None:
    records = (shutdown(), UNSEEN, Harm(10, 11, harm), ended(11.2, "OUT_OF_BAND", message=message))
    assert found(*records, guest=replace(GUEST, unseen=unseen)) == wrong


def test_not_to_know_what_could_be_seen_is_found() -> None:
    unknown = (shutdown(), Run(VM, 0, 12, ("GUEST",), ((10.1, "ACPI"),)), ended(12.1, "UNKNOWN"))
    assert found(*unknown) == ["what can be known is told"]


def test_a_guest_that_was_never_asked_is_not_graceful() -> None:
    assert found(shutdown(), Run(VM, 0, 12, ("GUEST",)), ended(12.1, "GRACEFUL")) == [UNTRUE]


def test_a_signal_that_was_not_heard_is_found() -> None:
    run = Run(VM, 0, 12, ("GUEST",), ((10.1, "GUEST_AGENT"),))
    assert found(shutdown(), run, ended(12.1, "GRACEFUL", signal="ACPI")) == [UNTRUE]


def test_a_credit_that_signals_share_is_true_if_one_was_heard() -> None:
    run = Run(VM, 0, 12, ("GUEST",), ((10.1, "GUEST_AGENT"),))
    message = "The guest shut itself down, asked by GUEST_AGENT, then ACPI."
    assert found(shutdown(), run, ended(12.1, "GRACEFUL", signal="ACPI", message=message)) == []


def test_a_credit_that_an_earlier_operation_shares_is_true_if_its_signal_was_heard() -> None:
    run = Run(VM, 0, 12, ("GUEST",), ((9.1, "GUEST_AGENT"),))
    message = "The guest shut itself down, asked by an earlier operation, then by ACPI."
    assert found(shutdown(), run, ended(12.1, "GRACEFUL", signal="ACPI", message=message)) == []


SUPERSEDED = (
    shutdown(),
    Run(VM, 0, 12, ("GUEST",), ((10.1, "ACPI"),)),
    begun("PowerOff", 15, "p"),
    replace(other_end("p", "POWER_OFF", 15.3, "GRACEFUL"), message="It went off before that: asked by ACPI."),
    SETTLED,
)


def test_a_power_off_may_tell_how_its_vm_went_off_under_what_it_superseded() -> None:
    assert found(*SUPERSEDED, ended(15.2, "GRACEFUL", signal="ACPI")) == []


@pytest.mark.parametrize(
    "other",
    [ended(14, "GRACEFUL", signal="ACPI"), ended(15.2, "FORCED", reason="TIMEOUT")],
    ids=["it had ended", "it ended otherwise"],
)
def test_it_tells_so_of_nothing_else(other: Told) -> None:
    assert UNTRUE in found(*SUPERSEDED, other)


def test_an_end_just_before_the_request_counts_if_the_hypervisor_tells_late() -> None:
    run = Run(VM, 0, 9, ("GUEST",), ((8, "ACPI"),))
    late = (shutdown(), run, ended(10.5, "GRACEFUL", signal="ACPI"))
    assert found(*late) == [UNTRUE]
    assert found(*late, guest=replace(GUEST, lag=3)) == []


def test_a_vm_that_runs_on_did_not_go_down() -> None:
    assert found(shutdown(), Run(VM, 0), ended(12.1, "GRACEFUL")) == [UNTRUE]


def test_two_ends_at_once_may_be_told_as_either() -> None:
    run = Run(VM, 0, 15.1, ("GUEST", "PROVIDER"), ((10.1, "ACPI"),))
    assert found(shutdown(), run, ended(15.2, "GRACEFUL")) == found(shutdown(), run, ended(15.2, "FORCED")) == []


def test_a_dead_vm_told_as_still_running_is_found() -> None:
    run = Run(VM, 0, 5, ("CRASH",))
    assert found(shutdown(), run, ended(15.2, "STILL_RUNNING", "FAILED")) == [UNTRUE]


def test_a_dead_vm_that_could_not_be_seen_is_excused() -> None:
    run, away = Run(VM, 0, 11, ("CRASH",)), Harm(10.5, 15, "provider killed")
    assert found(shutdown(), run, away, ended(15.2, "STILL_RUNNING", "FAILED")) == []


def test_a_vm_that_was_on_was_not_off_already() -> None:
    assert found(shutdown(), Run(VM, 0), ended(11, "ALREADY_OFF")) == [UNTRUE]


def test_a_vm_that_stayed_off_was_not_started() -> None:
    assert found(begun("PowerOn", 10, "on"), other_end("on", "POWER_ON", 11, "STARTED")) == [UNTRUE]


@pytest.mark.parametrize("verb", ["pause", "suspend", "save"])
def test_a_vm_that_somebody_holds_may_be_cut_at_once(verb: str) -> None:
    held = Harm(10.5, 10.6, verb, VM)
    cut = (Run(VM, 0, 11.1, ("PROVIDER",)), Cut(11.05, VM), ended(11.2, "FORCED", reason="SUSPENDED"), SETTLED)
    assert found(shutdown(), held, *cut) == []
    assert found(shutdown(), *cut) == [CUT_EARLY]


def test_a_reboot_that_never_came_up_is_found() -> None:
    call = replace(shutdown(), method="Reboot")
    run = Run(VM, 0, 15.1, ("PROVIDER",))
    assert found(call, run, Cut(15.1, VM), ended(17, "FORCED", kind="REBOOT")) == [UNTRUE]


def test_a_reboot_whose_end_is_told_late_may_have_started_what_has_ended_since() -> None:
    end = other_end("again", "REBOOT", 40, "ALREADY_OFF")
    assert found(begun("Reboot", 10, "again"), Run(VM, 10.5, 15.2, ("OTHER",)), end) == []


def test_a_reboot_may_have_started_what_the_next_request_ended_at_once() -> None:
    call = replace(shutdown(), method="Reboot")
    runs = (Run(VM, 0, 15.1, ("PROVIDER",)), Run(VM, 15.11, 15.14, ("PROVIDER",)))
    off = (begun("PowerOff", 15.125, "off"), Cut(15.13, VM), other_end("off", "POWER_OFF", 15.15, "FORCED"))
    assert found(call, *runs, Cut(15.1, VM), ended(15.12, "FORCED", kind="REBOOT"), *off) == []


def test_a_shutdown_that_succeeded_went_down() -> None:
    assert found(shutdown(), Run(VM, 0), ended(15.2, "STILL_RUNNING")) == [UNTRUE]


# Hooks


@pytest.mark.parametrize(("state", "times"), [("SUCCEEDED", 2), ("FAILED", 2), ("SUCCEEDED", 0), ("SKIPPED", 1)])
def test_a_hook_that_ran_otherwise_than_told_is_found(state: str, times: int) -> None:
    call, end = shutdown(hooks=("h",)), ended(12.1, "GRACEFUL", hooks=(("h", state),))
    assert found(call, GRACEFUL[1], end, Said("h", times)) == [HOOKS]


@pytest.mark.parametrize(("state", "times"), [("SUCCEEDED", 1), ("INTERRUPTED", 0), ("INTERRUPTED", 1), ("FAILED", 1)])
def test_a_hook_that_ran_as_told_is_clean(state: str, times: int) -> None:
    call, end = shutdown(hooks=("h",)), ended(12.1, "GRACEFUL", hooks=(("h", state),))
    assert found(call, GRACEFUL[1], end, Said("h", times)) == []


# One active operation


def test_two_active_operations_of_one_answer_are_found() -> None:
    assert found(Active(11, VM, (("a", "SHUTDOWN"), ("b", "REBOOT")))) == [ONE_ACTIVE]


def test_what_supersedes_may_be_active_beside_it() -> None:
    assert found(Active(11, VM, (("a", "POWER_OFF"), ("b", "SHUTDOWN")))) == []


def test_an_operation_accepted_beside_an_active_one_is_found() -> None:
    other = begun("Reboot", 11, "other", timeout=50.0)
    assert found(shutdown(), other, waiting(15), Run(VM, 0)) == [ONE_ACTIVE]


# Decisions


def test_an_accepted_force_that_left_it_running_is_found() -> None:
    end = ended(12, "STILL_RUNNING", "FAILED")
    assert found(shutdown(), decided("ForceOperation", 11), Run(VM, 0), end) == [DECISIONS]


def test_an_accepted_cancel_that_forced_is_found() -> None:
    assert DECISIONS in found(*FORCED, decided("CancelOperation", 11))


def test_a_cancel_that_came_as_the_deadline_did_may_be_late() -> None:
    assert found(*FORCED, decided("CancelOperation", 15.03)) == []


def test_an_extension_that_came_after_the_cut_does_not_make_it_early() -> None:
    assert found(*FORCED, decided("ExtendOperation", 15.1, extension=10)) == []


def test_a_cut_of_a_vm_that_is_off_hurts_nobody() -> None:
    assert found(shutdown(), GRACEFUL[1], Cut(13, VM), ended(13.1, "GRACEFUL", signal="ACPI"), Run(VM, 13.05)) == []


# The last wish


def test_a_vm_that_is_on_after_its_shutdown_is_found() -> None:
    assert found(*GRACEFUL, Run(VM, 20)) == [LAST_WISH]


def test_a_vm_that_is_off_after_its_start_is_found() -> None:
    power_on = (begun("PowerOn", 10, "on"), other_end("on", "POWER_ON", 11, "ALREADY_ON"))
    assert found(*power_on, Run(VM, 0, 12, ("GUEST",)), SETTLED) == [LAST_WISH]


@pytest.mark.parametrize(("held_at", "faults"), [(12.0, []), (9.0, [LAST_WISH])], ids=["after it was asked", "before"])
def test_a_guest_that_was_held_on_its_way_down_may_get_there_after_its_start(held_at: float, faults: list[str]) -> None:
    on = begun("PowerOn", 20, "o"), other_end("o", "POWER_ON", 20.2, "STARTED")
    run = Run(VM, 0, 23, ("GUEST",), ((11, "ACPI"),))
    assert found(run, Harm(held_at, held_at + 0.1, "suspend", VM), *on, SETTLED) == faults


def test_a_guest_that_somebody_told_to_go_down_from_inside_may_do_so_after_its_start() -> None:
    on = begun("PowerOn", 10, "on"), other_end("on", "POWER_ON", 10.1, "ALREADY_ON")
    assert found(Run(VM, 0, 10.3, ("GUEST",)), Harm(9.3, 9.3, "poweroff", VM), *on, SETTLED) == []


@pytest.mark.parametrize(("ended_at", "faults"), [(30.5, []), (25, [LAST_WISH])], ids=["after its watch", "in it"])
def test_a_guest_that_had_been_asked_may_obey_after_a_start_that_says_so(ended_at: float, faults: list[str]) -> None:
    end = other_end("on", "POWER_ON", 30, "ALREADY_ON")
    said = replace(end, message="It was on already. An earlier operation had asked its guest, which may still obey.")
    run = Run(VM, 0, ended_at, ("GUEST",), ((11, "ACPI"),))
    assert found(run, begun("PowerOn", 20, "on"), said, SETTLED) == faults


def test_a_vm_that_somebody_else_started_since_is_no_fault() -> None:
    assert found(*GRACEFUL, Run(VM, 20), Harm(20, 20, "on", VM)) == []


def test_a_wish_that_failed_promises_nothing() -> None:
    end = ended(15.2, "STILL_RUNNING", "FAILED")
    assert found(shutdown(escalation="NEVER"), Run(VM, 0), end, SETTLED) == []


# Memory that is saved

SAVE_EARLY = "no memory is saved unless it is due"
RESUMED = "saved memory is resumed"
TOLD_BY_US = "Its memory was saved and it was stopped, reason TIMEOUT. A PowerOn resumes it."
TIED = replace(GUEST, savable=False)


def save(fallback: str = "NEVER") -> Call:
    return shutdown(escalation="SAVE", fallback=fallback)


def told_saved(at: float = 16.2, **fields: Any) -> Told:
    return ended(at, "SAVED", **({"reason": "TIMEOUT", "message": TOLD_BY_US} | fields))


KEPT = (save(), Run(VM, 0), Saved(15.1, 16.1, VM), told_saved(), SETTLED)


def test_a_vm_whose_memory_was_saved_is_down_and_kept() -> None:
    assert found(*KEPT) == []


@pytest.mark.parametrize("escalation", ["FORCE", "NEVER", "ASK"])
def test_memory_that_nobody_asked_to_save_is_found(escalation: str) -> None:
    assert SAVE_EARLY in found(shutdown(escalation=escalation), *KEPT[1:])


def test_memory_that_is_saved_before_its_time_is_found() -> None:
    assert found(save(), Run(VM, 0), Saved(13, 14, VM), told_saved(14.1), SETTLED) == [SAVE_EARLY]


def test_memory_that_is_saved_after_an_accepted_cancel_is_found() -> None:
    cancelled = ended(11.5, "STILL_RUNNING", "CANCELLED")
    history = (save(), decided("CancelOperation", 11), cancelled, Run(VM, 0), Saved(15.1, 16.1, VM))
    assert found(*history) == [SAVE_EARLY]


def test_memory_that_a_colleague_saves_needs_no_request() -> None:
    assert found(Run(VM, 0), Saved(13, 14, VM, "OTHER")) == []


def test_a_guest_that_cannot_hear_is_saved_at_once() -> None:
    kept = (save(), Run(VM, 0), Saved(10.1, 11.1, VM), told_saved(11.2, reason="TOOLS_UNAVAILABLE"), SETTLED)
    assert found(*kept, guest=replace(GUEST, hears=False)) == []


def test_to_be_told_as_saved_though_it_was_cut_is_found() -> None:
    cut = (Run(VM, 0, 15.1, ("PROVIDER",)), Cut(15.05, VM))
    assert UNTRUE in found(save(), *cut, told_saved(15.2), SETTLED)


def test_to_be_told_as_saved_though_it_runs_on_is_found() -> None:
    assert found(save(), Run(VM, 0), told_saved(), SETTLED) == [UNTRUE, LAST_WISH]


def test_to_be_told_before_it_is_saved_is_found() -> None:
    assert found(save(), Run(VM, 0), Saved(15.1, 19, VM), told_saved(16.2), SETTLED) == [UNTRUE]


def test_to_take_the_credit_for_what_a_colleague_saved_is_found() -> None:
    by_colleague = (Run(VM, 0), Saved(12, 13, VM, "OTHER"))
    assert found(save(), *by_colleague, told_saved(13.2), SETTLED) == [UNTRUE]
    somebody = "Somebody else saved its memory while we waited. A PowerOn resumes it."
    assert found(save(), *by_colleague, told_saved(13.2, message=somebody), SETTLED) == []


def test_a_save_that_was_given_up_is_no_evidence() -> None:
    cut = (Run(VM, 0, 15.5, ("PROVIDER",)), Saved(15.1, 16.1, VM, ended=15.5), Cut(15.5, VM))
    assert UNTRUE in found(save(), *cut, told_saved(16.2), SETTLED)


def test_a_cut_after_it_was_told_as_saved_is_found() -> None:
    cut = (Run(VM, 0, 30, ("PROVIDER",)), Saved(15.1, 16.1, VM, ended=30), Cut(30, VM))
    assert found(save("FORCE"), *cut, told_saved(), SETTLED) == [CUT_EARLY, LAST_WISH]


def test_a_power_off_discards_what_was_saved() -> None:
    cut = (Run(VM, 0, 30, ("PROVIDER",)), Saved(15.1, 16.1, VM, ended=30), Cut(30, VM))
    off = (begun("PowerOff", 29.9, "off"), other_end("off", "POWER_OFF", 30.1, "FORCED"))
    assert found(save(), *cut, told_saved(), *off, SETTLED) == []


def test_a_cut_instead_of_a_save_is_for_those_that_cannot_be_saved() -> None:
    forced = (Run(VM, 0, 15.1, ("PROVIDER",)), Cut(15.05, VM), ended(15.2, "FORCED", reason="TIMEOUT"), SETTLED)
    assert found(save("FORCE"), *forced, guest=TIED) == []
    assert found(save("FORCE"), *forced) == [CUT_EARLY]
    assert found(save("NEVER"), *forced, guest=TIED) == [CUT_EARLY]


RESUME = (begun("PowerOn", 20, "on"), other_end("on", "POWER_ON", 20.2, "STARTED"))


def test_a_power_on_resumes_the_run_that_was_saved() -> None:
    assert found(save(), Run(VM, 0), Saved(15.1, 16.1, VM, ended=20.1), told_saved(), *RESUME, SETTLED) == []


def test_a_boot_of_what_was_saved_is_found() -> None:
    booted = (Run(VM, 0), Run(VM, 20.1), Saved(15.1, 16.1, VM, ended=20.1, lost=True))
    assert found(save(), *booted, told_saved(), *RESUME, SETTLED) == [RESUMED]


def test_to_be_told_as_started_though_it_is_still_saved_is_found() -> None:
    assert found(*KEPT, *RESUME) == [UNTRUE, LAST_WISH]


# The rest


def test_calls_after_the_end_are_found() -> None:
    assert found(Settled(100, (5, 6))) == ["settled systems are quiet"]


@pytest.mark.parametrize(("code", "reason"), [("INTERNAL", "INTERNAL"), ("UNKNOWN", ""), ("CANCELLED", "")])
def test_a_refusal_without_a_reason_is_found(code: str, reason: str) -> None:
    refused = shutdown(code=code, reason=reason, operation="")
    assert found(refused) == ["refusals are explained"]


def test_a_connection_that_was_killed_needs_no_reason() -> None:
    assert found(shutdown(code="UNAVAILABLE", operation=""), Harm(9, 12, "provider killed")) == []


def test_a_provider_that_ended_by_itself_is_found() -> None:
    assert found(Harm(11, 11, ENDED_BY_ITSELF)) == ["providers go on"]


def test_a_history_can_be_read_again(tmp_path: Path) -> None:
    history = History([GUEST, *GRACEFUL])
    history.save(tmp_path / "history")
    assert load(tmp_path / "history") == history


def test_a_history_is_told_in_the_order_of_time() -> None:
    lines = describe([GUEST, *reversed(GRACEFUL)], VM, 0)
    assert [line.split(":")[0].split()[-1] for line in lines] == ["hypervisor", "client", "told"]


def test_a_call_that_was_abandoned_is_no_refusal() -> None:
    assert found(shutdown(code="ABANDONED", operation="")) == []


def test_an_end_that_was_seen_late_may_have_come_in_time() -> None:
    call, end = begun("PowerOff", 10, "off"), other_end("off", "POWER_OFF", 10.1, "ALREADY_OFF")
    seen_late = Run(VM, 0, 10.6, ("GUEST",))
    assert found(call, end, seen_late) == [UNTRUE]
    assert found(call, end, seen_late, guest=replace(GUEST, blur=0.5)) == []
