"""Every verdict, from what is known at the end."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from providers.core import verdict
from providers.core.adapter import VM, Ended, OffCause, PowerState, Reason, Signal
from providers.core.clock import Clock
from providers.core.inventory import Inventory
from providers.core.model import Delivery, Kind, Operation, Outcome, Request, Sent, State
from providers.core.run import Context, Run
from providers.core.settings import Settings
from tests.unit.providers.fakes import InlineJournal, OneVM

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ON = VM("1", "web", PowerState.ON)
GUEST, HOST, CRASHED = OffCause.GUEST, OffCause.HOST, OffCause.CRASHED
ASKED = (Sent(number=1, time=NOW, signal=Signal.ACPI, delivery=Delivery.ACCEPTED),)
PERHAPS = (Sent(number=1, time=NOW, signal=Signal.ACPI, delivery=Delivery.UNKNOWN),)
REFUSED = (Sent(number=1, time=NOW, signal=Signal.ACPI, delivery=Delivery.REFUSED),)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[InlineJournal]:
    journal = InlineJournal(tmp_path / "journal.db")
    yield journal
    await journal.close()


def run_of(journal: InlineJournal, vm: VM, **fields: Any) -> Run:
    adapter: Any = OneVM(vm)
    inventory = Inventory(adapter)
    inventory.vms[vm.id] = vm
    context = Context(
        adapter, inventory, journal, Settings(listen="unix:///nowhere"), Clock(lambda: NOW, lambda: 0, "boot-1")
    )
    request = Request(kind=Kind.SHUTDOWN, vm_id=vm.id, vm_name=vm.name)
    fields = {"create_time": NOW, "timeout": timedelta(seconds=60), "ran": True} | fields
    return Run(Operation(id="op", request=request, **fields), context)


def off(cause: OffCause | None) -> VM:
    return VM("1", "web", PowerState.OFF, Ended(cause) if cause else None)


FORCING = {"state": State.FORCING, "force_reason": Reason.TIMEOUT}


@pytest.mark.parametrize(
    ("cause", "fields", "outcome", "reason", "signal"),
    [
        (GUEST, {"sent": ASKED}, Outcome.GRACEFUL, None, Signal.ACPI),
        (GUEST, {"sent": PERHAPS}, Outcome.GRACEFUL, None, Signal.ACPI),
        (None, {"sent": ASKED}, Outcome.UNKNOWN, None, None),
        (None, {"sent": PERHAPS}, Outcome.UNKNOWN, None, None),
        (None, {}, Outcome.UNKNOWN, None, None),
        (GUEST, {}, Outcome.OUT_OF_BAND, None, None),
        (GUEST, {"sent": REFUSED}, Outcome.OUT_OF_BAND, None, None),
        (GUEST, {"asked_run": "7", "run_id": "7"}, Outcome.GRACEFUL, None, None),
        (GUEST, {"asked_run": "7", "run_id": "7", "sent": ASKED}, Outcome.GRACEFUL, None, Signal.ACPI),
        (GUEST, {"asked_run": "7", "run_id": "7", "sent": REFUSED}, Outcome.GRACEFUL, None, None),
        (GUEST, {"asked_run": "6", "run_id": "7"}, Outcome.OUT_OF_BAND, None, None),
        (GUEST, {"asked_before": True}, Outcome.OUT_OF_BAND, None, None),
        (HOST, {"asked_run": "7", "run_id": "7"}, Outcome.OUT_OF_BAND, None, None),
        (None, {"asked_run": "7", "run_id": "7"}, Outcome.UNKNOWN, None, None),
        (HOST, {"sent": ASKED}, Outcome.OUT_OF_BAND, None, None),
        (CRASHED, {"sent": ASKED}, Outcome.CRASHED, None, None),
        (CRASHED, FORCING, Outcome.CRASHED, None, None),
        (HOST, FORCING | {"cut": True}, Outcome.FORCED, Reason.TIMEOUT, None),
        (HOST, FORCING | {"cut": False}, Outcome.OUT_OF_BAND, None, None),
        (HOST, FORCING | {"cut": None}, Outcome.UNKNOWN, None, None),
        (None, FORCING | {"cut": True}, Outcome.FORCED, Reason.TIMEOUT, None),
        (None, FORCING | {"cut": False}, Outcome.UNKNOWN, None, None),
        (None, FORCING | {"cut": None}, Outcome.UNKNOWN, None, None),
        (GUEST, FORCING | {"cut": True}, Outcome.OUT_OF_BAND, None, None),
        (GUEST, {"sent": ASKED, **FORCING}, Outcome.GRACEFUL, None, Signal.ACPI),
        (HOST, {"ran": False, "state": State.RUNNING_HOOKS}, Outcome.ALREADY_OFF, None, None),
    ],
)
async def test_how_it_went_down_follows_from_the_record_then_from_what_we_did(
    journal: InlineJournal,
    cause: OffCause | None,
    fields: dict[str, Any],
    outcome: Outcome,
    reason: Reason | None,
    signal: Signal | None,
) -> None:
    run = run_of(journal, off(cause), **{name: value for name, value in fields.items() if name != "cut"})
    run.cut = fields.get("cut", False)
    found = verdict.judge(run)
    assert (found.outcome, found.reason, found.signal) == (outcome, reason, signal)


async def test_where_it_is_not_known_an_earlier_ask_is_told(journal: InlineJournal) -> None:
    run = run_of(journal, off(None), asked_run="7", run_id="7")
    told = "It is off; how it went off cannot be known: it was asked by an earlier operation."
    assert verdict.judge(run).message == told


async def test_an_earlier_operation_shares_the_credit(journal: InlineJournal) -> None:
    """Which of the two the guest has obeyed nobody can tell."""
    run = run_of(journal, off(GUEST), asked_run="7", run_id="7", sent=ASKED)
    assert verdict.judge(run).message == "The guest shut itself down, asked by an earlier operation, then by ACPI."


async def test_a_forced_one_says_what_stood_in_the_way(journal: InlineJournal) -> None:
    run = run_of(journal, off(HOST), **FORCING, obstacle="It is locked by a backup.")
    run.cut = True
    assert verdict.judge(run).message == "Powered off hard, reason TIMEOUT: It is locked by a backup."


async def test_one_that_was_not_to_be_forced_says_why_force_was_due(journal: InlineJournal) -> None:
    found = verdict.not_forced(run_of(journal, ON), Reason.TIMEOUT)
    assert (found.outcome, found.reason) == (Outcome.STILL_RUNNING, Reason.TIMEOUT)


async def test_a_failed_operation_on_a_vm_that_is_off_says_so(journal: InlineJournal) -> None:
    assert verdict.unchanged(run_of(journal, off(None)), "It failed.").outcome is Outcome.ALREADY_OFF


async def test_a_failed_operation_says_why_force_was_due(journal: InlineJournal) -> None:
    found = verdict.unchanged(run_of(journal, ON, **FORCING), "It failed.")
    assert (found.outcome, found.reason) == (Outcome.STILL_RUNNING, Reason.TIMEOUT)


async def test_that_a_caller_asked_for_force_is_no_reason_of_a_failed_operation(journal: InlineJournal) -> None:
    fields = {"state": State.FORCING, "force_reason": Reason.REQUESTED}
    assert verdict.unchanged(run_of(journal, ON, **fields), "It failed.").reason is None


async def test_a_reboot_tells_how_it_went_down_and_that_it_was_started(journal: InlineJournal) -> None:
    run = run_of(journal, off(GUEST), sent=ASKED)
    found = verdict.started_again(run, verdict.judge(run))
    assert (found.outcome, found.message) == (
        Outcome.GRACEFUL,
        "The guest shut itself down, asked by ACPI. Started again.",
    )


async def test_a_power_off_tells_why_and_by_what_the_one_before_it_brought_the_vm_down(journal: InlineJournal) -> None:
    run = run_of(journal, off(HOST), **FORCING)
    run.cut = True
    forced = verdict.off_by_superseded(run_of(journal, off(HOST)), verdict.judge(run))
    graceful = verdict.judge(run_of(journal, off(GUEST), sent=ASKED))
    left = verdict.off_by_superseded(run_of(journal, off(GUEST)), graceful)
    assert (forced.outcome, forced.reason) == (Outcome.FORCED, Reason.TIMEOUT)
    assert (left.outcome, left.signal) == (Outcome.GRACEFUL, Signal.ACPI)


@pytest.mark.parametrize("vm", [replace(ON, power_state=PowerState.UNKNOWN), None])
async def test_that_a_vm_runs_is_said_only_where_that_is_known(journal: InlineJournal, vm: VM | None) -> None:
    run = run_of(journal, ON)
    run.inventory.vms = {vm.id: vm} if vm else {}
    assert verdict.given_up(run).outcome is Outcome.UNKNOWN
