import pytest
from google.rpc import code_pb2, status_pb2

from cli.errors import ExitCode, worst
from tests.unit.cli.conftest import Ended, Shell
from tests.unit.cli.fake import FakeProvider, refusal


def told(vmpower: Shell, provider: FakeProvider, status: status_pb2.Status) -> Ended:
    provider.answers["Shutdown"] = status
    return vmpower("shutdown", "web")


def test_bad_input_is_listed_field_by_field(vmpower: Shell, provider: FakeProvider) -> None:
    fields = {"timeout": "must be more than 0", "pre_stop[0].exec.command": "must not be empty"}
    ended = told(vmpower, provider, refusal(code_pb2.INVALID_ARGUMENT, "bad", "INVALID_REQUEST", fields))
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "vmpower: The request is refused. [INVALID_REQUEST]",
        "  timeout: must be more than 0",
        "  pre_stop[0].exec.command: must not be empty",
    ]


def test_an_active_operation_comes_with_the_command_that_follows_it(vmpower: Shell, provider: FakeProvider) -> None:
    status = refusal(code_pb2.ABORTED, "Busy with op-1.", "OPERATION_ACTIVE", operation_id="op-1")
    ended = told(vmpower, provider, status)
    assert ended.code == 4
    assert ended.err == "vmpower: Busy with op-1. [OPERATION_ACTIVE]\n  Follow it: vmpower watch op-1\n"


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (code_pb2.NOT_FOUND, "VM_NOT_FOUND", 2),
        (code_pb2.FAILED_PRECONDITION, "AMBIGUOUS_NAME", 2),
        (code_pb2.UNIMPLEMENTED, "UNSUPPORTED", 2),
        (code_pb2.FAILED_PRECONDITION, "VM_REFUSED", 4),
        (code_pb2.FAILED_PRECONDITION, "OPERATION_ENDED", 4),
        (code_pb2.PERMISSION_DENIED, "NOT_ALLOWED", 4),
        (code_pb2.INTERNAL, "JOURNAL_FAILED", 4),
        (code_pb2.UNAVAILABLE, "HYPERVISOR_UNAVAILABLE", 5),
    ],
)
def test_each_refusal_has_its_exit_code_and_the_providers_sentence(
    vmpower: Shell, provider: FakeProvider, code: int, reason: str, exit_code: int
) -> None:
    ended = told(vmpower, provider, refusal(code, "The sentence.", reason))
    assert (ended.code, ended.err) == (exit_code, f"vmpower: The sentence. [{reason}]\n")


def test_a_server_of_another_kind_is_recognised(vmpower: Shell, provider: FakeProvider) -> None:
    del provider.answers["GetProviderInfo"]
    ended = vmpower("info")
    assert ended.code == 5
    assert "is not a vmpower provider" in ended.err


def test_an_error_without_details_is_still_a_sentence(vmpower: Shell, provider: FakeProvider) -> None:
    ended = told(vmpower, provider, status_pb2.Status(code=code_pb2.INTERNAL, message="boom"))
    assert ended.code == 4
    assert "answered INTERNAL: boom" in ended.err


def test_a_server_cannot_command_the_terminal(vmpower: Shell, provider: FakeProvider) -> None:
    ended = told(vmpower, provider, refusal(code_pb2.INTERNAL, "a\x1b]0;b", "X"))
    assert r"a\x1b]0;b" in ended.err


def test_of_several_ends_the_most_serious_counts() -> None:
    assert worst([ExitCode.WANTED, ExitCode.FORCED, ExitCode.FAILED, ExitCode.FORCED]) is ExitCode.FAILED


def test_what_cannot_be_known_is_more_serious_than_force_and_less_than_a_failure() -> None:
    assert worst([ExitCode.FORCED, ExitCode.UNKNOWN]) is ExitCode.UNKNOWN
    assert worst([ExitCode.UNKNOWN, ExitCode.FAILED]) is ExitCode.FAILED


def test_of_no_ends_all_is_as_wanted() -> None:
    assert worst([]) is ExitCode.WANTED
