from datetime import UTC, datetime, timedelta

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.core import adapter, model
from providers.core.adapter import VM, GuestCredentials, PowerState, Problem, Reason, Signal
from providers.core.model import (
    ExecHook,
    Failure,
    Hook,
    HookResult,
    HookState,
    HttpGetHook,
    Kind,
    Operation,
    Outcome,
    Request,
    State,
    Step,
    Verdict,
)
from providers.server import convert

NOW = datetime(2030, 1, 1, 12, 0, 0, 500000, tzinfo=UTC)
LOGIN = GuestCredentials("admin-user", "hunter2")
HOOKS = (
    Hook(name="call", handler=HttpGetHook(url="http://web/", headers={"X": "s3cret"}, header_names=("X",))),
    Hook(name="run", handler=ExecHook(command=("sync",))),
)
REQUEST = Request(kind=Kind.SHUTDOWN, vm_id="1", vm_name="web", request_id="r", hooks=HOOKS, credentials=LOGIN)
VERDICT = Verdict(
    outcome=Outcome.FORCED,
    reason=Reason.TIMEOUT,
    start_time=NOW,
    end_time=NOW + timedelta(seconds=60),
    hooks=(HookResult(name="run", state=HookState.FAILED, exit_code=3, output="no", duration=timedelta(seconds=1.5)),),
    message="Powered off hard.",
)
OPERATION = Operation(
    id="op",
    request=REQUEST,
    state=State.FAILED,
    create_time=NOW,
    timeout=timedelta(seconds=60),
    force_after=NOW + timedelta(seconds=60),
    verdict=VERDICT,
    steps=(Step(time=NOW, state=State.PENDING, message="begun"),),
    failure=Failure(code=9, reason="COMMAND_FAILED", message="no"),
)


@pytest.mark.parametrize(
    ("names", "wrapper", "prefix"),
    [
        (adapter.PowerState, pb.PowerState, "POWER_STATE"),
        (adapter.Signal, pb.Signal, "SIGNAL"),
        (adapter.Escalation, pb.Escalation, "ESCALATION"),
        (adapter.Reason, pb.Reason, "REASON"),
        (model.Kind, pb.OperationKind, "OPERATION_KIND"),
        (model.State, pb.OperationState, "OPERATION_STATE"),
        (model.Outcome, pb.Outcome, "OUTCOME"),
        (model.FailurePolicy, pb.FailurePolicy, "FAILURE_POLICY"),
        (model.HookState, pb.HookState, "HOOK_STATE"),
    ],
)
def test_the_model_and_the_contract_have_the_same_names(names: type, wrapper: object, prefix: str) -> None:
    ours = {f"{prefix}_{value}" for value in names}  # type: ignore[attr-defined]
    assert ours | {f"{prefix}_UNSPECIFIED"} == set(wrapper.keys())  # type: ignore[attr-defined]


def test_an_operation_says_what_was_asked_and_what_came_of_it() -> None:
    said = convert.operation(OPERATION)
    assert (said.id, said.vm, said.vm_name, said.request_id) == ("op", "1", "web", "r")
    assert (said.kind, said.state) == (pb.OPERATION_KIND_SHUTDOWN, pb.OPERATION_STATE_FAILED)
    assert said.force_after.ToDatetime(UTC) == NOW + timedelta(seconds=60)
    assert said.escalation == pb.ESCALATION_FORCE
    assert (said.error.code, said.error.reason) == (9, "COMMAND_FAILED")
    assert [(step.message, step.time.ToDatetime(UTC)) for step in said.steps] == [("begun", NOW)]


def test_a_verdict_says_how_it_ended() -> None:
    said = convert.operation(OPERATION).verdict
    assert (said.outcome, said.reason, said.signal) == (pb.OUTCOME_FORCED, pb.REASON_TIMEOUT, 0)
    assert said.end_time.ToDatetime(UTC) - said.start_time.ToDatetime(UTC) == timedelta(seconds=60)
    (hook,) = said.hooks
    assert (hook.name, hook.state, hook.exit_code, hook.output) == ("run", pb.HOOK_STATE_FAILED, 3, "no")
    assert hook.duration.ToTimedelta() == timedelta(seconds=1.5)


def test_an_operation_under_way_has_no_verdict_no_error_and_no_deadline_yet() -> None:
    begun = Operation(id="op", request=REQUEST, create_time=NOW, timeout=timedelta(seconds=60))
    said = convert.operation(begun)
    assert [said.HasField(name) for name in ("verdict", "error", "force_after")] == [False, False, False]


def test_no_secret_is_in_an_operation() -> None:
    said = str(convert.operation(OPERATION)) + convert.operation(OPERATION).SerializeToString().decode(errors="replace")
    for secret in ("s3cret", "hunter2", "admin-user"):
        assert secret not in said


def forecast(**fields: object) -> pb.Forecast:
    return convert.vm(VM("1", "web", PowerState.ON, **fields), "").forecast  # type: ignore[arg-type]


def test_a_vm_is_told_with_its_operation() -> None:
    vm = VM("1", "web", PowerState.PAUSED, node="host-1", labels={"tier": "front"})
    said = convert.vm(vm, "op")
    assert (said.id, said.name, said.power_state) == ("1", "web", pb.POWER_STATE_PAUSED)
    assert (said.node, dict(said.labels), said.active_operation) == ("host-1", {"tier": "front"}, "op")


def test_a_power_state_that_the_hypervisor_cannot_tell_is_unspecified() -> None:
    assert convert.vm(VM("1", "web", PowerState.UNKNOWN), "").power_state == pb.POWER_STATE_UNKNOWN


def test_a_vm_of_unknown_power_would_not_go_down_gracefully() -> None:
    assert not convert.vm(VM("1", "web", PowerState.UNKNOWN), "").forecast.graceful


def test_a_container_is_asked_by_its_init() -> None:
    assert list(forecast(signals=(Signal.INIT,)).signals) == [pb.SIGNAL_INIT]


def test_a_vm_that_hears_would_go_down_gracefully() -> None:
    said = forecast(signals=(Signal.GUEST_AGENT, Signal.ACPI))
    assert (said.graceful, list(said.signals)) == (True, [pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI])


def test_a_warning_does_not_spoil_a_forecast() -> None:
    said = forecast(signals=(Signal.ACPI,), problems=(Problem("It restarts when it shuts down."),))
    assert (said.graceful, said.problems[0].message) == (True, "It restarts when it shuts down.")


def test_an_obstacle_spoils_a_forecast() -> None:
    said = forecast(signals=(Signal.ACPI,), problems=(Problem("locked", Reason.LOCKED, passing=True),))
    assert (said.graceful, said.problems[0].reason) == (False, pb.REASON_LOCKED)


def test_a_vm_that_hears_nothing_would_not_go_down_gracefully() -> None:
    assert not forecast().graceful


def test_a_vm_that_takes_no_operations_says_why() -> None:
    said = forecast(signals=(Signal.ACPI,), refused="It is a template.")
    assert (said.graceful, said.problems[0].message) == (False, "It is a template.")
