from datetime import UTC, datetime, timedelta, timezone

import pytest
from structlog.testing import capture_logs

from protos.power.v1 import power_pb2 as pb
from providers.core import adapter, model
from providers.core.adapter import (
    VM,
    Cause,
    Delegation,
    Diagnosis,
    Escalation,
    GuestCredentials,
    MissingPrivilege,
    PowerState,
    Problem,
    Reason,
    Signal,
)
from providers.core.errors import ConnectionProblem, HypervisorUnavailable, UnknownNativeState
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

EAST = timezone(timedelta(hours=12))
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


def test_what_happens_instead_of_a_save_is_told_of_saves_only() -> None:
    saves = OPERATION.model_copy(update={"request": REQUEST.model_copy(update={"escalation": Escalation.SAVE})})
    fallbacks = [convert.operation(each).save_fallback for each in (OPERATION, saves)]
    assert fallbacks == [pb.ESCALATION_UNSPECIFIED, pb.ESCALATION_NEVER]


def test_what_keeps_memory_from_being_saved_is_no_obstacle_to_a_shutdown() -> None:
    tied = VM("1", "web", PowerState.ON, signals=(Signal.ACPI,), save_problems=(Problem("It has a device."),))
    forecast = convert.vm(tied, "").forecast
    assert (forecast.graceful, [problem.message for problem in forecast.save_problems]) == (True, ["It has a device."])


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


def with_hook(**result: object) -> pb.HookResult:
    """What is told of a hook with such a result."""
    hook = HookResult.model_validate({"name": "run", "state": HookState.FAILED} | result)
    told = convert.operation(OPERATION.model_copy(update={"verdict": VERDICT.model_copy(update={"hooks": (hook,)})}))
    assert told.error.reason == "COMMAND_FAILED"
    return told.verdict.hooks[0]


@pytest.mark.parametrize(
    ("said", "told"),
    [(3221225477, -1073741819), (-(2**63), -(2**31)), (2**32, 2**31 - 1), (10**30, 2**31 - 1), (-7, -7)],
)
def test_an_exit_code_is_told_in_32_bits_and_never_as_success(said: int, told: int) -> None:
    assert with_hook(exit_code=said).exit_code == told


@pytest.mark.parametrize(
    ("took", "told"),
    [(timedelta(seconds=-5), 0), (timedelta.max, 315_576_000_000), (timedelta.min, 0)],
)
def test_a_hook_took_no_less_than_nothing_and_no_more_than_a_duration_holds(took: timedelta, told: int) -> None:
    assert with_hook(duration=took).duration.ToSeconds() == told


def test_half_a_surrogate_pair_is_told_as_its_escape() -> None:
    assert with_hook(output="naïve \ud83d").output == "naïve \\ud83d"


@pytest.mark.parametrize(
    ("moment", "year"),
    [(datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), 9999), (datetime.min.replace(tzinfo=EAST), 1)],
)
def test_a_moment_beyond_what_a_timestamp_holds_is_told_as_the_nearest(moment: datetime, year: int) -> None:
    assert convert.operation(OPERATION.model_copy(update={"create_time": moment})).create_time.ToDatetime().year == year


NAIVE = OPERATION.model_copy(update={"steps": (Step(time=datetime(2030, 1, 1), state=State.PENDING, message="x"),)})
"""An operation whose steps cannot be told: their time has no zone, which only another version can have written."""


def test_a_record_that_cannot_be_told_in_full_is_told_with_all_else() -> None:
    told, whole = convert.operation(NAIVE), convert.operation(OPERATION)
    assert (told.id, told.state, told.verdict, list(told.steps)) == (whole.id, whole.state, whole.verdict, [])


def test_a_record_that_cannot_be_told_in_full_says_so_after_its_own_error() -> None:
    error = convert.operation(NAIVE).error
    assert (error.code, error.reason) == (9, "COMMAND_FAILED")
    assert error.message == "no Its record cannot be told in full (steps); the log of the provider says why."


def test_a_record_without_an_error_that_cannot_be_told_in_full_has_one() -> None:
    error = convert.operation(NAIVE.model_copy(update={"failure": None})).error
    assert (error.code, error.reason) == (13, "UNREADABLE_RECORD")


def test_why_a_record_cannot_be_told_is_logged() -> None:
    with capture_logs() as logs:
        convert.operation(NAIVE)
    assert logs[0]["operation"] == "op"
    assert "offset-naive" in logs[0]["fields"]["steps"]


