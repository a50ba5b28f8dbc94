"""What a hypervisor that finishes shutdowns by itself is told, and what comes of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import VM, Delegation, Ended, Escalation
from providers.core.deadline import timeout
from providers.core.errors import CommandFailed, Locked
from providers.core.extension import Extension
from providers.core.model import Kind, Request, State, TimeoutOrigin
from providers.server import validation
from tests.unit.providers.finisher import NOT_REVOCABLE, WEB, Asked, MakeFinisher, seconds, told
from tests.unit.providers.world import Make, elapsed, ending, until

pytestmark = pytest.mark.looptime

NEVER, ASK = pb.ESCALATION_NEVER, pb.ESCALATION_ASK


async def test_it_is_told_the_named_time_and_what_comes_after_it(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=20)
    await provider.end(await provider.ask(timeout=300))
    assert provider.adapter.asked == [Asked(0, Escalation.FORCE, 300)]


async def test_it_is_told_no_time_where_nobody_named_one(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=20)
    await provider.end(await provider.ask())
    assert provider.adapter.asked == [Asked(0, Escalation.FORCE, None)]


async def test_it_is_told_what_is_left_where_a_lock_took_a_part(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=20)
    provider.adapter.lock()
    await provider.ask(timeout=300)
    await until(100)
    provider.adapter.unlock()
    await until(101)
    assert provider.adapter.asked == [Asked(100, Escalation.FORCE, 200)]


async def test_it_is_told_what_is_left_of_its_own_time_too(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(replace(WEB, delegation=Delegation(own_timeout=timedelta(seconds=180))))
    provider.adapter.lock()
    await provider.ask()
    await until(100)
    provider.adapter.unlock()
    await until(101)
    assert provider.adapter.asked == [Asked(100, Escalation.FORCE, 80)]


async def test_it_is_told_what_an_extension_before_left(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.lock()
    operation = await provider.ask()
    await until(10)
    await provider.operations.extend(operation.id, Extension(timeout=timedelta(seconds=500)))
    provider.adapter.unlock()
    await until(11)
    assert provider.adapter.asked == [Asked(10, Escalation.FORCE, 490)]
    assert provider.adapter.withdrawn == []


async def test_an_extension_names_a_time_however_early_it_comes(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.lock()
    operation = await provider.ask()
    await until(0.5)
    await provider.operations.extend(operation.id, Extension(timeout=timedelta(seconds=500)))
    provider.adapter.unlock()
    await until(1)
    assert provider.adapter.asked == [Asked(0.5, Escalation.FORCE, 499.5)]


async def test_its_own_time_for_the_vm_is_the_deadline_where_nobody_named_one(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(replace(WEB, delegation=Delegation(own_timeout=timedelta(seconds=180))))
    operation = await provider.reach(await provider.ask(), State.WAITING_FOR_GUEST)
    assert seconds(operation.force_after) == 180


async def test_its_own_time_counts_also_if_it_became_known_only_then(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.vms[WEB.id] = replace(
        WEB, delegation=Delegation(own_timeout=timedelta(seconds=7))
    )  # of which the list has not told
    operation = await provider.reach(await provider.ask(), State.WAITING_FOR_GUEST)
    assert seconds(operation.force_after) == 7
    await provider.end(operation)
    assert provider.adapter.asked == [Asked(0, Escalation.FORCE, None)]


async def test_a_named_time_counts_before_its_own(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(replace(WEB, delegation=Delegation(own_timeout=timedelta(seconds=180))))
    operation = await provider.reach(await provider.ask(timeout=30), State.WAITING_FOR_GUEST)
    assert seconds(operation.force_after) == 30


async def test_a_guest_that_goes_off_is_graceful(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=20)
    operation = await provider.end(await provider.ask(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: GRACEFUL by ACPI", 20)


async def test_it_cuts_the_power_at_the_deadline_and_we_do_not(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.end(await provider.ask(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)
    assert provider.adapter.powered_off == []


async def test_that_it_cut_the_power_is_a_step(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.end(await provider.ask(timeout=60))
    [step] = [step for step in operation.steps if step.state is State.FORCING]
    assert step.message == "the hypervisor has powered it off hard, reason TIMEOUT"


async def test_we_cut_the_power_15_s_later_where_it_does_not(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    operation = await provider.end(await provider.ask(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 75)
    assert provider.adapter.powered_off == [75]


async def test_never_ends_at_the_deadline_and_nothing_cuts_the_power(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.end(await provider.ask(timeout=60, escalation=NEVER))
    await until(3600)
    assert (ending(operation), elapsed(operation)) == ("FAILED: STILL_RUNNING/TIMEOUT", 60)
    assert provider.adapter.asked == [Asked(0, Escalation.NEVER, 60)]
    assert provider.vm().power_state == "ON"


async def test_ask_asks_at_the_deadline_and_nothing_cuts_the_power(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.reach(await provider.ask(timeout=60, escalation=ASK), State.AWAITING_DECISION)
    await until(3600)
    assert seconds(operation.steps[-1].time) == 60
    assert provider.adapter.asked == [Asked(0, Escalation.ASK, 60)]
    assert provider.vm().power_state == "ON"


async def test_the_power_button_is_pressed_once(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=55)
    operation = await provider.end(await provider.ask(timeout=60))
    assert ending(operation) == "SUCCEEDED: GRACEFUL by ACPI"
    assert len(provider.adapter.asked) == 1


async def test_a_refusal_that_comes_late_is_noted_and_escalates(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.refusals = [CommandFailed("It cannot hear.")]
    operation = await provider.end(await provider.ask(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/COMMAND_FAILED", 5)
    assert "ACPI was refused: It cannot hear." in told(operation)


async def test_a_lock_that_is_found_late_is_waited_for(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(takes=20)
    provider.adapter.refusals = [Locked("A backup holds it.")]
    operation = await provider.ask(timeout=300)
    await until(2)
    provider.adapter.lock()
    await until(100)
    provider.adapter.unlock()
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: GRACEFUL by ACPI", 120)
    assert provider.adapter.asked == [Asked(0, Escalation.FORCE, 300), Asked(100, Escalation.FORCE, 200)]


async def test_a_lock_that_stays_is_why_it_is_forced_at_the_deadline(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.refusals = [Locked("A backup holds it.")]
    operation = await provider.ask(timeout=60)
    provider.adapter.lock()
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/LOCKED", 60)


async def test_force_is_done_at_once_and_takes_nothing_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.ask(timeout=60)
    await until(10)
    await provider.operations.force(operation.id)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/REQUESTED", 10)
    assert (provider.adapter.powered_off, provider.adapter.withdrawn) == ([10], [])


async def test_a_power_off_pre_empts_at_once_and_takes_nothing_back(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.ask(timeout=60)
    await until(10)
    await provider.power_off()
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/PREEMPTED", 10)
    assert (provider.adapter.powered_off, provider.adapter.withdrawn) == ([10], [])


async def test_a_reboot_starts_the_vm_after_the_hypervisor_cut_its_power(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.end(await provider.begin(Kind.REBOOT, timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)
    assert provider.vm().power_state == "ON"


async def test_off_as_late_as_the_time_it_was_told_is_forced(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    operation = await provider.ask(timeout=60)
    await until(60)
    provider.adapter.go_off(ended=Ended(after=timedelta(seconds=60)))
    assert ending(await provider.end(operation)) == "SUCCEEDED: FORCED/TIMEOUT"


async def test_off_earlier_than_the_time_it_was_told_is_graceful(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher()
    operation = await provider.ask(timeout=60)
    await until(58)
    provider.adapter.go_off(ended=Ended(after=timedelta(seconds=58)))
    assert ending(await provider.end(operation)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_a_vm_that_it_cannot_give_back_is_not_handed_over(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(replace(WEB, delegation=NOT_REVOCABLE))
    operation = await provider.end(await provider.ask(timeout=60))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)
    assert provider.adapter.asked == [Asked(0, Escalation.NEVER, 60)]
    assert provider.adapter.powered_off == [60]


# Which timeout counts


OWN, DEFAULT = timedelta(seconds=180), timedelta(seconds=60)
ASKED = Request(kind=Kind.SHUTDOWN, vm_id="1", vm_name="web", timeout=timedelta(seconds=30))
UNNAMED = ASKED.model_copy(update={"timeout": None})
KNOWS_ONE, KNOWS_NONE = replace(WEB, delegation=Delegation(own_timeout=OWN)), replace(WEB, delegation=None)


@pytest.mark.parametrize("vm", [KNOWS_ONE, KNOWS_NONE, None])
async def test_the_callers_timeout_counts_first(vm: VM | None) -> None:
    assert timeout(ASKED, vm, DEFAULT) == {"timeout": ASKED.timeout, "timeout_origin": TimeoutOrigin.CALLER}


async def test_the_hypervisors_own_for_the_vm_counts_where_none_is_named() -> None:
    assert timeout(UNNAMED, KNOWS_ONE, DEFAULT) == {"timeout": OWN, "timeout_origin": TimeoutOrigin.HYPERVISOR}


@pytest.mark.parametrize("vm", [KNOWS_NONE, replace(WEB, delegation=Delegation()), None])
async def test_the_providers_default_counts_where_neither_has_one(vm: VM | None) -> None:
    assert timeout(UNNAMED, vm, DEFAULT) == {"timeout": DEFAULT, "timeout_origin": TimeoutOrigin.DEFAULT}


async def test_a_caller_that_names_the_moment_has_named_the_timeout() -> None:
    at_once = UNNAMED.model_copy(update={"force_after": datetime(2030, 1, 1, tzinfo=UTC)})
    assert timeout(at_once, KNOWS_ONE, DEFAULT)["timeout_origin"] is TimeoutOrigin.CALLER


async def test_a_reboot_has_the_hypervisors_own_timeout_too(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(KNOWS_ONE)
    request = validation.reboot(pb.RebootRequest(vm="web"), provider.inventory.resolve, provider.settings)
    assert (await provider.operations.start(request)).timeout == OWN


async def test_where_the_hypervisor_keeps_no_deadlines_we_do(make_provider: Make) -> None:
    provider = await make_provider(web={"agent": "none", "acpi": "ignores"})
    operation = await provider.end(await provider.shutdown(timeout=30))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 30)
