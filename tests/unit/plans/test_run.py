import asyncio
from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from client.errors import ProviderError
from client.times import moment, timestamp
from plans.frozen import SETTLE, Target
from plans.journal import JournalError
from plans.run import Run
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.builders import EPOCH, plan, tier
from tests.unit.plans.conftest import Engine, begun, outcomes
from tests.unit.plans.fake import FakeProvider

pytestmark = pytest.mark.looptime

LINE = tier("batch", "pve/batch"), tier("apps", "lab/app"), tier("databases", "lab/db")
FAR = timestamp(EPOCH + timedelta(hours=1))


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def lab() -> Iterator[FakeProvider]:
    yield FakeProvider(app=5, db=5)


async def until(condition: str, run: Run) -> None:
    """Wait for an event of this tier or VM."""
    happened = asyncio.Event()
    run.history.listeners.append(lambda event: happened.set() if condition in str(event) else None)
    await happened.wait()


def force_after(provider: FakeProvider, vm: str) -> float:
    """In seconds since the test began."""
    (request,) = [each for each in provider.sent(pb.ShutdownRequest) if each.vm == vm]
    return (moment(request.force_after) - EPOCH).total_seconds()


# Order and time


async def test_a_tier_is_asked_when_those_before_it_are_off(engine: Engine) -> None:
    lab, pve = FakeProvider(app=5, db=5), FakeProvider(batch=7)
    run = await engine.start(plan(*LINE), lab=lab, pve=pve)
    await run.carry_out()
    assert outcomes(run) == {"pve/batch": "GRACEFUL", "lab/app": "GRACEFUL", "lab/db": "GRACEFUL"}
    assert pve.off["batch"] <= lab.asked["app"] <= pve.off["batch"] + 0.1
    assert lab.off["app"] <= lab.asked["db"] <= lab.off["app"] + 0.1


