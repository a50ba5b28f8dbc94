from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from controller import convert
from controller.enums import DesiredPower, Escalation, FailurePolicy, Kind, PowerState, Signal, State
from controller.provider_api import Forecast, GuestCredentials, HookResult, Info
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import NOW, machine


def test_a_vm_comes_with_its_forecast() -> None:
    message = pb.VM(
        id="1",
        name="web",
        power_state=pb.POWER_STATE_SUSPENDED,
        active_operation="op-1",
        forecast=pb.Forecast(
            signals=[pb.SIGNAL_ACPI],
            problems=[pb.Problem(message="slow"), pb.Problem(reason=pb.REASON_SUSPENDED, message="asleep")],
        ),
    )
    vm = convert.vm(message)
    assert (vm.id, vm.name, vm.power_state, vm.active_operation) == ("1", "web", PowerState.SUSPENDED, "op-1")
    assert vm.forecast == Forecast(False, ("ACPI",), "SUSPENDED", ("slow", "asleep"))


def test_what_a_newer_provider_says_is_unspecified_and_neither_off_nor_an_end() -> None:
    vm = convert.vm(pb.VM(power_state=99))  # type: ignore[arg-type]
    operation = convert.operation(pb.Operation(state=99, kind=99))  # type: ignore[arg-type]
    assert vm.power_state is PowerState.UNSPECIFIED
    assert (operation.state.final, operation.kind) == (False, Kind.UNSPECIFIED)


def test_an_operation_keeps_its_verdict_and_its_moments() -> None:
    message = pb.Operation(id="op-1", kind=pb.OPERATION_KIND_SHUTDOWN, state=pb.OPERATION_STATE_FAILED)
    message.create_time.FromDatetime(NOW)
    message.force_after.FromDatetime(NOW + timedelta(microseconds=1))
    message.error.message = "still running"
    message.verdict.outcome = pb.OUTCOME_STILL_RUNNING
    message.verdict.reason = pb.REASON_TIMEOUT
    message.verdict.hooks.add(
        name="drain", state=pb.HOOK_STATE_TIMED_OUT, exit_code=3, output="…", duration=Duration(seconds=5)
    )
    operation = convert.operation(message)
    assert (operation.kind, operation.state, operation.error) == (Kind.SHUTDOWN, State.FAILED, "still running")
    assert operation.force_after == NOW + timedelta(microseconds=1)
    assert operation.verdict
    assert (operation.verdict.outcome, operation.verdict.reason, operation.verdict.signal) == (
        "STILL_RUNNING", "TIMEOUT", "",
    )  # fmt: skip
    assert operation.verdict.hooks == (HookResult("drain", "TIMED_OUT", 3, "…", timedelta(seconds=5)),)


def test_what_is_unset_stays_unset() -> None:
    operation = convert.operation(pb.Operation())
    assert (operation.force_after, operation.timeout, operation.verdict, operation.error) == (None, None, None, "")


def test_a_spec_that_leaves_something_out_leaves_it_to_the_provider() -> None:
    request = convert.shutdown_request("1", machine().spec.lifecycle, "r", None)
    assert request == pb.ShutdownRequest(vm="1", request_id="r", signal_policy=pb.SignalPolicy())


def test_each_kind_of_hook_is_carried_whole() -> None:
    declared = machine(
        preStop={
            "hooks": [
                {"name": "a", "exec": {"command": ["/bin/sh", "-c", "true"]}, "timeout": "5s"},
                {"httpGet": {"url": "http://10.0.0.5/", "headers": {"X": "1"}, "expectStatus": 204}},
                {"snapshot": {"name": "s", "description": "d", "includeMemory": True}, "failurePolicy": "Abort"},
            ]
        }
    ).spec.lifecycle.pre_stop
    program, call, snapshot = convert.hooks(declared)
    assert (program.name, list(program.exec.command), program.timeout.seconds) == ("a", ["/bin/sh", "-c", "true"], 5)
    assert (call.http_get.url, dict(call.http_get.headers), call.http_get.expect_status) == (
        "http://10.0.0.5/", {"X": "1"}, 204,
    )  # fmt: skip
    assert not call.HasField("timeout")
    assert snapshot.snapshot == pb.SnapshotHook(name="s", description="d", include_memory=True)
    assert snapshot.failure_policy == pb.FAILURE_POLICY_ABORT


def test_a_login_goes_with_the_shutdown() -> None:
    login = GuestCredentials("admin", "s3cret")
    request = convert.shutdown_request("1", machine().spec.lifecycle, "r", None, login)
    assert request.guest_credentials == pb.GuestCredentials(username="admin", password="s3cret")


def test_what_a_provider_can_do_is_told() -> None:
    message = pb.GetProviderInfoResponse(type="sim", version="1", signals=[pb.SIGNAL_ACPI], guest_exec=True)
    assert convert.info(message) == Info("sim", "1", ("ACPI",), guest_exec=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (Escalation, pb.Escalation, "ESCALATION_"),
        (FailurePolicy, pb.FailurePolicy, "FAILURE_POLICY_"),
        (Signal, pb.Signal, "SIGNAL_"),
        (PowerState, pb.PowerState, "POWER_STATE_"),
        (Kind, pb.OperationKind, "OPERATION_KIND_"),
        (State, pb.OperationState, "OPERATION_STATE_"),
    ],
)
def test_every_word_of_the_contract_is_known_here(
    ours: type[DesiredPower], theirs: type[pb.Signal], prefix: str
) -> None:
    contract = {name.removeprefix(prefix) for name in theirs.keys()}  # noqa: SIM118 - no mapping
    assert contract - {"UNSPECIFIED"} == set(ours.__members__) - {"UNSPECIFIED"}
