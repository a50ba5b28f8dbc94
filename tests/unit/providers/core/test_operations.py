"""Who may begin what while something else is under way, and what anybody may decide about it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from providers.core.adapter import Changed, Escalation, PowerState
from providers.core.errors import (
    InvalidRequest,
    JournalFailed,
    OperationActive,
    OperationEnded,
    OperationNotFound,
)
from providers.core.extension import Extension
from providers.core.model import Kind, Operation, State
from tests.unit.providers.world import Make, Provider, at, elapsed, ending, exec_hook, until

pytestmark = pytest.mark.looptime

DEAF = {"agent": "none", "acpi": "ignores"}
SLOW = {"agent": "none", "shutdown_time": "70s"}
HOOKS = (exec_hook(timeout=60),)


async def test_the_same_request_id_joins_what_is_active(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    first = await provider.shutdown(request_id="r")
    assert (await provider.shutdown(request_id="r")).id == first.id


async def test_the_same_request_id_finds_what_has_ended(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    ended = await provider.end(await provider.shutdown(request_id="r"))
    assert await provider.shutdown(request_id="r") == ended


async def test_the_same_request_id_joins_after_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    first = await provider.shutdown(request_id="r")
    await provider.restart()
    assert (await provider.shutdown(request_id="r")).id == first.id


async def test_the_same_request_id_finds_what_ended_before_a_restart(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    ended = await provider.end(await provider.shutdown(request_id="r"))
    await provider.restart()
    assert await provider.shutdown(request_id="r") == ended


async def test_the_same_request_id_joins_by_whatever_its_vm_is_called(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    first = await provider.shutdown(request_id="r")
    provider.inventory.vms[provider.vm().id] = replace(provider.vm(), aliases=("/dc/vm/web",))
    joined = [await provider.operations.join("r", Kind.SHUTDOWN, vm) for vm in ("web", "/dc/vm/web", provider.vm().id)]
    assert joined == [first] * 3


@pytest.mark.parametrize("form", [str.upper, lambda vm_id: vm_id.replace("-", ""), "{{{}}}".format])
async def test_the_same_request_id_joins_by_every_form_of_its_vms_uuid(
    make_provider: Make, form: Callable[[str], str]
) -> None:
    provider = await make_provider(web=DEAF)
    first = await provider.shutdown(request_id="r")
    assert await provider.operations.join("r", Kind.SHUTDOWN, form(provider.vm().id)) == first


async def test_callers_at_the_same_time_with_one_request_id_get_one_operation(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await asyncio.gather(*(provider.shutdown(request_id="r") for _ in range(20)))
    assert len({operation.id for operation in begun}) == 1
    assert len(provider.operations.active()) == 1


async def test_callers_at_the_same_time_without_one_get_one_operation_and_refusals(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await asyncio.gather(*(provider.shutdown() for _ in range(20)), return_exceptions=True)
    assert [type(one) for one in begun].count(OperationActive) == 19


@pytest.mark.parametrize(("kind", "name"), [(Kind.POWER_OFF, "web"), (Kind.SHUTDOWN, "other")])
async def test_a_request_id_of_something_else_is_a_mistake(make_provider: Make, kind: Kind, name: str) -> None:
    provider = await make_provider(web=DEAF, other=DEAF)
    first = await provider.shutdown(request_id="r")
    with pytest.raises(InvalidRequest) as refused:
        await provider.begin(kind, name, request_id="r")
    assert refused.value.violations[0].field == "request_id"
    assert first.id in refused.value.message


@pytest.mark.parametrize("kind", [Kind.SHUTDOWN, Kind.REBOOT])
async def test_a_second_shutdown_is_told_which_is_active(make_provider: Make, kind: Kind) -> None:
    provider = await make_provider(web=DEAF)
    first = await provider.shutdown()
    with pytest.raises(OperationActive) as refused:
        await provider.begin(kind)
    assert refused.value.metadata == {"operation_id": first.id}


async def test_a_shutdown_while_a_power_on_is_under_way_is_refused(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"takes": "20s"}]})
    first = await provider.power_on(hooks=HOOKS)
    with pytest.raises(OperationActive) as refused:
        await provider.shutdown()
    assert refused.value.metadata == {"operation_id": first.id}


async def advice(provider: Provider, kind: Kind) -> str:
    """What a caller is told to do who asks for this while another operation is active."""
    with pytest.raises(OperationActive) as refused:
        await provider.begin(kind)
    return refused.value.message.partition("; ")[2]


async def test_about_a_shutdown_that_waits_one_may_decide(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.shutdown(timeout=3600)
    assert await advice(provider, Kind.REBOOT) == "wait for it, or extend, force or cancel it."


async def test_about_a_shutdown_that_is_being_forced_nobody_may_decide(make_provider: Make) -> None:
    provider = await make_provider(web={**DEAF, "power_off_time": "10s"})
    begun = await provider.shutdown(timeout=3600)
    await provider.operations.force(begun.id)
    await until(1)
    assert await advice(provider, Kind.SHUTDOWN) == "wait for it."


async def test_about_a_power_off_nobody_may_decide(make_provider: Make) -> None:
    provider = await make_provider(web={**DEAF, "power_off_time": "10s"})
    await provider.power_off()
    await until(1)
    assert await advice(provider, Kind.SHUTDOWN) == "wait for it."


async def test_about_a_power_on_nobody_may_decide(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off", "hooks": [{"takes": "20s"}]})
    await provider.power_on(hooks=HOOKS)
    assert await advice(provider, Kind.SHUTDOWN) == "wait for it; only a PowerOff supersedes it."


async def test_the_next_shutdown_may_begin_when_the_last_has_ended(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    await provider.end(await provider.shutdown())
    assert await provider.ending(provider.shutdown()) == "SUCCEEDED: ALREADY_OFF"


async def test_force_ends_the_waiting(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=3600, escalation=Escalation.NEVER)
    await until(5)
    await provider.operations.force(begun.id)
    ended = await provider.end(begun)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/REQUESTED", 5)


async def test_force_before_the_first_step_is_obeyed(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=3600)
    await provider.operations.force(begun.id)
    assert ending(await provider.end(begun)) == "SUCCEEDED: FORCED/REQUESTED"


async def test_cancel_leaves_the_guest_alone(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await until(5)
    assert ending(await provider.operations.cancel(begun.id)) == "CANCELLED: STILL_RUNNING"
    await until(600)
    assert provider.calls("power_off") == 0


async def test_an_extension_moves_force_after(make_provider: Make) -> None:
    provider = await make_provider(web=SLOW)
    begun = await provider.shutdown(timeout=60)
    await until(50)
    extended = await provider.operations.extend(begun.id, Extension(by=timedelta(seconds=30)))
    assert extended.force_after == at(90)
    assert ending(await provider.end(begun)) == "SUCCEEDED: GRACEFUL by ACPI"


async def test_an_extension_may_shorten_the_waiting(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=3600)
    await until(50)
    await provider.operations.extend(begun.id, Extension(timeout=timedelta(seconds=10)))
    assert elapsed(await provider.end(begun)) == 50


async def test_nothing_is_left_to_decide_about_what_has_ended(make_provider: Make) -> None:
    provider = await make_provider(web={})
    ended = await provider.end(await provider.shutdown())
    for late in (provider.operations.force, provider.operations.cancel):
        with pytest.raises(OperationEnded, match="has ended: SUCCEEDED"):
            await late(ended.id)
    with pytest.raises(OperationEnded):
        await provider.operations.extend(ended.id, Extension(by=timedelta(seconds=1)))


async def test_nothing_is_left_to_decide_when_power_is_being_cut(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF | {"power_off_time": "5s"})
    forcing = await provider.reach(await provider.shutdown(timeout=8), State.FORCING)
    with pytest.raises(OperationEnded, match="past deciding: FORCING"):
        await provider.operations.cancel(forcing.id)


async def test_what_is_not_on_disk_is_not_told_of(make_provider: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may never begin: the disk may be full."""
    provider = await make_provider(web={})
    ids, keep = list[str](), provider.journal.save

    async def look_meanwhile(operation: Operation) -> None:
        ids.append(operation.id)
        assert provider.operations.active_on(operation.request.vm_id) == ""
        with pytest.raises(OperationNotFound):
            await provider.operations.get(operation.id)
        with pytest.raises(OperationNotFound):
            await anext(provider.operations.watch(operation.id))
        await keep(operation)

    monkeypatch.setattr(provider.journal, "save", look_meanwhile)
    begun = await provider.shutdown()
    assert ids == [begun.id]
    assert provider.operations.active_on(begun.request.vm_id) == begun.id


