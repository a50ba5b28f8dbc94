import asyncio
from typing import Any

import pytest

from client.power import has_ended
from plans.history import Aborted, BroughtDown, Event
from plans.run import Run
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.builders import plan, tier
from tests.unit.plans.conftest import Engine
from tests.unit.plans.fake import FakeProvider

pytestmark = pytest.mark.looptime
AGENT = {"ready": {"signal": "Agent", "timeout": "30s"}}


async def brought_down(engine: Engine, bring_up: dict[str, Any] | None, lab: FakeProvider) -> Run:
    """A run whose two tiers are down, and that was aborted after that."""
    spec = plan(tier("a", "lab/app"), tier("b", "lab/db"), bringUp=bring_up)
    run = await engine.start(spec, lab=lab)
    noted = run._note

    async def stop_before_the_end(event: Any) -> None:
        if event.event == "brought down":
            await noted(Aborted(at=event.at))
        await noted(event)

    run._note = stop_before_the_end  # type: ignore[method-assign]
    return run


def started(lab: FakeProvider) -> list[str]:
    return [request.vm for request in lab.sent(pb.PowerOnRequest)]


def ready(run: Run) -> dict[str, bool]:
    return {vm: up.ready for vm, up in run.history.up.items()}


async def test_tiers_come_up_in_reverse(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {}, lab)
    await run.carry_out()
    assert started(lab) == ["db", "app"]
    assert ready(run) == {"lab/db": True, "lab/app": True}


