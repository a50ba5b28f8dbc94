from datetime import timedelta

import pytest

from cli.errors import ExitCode
from cli.verdict import exit_code, hook_lines, sentence
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.samples import ended


@pytest.mark.parametrize(
    ("kind", "outcome", "code"),
    [
        ("SHUTDOWN", pb.OUTCOME_GRACEFUL, ExitCode.WANTED),
        ("SHUTDOWN", pb.OUTCOME_ALREADY_OFF, ExitCode.WANTED),
        ("SHUTDOWN", pb.OUTCOME_FORCED, ExitCode.FORCED),
        ("SHUTDOWN", pb.OUTCOME_CRASHED, ExitCode.FORCED),
        ("SHUTDOWN", pb.OUTCOME_OUT_OF_BAND, ExitCode.FORCED),
        ("SHUTDOWN", pb.OUTCOME_SAVED, ExitCode.FORCED),
        ("REBOOT", pb.OUTCOME_GRACEFUL, ExitCode.WANTED),
        ("REBOOT", pb.OUTCOME_FORCED, ExitCode.FORCED),
        ("POWER_OFF", pb.OUTCOME_FORCED, ExitCode.WANTED),
        ("POWER_OFF", pb.OUTCOME_CRASHED, ExitCode.WANTED),
        ("POWER_ON", pb.OUTCOME_STARTED, ExitCode.WANTED),
        ("SHUTDOWN", pb.OUTCOME_UNKNOWN, ExitCode.UNKNOWN),
        ("REBOOT", pb.OUTCOME_UNKNOWN, ExitCode.UNKNOWN),
        ("POWER_OFF", pb.OUTCOME_UNKNOWN, ExitCode.WANTED),
    ],
)
def test_what_each_success_means(kind: str, outcome: "pb.Outcome.ValueType", code: ExitCode) -> None:
    operation = ended("web", outcome, kind=pb.OperationKind.Value(f"OPERATION_KIND_{kind}"))
    assert exit_code(operation) is code


@pytest.mark.parametrize("state", [pb.OPERATION_STATE_FAILED, pb.OPERATION_STATE_CANCELLED])
def test_what_did_not_succeed_failed(state: "pb.OperationState.ValueType") -> None:
    assert exit_code(ended("web", pb.OUTCOME_STILL_RUNNING, state=state)) is ExitCode.FAILED


@pytest.mark.parametrize("kind", pb.OperationKind.values()[1:])
def test_a_vm_that_is_not_there_any_more_may_be_off_or_not(kind: "pb.OperationKind.ValueType") -> None:
    assert exit_code(ended("web", pb.OUTCOME_UNKNOWN, kind=kind, state=pb.OPERATION_STATE_FAILED)) is ExitCode.UNKNOWN


def test_what_was_cancelled_failed_also_where_the_vm_is_not_there_any_more() -> None:
    cancelled = ended("web", pb.OUTCOME_UNKNOWN, state=pb.OPERATION_STATE_CANCELLED)
    assert exit_code(cancelled) is ExitCode.FAILED


@pytest.mark.parametrize(
    ("state", "begin"),
    [(pb.OPERATION_STATE_SUCCEEDED, "web: UNKNOWN"), (pb.OPERATION_STATE_FAILED, "web: FAILED, UNKNOWN")],
)
def test_what_is_known_of_an_unknown_end_is_told(state: "pb.OperationState.ValueType", begin: str) -> None:
    known = "It went off while libvirt was away; asked by ACPI 12 s before."
    operation = ended("web", pb.OUTCOME_UNKNOWN, message=known, state=state)
    assert sentence(operation) == f"{begin} after 4.2 s. {known}"


def test_the_error_of_a_failure_is_told() -> None:
    error = pb.OperationError(message="The hypervisor refused; ask its operator.")
    failed = ended("web", pb.OUTCOME_STILL_RUNNING, message="", state=pb.OPERATION_STATE_FAILED, error=error)
    assert sentence(failed) == ("web: FAILED, STILL_RUNNING after 4.2 s. The hypervisor refused; ask its operator.")


def test_the_same_words_are_not_told_twice() -> None:
    error = pb.OperationError(message="Refused.")
    failed = ended("web", pb.OUTCOME_STILL_RUNNING, message="Refused.", state=pb.OPERATION_STATE_FAILED, error=error)
    assert sentence(failed).count("Refused.") == 1


def test_a_hook_is_told_with_its_exit_code_and_output() -> None:
    hook = pb.HookResult(name="drain", state=pb.HOOK_STATE_FAILED, exit_code=3, output="one\nt\x1bwo\n")
    hook.duration.FromTimedelta(timedelta(seconds=1.5))
    assert list(hook_lines(ended(verdict={"hooks": [hook]}))) == [
        "  hook drain: FAILED, exit code 3 after 1.5 s",
        "    one",
        r"    t\x1bwo",
    ]


def test_of_a_long_output_the_end_is_told() -> None:
    hook = pb.HookResult(name="h", state=pb.HOOK_STATE_SUCCEEDED, output="\n".join(map(str, range(100))))
    assert list(hook_lines(ended(verdict={"hooks": [hook]})))[1:] == [f"    {n}" for n in range(90, 100)]