async def test_what_nobody_began_is_not_found(make_provider: Make) -> None:
    provider = await make_provider(web={})
    with pytest.raises(OperationNotFound):
        await provider.operations.get("nothing")


async def test_a_reboot_brings_the_guest_down_and_up_again(make_provider: Make) -> None:
    provider = await make_provider(web={})
    operation = await provider.end(await provider.reboot())
    assert ending(operation) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"
    assert operation.verdict
    assert operation.verdict.message == "The guest shut itself down, asked by GUEST_AGENT. Started again."
    assert provider.vm().power_state is PowerState.ON


async def test_a_reboot_of_a_deaf_guest_forces_it(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    assert await provider.ending(provider.reboot(timeout=60)) == "SUCCEEDED: FORCED/TIMEOUT"
    assert provider.vm().power_state is PowerState.ON


async def test_a_reboot_takes_a_start_that_is_told_late_for_none_of_its_own(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that it cuts had begun just before, which is told after the cut."""
    provider = await make_provider(web=DEAF)
    run, cut = provider.vm(), provider.adapter.power_off

    async def cut_and_tell_of_the_start(vm_id: str) -> bool:
        done = await cut(vm_id)
        provider.adapter._events.publish(Changed(run))
        return done

    monkeypatch.setattr(provider.adapter, "power_off", cut_and_tell_of_the_start)
    assert await provider.ending(provider.reboot(timeout=60)) == "SUCCEEDED: FORCED/TIMEOUT"
    assert provider.calls("power_on") == 1


async def test_a_reboot_of_what_is_off_starts_it(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off"})
    assert await provider.ending(provider.reboot()) == "SUCCEEDED: ALREADY_OFF"
    assert provider.vm().power_state is PowerState.ON


async def test_a_reboot_that_must_not_force_fails_and_starts_nothing(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = provider.reboot(timeout=60, escalation=Escalation.NEVER)
    assert await provider.ending(begun) == "FAILED: STILL_RUNNING/TIMEOUT"
    assert provider.calls("power_on") == 0


async def test_a_journal_that_fails_at_the_start_means_that_nothing_is_done(make_provider: Make) -> None:
    provider = await make_provider(web={})
    provider.journal.broken = True
    with pytest.raises(JournalFailed):
        await provider.shutdown()
    await until(60)
    assert (provider.operations.active(), provider.calls("send_signal")) == ([], 0)


async def test_a_vm_is_free_again_after_a_start_that_the_journal_failed(make_provider: Make) -> None:
    provider = await make_provider(web={})
    provider.journal.broken = True
    with suppress(JournalFailed):
        await provider.shutdown(request_id="r")
    provider.journal.broken = False
    assert await provider.ending(provider.shutdown(request_id="r")) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"


async def happened(condition: Callable[[], bool]) -> None:
    """Go on in the very turn of the event loop in which it became true."""
    while not condition():  # noqa: ASYNC110 - no event tells of what is only half done
        await asyncio.sleep(0)


async def test_a_caller_that_hangs_up_while_it_begins_does_not_block_the_vm(make_provider: Make) -> None:
    provider = await make_provider(web={})
    call = asyncio.create_task(provider.shutdown(request_id="r"))
    await happened(lambda: bool(provider.operations.active()))
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    assert await provider.ending(provider.shutdown(request_id="r")) == "SUCCEEDED: GRACEFUL by GUEST_AGENT"


async def test_a_caller_that_hangs_up_while_it_forces_is_obeyed(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=3600)
    await until(5)
    call = asyncio.create_task(provider.operations.force(begun.id))
    await happened(lambda: provider.operations.active()[0].decision is not None)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    assert elapsed(await provider.end(begun)) == 5


async def test_500_deaf_guests_that_are_waited_for_do_not_delay_a_power_off(make_provider: Make) -> None:
    guests: dict[str, Any] = {"deaf": DEAF | {"count": 500}, "web": {}}
    provider = await make_provider(**guests)
    await asyncio.gather(*(provider.shutdown(f"deaf-{n:04}", timeout=3600) for n in range(1, 501)))
    await until(5)
    cut = await provider.end(await provider.power_off())
    assert (ending(cut), elapsed(cut)) == ("SUCCEEDED: FORCED/REQUESTED", 0)
    assert len(provider.operations.active()) == 500


async def test_one_that_a_later_one_has_overtaken_is_closed_and_not_carried_out(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    old = await provider.shutdown(timeout=60)
    await until(5)
    stale = await provider.operations.get(old.id)
    await provider.end(await provider.power_off())
    await provider.end(await provider.power_on())
    await provider.journal.save(stale)  # as a process has left it whose disk was full
    await provider.restart()
    ended = await provider.end(old)
    await until(600)
    assert (ending(ended), provider.vm().power_state) == ("FAILED: UNKNOWN", PowerState.ON)