async def test_tiers_that_wait_for_none_go_down_beside_each_other(engine: Engine) -> None:
    lab = FakeProvider(app=5, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db", after=[])), lab=lab)
    await run.carry_out()
    assert now() < 6


async def test_a_vm_has_its_own_time_where_there_is_enough(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "FORCED"}
    assert lab.off["app"] == pytest.approx(60, abs=0.1)


async def test_a_tier_that_is_squeezed_gives_back_what_the_next_ones_need(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=None)
    spec = plan(tier("a", "lab/app", minimum="20s"), tier("b", "lab/db"), total="100s", reserve="0s")
    run = await engine.start(spec, lab=lab)
    await run.carry_out()
    assert force_after(lab, "app") == pytest.approx(25, abs=0.1)
    assert lab.off["db"] <= 100


async def test_what_a_tier_did_not_use_goes_to_the_next(engine: Engine) -> None:
    lab = FakeProvider(app=2, db=None)
    spec = plan(tier("a", "lab/app"), tier("b", "lab/db"), total="85s", reserve="0s")
    run = await engine.start(spec, lab=lab)
    named = run.history.start.forecast.slots["b"]
    assert (named.begins, named.gets) == (timedelta(seconds=15), timedelta(seconds=65))
    await run.carry_out()
    assert lab.off["db"] == pytest.approx(62, abs=0.2)


async def test_a_late_vm_does_not_hold_up_the_next_tier_beyond_its_time(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    run.history.start.tiers[0].targets[0].request["escalation"] = "ESCALATION_ASK"
    lab.takes["app"] = None
    lab.hooks["app"] = 300  # longer than its tier has
    await run.carry_out()
    assert lab.asked["db"] == pytest.approx(65, abs=0.2)
    assert outcomes(run)["lab/app"] == "FORCED"


async def test_each_provider_is_told_the_moment_by_its_own_clock(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    lab.ahead = timedelta(hours=1)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    await run.carry_out()
    assert force_after(lab, "app") == pytest.approx(3660, abs=0.1)
    assert lab.off["app"] == pytest.approx(60, abs=0.1)


async def test_only_so_many_are_begun_at_once_at_one_provider(engine: Engine) -> None:
    names = [f"vm{number}" for number in range(30)]
    lab = FakeProvider(**dict.fromkeys(names, 5.0))
    run = await engine.start(plan(tier("a", *(f"lab/{name}" for name in names))), room=7, lab=lab)
    await run.carry_out()
    assert lab.most_at_once == 7
    assert len(lab.off) == 30


async def test_our_own_vm_goes_last_and_has_the_reserve(engine: Engine) -> None:
    lab = FakeProvider(app=None, me=None)
    spec = plan(tier("a", "lab/app"), total="100s", reserve="30s")
    run = await engine.start(spec, own=["lab/me"], lab=lab)
    await run.carry_out()
    assert lab.off["app"] <= lab.asked["me"]
    assert force_after(lab, "me") == pytest.approx(100 - SETTLE.total_seconds(), abs=0.1)


# Less time than was thought


async def shortened(run: Run, at: float, ends: float) -> None:
    """Carry it out, and tell it after `at` seconds that its budget is over at `ends`."""
    work = asyncio.ensure_future(run.carry_out())
    await asyncio.sleep(at)
    await run.shorten(timedelta(seconds=ends - at), "the battery is low")
    await work


async def test_a_tier_that_begins_later_has_what_is_left_of_a_shorter_time(engine: Engine) -> None:
    lab = FakeProvider(app=20, db=None)
    run = await engine.start(plan(tier("a", "lab/app", minimum="30s"), tier("b", "lab/db")), lab=lab)
    await shortened(run, at=10, ends=100)
    assert lab.off["db"] == pytest.approx(35, abs=0.1)
    assert outcomes(run) == {"lab/app": "GRACEFUL", "lab/db": "FORCED"}


async def test_what_was_asked_is_forced_as_soon_as_its_tier_has_to_be_over(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    await shortened(run, at=10, ends=100)
    assert lab.off["app"] == pytest.approx(35, abs=0.1)
    assert lab.sent(pb.ExtendOperationRequest)[0].reason == "plan test: the battery is low"


async def test_each_provider_is_told_the_new_moment_by_its_own_clock(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    lab.ahead = timedelta(hours=1)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    await shortened(run, at=10, ends=100)
    (request,) = lab.sent(pb.ExtendOperationRequest)
    assert (moment(request.force_after) - EPOCH).total_seconds() == pytest.approx(3635, abs=0.1)


async def test_a_new_moment_that_has_passed_is_a_moment_to_come(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    await shortened(run, at=40, ends=130)  # the first tier has what the second one leaves of 70 s
    assert lab.off["app"] == pytest.approx(41, abs=0.1)


async def test_what_may_not_be_forced_is_not(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Stop")), lab=lab)
    await shortened(run, at=10, ends=100)
    assert lab.off == {}


async def test_a_guest_that_goes_down_in_the_shorter_time_is_not_forced(engine: Engine) -> None:
    lab = FakeProvider(app=30)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    await shortened(run, at=10, ends=100)
    assert outcomes(run) == {"lab/app": "GRACEFUL"}


async def test_a_run_is_shortened_and_never_made_longer(engine: Engine) -> None:
    lab = FakeProvider(app=30)
    run = await engine.start(plan(tier("a", "lab/app"), total="5m"), lab=lab)
    await shortened(run, at=10, ends=3000)
    assert run.history.shortened is None


async def test_a_run_that_is_taken_up_again_is_as_short_as_it_was(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    work = asyncio.ensure_future(shortened(run, at=10, ends=100))
    await until("shortened", run)
    work.cancel()
    await engine.resume(run, lab=lab).carry_out()
    assert lab.off["app"] == pytest.approx(35, abs=0.1)


async def test_once_less_than_the_reserve_is_left_all_that_remains_begins_at_once(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    await shortened(run, at=10, ends=50)
    assert lab.asked["db"] == pytest.approx(10, abs=0.1)
    assert lab.off["app"] == pytest.approx(45, abs=0.1)


async def test_a_provider_that_is_away_is_told_when_it_is_back(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    work = asyncio.ensure_future(shortened(run, at=10, ends=100))
    await asyncio.sleep(9)
    lab.away = True
    await asyncio.sleep(10)
    lab.away = False
    await work
    assert lab.off["app"] == pytest.approx(35, abs=0.1)


async def test_a_moment_that_passes_while_a_provider_is_away_is_a_moment_to_come(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    work = asyncio.ensure_future(shortened(run, at=10, ends=100))
    await asyncio.sleep(9)
    lab.away = True
    await asyncio.sleep(31)
    lab.away = False
    await work
    assert lab.off["app"] == pytest.approx(42, abs=1.5)


async def test_a_moment_that_passes_on_the_way_to_a_provider_is_told_anew(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=5)
    lab.slow[pb.ExtendOperationRequest] = 3
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    await shortened(run, at=40, ends=130)
    assert lab.off["app"] == pytest.approx(50, abs=0.1)


# The end of a tier's time, and of all


async def test_a_tier_with_stop_whose_vms_were_off_stops_nothing(engine: Engine) -> None:
    lab = FakeProvider(app=5, db=5)
    lab.vms["app"].power_state = pb.POWER_STATE_OFF
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Stop"), tier("b", "lab/db")), lab=lab)
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "ALREADY_OFF", "lab/db": "GRACEFUL"}


@pytest.mark.parametrize("left", [None, 100.0])
async def test_a_vm_that_was_off_and_has_been_started_since_has_its_time(engine: Engine, left: float | None) -> None:
    lab = FakeProvider(app=5, db=20)
    lab.vms["db"].power_state = pb.POWER_STATE_OFF
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await asyncio.sleep(1)
    await lab.turn("db", pb.POWER_STATE_ON)
    await until("tier='b'", run)
    await asyncio.sleep(1)
    if left is not None:
        await run.shorten(timedelta(seconds=left), "the battery")
    await work
    assert outcomes(run) == {"lab/app": "GRACEFUL", "lab/db": "GRACEFUL"}


async def test_that_time_ends_with_a_run_that_was_shortened_before_its_tier_began(engine: Engine) -> None:
    lab = FakeProvider(app=20, db=None)
    lab.vms["db"].power_state = pb.POWER_STATE_OFF
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await asyncio.sleep(1)
    await lab.turn("db", pb.POWER_STATE_ON)
    await run.shorten(timedelta(seconds=100), "the battery")
    await work
    assert lab.sent(pb.ShutdownRequest)[-1].force_after.ToDatetime(tzinfo=UTC) <= run.history.deadline


async def test_force_counts_instead_of_the_vms_own_escalation(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Force")), lab=lab)
    await run.carry_out()
    assert lab.sent(pb.ShutdownRequest)[0].escalation == pb.ESCALATION_FORCE


@pytest.mark.parametrize(
    ("written", "said"), [({}, pb.ESCALATION_NEVER), ({"saveFallback": "Force"}, pb.ESCALATION_FORCE)]
)
async def test_save_counts_instead_of_the_vms_own_escalation(
    engine: Engine, written: dict[str, str], said: "pb.Escalation.ValueType"
) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Save", **written)), lab=lab)
    await run.carry_out()
    (request,) = lab.sent(pb.ShutdownRequest)
    assert (request.escalation, request.save_fallback) == (pb.ESCALATION_SAVE, said)
    assert outcomes(run) == {"lab/app": "SAVED"}


async def test_a_vm_has_its_own_time_and_the_next_tier_waits_while_it_is_saved(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=5)
    lab.save_time = 100
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Save"), tier("b", "lab/db")), lab=lab)
    await run.carry_out()
    assert lab.saved["app"] == pytest.approx(160, abs=0.1)
    assert lab.saved["app"] <= lab.asked["db"] <= lab.saved["app"] + 0.2


async def test_where_time_is_short_saving_begins_so_early_that_it_ends_with_its_tier(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    written = tier("a", "lab/app", atDeadline="Save", saveTime="40s")
    run = await engine.start(plan(written, total="100s", reserve="30s"), lab=lab)
    await run.carry_out()
    assert force_after(lab, "app") == pytest.approx(70 - 5 - 40, abs=0.1)


async def test_what_takes_longer_to_save_than_there_is_time_is_left_to_it(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    lab.save_time = 3600
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Save"), total="200s", reserve="10s"), lab=lab)
    await run.carry_out()
    assert (outcomes(run), lab.sent(pb.PowerOffRequest)) == ({"lab/app": "OUT_OF_TIME"}, [])
    assert run.history.ended["lab/app"].stopped


async def test_with_force_instead_it_is_cut_when_the_tiers_time_has_passed(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    lab.save_time = 3600
    written = tier("a", "lab/app", atDeadline="Save", saveFallback="Force")
    run = await engine.start(plan(written, total="200s", reserve="10s"), lab=lab)
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "FORCED"}
    assert lab.off["app"] == pytest.approx(190, abs=0.2)


@pytest.mark.parametrize(
    ("written", "said"), [({}, pb.ESCALATION_NEVER), ({"saveFallback": "Force"}, pb.ESCALATION_FORCE)]
)
async def test_a_provider_that_saves_nothing_is_told_what_is_done_instead(
    engine: Engine, written: dict[str, str], said: "pb.Escalation.ValueType"
) -> None:
    lab = FakeProvider(app=None)
    lab.saves = False
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Save", **written)), lab=lab)
    await run.carry_out()
    (request,) = lab.sent(pb.ShutdownRequest)
    assert (request.escalation, request.save_fallback) == (said, pb.ESCALATION_UNSPECIFIED)


async def test_what_this_run_has_saved_is_stopped_by_it_and_what_was_saved_before_is_not(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=None)
    run = await engine.start(plan(tier("a", "lab/app", "lab/db", atDeadline="Save")), lab=lab)
    saved = pb.Operation(vm="db", request_id=run.history.request_id("a", run.history.start.tiers[0].targets[1]))
    saved.id, saved.state = "before", pb.OPERATION_STATE_SUCCEEDED
    saved.verdict.outcome = pb.OUTCOME_SAVED
    lab.operations["before"] = saved
    await run.carry_out()
    assert [run.history.ended[vm].stopped for vm in ("lab/app", "lab/db")] == [True, False]


async def test_with_force_what_is_not_off_at_the_end_is_cut(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Force"), total="100s", reserve="30s"), lab=lab)
    lab.begin("app", pb.ShutdownRequest(request_id="somebody's", escalation=pb.ESCALATION_NEVER, force_after=FAR))
    await run.carry_out()
    assert lab.off["app"] == pytest.approx(70, abs=0.2)
    assert (outcomes(run), len(lab.sent(pb.PowerOffRequest))) == ({"lab/app": "FORCED"}, 1)


async def test_without_a_reserve_it_is_cut_so_early_that_it_is_off_in_time(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Force"), total="100s", reserve="0s"), lab=lab)
    lab.begin("app", pb.ShutdownRequest(request_id="somebody's", escalation=pb.ESCALATION_NEVER, force_after=FAR))
    await run.carry_out()
    assert lab.off["app"] < 100
    assert outcomes(run) == {"lab/app": "FORCED"}


async def test_without_it_what_somebody_else_does_is_left_alone(engine: Engine) -> None:
    lab = FakeProvider(app=None)
    run = await engine.start(plan(tier("a", "lab/app"), total="100s", reserve="30s"), lab=lab)
    lab.begin("app", pb.ShutdownRequest(request_id="somebody's", escalation=pb.ESCALATION_NEVER, force_after=FAR))
    await run.carry_out()
    assert now() == pytest.approx(100, abs=0.2)
    assert (outcomes(run), lab.off) == ({"lab/app": "OUT_OF_TIME"}, {})


async def test_a_vm_that_somebody_shuts_down_is_asked_after_that(engine: Engine) -> None:
    lab = FakeProvider(app=5)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    lab.begin("app", pb.ShutdownRequest(request_id="somebody's", force_after=FAR))
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "ALREADY_OFF"}
    assert not run.history.ended["lab/app"].stopped


async def test_stop_leaves_the_vm_on_and_begins_no_later_tier(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=5)
    run = await engine.start(plan(tier("a", "lab/app", atDeadline="Stop"), tier("b", "lab/db")), lab=lab)
    await run.carry_out()
    assert (outcomes(run), begun(run), lab.off) == ({"lab/app": "STILL_RUNNING"}, ["a"], {})


async def test_what_could_not_begin_in_time_begins_at_the_end_and_has_the_reserve(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=None)
    lab.hooks["app"] = 80
    spec = plan(tier("a", "lab/app", minimum="60s"), tier("b", "lab/db", minimum="60s"), total="100s", reserve="30s")
    run = await engine.start(spec, lab=lab)
    assert run.history.start.forecast.short > timedelta()
    await run.carry_out()
    assert lab.asked["db"] == pytest.approx(65, abs=0.2)
    assert lab.off["db"] <= 100


# What goes wrong at a VM


async def test_a_vm_that_is_gone_holds_up_nothing(engine: Engine) -> None:
    lab = FakeProvider(app=5, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    del lab.vms["app"]
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "GONE", "lab/db": "GRACEFUL"}
    assert now() < 6


async def test_a_refusal_is_told_and_holds_up_nothing(engine: Engine) -> None:
    lab, pve = FakeProvider(app=5), FakeProvider(batch=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "pve/batch")), lab=lab, pve=pve)
    lab.refusal = ProviderError("PERMISSION_DENIED", "You may not.", "NOT_ALLOWED")
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "REFUSED", "pve/batch": "GRACEFUL"}
    assert run.history.ended["lab/app"].message == "You may not."


@pytest.mark.parametrize(("runs", "outcome", "off"), [(False, "ALREADY_OFF", True), (True, "REFUSED", False)])
async def test_a_vm_that_takes_no_operations_is_off_if_it_was(
    engine: Engine, lab: FakeProvider, runs: bool, outcome: str, off: bool
) -> None:
    lab.vms["app"].power_state = pb.POWER_STATE_ON if runs else pb.POWER_STATE_OFF
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    lab.refusal = ProviderError("FAILED_PRECONDITION", "app: it is a template, which never runs.", "VM_REFUSED")
    await run.carry_out()
    ended = run.history.ended["lab/app"]
    assert (ended.outcome, ended.off, ended.stopped) == (outcome, off, False)


async def test_a_provider_that_is_away_is_asked_until_it_answers(engine: Engine) -> None:
    lab = FakeProvider(app=5)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    lab.away = True
    asyncio.get_running_loop().call_later(20, lambda: setattr(lab, "away", False))
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "GRACEFUL"}
    assert 20 < lab.asked["app"] < 23


async def test_a_fault_of_ours_at_one_vm_is_told_and_ends_no_run(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = FakeProvider(app=5, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    answer = lab._answer

    async def broken(request: object) -> object:
        if isinstance(request, pb.ShutdownRequest) and request.vm == "app":
            raise ZeroDivisionError
        return await answer(request)

    monkeypatch.setattr(lab, "_answer", broken)
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "REFUSED", "lab/db": "GRACEFUL"}


async def test_a_disk_that_is_full_holds_up_no_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeProvider(app=5)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)

    async def full(*_: object) -> None:
        raise JournalError("No space left on device")

    monkeypatch.setattr(run._journal, "write", full)
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "GRACEFUL"}


async def test_a_disk_that_hangs_holds_up_no_run_for_long(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeProvider(app=5)
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)

    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(run._journal, "write", hangs)
    await run.carry_out()
    assert outcomes(run) == {"lab/app": "GRACEFUL"}
    assert lab.asked["app"] < 3


# Aborted


async def test_aborted_it_begins_no_further_tier_and_what_has_asked_runs_on(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await until("tier began", run)
    await asyncio.sleep(1)
    await run.abort()
    await work
    assert (outcomes(run), begun(run)) == ({"lab/app": "GRACEFUL"}, ["a"])


async def test_aborted_it_cancels_what_has_not_asked_yet(engine: Engine, lab: FakeProvider) -> None:
    lab.hooks["app"] = 20
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await until("tier began", run)
    await asyncio.sleep(1)
    await run.abort()
    await work
    assert (outcomes(run), lab.off) == ({"lab/app": "CANCELLED"}, {})


async def test_aborted_it_asks_nobody_whom_an_outage_kept_it_from_asking(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    lab.away = True
    work = asyncio.ensure_future(run.carry_out())
    await until("tier began", run)
    await asyncio.sleep(1)
    await run.abort()
    lab.away = False
    await work
    assert (outcomes(run), lab.operations) == ({"lab/app": "NOT_ASKED"}, {})


async def test_aborted_it_brings_up_what_it_stopped(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db"), bringUp={}), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await until("'lab/app'", run)
    await run.abort()
    await work
    assert [request.vm for request in lab.sent(pb.PowerOnRequest)] == ["app"]
    assert lab.vms["app"].power_state == pb.POWER_STATE_ON


async def test_a_run_that_was_stopped_can_be_aborted_while_others_go_down(engine: Engine) -> None:
    lab = FakeProvider(app=None, db=5, web=5)
    lab.hooks["db"] = 300
    tiers = tier("a", "lab/app", atDeadline="Stop"), tier("b", "lab/db", after=[]), tier("c", "lab/web", after=[])
    lab.vms["db"].own_timeout.FromSeconds(400)
    run = await engine.start(plan(*tiers, bringUp={}), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await until("event='stopped'", run)
    await run.abort()
    await work
    assert outcomes(run)["lab/db"] == "CANCELLED"
    assert [request.vm for request in lab.sent(pb.PowerOnRequest) if request.vm == "web"] == ["web"]


async def test_a_run_that_is_over_cannot_be_aborted(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app"), bringUp={}), lab=lab)
    await run.carry_out()
    await run.abort()
    assert run.history.aborted is None


async def test_what_a_run_that_is_over_has_stopped_can_be_brought_up(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db"), bringUp={}), lab=lab)
    await run.carry_out()
    await engine.resume(run, lab=lab).bring_up()
    assert [request.vm for request in lab.sent(pb.PowerOnRequest)] == ["db", "app"]


# Killed, and taken up again


async def killed(run: Run, when: str) -> None:
    """SIGKILL at this event, and three seconds until the next process."""
    work = asyncio.ensure_future(run.carry_out())
    await until(when, run)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await asyncio.sleep(3)


@pytest.mark.parametrize("when", ["tier='a'", "'lab/app'", "tier over", "tier='b'", "'lab/db'", "brought down"])
async def test_taken_up_again_it_does_each_step_once_with_the_same_moments(engine: Engine, when: str) -> None:
    lab = FakeProvider(app=None, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    await killed(run, when)
    again = engine.resume(run, lab=lab)
    await again.carry_out()
    assert outcomes(again) == {"lab/app": "FORCED", "lab/db": "GRACEFUL"}
    assert lab.off["app"] == pytest.approx(60, abs=0.1)
    assert len(lab.operations) == 2
    moments = {(each.vm, each.request_id, each.force_after.ToNanoseconds()) for each in lab.sent(pb.ShutdownRequest)}
    assert len(moments) == 2


async def test_taken_up_again_after_it_was_aborted_it_begins_nothing(engine: Engine) -> None:
    lab = FakeProvider(app=5, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db"), bringUp={}), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await until("'lab/app'", run)
    work.cancel()
    await run.abort()
    again = engine.resume(run, lab=lab)
    await again.carry_out()
    assert [request.vm for request in lab.sent(pb.ShutdownRequest)] == ["app"]
    assert [request.vm for request in lab.sent(pb.PowerOnRequest)] == ["app"]


async def test_taken_up_again_when_its_budget_is_over_it_begins_nothing_and_learns_what_was(engine: Engine) -> None:
    lab = FakeProvider(app=5, db=5)
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await until("tier began", run)
    await asyncio.sleep(1)
    work.cancel()
    await asyncio.sleep(3600)
    again = engine.resume(run, lab=lab)
    await again.carry_out()
    assert outcomes(again) == {"lab/app": "GRACEFUL"}
    assert "db" not in lab.asked


async def test_a_run_of_another_process_is_left_to_it(engine: Engine, tmp_path: Path, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    with pytest.raises(JournalError, match="Another process carries out run"):
        engine.runs.resume(run.history.start.run)


# Where another run counts, and after the end


async def test_a_run_that_is_left_tells_what_it_had_begun(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db")), lab=lab)
    work = asyncio.ensure_future(run.carry_out())
    await asyncio.sleep(2)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await run.leave("fire")
    assert outcomes(run) == {"lab/app": "OUT_OF_TIME"}
    assert run.history.ended["lab/app"].stopped
    assert run.history.closed is not None
    assert run.history.closed.message == "Taken over by run fire."


async def test_a_run_is_released_once(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    await run.carry_out()
    await run.release()
    await run.release()
    assert [event.event for event in run.history.events].count("released") == 1


async def test_what_its_owner_wants_off_by_now_is_not_brought_up(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app"), tier("b", "lab/db"), bringUp={}), lab=lab)
    await run.carry_out()

    async def stays_off(target: Target) -> bool:
        return target.vm == "app"

    run._stays_off = stays_off
    await run.bring_up()
    assert [request.vm for request in lab.sent(pb.PowerOnRequest)] == ["db"]


async def test_that_a_bring_up_began_is_on_record_where_there_is_one(engine: Engine, lab: FakeProvider) -> None:
    run = await engine.start(plan(tier("a", "lab/app")), lab=lab)
    await run.carry_out()
    await run.bring_up()
    assert run.history.bring_up_began is None