async def test_a_plan_without_bring_up_leaves_all_off(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    await (await brought_down(engine, None, lab)).carry_out()
    assert started(lab) == []


async def test_what_was_off_before_stays_off(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.vms["db"].power_state = pb.POWER_STATE_OFF
    await (await brought_down(engine, {}, lab)).carry_out()
    assert started(lab) == ["app"]


async def test_a_tier_waits_for_the_agents_of_those_behind_it(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.agents = True
    run = await brought_down(engine, AGENT, lab)
    await run.carry_out()
    database, app = run.history.up["lab/db"], run.history.up["lab/app"]
    assert (database.ready, app.ready) == (True, True)
    assert (app.at - database.at).total_seconds() >= 1


async def test_a_vm_that_is_not_ready_in_time_is_told_and_the_next_tier_comes_up(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, AGENT, lab)
    await run.carry_out()
    assert ready(run) == {"lab/db": False, "lab/app": False}
    assert run.history.up["lab/db"].message == "It was not ready in time."
    assert asyncio.get_running_loop().time() == pytest.approx(62, abs=1)


@pytest.mark.parametrize("probe", [{"tcp": {"port": 5432}}, {"exec": {"command": ["pg_isready"]}}])
async def test_a_tier_waits_for_what_its_providers_ask_of_those_behind_it(engine: Engine, probe: Any) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {"ready": probe}, lab)
    await run.carry_out()
    database, app = run.history.up["lab/db"], run.history.up["lab/app"]
    assert (database.ready, app.ready) == (True, True)
    assert (app.at - database.at).total_seconds() >= 3
    (first, _) = lab.sent(pb.PowerOnRequest)
    assert first.ready.WhichOneof("handler") == next(iter(probe))


async def test_a_tier_may_have_a_readiness_of_its_own(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    spec = plan(tier("a", "lab/app"), tier("b", "lab/db", ready={"tcp": {"port": 5432}}), bringUp={})
    run = await engine.start(spec, lab=lab)
    await run.carry_out()
    await run.bring_up()
    database, app = lab.sent(pb.PowerOnRequest)
    assert (database.ready.tcp.port, app.HasField("ready")) == (5432, False)


async def test_what_does_not_answer_in_time_is_told_with_what_was_last_seen(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.ready_after = 100
    run = await brought_down(engine, {"ready": {"tcp": {"port": 5432}, "timeout": "30s"}}, lab)
    await run.carry_out()
    assert ready(run) == {"lab/db": False, "lab/app": False}
    assert started(lab) == ["db", "app"]
    assert run.history.up["lab/db"].message == "It was not ready in time. Nothing answers."
    assert [has_ended(each) for each in lab.operations.values()] == [True] * 4


async def test_of_what_a_probe_printed_a_record_keeps_the_end(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {"ready": {"tcp": {"port": 5432}}}, lab)
    probe = lab._probe

    async def talk(*asked: Any) -> None:
        await probe(*asked)
        operation = asked[0]
        (hook,) = operation.verdict.hooks
        hook.state, hook.output = pb.HOOK_STATE_TIMED_OUT, "x" * 4096 + "the end"

    lab._probe = talk  # type: ignore[assignment, method-assign]
    await run.carry_out()
    message = run.history.up["lab/db"].message
    assert (len(message) < 600, message[-8:]) == (True, "xthe end")


async def test_one_that_may_not_be_asked_is_started_all_the_same_and_told(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.refuses_probes = True
    run = await brought_down(engine, {"ready": {"exec": {"command": ["pg_isready"]}}}, lab)
    await run.carry_out()
    assert lab.vms["db"].power_state == pb.POWER_STATE_ON
    up = run.history.up["lab/db"]
    assert (up.ready, up.message) == (False, "It runs; whether it is ready is not known. exec is not granted")


async def test_that_one_may_not_be_asked_is_still_told_by_the_next_process(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.refuses_probes = True
    run = await brought_down(engine, {"ready": {"exec": {"command": ["pg_isready"]}}}, lab)
    (database,) = run.history.start.tiers[1].targets
    request_id = run.history.request_id("b", database, "up")

    def begin_without(event: Event) -> None:
        if isinstance(event, BroughtDown):
            lab.begin("db", pb.PowerOnRequest(vm="db", request_id=request_id))

    run.history.listeners.append(begin_without)
    await run.carry_out()
    assert "may not ask it, or is of an older version" in run.history.up["lab/db"].message


async def test_a_hook_that_is_called_ready_does_not_make_a_vm_ready(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.refuses_probes = True
    run = await brought_down(engine, {"ready": {"tcp": {"port": 5432}}}, lab)
    begin = run._calls.begin

    async def with_hook(vm: Any, request: Any, *more: Any) -> Any:
        if isinstance(request, pb.PowerOnRequest):
            request.post_start.add(name="ready")
        return await begin(vm, request, *more)

    run._calls.begin = with_hook  # type: ignore[assignment, method-assign]
    await run.carry_out()
    assert ready(run) == {"lab/db": False, "lab/app": False}


async def test_a_provider_that_knows_no_probes_leaves_it_unknown(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.probes = False
    run = await brought_down(engine, {"ready": {"tcp": {"port": 5432}}}, lab)
    await run.carry_out()
    assert "of an older version" in run.history.up["lab/db"].message


async def test_with_stop_nothing_more_comes_up_then(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {"ready": AGENT["ready"] | {"onTimeout": "Stop"}}, lab)
    await run.carry_out()
    assert (started(lab), ready(run)) == (["db"], {"lab/db": False})


async def test_asked_to_come_up_again_what_was_not_ready_is_asked_again(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    lab.ready_after = 100
    ready_or_stop = {"ready": {"tcp": {"port": 5432}, "timeout": "30s", "onTimeout": "Stop"}}
    run = await brought_down(engine, ready_or_stop, lab)
    await run.carry_out()
    lab.ready_after = 3
    await run.bring_up(anew=True)
    assert ready(run) == {"lab/db": True, "lab/app": True}
    assert started(lab) == ["db", "db", "app"]


async def test_what_was_not_ready_is_asked_for_again_and_the_rest_follows(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {"ready": AGENT["ready"] | {"onTimeout": "Stop"}}, lab)
    await run.carry_out()
    assert run.history.bring_up_stopped is not None
    lab.agents = True
    again = engine.resume(run, lab=lab)
    await again.bring_up()
    assert ready(again) == {"lab/db": True, "lab/app": True}
    assert again.history.bring_up_stopped is None


async def test_taken_up_again_what_was_not_ready_is_not_waited_for_once_more(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, AGENT, lab)
    await run.carry_out()
    await engine.resume(run, lab=lab).bring_up()
    assert started(lab) == ["db", "app"]


async def test_asked_for_anew_what_has_gone_down_since_it_was_started_is_started(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, AGENT, lab)
    await run.carry_out()
    await lab.turn("db", pb.POWER_STATE_OFF)
    lab.agents = True
    await engine.resume(run, lab=lab).bring_up(anew=True)
    assert lab.vms["db"].power_state == pb.POWER_STATE_ON


def delete_when_down(run: Run, lab: FakeProvider) -> None:
    """Its owner deletes a VM."""

    def delete(event: Event) -> None:
        if isinstance(event, BroughtDown):
            del lab.vms["db"]

    run.history.listeners.append(delete)


async def test_a_vm_that_is_gone_is_told(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {}, lab)
    delete_when_down(run, lab)
    await run.carry_out()
    assert run.history.up["lab/db"].message == "There is no db."
    assert ready(run) == {"lab/db": False, "lab/app": True}


async def test_with_stop_a_vm_that_is_gone_holds_up_nothing(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {"ready": {"onTimeout": "Stop"}}, lab)
    delete_when_down(run, lab)
    await run.carry_out()
    assert ready(run) == {"lab/db": False, "lab/app": True}


async def test_taken_up_again_it_starts_each_once(engine: Engine) -> None:
    lab = FakeProvider(app=1, db=1)
    run = await brought_down(engine, {}, lab)
    work = asyncio.ensure_future(run.carry_out())
    up = asyncio.Event()
    run.history.listeners.append(lambda event: up.set() if event.event == "vm up" else None)
    await up.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await engine.resume(run, lab=lab).carry_out()
    assert len([each for each in lab.operations.values() if each.verdict.outcome == pb.OUTCOME_STARTED]) == 2