def test_a_vm_that_cannot_be_told_in_full_is_told_with_all_else_and_is_not_promised_a_graceful_shutdown() -> None:
    broken: dict[str, str] = {"tier": 7}  # type: ignore[dict-item]
    told = convert.vm(VM("1", "web", PowerState.ON, signals=(Signal.ACPI,), labels=broken), "op")
    assert (told.id, told.power_state, told.active_operation) == ("1", pb.POWER_STATE_ON, "op")
    assert (told.forecast.graceful, "(labels)" in told.forecast.problems[0].message) == (False, True)


def test_the_name_of_a_vm_may_be_any_text() -> None:
    assert convert.vm(VM("1", "w\udce9b", PowerState.ON), "").name == "w\\udce9b"


def forecast(**fields: object) -> pb.Forecast:
    return convert.vm(VM("1", "web", PowerState.ON, **fields), "").forecast  # type: ignore[arg-type]


def test_a_vm_is_told_with_its_operation() -> None:
    vm = VM("1", "web", PowerState.PAUSED, node="host-1", labels={"tier": "front"})
    said = convert.vm(vm, "op")
    assert (said.id, said.name, said.power_state) == ("1", "web", pb.POWER_STATE_PAUSED)
    assert (said.node, dict(said.labels), said.active_operation) == ("host-1", {"tier": "front"}, "op")


def test_the_uuid_of_its_firmware_is_told() -> None:
    assert convert.vm(VM("1", "web", PowerState.ON, system_uuid="4212-abc"), "").system_uuid == "4212-abc"


def test_the_hypervisors_own_time_for_a_vm_is_told_where_it_has_one() -> None:
    delegation = Delegation(own_timeout=timedelta(seconds=90))
    assert convert.vm(VM("1", "web", PowerState.ON, delegation=delegation), "").own_timeout.seconds == 90
    for other in (None, Delegation()):
        assert not convert.vm(VM("1", "web", PowerState.ON, delegation=other), "").HasField("own_timeout")


def test_a_power_state_that_the_hypervisor_cannot_tell_is_unknown() -> None:
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


def test_a_problem_names_what_it_comes_from() -> None:
    said = forecast(
        problems=(Problem("deaf", Reason.TOOLS_UNAVAILABLE, causes=(Cause.AGENT_STOPPED, Cause.ACPI_MISSING)),)
    )
    assert list(said.problems[0].causes) == [pb.CAUSE_AGENT_STOPPED, pb.CAUSE_ACPI_MISSING]


def test_every_cause_has_its_number() -> None:
    assert [convert.enum(pb.Cause, cause) for cause in Cause] == list(range(1, len(Cause) + 1))
    assert len(pb.Cause.values()) == len(Cause) + 1


def test_why_the_hypervisor_does_not_answer_is_told() -> None:
    refused = HypervisorUnavailable("It refuses the login.", problem=ConnectionProblem.LOGIN_REFUSED)
    told = convert.connection_error(refused)
    assert told == pb.ConnectionError(problem=pb.CONNECTION_PROBLEM_LOGIN_REFUSED, message="It refuses the login.")


def test_another_error_of_the_hypervisor_is_told_in_words_alone() -> None:
    assert convert.connection_error(UnknownNativeState("odd")) == pb.ConnectionError(message="odd")


def test_while_the_hypervisor_answers_there_is_no_error() -> None:
    assert convert.connection_error(None) is None


def test_a_diagnosis_has_what_is_missing_and_the_clock() -> None:
    missing = MissingPrivilege("VM.PowerMgmt", "/vms", "every shutdown", required=True)
    told = pb.GetProviderInfoResponse(**convert.diagnosis(Diagnosis((missing,), timedelta(seconds=-3.5))))
    assert told.hypervisor_clock_ahead.ToTimedelta() == timedelta(seconds=-3.5)
    assert list(told.missing_privileges) == [
        pb.MissingPrivilege(privilege="VM.PowerMgmt", place="/vms", purpose="every shutdown", required=True)
    ]


def test_a_clock_that_is_not_known_is_unset() -> None:
    assert not pb.GetProviderInfoResponse(**convert.diagnosis(Diagnosis())).HasField("hypervisor_clock_ahead")


def test_a_vm_that_hears_nothing_would_not_go_down_gracefully() -> None:
    assert not forecast().graceful


def test_a_vm_that_takes_no_operations_says_why() -> None:
    said = forecast(signals=(Signal.ACPI,), refused="It is a template.")
    assert (said.graceful, said.problems[0].message) == (False, "It is a template.")
