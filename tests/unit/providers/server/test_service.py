"""The handlers as the interceptor calls them, in virtual time. What they raise is what `errors.py` promises."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from structlog.testing import capture_logs

from common.grants import Right, Scope
from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import unsupported
from providers.core.errors import (
    Disabled,
    HypervisorUnavailable,
    InvalidRequest,
    NotAllowed,
    OperationActive,
    OperationNotFound,
    Unsupported,
    VMNotFound,
    VMRefused,
)
from providers.core.model import HookResult, HookState, State
from providers.core.run import Context
from providers.server.access import Rule
from providers.server.clients import CLIENT, Client
from providers.server.server import TRANSPORT_LIMIT
from providers.server.service import OPERATIONS_AT_ONCE, PAGE_BYTES, VMS_AT_ONCE, Service
from providers.sim.adapter import SimAdapter
from providers.sim.script import guest_id
from providers.sim.transitions import power_off
from tests.unit.providers.fakes import OneVM
from tests.unit.providers.world import Make, Provider, until

pytestmark = pytest.mark.looptime

CALL: Any = None
DEAF = {"agent": "none", "acpi": "ignores"}
EXEC = {"allow_guest_exec": True}


def served(provider: Provider) -> Service:
    return Service(provider.context, provider.operations)


def exec_hook(*command: str) -> pb.Hook:
    return pb.Hook(exec=pb.ExecHook(command=command))


async def collect(events: AsyncIterator[Any], number: int) -> list[Any]:
    """The first so many events of a stream."""
    found = []
    async for event in events:
        found.append(event)
        if len(found) == number:
            break
    return found


async def test_the_provider_says_what_time_it_is_and_what_its_client_may_do(make_provider: Make) -> None:
    provider = await make_provider(web={})
    before = datetime.now(UTC)
    CLIENT.set(Client("operator", None, operates=True))
    info = await served(provider).GetProviderInfo(pb.GetProviderInfoRequest(), CALL)
    assert before <= info.time.ToDatetime(UTC) <= datetime.now(UTC)
    assert info.role == pb.ROLE_OPERATOR
    CLIENT.set(Client("reader", None, operates=False))
    info = await served(provider).GetProviderInfo(pb.GetProviderInfoRequest(), CALL)
    assert info.role == pb.ROLE_READER


async def test_a_hypervisor_that_was_lost_is_told_with_why(make_provider: Make) -> None:
    provider = await make_provider(web={})
    provider.context.inventory.failure = HypervisorUnavailable("It refuses the login.")
    info = await served(provider).GetProviderInfo(pb.GetProviderInfoRequest(), CALL)
    assert info.connection_error.message == "It refuses the login."


async def test_the_provider_says_what_it_is(make_provider: Make) -> None:
    provider = await make_provider(EXEC, web={}, db={})
    info = await served(provider).GetProviderInfo(pb.GetProviderInfoRequest(), CALL)
    assert (info.type, info.connected, info.vm_count) == ("sim", True, 2)
    assert (info.guest_exec, info.snapshot, info.save) == (True, True, True)
    assert info.default_timeout.ToSeconds() == 60
    assert info.default_escalation == pb.ESCALATION_FORCE


async def test_the_provider_answers_while_its_hypervisor_does_not(make_provider: Make) -> None:
    provider = await make_provider(web={})
    provider.lose_hypervisor(60)
    await until(1)
    assert not (await served(provider).GetProviderInfo(pb.GetProviderInfoRequest(), CALL)).connected
    with pytest.raises(HypervisorUnavailable):
        await served(provider).ListVMs(pb.ListVMsRequest(), CALL)


async def test_a_save_is_refused_where_the_hypervisor_has_none(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimAdapter, "save", unsupported)
    provider = await make_provider(web={})
    assert not (await served(provider).GetProviderInfo(pb.GetProviderInfoRequest(), CALL)).save
    with pytest.raises(Unsupported, match="escalation SAVE: sim saves no VM's memory; name another one"):
        await served(provider).Shutdown(pb.ShutdownRequest(vm="web", escalation=pb.ESCALATION_SAVE), CALL)
    assert provider.operations.active() == []


async def test_guest_exec_is_said_to_be_off_unless_it_is_turned_on(make_provider: Make) -> None:
    provider = await make_provider(web={})
    assert not (await served(provider).GetProviderInfo(pb.GetProviderInfoRequest(), CALL)).guest_exec


async def test_a_vm_is_told_by_id_or_name(make_provider: Make) -> None:
    service = served(await make_provider(web={}))
    by_name = await service.GetVM(pb.GetVMRequest(vm="web"), CALL)
    by_id = await service.GetVM(pb.GetVMRequest(vm=guest_id("web")), CALL)
    assert (by_name.id, by_name.name) == (by_id.id, by_id.name) == (guest_id("web"), "web")


async def test_what_is_told_of_a_vm_later_has_the_greater_number_by_whichever_way(make_provider: Make) -> None:
    service = served(await make_provider(web={}))
    first = await service.GetVM(pb.GetVMRequest(vm="web"), CALL)
    (second,) = await collect(service.WatchVMs(pb.WatchVMsRequest(), CALL), 1)
    third = await service.GetVM(pb.GetVMRequest(vm="web"), CALL)
    assert 0 < first.sequence < second.changed.sequence < third.sequence


async def test_a_vm_without_a_name_is_a_mistake(make_provider: Make) -> None:
    with pytest.raises(InvalidRequest, match="vm: must not be empty"):
        await served(await make_provider(web={})).GetVM(pb.GetVMRequest(), CALL)


async def test_pages_of_vms_hold_each_once_by_name(make_provider: Make) -> None:
    service = served(await make_provider(web={"count": 5}))
    names, token = [], ""
    for _ in range(3):
        page = await service.ListVMs(pb.ListVMsRequest(page_size=2, page_token=token), CALL)
        names += [vm.name for vm in page.vms]
        token = page.next_page_token
    assert names == [f"web-{n:04}" for n in range(1, 6)]
    assert token == ""


@pytest.mark.parametrize("token", ["x", "é", "AAAA", "%%%"])
async def test_a_token_that_no_page_returned_is_a_mistake(make_provider: Make, token: str) -> None:
    service = served(await make_provider(web={}))
    with pytest.raises(InvalidRequest, match="page_token"):
        await service.ListVMs(pb.ListVMsRequest(page_token=token), CALL)
    with pytest.raises(InvalidRequest, match="page_token"):
        await service.ListOperations(pb.ListOperationsRequest(page_token=token), CALL)


async def test_a_watch_of_vms_begins_with_all_and_says_when_that_is_complete(make_provider: Make) -> None:
    service = served(await make_provider(b={}, a={}))
    events = await collect(service.WatchVMs(pb.WatchVMsRequest(), CALL), 3)
    assert [event.changed.name for event in events[:2]] == ["a", "b"]
    assert events[2].snapshot_complete


async def test_a_watch_of_vms_goes_on_with_changes(make_provider: Make) -> None:
    provider = await make_provider(web={})
    watching = asyncio.create_task(collect(served(provider).WatchVMs(pb.WatchVMsRequest(), CALL), 3))
    await until(1)
    provider.do(power_off)
    assert (await watching)[2].changed.power_state == pb.POWER_STATE_OFF


async def test_a_watch_of_vms_tells_of_one_that_is_gone(make_provider: Make) -> None:
    provider = await make_provider(web={})
    watching = asyncio.create_task(collect(served(provider).WatchVMs(pb.WatchVMsRequest(), CALL), 3))
    await until(1)
    provider.world.remove(guest_id("web"))
    assert (await watching)[2].removed == guest_id("web")


async def test_a_vm_that_vanishes_while_a_watch_lists_is_told_as_gone(make_provider: Make) -> None:
    provider = await make_provider(a={}, b={})
    stream = served(provider).WatchVMs(pb.WatchVMsRequest(), CALL)
    first = await anext(stream)
    provider.world.remove(guest_id("b"))
    await until(1)
    rest = await collect(stream, 2)
    assert first.changed.name == "a"
    assert [event.removed for event in rest] == [guest_id("b"), ""]


async def test_a_watch_of_vms_tells_of_an_operation_that_begins(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    watching = asyncio.create_task(collect(served(provider).WatchVMs(pb.WatchVMsRequest(), CALL), 3))
    await until(1)
    begun = await provider.shutdown()
    assert (await watching)[2].changed.active_operation == begun.id


async def test_a_watch_of_vms_tells_of_a_hypervisor_that_is_lost_and_of_its_return(make_provider: Make) -> None:
    provider = await make_provider(web={})
    connected = provider.context.inventory.connected
    stream = served(provider).WatchVMs(pb.WatchVMsRequest(), CALL)
    await collect(stream, 2)
    told = list[bool]()
    for state in (False, True):
        waiting = asyncio.ensure_future(anext(stream))
        await until(asyncio.get_running_loop().time() + 1)
        provider.context.inventory._set_connected(state)
        told.append((await waiting).hypervisor_connected)
    assert (told, connected.is_set()) == ([False, True], True)


async def test_a_vm_that_is_off_says_who_ended_its_run(make_provider: Make) -> None:
    provider = await make_provider(web={})
    provider.do(power_off)
    await until(1)
    off = await served(provider).GetVM(pb.GetVMRequest(vm="web"), CALL)
    assert off.off_cause == pb.OFF_CAUSE_HOST


async def test_a_forecast_of_one_or_of_all(make_provider: Make) -> None:
    service = served(await make_provider(web={}, deaf={"agent": "none", "acpi": "none"}))
    everything = await service.ForecastShutdown(pb.ForecastShutdownRequest(), CALL)
    assert [(vm.name, vm.forecast.graceful) for vm in everything.vms] == [("deaf", False), ("web", True)]
    one = await service.ForecastShutdown(pb.ForecastShutdownRequest(vm="web"), CALL)
    assert [vm.name for vm in one.vms] == ["web"]


async def test_a_forecast_asks_nothing_of_a_guest(make_provider: Make) -> None:
    provider = await make_provider(web={})
    before = provider.guest().calls
    await served(provider).ForecastShutdown(pb.ForecastShutdownRequest(), CALL)
    assert provider.guest().calls == before


async def test_a_shutdown_returns_at_once_with_its_operation(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    operation = await served(provider).Shutdown(pb.ShutdownRequest(vm="web", request_id="r"), CALL)
    assert (operation.vm, operation.request_id, operation.kind) == (guest_id("web"), "r", pb.OPERATION_KIND_SHUTDOWN)
    assert provider.vm().power_state == "ON"


async def test_each_kind_of_work_begins_its_operation(make_provider: Make) -> None:
    provider = await make_provider(a={"power": "off"}, b={}, c={})
    service = served(provider)
    kinds = [
        (await service.PowerOn(pb.PowerOnRequest(vm="a"), CALL)).kind,
        (await service.PowerOff(pb.PowerOffRequest(vm="b"), CALL)).kind,
        (await service.Reboot(pb.RebootRequest(vm="c"), CALL)).kind,
    ]
    assert kinds == [pb.OPERATION_KIND_POWER_ON, pb.OPERATION_KIND_POWER_OFF, pb.OPERATION_KIND_REBOOT]


async def test_the_same_request_is_joined_even_if_its_vm_is_gone_by_now(make_provider: Make) -> None:
    provider = await make_provider(web={})
    service, request = served(provider), pb.PowerOffRequest(vm="web", request_id="r")
    begun = await service.PowerOff(request, CALL)
    await until(5)
    provider.world.remove(guest_id("web"))
    await until(6)
    assert (await service.PowerOff(request, CALL)).id == begun.id


async def test_a_vm_that_does_not_exist_begins_nothing(make_provider: Make) -> None:
    provider = await make_provider(web={})
    with pytest.raises(VMNotFound):
        await served(provider).Shutdown(pb.ShutdownRequest(vm="nothing"), CALL)
    assert provider.operations.active() == []


async def test_a_template_takes_no_operation(make_provider: Make) -> None:
    provider = await make_provider(web={"template": True})
    with pytest.raises(VMRefused, match=r"web: It is a template"):
        await served(provider).PowerOff(pb.PowerOffRequest(vm="web"), CALL)


async def test_an_exec_hook_is_refused_at_once_where_they_are_turned_off(make_provider: Make) -> None:
    provider = await make_provider(web={})
    with pytest.raises(Disabled, match="--allow-guest-exec"):
        await served(provider).Shutdown(pb.ShutdownRequest(vm="web", pre_stop=[exec_hook("sync")]), CALL)
    assert provider.operations.active() == []


async def test_a_hook_that_the_hypervisor_cannot_do_is_refused_at_once(make_provider: Make) -> None:
    provider = await make_provider(EXEC, web={})
    adapter: Any = OneVM()
    context = Context(adapter, provider.inventory, provider.journal, provider.settings)
    for hook in (exec_hook("sync"), pb.Hook(snapshot=pb.SnapshotHook())):
        with pytest.raises(Unsupported, match="leave it out"):
            await Service(context, provider.operations).Shutdown(pb.ShutdownRequest(vm="web", pre_stop=[hook]), CALL)


async def test_a_post_start_hook_is_checked_too(make_provider: Make) -> None:
    provider = await make_provider(web={"power": "off"})
    with pytest.raises(Disabled):
        await served(provider).PowerOn(pb.PowerOnRequest(vm="web", post_start=[exec_hook("sync")]), CALL)


async def test_operations_are_listed_newest_first_in_pages(make_provider: Make) -> None:
    provider = await make_provider(web={})
    service, ids = served(provider), []
    for moment in (1, 2, 3):
        await until(moment)
        ids.append((await provider.end(await provider.power_off())).id)
    first = await service.ListOperations(pb.ListOperationsRequest(page_size=2), CALL)
    token = first.next_page_token
    second = await service.ListOperations(pb.ListOperationsRequest(page_size=2, page_token=token), CALL)
    assert [op.id for op in (*first.operations, *second.operations)] == ids[::-1]
    assert second.next_page_token == ""


async def many_ended(provider: Provider, count: int, output: str = "") -> None:
    """So many operations in the journal, each a second after the one before."""
    first = await provider.end(await provider.power_off())
    assert first.verdict
    hooks = (HookResult(name="run", state=HookState.SUCCEEDED, output=output),)
    for number in range(1, count):
        changes = {
            "id": f"op-{number}",
            "create_time": first.create_time + timedelta(seconds=number),
            "request": first.request.model_copy(update={"request_id": f"r-{number}"}),
            "verdict": first.verdict.model_copy(update={"hooks": hooks}),
        }
        await provider.journal.save(first.model_copy(update=changes))


async def test_a_page_of_operations_is_read_in_slices_and_whole(make_provider: Make) -> None:
    provider = await make_provider(web={})
    await many_ended(provider, 2 * OPERATIONS_AT_ONCE + 1)
    page = await served(provider).ListOperations(pb.ListOperationsRequest(), CALL)
    assert [op.id for op in page.operations[:-1]] == [f"op-{n}" for n in range(2 * OPERATIONS_AT_ONCE, 0, -1)]
    assert page.next_page_token == ""


async def test_a_page_of_operations_that_grows_too_long_for_a_message_ends_there(make_provider: Make) -> None:
    provider = await make_provider(web={})
    service, ids, token = served(provider), list[str](), ""
    await many_ended(provider, 15, output="x" * (PAGE_BYTES // 10))
    for _ in range(2):
        page = await service.ListOperations(pb.ListOperationsRequest(page_token=token), CALL)
        assert page.ByteSize() < TRANSPORT_LIMIT
        ids, token = [*ids, *(op.id for op in page.operations)], page.next_page_token
    assert (len(ids), len(set(ids)), token) == (15, 15, "")


async def test_an_operation_under_way_is_listed_as_it_is_now(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    await provider.reach(begun, State.WAITING_FOR_GUEST)
    page = await served(provider).ListOperations(pb.ListOperationsRequest(active_only=True), CALL)
    assert [(op.id, op.state) for op in page.operations] == [(begun.id, pb.OPERATION_STATE_WAITING_FOR_GUEST)]


async def test_pages_hold_each_operation_once_though_the_clock_was_set_while_the_provider_was_away(
    make_provider: Make,
) -> None:
    provider = await make_provider(**{f"m{number:02}": DEAF for number in range(25)})
    begun = [await provider.shutdown(f"m{number:02}", timeout=600) for number in range(25)]
    for operation in begun:  # as those are that were resumed under another clock: told by it, on disk still by the old
        run = provider.operations._runs[operation.id]
        run.shown = run.shown.moved(timedelta(hours=1), provider.context.clock.boot)
    service, ids, token = served(provider), list[str](), ""
    for _ in range(3):
        page = await service.ListOperations(pb.ListOperationsRequest(page_size=9, page_token=token), CALL)
        ids, token = [*ids, *(op.id for op in page.operations)], page.next_page_token
    assert (sorted(ids), token) == (sorted(operation.id for operation in begun), "")


async def turns_of_others(work: Awaitable[Any]) -> int:
    """How often something else has its turn while this goes on."""
    turns, doing = 0, asyncio.ensure_future(work)
    while not doing.done():
        await asyncio.sleep(0)
        turns += 1
    await doing
    return turns


async def test_others_have_their_turn_while_many_vms_are_told(make_provider: Make) -> None:
    service = served(await make_provider(web={"count": 5 * VMS_AT_ONCE}))
    assert await turns_of_others(service.ListVMs(pb.ListVMsRequest(page_size=1000), CALL)) > 5
    assert await turns_of_others(service.ForecastShutdown(pb.ForecastShutdownRequest(), CALL)) > 5


async def test_others_have_their_turn_while_many_operations_are_told(make_provider: Make) -> None:
    provider = await make_provider(web={})
    await many_ended(provider, 5 * OPERATIONS_AT_ONCE)
    assert await turns_of_others(served(provider).ListOperations(pb.ListOperationsRequest(), CALL)) > 5


async def test_one_record_that_cannot_be_told_hurts_no_other(make_provider: Make) -> None:
    provider = await make_provider(web={})
    await many_ended(provider, 3)
    good = await provider.journal.get("op-1")
    assert good
    broken = good.steps[0].model_copy(update={"time": datetime(2030, 1, 1)})
    await provider.journal.save(good.model_copy(update={"steps": (broken,)}))
    page = await served(provider).ListOperations(pb.ListOperationsRequest(), CALL)
    assert [op.error.reason for op in page.operations] == ["", "UNREADABLE_RECORD", ""]


async def test_a_watched_operation_ends_with_its_verdict(make_provider: Make) -> None:
    provider = await make_provider(web=DEAF)
    begun = await provider.shutdown(timeout=60)
    seen = [op async for op in served(provider).WatchOperation(pb.WatchOperationRequest(id=begun.id), CALL)]
    assert seen[-1].verdict.outcome == pb.OUTCOME_FORCED
    assert not any(op.HasField("verdict") for op in seen[:-1])


async def test_a_running_shutdown_is_extended_forced_and_cancelled(make_provider: Make) -> None:
    provider = await make_provider(a=DEAF, b=DEAF)
    service = served(provider)
    a, b = await provider.shutdown("a", timeout=60), await provider.shutdown("b", timeout=60)
    await until(1)
    longer = pb.ExtendOperationRequest(id=a.id, extension=Duration(seconds=30))
    extended = await service.ExtendOperation(longer, CALL)
    assert extended.force_after.ToSeconds() - extended.create_time.ToSeconds() == 90
    await service.ForceOperation(pb.ForceOperationRequest(id=a.id), CALL)
    assert (await provider.end(a)).state == "SUCCEEDED"
    cancelled = await service.CancelOperation(pb.CancelOperationRequest(id=b.id), CALL)
    assert cancelled.state == pb.OPERATION_STATE_CANCELLED


async def test_an_operation_that_nobody_began_is_not_found(make_provider: Make) -> None:
    with pytest.raises(OperationNotFound):
        await served(await make_provider(web={})).GetOperation(pb.GetOperationRequest(id="nothing"), CALL)


async def test_an_extension_is_checked_before_its_operation_is_looked_for(make_provider: Make) -> None:
    with pytest.raises(InvalidRequest, match="id: must not be empty"):
        await served(await make_provider(web={})).ExtendOperation(pb.ExtendOperationRequest(), CALL)


async def test_no_secret_reaches_journal_log_answer_or_error(make_provider: Make) -> None:
    provider = await make_provider(EXEC, web=DEAF | {"agent": "up", "hooks": [{"exit_code": 1}]})
    service = served(provider)
    call = pb.HttpGetHook(url="http://127.0.0.1:1/", headers={"Authorization": "s3cret-header"})
    request = pb.ShutdownRequest(
        vm="web",
        timeout=Duration(seconds=8),
        pre_stop=[exec_hook("sync"), pb.Hook(http_get=call)],
        guest_credentials=pb.GuestCredentials(username="admin-user", password="hunter2"),
        request_id="r",
    )
    with capture_logs() as logs:
        begun = await service.Shutdown(request, CALL)
        with pytest.raises(OperationActive) as refused:
            await service.Shutdown(pb.ShutdownRequest(vm="web", guest_credentials=request.guest_credentials), CALL)
        seen = [op async for op in service.WatchOperation(pb.WatchOperationRequest(id=begun.id), CALL)]
    written = b"".join(file.read_bytes() for file in provider.settings.state_dir.iterdir())
    said = f"{logs}{seen}{refused.value!r}{written!r}{provider.operations.active()!r}"
    assert "Authorization" in said
    for secret in ("s3cret-header", "hunter2", "admin-user"):
        assert secret not in said


# Who asked, for whom and why

ALICE = Client("cn:alice", None, operates=True, shown="cn:alice dns:a.example", delegates=False)
CONTROLLER = Client("cn:controller", None, operates=True, shown="cn:controller", delegates=True)


@pytest.fixture
def speaking() -> Iterator[Callable[[Client], object]]:
    """Sets whose calls the next ones are."""
    before = CLIENT.get()
    yield CLIENT.set
    CLIENT.set(before)


Speaking = Callable[[Client], object]


async def test_an_operation_says_who_asked_for_it_and_why(make_provider: Make, speaking: Speaking) -> None:
    speaking(ALICE)
    service = served(await make_provider(web={}))
    begun = await service.Shutdown(pb.ShutdownRequest(vm="web", reason="kernel\nupdate"), CALL)
    assert (begun.requested_by, begun.reason, begun.on_behalf_of) == ("cn:alice dns:a.example", "kernel\\nupdate", "")
    assert (await service.GetOperation(pb.GetOperationRequest(id=begun.id), CALL)).reason == "kernel\\nupdate"


@pytest.mark.parametrize("method", ["PowerOn", "PowerOff", "Shutdown", "Reboot"])
async def test_who_may_speak_for_others_says_for_whom(make_provider: Make, speaking: Speaking, method: str) -> None:
    service = served(await make_provider(web={}))
    request: Any = getattr(pb, f"{method}Request")(vm="web", on_behalf_of="VirtualMachine a/web")
    speaking(ALICE)
    with pytest.raises(NotAllowed, match="--delegates"):
        await getattr(service, method)(request, CALL)
    assert (await service.GetVM(pb.GetVMRequest(vm="web"), CALL)).active_operation == ""
    speaking(CONTROLLER)
    begun = await getattr(service, method)(request, CALL)
    assert (begun.requested_by, begun.on_behalf_of) == ("cn:controller", "VirtualMachine a/web")


async def test_a_decision_says_in_the_steps_who_made_it_and_why(make_provider: Make, speaking: Speaking) -> None:
    provider = await make_provider(a=DEAF)
    begun = await provider.shutdown("a", timeout=60)
    await until(1)
    speaking(ALICE)
    request = pb.ForceOperationRequest(id=begun.id, reason="it hangs")
    told = await served(provider).ForceOperation(request, CALL)
    assert "told to power off hard, asked by cn:alice dns:a.example: it hangs" in [step.message for step in told.steps]


@pytest.mark.parametrize(("field", "most"), [("reason", 256), ("on_behalf_of", 512)])
@pytest.mark.parametrize("method", ["PowerOn", "Shutdown", "ExtendOperation", "ForceOperation", "CancelOperation"])
async def test_words_that_are_too_long_are_refused(make_provider: Make, field: str, most: int, method: str) -> None:
    service = served(await make_provider(web={}))
    request: Any = getattr(pb, f"{method}Request")(**{field: "x" * (most + 1)})
    if "vm" in request.DESCRIPTOR.fields_by_name:
        request.vm = "web"
    else:
        request.id = "op-1"
    if method == "ExtendOperation":
        request.timeout.seconds = 9
    with pytest.raises(InvalidRequest, match=f"{field}: must be at most {most} long"):
        await getattr(service, method)(request, CALL)


async def test_operations_are_listed_by_who_asked_or_for_whom(make_provider: Make, speaking: Speaking) -> None:
    service = served(await make_provider(a={}, b={}))
    speaking(ALICE)
    first = await service.PowerOff(pb.PowerOffRequest(vm="a"), CALL)
    speaking(CONTROLLER)
    second = await service.PowerOff(pb.PowerOffRequest(vm="b", on_behalf_of="VirtualMachine a/b"), CALL)
    await until(5)
    found = {
        name: [each.id for each in (await service.ListOperations(_by(name), CALL)).operations]
        for name in ("cn:alice", "dns:a.example", "cn:ali", "cn:controller", "VirtualMachine a/b", "a/b")
    }
    expected = {"cn:alice": [first.id], "dns:a.example": [first.id], "cn:ali": [], "a/b": []}
    assert found == expected | {"cn:controller": [second.id], "VirtualMachine a/b": [second.id]}


async def test_a_page_of_those_ends_after_so_many_that_are_others_and_goes_on(
    make_provider: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.server.service.MOST_LOOKED_AT", 2)
    service = served(await make_provider(web={}))
    for end in (5, 10, 15):
        await service.PowerOff(pb.PowerOffRequest(vm="web"), CALL)
        await until(end)
    page = await service.ListOperations(_by("cn:nobody"), CALL)
    assert (len(page.operations), bool(page.next_page_token)) == (0, True)
    rest = pb.ListOperationsRequest(requested_by="cn:nobody", page_token=page.next_page_token)
    assert (await service.ListOperations(rest, CALL)).next_page_token == ""


def _by(name: str) -> pb.ListOperationsRequest:
    return pb.ListOperationsRequest(requested_by=name)


async def test_the_provider_tells_the_caller_who_it_is_and_whether_it_may_speak_for_others(
    make_provider: Make, speaking: Speaking
) -> None:
    service = served(await make_provider(web={}))
    speaking(CONTROLLER)
    info = await service.GetProviderInfo(pb.GetProviderInfoRequest(), CALL)
    assert (info.caller, info.on_behalf_of) == ("cn:controller", True)


# What a client may have done to which VMs

TEAM = replace(ALICE, rules=(Rule(clients=("cn:alice",), vms=Scope(names=("web",)), allow=(Right.POWER,)),))


async def test_a_client_touches_only_vms_that_are_granted(make_provider: Make, speaking: Speaking) -> None:
    service = served(await make_provider(EXEC, web={}, db={}))
    speaking(TEAM)
    with pytest.raises(NotAllowed):
        await service.PowerOff(pb.PowerOffRequest(vm="db"), CALL)
    assert (await service.GetVM(pb.GetVMRequest(vm="db"), CALL)).active_operation == ""
    assert (await service.PowerOff(pb.PowerOffRequest(vm=guest_id("web")), CALL)).vm == guest_id("web")


async def test_a_client_without_that_right_runs_no_programs(make_provider: Make, speaking: Speaking) -> None:
    service = served(await make_provider(EXEC, web={}))
    speaking(TEAM)
    with pytest.raises(NotAllowed, match="exec is not granted"):
        await service.Shutdown(pb.ShutdownRequest(vm="web", pre_stop=[exec_hook("id")]), CALL)


@pytest.mark.parametrize(
    ("probe", "right"),
    [(pb.Probe(exec=pb.ExecHook(command=["id"])), "exec"), (pb.Probe(tcp=pb.TcpProbe(port=22)), "http")],
)
async def test_a_client_without_that_right_asks_no_guest_whether_it_is_ready(
    make_provider: Make, speaking: Speaking, probe: pb.Probe, right: str
) -> None:
    service = served(await make_provider(EXEC, web={"power": "off"}))
    speaking(TEAM)
    with pytest.raises(NotAllowed, match=f"{right} is not granted"):
        await service.PowerOn(pb.PowerOnRequest(vm="web", ready=probe), CALL)


async def test_a_client_decides_about_no_operation_on_a_vm_that_is_not_granted(
    make_provider: Make, speaking: Speaking
) -> None:
    provider = await make_provider(db=DEAF)
    service, begun = served(provider), await provider.shutdown("db", timeout=60)
    await until(1)
    speaking(TEAM)
    with pytest.raises(NotAllowed):
        await service.ForceOperation(pb.ForceOperationRequest(id=begun.id), CALL)
    with pytest.raises(NotAllowed):
        await service.CancelOperation(pb.CancelOperationRequest(id=begun.id), CALL)
    with pytest.raises(NotAllowed):
        longer = pb.ExtendOperationRequest(id=begun.id, extension=Duration(seconds=30))
        await service.ExtendOperation(longer, CALL)


async def test_a_client_joins_no_operation_on_a_vm_that_is_not_granted(make_provider: Make, speaking: Speaking) -> None:
    service = served(await make_provider(db=DEAF))
    request = pb.ShutdownRequest(vm="db", request_id="r-1")
    await service.Shutdown(request, CALL)
    speaking(TEAM)
    request.guest_credentials.username = "eve"
    with pytest.raises(NotAllowed):
        await service.Shutdown(request, CALL)
