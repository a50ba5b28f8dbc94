"""Operations as records: one active per VM, the same request the same operation, listed, watched, kept."""

import uuid

from protos.power.v1 import power_pb2 as pb
from tests.conformance.client import FINAL, Power, duration, ending, moment, refusal


async def waiting(power: Power, vm: pb.VM, request_id: str = "") -> pb.Operation:
    """A shutdown that goes on until somebody ends it."""
    operation = await power.shutdown(vm, request_id=request_id)
    return await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)


async def test_an_operation_says_what_was_asked_for(power: Power, deaf: pb.VM) -> None:
    operation = await waiting(power, deaf)
    assert operation.id
    assert (operation.vm, operation.vm_name) == (deaf.id, deaf.name)
    assert operation.kind == pb.OPERATION_KIND_SHUTDOWN
    assert operation.HasField("create_time")
    assert not operation.HasField("verdict")


async def test_a_vm_may_be_named_instead_of_identified(power: Power, off: pb.VM) -> None:
    operation = await power.stub.Shutdown(pb.ShutdownRequest(vm=off.name))
    assert operation.vm == off.id


async def test_force_after_is_the_timeout_after_the_beginning(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf, timeout=duration(100))
    reached = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    assert 100 <= moment(reached.force_after) - moment(reached.create_time) < 105


async def test_a_second_shutdown_is_aborted_and_told_which_is_active(power: Power, deaf: pb.VM) -> None:
    active = await waiting(power, deaf)
    refused = await refusal(power.shutdown(deaf, request_id=str(uuid.uuid4())))
    assert (refused.code.name, refused.info.reason) == ("ABORTED", "OPERATION_ACTIVE")
    assert refused.info.metadata["operation_id"] == active.id


async def test_a_reboot_is_aborted_while_a_shutdown_is_active(power: Power, deaf: pb.VM) -> None:
    active = await waiting(power, deaf)
    refused = await refusal(power.stub.Reboot(pb.RebootRequest(vm=deaf.id)))
    assert (refused.code.name, refused.info.metadata["operation_id"]) == ("ABORTED", active.id)


async def test_a_shutdown_that_is_aborted_leaves_the_active_one_as_it_is(power: Power, deaf: pb.VM) -> None:
    active = await waiting(power, deaf)
    await refusal(power.shutdown(deaf, timeout=duration(1)))
    after = await power.get(active)
    assert (after.state, after.force_after) == (active.state, active.force_after)


async def test_the_same_request_id_is_the_same_operation_while_it_is_active(power: Power, deaf: pb.VM) -> None:
    request_id = str(uuid.uuid4())
    first = await waiting(power, deaf, request_id)
    again = await power.shutdown(deaf, request_id=request_id)
    assert (again.id, again.request_id) == (first.id, request_id)


async def test_the_same_request_id_is_the_same_operation_after_it_ended(power: Power, deaf: pb.VM) -> None:
    request_id = str(uuid.uuid4())
    first = await waiting(power, deaf, request_id)
    await power.cancel(first)
    ended = await power.end(first)
    assert await power.shutdown(deaf, request_id=request_id) == ended
    assert (await power.vm(deaf.id)).active_operation == ""


async def test_without_a_request_id_each_request_is_its_own_operation(power: Power, off: pb.VM) -> None:
    first = await power.end(await power.shutdown(off))
    second = await power.shutdown(off)
    assert second.id != first.id


async def test_operations_are_listed_newest_first(power: Power, off: pb.VM) -> None:
    older = await power.end(await power.shutdown(off))
    newer = await power.end(await power.power_off(off))
    assert [each.id for each in await power.operations()][:2] == [newer.id, older.id]


async def test_operations_are_listed_by_vm(power: Power, off: pb.VM, running: pb.VM) -> None:
    here = await power.end(await power.power_on(running))
    elsewhere = await power.end(await power.shutdown(off)) if off.id != running.id else None
    listed = await power.operations(running.name)
    assert listed[0].id == here.id
    assert {each.vm for each in listed} == {running.id}
    assert elsewhere is None or elsewhere.id not in [each.id for each in listed]


async def test_active_operations_are_listed_alone(power: Power, deaf: pb.VM) -> None:
    active = await waiting(power, deaf)
    assert [each.id for each in await power.operations(deaf.id, active_only=True)] == [active.id]
    await power.cancel(active)
    await power.end(active)
    assert await power.operations(deaf.id, active_only=True) == []


async def test_pages_of_operations_hold_each_once(power: Power, off: pb.VM) -> None:
    for _ in range(3):
        await power.end(await power.shutdown(off))
    first = await power.stub.ListOperations(pb.ListOperationsRequest(vm=off.id, page_size=2))
    assert len(first.operations) == 2
    request = pb.ListOperationsRequest(vm=off.id, page_size=2, page_token=first.next_page_token)
    second = await power.stub.ListOperations(request)
    assert [each.id for each in (*first.operations, *second.operations)][:3] == [
        each.id for each in await power.operations(off.id)
    ][:3]


async def test_a_watch_ends_with_the_verdict(power: Power, deaf: pb.VM) -> None:
    operation = await power.shutdown(deaf, timeout=duration(0.2))
    seen = await power.seen(operation)
    assert [each.HasField("verdict") for each in seen].count(True) == 1
    assert seen[-1].state in FINAL
    assert ending(seen[-1]) == "SUCCEEDED: FORCED/TIMEOUT"


async def test_a_watch_of_an_ended_operation_gives_it_once(power: Power, off: pb.VM) -> None:
    ended = await power.end(await power.shutdown(off))
    assert await power.seen(ended) == [ended]


async def test_an_ended_operation_can_be_read_for_long(power: Power, off: pb.VM) -> None:
    ended = await power.end(await power.shutdown(off))
    assert await power.get(ended) == ended


async def test_the_times_of_an_operation_are_in_order(power: Power, deaf: pb.VM) -> None:
    operation = await power.end(await power.shutdown(deaf, timeout=duration(0.2)))
    verdict = operation.verdict
    assert moment(operation.create_time) <= moment(verdict.start_time) <= moment(verdict.end_time)
    steps = [moment(step.time) for step in operation.steps]
    assert steps == sorted(steps)
    assert moment(operation.create_time) <= steps[0]
    assert steps[-1] <= moment(verdict.end_time) + 1


async def test_the_steps_of_an_operation_tell_its_story(power: Power, deaf: pb.VM) -> None:
    operation = await power.end(await power.shutdown(deaf, timeout=duration(0.2)))
    states = [step.state for step in operation.steps]
    assert pb.OPERATION_STATE_WAITING_FOR_GUEST in states
    assert pb.OPERATION_STATE_FORCING in states
    assert all(step.message for step in operation.steps)


async def test_a_verdict_is_a_sentence_too(power: Power, off: pb.VM) -> None:
    assert (await power.end(await power.shutdown(off))).verdict.message
