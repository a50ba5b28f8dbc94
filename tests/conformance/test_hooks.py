"""What runs before a VM goes down, and what its failure does."""

from collections.abc import Callable

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.conformance.client import LONG, Power, duration, ending, hook_states, moment
from tests.conformance.target import Commands

ABORT = pb.FAILURE_POLICY_ABORT


@pytest_asyncio.fixture(loop_scope="session")
async def guest(power: Power, agent: pb.VM) -> pb.VM:
    """A guest in which programs can be run."""
    if not (await power.info()).guest_exec:
        pytest.skip("this provider does not offer guest exec")
    return agent


def run(
    command: list[str],
    name: str = "",
    timeout: float = 60,
    policy: pb.FailurePolicy.ValueType = pb.FAILURE_POLICY_UNSPECIFIED,
) -> pb.Hook:
    """A hook that runs a program."""
    return pb.Hook(
        name=name,
        exec=pb.ExecHook(command=command),
        timeout=duration(timeout),
        failure_policy=policy,
    )


async def test_a_hook_that_succeeds_is_recorded_with_its_output(power: Power, guest: pb.VM, commands: Commands) -> None:
    operation = await power.end(await power.shutdown(guest, pre_stop=[run(commands.succeeds, "flush")]))
    assert ending(operation).startswith("SUCCEEDED: GRACEFUL by ")
    [hook] = operation.verdict.hooks
    assert (hook.name, hook.state, hook.exit_code) == ("flush", pb.HOOK_STATE_SUCCEEDED, 0)
    assert commands.succeeds_output in hook.output


async def test_a_hook_that_fails_is_recorded_and_the_guest_goes_down_gracefully(
    power: Power, guest: pb.VM, commands: Commands
) -> None:
    operation = await power.end(await power.shutdown(guest, pre_stop=[run(commands.fails, "flush")]))
    assert ending(operation).startswith("SUCCEEDED: GRACEFUL by ")
    [hook] = operation.verdict.hooks
    assert (hook.state, hook.exit_code) == (pb.HOOK_STATE_FAILED, commands.fails_exit_code)


async def test_a_hook_that_fails_with_abort_leaves_the_vm_running(
    power: Power, guest: pb.VM, commands: Commands
) -> None:
    operation = await power.shutdown(guest, pre_stop=[run(commands.fails, policy=ABORT)])
    ended = await power.end(operation)
    assert ending(ended) == "FAILED: STILL_RUNNING/HOOK_FAILED"
    assert (await power.vm(guest.id)).power_state == pb.POWER_STATE_ON


async def test_hooks_after_one_that_aborts_are_skipped(power: Power, guest: pb.VM, commands: Commands) -> None:
    hooks = [
        run(commands.succeeds, "first"),
        run(commands.fails, "second", policy=ABORT),
        run(commands.succeeds, "third"),
    ]
    operation = await power.end(await power.shutdown(guest, pre_stop=hooks))
    assert hook_states(operation) == {"first": "SUCCEEDED", "second": "FAILED", "third": "SKIPPED"}


async def test_a_hook_that_takes_too_long_is_timed_out(
    power: Power, guest: pb.VM, commands: Commands, grace: Callable[[float], Duration]
) -> None:
    hook = run(commands.hangs, "endless", policy=ABORT)
    hook.timeout.CopyFrom(grace(1))
    operation = await power.end(await power.shutdown(guest, pre_stop=[hook]))
    assert hook_states(operation) == {"endless": "TIMED_OUT"}
    assert operation.verdict.hooks[0].duration.ToTimedelta() >= grace(1).ToTimedelta()


async def test_a_hook_without_name_is_named_for_its_place(power: Power, guest: pb.VM, commands: Commands) -> None:
    hooks = [run(commands.succeeds, "first"), run(commands.fails, policy=ABORT)]
    operation = await power.end(await power.shutdown(guest, pre_stop=hooks))
    assert [hook.name for hook in operation.verdict.hooks] == ["first", "hook-2"]


async def test_the_name_of_a_hook_need_not_be_ascii(power: Power, guest: pb.VM, commands: Commands) -> None:
    hooks = [run(commands.fails, "Datenbank schließen 🐘", policy=ABORT)]
    operation = await power.end(await power.shutdown(guest, pre_stop=hooks))
    assert hook_states(operation) == {"Datenbank schließen 🐘": "FAILED"}


async def test_an_operation_shows_that_its_hooks_run(power: Power, guest: pb.VM, commands: Commands) -> None:
    operation = await power.shutdown(guest, pre_stop=[run(commands.hangs, policy=ABORT)])
    hooked = await power.reach(operation, pb.OPERATION_STATE_RUNNING_HOOKS)
    assert not hooked.HasField("force_after")
    await power.cancel(operation)
    assert ending(await power.end(operation)).startswith("CANCELLED: STILL_RUNNING")


async def test_the_grace_period_begins_when_the_hooks_have_ended(
    power: Power, guest: pb.VM, commands: Commands, grace: Callable[[float], Duration]
) -> None:
    hook = run(commands.hangs)
    hook.timeout.CopyFrom(grace(2))
    operation = await power.shutdown(guest, timeout=LONG, pre_stop=[hook])
    waiting = await power.reach(operation, pb.OPERATION_STATE_WAITING_FOR_GUEST)
    given = moment(waiting.force_after) - moment(operation.create_time)
    assert given >= (LONG.ToTimedelta() + grace(2).ToTimedelta()).total_seconds()
    await power.end(operation)


async def test_a_power_off_does_not_wait_for_hooks(power: Power, guest: pb.VM, commands: Commands) -> None:
    shutdown = await power.shutdown(guest, pre_stop=[run(commands.hangs, timeout=600)])
    await power.reach(shutdown, pb.OPERATION_STATE_RUNNING_HOOKS)
    cut = await power.end(await power.power_off(guest))
    assert ending(cut) == "SUCCEEDED: FORCED/REQUESTED"
    assert ending(await power.end(shutdown)) == "SUCCEEDED: FORCED/PREEMPTED"


async def test_a_hook_after_the_start_runs_in_the_guest(power: Power, guest: pb.VM, commands: Commands) -> None:
    await power.end(await power.power_off(guest))
    operation = await power.end(await power.power_on(guest, post_start=[run(commands.succeeds, "warm")]))
    assert ending(operation) == "SUCCEEDED: STARTED"
    assert hook_states(operation) == {"warm": "SUCCEEDED"}


async def test_a_snapshot_can_be_taken_before_the_shutdown(power: Power, snapshot: pb.VM) -> None:
    if not (await power.info()).snapshot:
        pytest.skip("this provider does not offer snapshots")
    hooks = [pb.Hook(name="keep", snapshot=pb.SnapshotHook(description="before"), timeout=duration(60))]
    operation = await power.end(await power.shutdown(snapshot, pre_stop=hooks))
    assert hook_states(operation) == {"keep": "SUCCEEDED"}
