import json

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider
from tests.unit.cli.samples import ended, running


def test_shutdown_waits_and_tells_the_verdict_in_one_sentence(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = running()
    provider.streams = [[running(), ended(verdict={"signal": pb.SIGNAL_GUEST_AGENT})]]
    done = vmpower("shutdown", "web")
    assert done.code == 0
    assert done.out == "web: GRACEFUL by GUEST_AGENT after 4.2 s. The guest shut itself down.\n"


def test_a_timeout_and_the_moment_itself_are_one_too_many(vmpower: Shell, provider: FakeProvider) -> None:
    told = vmpower("shutdown", "web", "--timeout", "20s", "--force-after", "2020-01-01T00:00:00Z")
    assert (told.code, "in one way" in told.err, provider.requests("Shutdown")) == (2, True, [])


def test_a_forced_shutdown_exits_3_and_says_why(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = running()
    message = "It did not go down in time and was powered off hard."
    forced = ended("web", pb.OUTCOME_FORCED, seconds=8.1, message=message, verdict={"reason": pb.REASON_TIMEOUT})
    provider.streams = [[forced]]
    done = vmpower("shutdown", "web")
    assert done.code == 3
    assert done.out == f"web: FORCED (TIMEOUT) after 8.1 s. {message}\n"


def test_a_shutdown_that_left_the_vm_running_exits_4(vmpower: Shell, provider: FakeProvider) -> None:
    still = ended("web", pb.OUTCOME_STILL_RUNNING, message="Not powered off.", state=pb.OPERATION_STATE_FAILED)
    provider.answers["Shutdown"] = running()
    provider.streams = [[still]]
    done = vmpower("shutdown", "web")
    assert done.code == 4
    assert done.out.startswith("web: FAILED, STILL_RUNNING after 4.2 s.")


@pytest.mark.parametrize(
    ("hooks", "code"),
    [
        ([pb.HookResult(name="ready", state=pb.HOOK_STATE_SUCCEEDED)], 0),
        ([pb.HookResult(name="ready", state=pb.HOOK_STATE_TIMED_OUT)], 4),
        ([], 4),  # its provider is of an older version, which asks nothing
    ],
)
def test_a_vm_that_is_to_be_ready_and_is_not_exits_4(
    vmpower: Shell, provider: FakeProvider, hooks: list[pb.HookResult], code: int
) -> None:
    provider.answers["PowerOn"] = running(kind=pb.OPERATION_KIND_POWER_ON)
    end = ended(
        outcome=pb.OUTCOME_STARTED, message="Started.", kind=pb.OPERATION_KIND_POWER_ON, verdict={"hooks": hooks}
    )
    provider.streams = [[end]]
    assert vmpower("on", "web", "--ready-tcp", "5432").code == code


def test_a_hook_that_failed_does_not_change_the_code_of_a_start(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["PowerOn"] = running(kind=pb.OPERATION_KIND_POWER_ON)
    hooks = [pb.HookResult(name="ready", state=pb.HOOK_STATE_FAILED)]
    end = ended(
        outcome=pb.OUTCOME_STARTED, message="Started.", kind=pb.OPERATION_KIND_POWER_ON, verdict={"hooks": hooks}
    )
    provider.streams = [[end]]
    assert vmpower("on", "web", "--post-start-exec", "warm").code == 0


def test_the_verdict_as_json_is_the_operation(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = running()
    provider.streams = [[ended()]]
    operation = json.loads(vmpower("shutdown", "web", "-o", "json").out)
    assert operation["verdict"]["outcome"] == "GRACEFUL"
    assert operation["verdict"]["reason"] is None


def test_no_wait_prints_the_operations_id_only(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Shutdown"] = running()
    done = vmpower("shutdown", "web", "--no-wait")
    assert (done.code, done.out, done.err) == (0, "op-web\n", "")
    assert provider.requests("WatchOperation") == []


def test_a_request_id_is_passed_on(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["Reboot"] = ended(kind=pb.OPERATION_KIND_REBOOT)
    vmpower("reboot", "web", "--request-id", "mine", "--timeout", "5s")
    request = provider.request("Reboot")
    assert (request.vm, request.request_id, request.timeout.seconds) == ("web", "mine", 5)


def test_without_a_request_id_each_operation_gets_its_own(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["PowerOff"] = ended(kind=pb.OPERATION_KIND_POWER_OFF)
    vmpower("off", "web")
    vmpower("off", "web")
    first, second = provider.requests("PowerOff")
    assert first.request_id != second.request_id


def test_off_is_as_wanted_when_the_power_was_cut(vmpower: Shell, provider: FakeProvider) -> None:
    cut = ended("web", pb.OUTCOME_FORCED, kind=pb.OPERATION_KIND_POWER_OFF, verdict={"reason": pb.REASON_REQUESTED})
    provider.answers["PowerOff"] = cut
    assert vmpower("off", "web").code == 0


@pytest.mark.parametrize("outcome", [pb.OUTCOME_STARTED, pb.OUTCOME_ALREADY_ON])
def test_on_is_as_wanted_when_the_vm_runs(
    vmpower: Shell, provider: FakeProvider, outcome: "pb.Outcome.ValueType"
) -> None:
    provider.answers["PowerOn"] = ended("web", outcome, kind=pb.OPERATION_KIND_POWER_ON)
    assert vmpower("on", "web").code == 0


@pytest.mark.parametrize(
    ("command", "method"), [("on", "PowerOn"), ("off", "PowerOff"), ("shutdown", "Shutdown"), ("reboot", "Reboot")]
)
def test_why_is_passed_on(vmpower: Shell, provider: FakeProvider, command: str, method: str) -> None:
    vmpower(command, "web", "--no-wait", "--reason", "kernel update")
    (request,) = provider.requests(method)
    assert request.reason == "kernel update"
