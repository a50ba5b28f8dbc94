"""A provider killed in any state, and started again, goes on where it was. Real processes; the sim's world lives on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls, was_accepted
from tests.rigs.polling import poll
from tests.rigs.process import Provider
from tests.rigs.sim import console, control

SCRIPT = """
guests:
  hooked:
    shutdown_time: 1s
    hooks: [{match: save, takes: 2s, console: "guest hooked: saving"}]
  slow: {shutdown_time: 3s}
  quick: {shutdown_time: 300ms}
  deaf: {agent: none, acpi: ignores, power_off_time: 3s}
  asked: {power: off, hooks: [{exit_code: 1, output: no response}]}
  hung: {agent: none, acpi: ignores, faults: {power_off: hang}}
"""


@dataclass
class Rig:
    provider: Provider
    world: Path
    calls: Calls

    def kill_and_start(self) -> None:
        self.provider.kill()
        self.provider.start()

    def asked(self, operation: pb.Operation) -> pb.Operation:
        """The operation when its guest has been asked, and that is written down."""
        return self.calls.until(operation, was_accepted)

    def shutdown(self, vm: str, seconds: float, **fields: object) -> pb.Operation:
        timeout = Duration()
        timeout.FromNanoseconds(int(seconds * 1e9))
        return self.calls.stub.Shutdown(pb.ShutdownRequest(vm=vm, timeout=timeout, request_id="once", **fields))  # type: ignore[arg-type]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    script, world = tmp_path / "script.yaml", tmp_path / "world.db"
    script.write_text(SCRIPT)
    arguments = ("--script", str(script), "--world", str(world), "--allow-guest-exec")
    with Provider("sim", *arguments) as provider, calls(provider.address) as client:
        yield Rig(provider, world, client)


HOOK = pb.Hook(name="save", exec=pb.ExecHook(command=["save", "now"]))


def test_killed_while_a_hook_runs_it_is_interrupted_and_not_run_again(rig: Rig) -> None:
    operation = rig.shutdown("hooked", 20, pre_stop=[HOOK])
    rig.calls.until_state(operation, pb.OPERATION_STATE_RUNNING_HOOKS)
    rig.calls.vm("hooked")  # written down first, then done, then our next call is answered
    rig.kill_and_start()
    ended = rig.calls.end(operation)
    assert ended.verdict.outcome == pb.OUTCOME_GRACEFUL
    assert [hook.state for hook in ended.verdict.hooks] == [pb.HOOK_STATE_INTERRUPTED]
    assert console(rig.world, "hooked").count("guest hooked: saving") == 1


def test_killed_while_it_waits_it_keeps_force_after_and_sees_the_guest_go(rig: Rig) -> None:
    operation = rig.shutdown("slow", 20)
    before = rig.asked(operation)
    rig.kill_and_start()
    ended = rig.calls.end(operation)
    assert ended.force_after == before.force_after
    assert (ended.verdict.outcome, ended.verdict.signal) == (pb.OUTCOME_GRACEFUL, pb.SIGNAL_GUEST_AGENT)


def test_a_guest_is_not_asked_again_by_the_new_process(rig: Rig) -> None:
    operation = rig.shutdown("slow", 20)
    rig.asked(operation)
    rig.kill_and_start()
    rig.calls.end(operation)
    assert console(rig.world, "slow").count("guest slow: agent asked for shutdown") == 1


def test_a_guest_that_went_off_while_nobody_looked_is_graceful(rig: Rig) -> None:
    operation = rig.shutdown("quick", 20)
    rig.asked(operation)
    rig.kill_and_start()  # takes longer than the guest does
    assert rig.calls.end(operation).verdict.outcome == pb.OUTCOME_GRACEFUL


def test_a_plug_pulled_while_nobody_looked_is_out_of_band(rig: Rig) -> None:
    operation = rig.shutdown("deaf", 20)
    rig.asked(operation)
    rig.provider.kill()
    control(rig.world, "off", "deaf")
    rig.provider.start()
    assert rig.calls.end(operation).verdict.outcome == pb.OUTCOME_OUT_OF_BAND


def test_killed_before_its_cut_took_effect_it_cuts_after_the_restart_and_the_verdict_is_forced(rig: Rig) -> None:
    operation = rig.shutdown("hung", 1)
    before = rig.calls.until_state(operation, pb.OPERATION_STATE_FORCING)
    rig.calls.vm("hung")  # written down first, then done, then our next call is answered
    rig.kill_and_start()
    ended = rig.calls.end(operation)
    assert (ended.verdict.outcome, ended.verdict.reason) == (pb.OUTCOME_FORCED, pb.REASON_TIMEOUT)
    assert ended.force_after == before.force_after


def test_killed_after_its_cut_took_effect_it_cannot_tell_whose_cut_it_was(rig: Rig) -> None:
    """The hypervisor says that its host cut the power, and not for whom; no record of ours tells that it was done."""
    operation = rig.shutdown("deaf", 1)
    rig.calls.until_state(operation, pb.OPERATION_STATE_FORCING)
    rig.calls.vm("deaf")
    rig.provider.kill()
    poll(lambda: json.loads(control(rig.world, "show", "deaf"))["power_state"] == "OFF")
    rig.provider.start()
    ended = rig.calls.end(operation)
    assert ended.verdict.outcome == pb.OUTCOME_UNKNOWN
    assert ended.verdict.message.startswith("Its power was cut, by vmpower or by somebody else;")


def test_killed_while_it_asks_its_owner_it_still_asks(rig: Rig) -> None:
    operation = rig.shutdown("deaf", 1, escalation=pb.ESCALATION_ASK)
    rig.calls.until_state(operation, pb.OPERATION_STATE_AWAITING_DECISION)
    rig.kill_and_start()
    rig.calls.until_state(operation, pb.OPERATION_STATE_AWAITING_DECISION)
    rig.calls.stub.ForceOperation(pb.ForceOperationRequest(id=operation.id))
    assert rig.calls.end(operation).verdict.reason == pb.REASON_REQUESTED


def test_the_same_request_finds_the_same_operation_after_a_kill(rig: Rig) -> None:
    operation = rig.shutdown("deaf", 20)
    rig.kill_and_start()
    assert rig.shutdown("deaf", 20).id == operation.id


def test_a_stopped_provider_leaves_its_operations_to_the_next(rig: Rig) -> None:
    operation = rig.shutdown("slow", 20)
    rig.asked(operation)
    rig.provider.stop()
    rig.provider.start()
    assert rig.calls.end(operation).verdict.outcome == pb.OUTCOME_GRACEFUL


def asks(rig: Rig, seconds: int) -> pb.Operation:
    """A PowerOn that asks its VM whether it is ready, which it never is."""
    probe = pb.Probe(exec=pb.ExecHook(command=["pg_isready"]), timeout=Duration(seconds=seconds))
    operation = rig.calls.stub.PowerOn(pb.PowerOnRequest(vm="asked", ready=probe))
    return rig.calls.until_state(operation, pb.OPERATION_STATE_RUNNING_HOOKS)


def test_a_vm_that_crashes_while_it_is_asked_and_nobody_looks_is_not_started_again(rig: Rig) -> None:
    operation = asks(rig, 600)
    rig.provider.kill()
    control(rig.world, "crash", "asked")
    rig.provider.start()
    ended = rig.calls.end(operation)
    assert (ended.state, ended.verdict.outcome) == (pb.OPERATION_STATE_FAILED, pb.OUTCOME_CRASHED)
    assert rig.calls.vm("asked").power_state == pb.POWER_STATE_OFF


def test_a_vm_is_asked_no_longer_than_it_was_said_whatever_restarts(rig: Rig) -> None:
    operation = asks(rig, 6)
    for _ in range(2):
        rig.kill_and_start()
    ended = rig.calls.end(operation)
    took = ended.verdict.end_time.ToDatetime() - ended.verdict.start_time.ToDatetime()
    assert ended.verdict.hooks[0].state == pb.HOOK_STATE_TIMED_OUT
    assert took.total_seconds() == pytest.approx(6, abs=2)
