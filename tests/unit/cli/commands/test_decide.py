import json

import pytest
from google.rpc import code_pb2

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import Break, FakeProvider, not_found, refusal
from tests.unit.cli.samples import ended, running, vm


@pytest.fixture(autouse=True)
def a_running_shutdown(provider: FakeProvider) -> None:
    known = {"op-web": running()}
    provider.answers["GetOperation"] = lambda request: known.get(request.id) or not_found("operation", request.id)
    vms = {"web": vm("web", active_operation="op-web"), "idle": vm("idle")}
    provider.answers["GetVM"] = lambda request: vms.get(request.vm) or not_found("vm", request.vm)


def test_watch_follows_an_operation_to_its_verdict(vmpower: Shell, provider: FakeProvider) -> None:
    provider.streams = [[ended("web", pb.OUTCOME_FORCED)]]
    done = vmpower("watch", "op-web")
    assert done.code == 3
    assert done.out.startswith("web: FORCED")


def test_watch_as_json_is_a_line_for_each_change(vmpower: Shell, provider: FakeProvider) -> None:
    provider.streams = [[running(), ended()]]
    lines = vmpower("watch", "op-web", "-o", "json").out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["WAITING_FOR_GUEST", "SUCCEEDED"]


def test_watch_as_json_prints_an_operation_that_has_ended(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetOperation"] = ended()
    (line,) = vmpower("watch", "op-web", "-o", "json").out.splitlines()
    assert json.loads(line)["verdict"]["outcome"] == "GRACEFUL"


def test_watch_without_a_target_prints_each_change_of_each_vm(
    vmpower: Shell, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.outage.RETRY_FOR", 0.0)
    off = vm("web", power_state=pb.POWER_STATE_OFF)
    events = [pb.WatchVMsResponse(changed=vm("web")), pb.WatchVMsResponse(snapshot_complete=True)]
    events += [pb.WatchVMsResponse(changed=off), pb.WatchVMsResponse(removed="id-web")]
    provider.streams = [[*events, Break]]
    assert vmpower("watch").out.splitlines() == [
        "web\tON\tgraceful by GUEST_AGENT, then ACPI",
        "web\tOFF\talready off",
        "id-web\tgone",
    ]


def test_a_provider_that_answers_but_has_no_vms_to_tell_of_is_not_connected_again(
    vmpower: Shell, provider: FakeProvider
) -> None:
    away = refusal(code_pb2.UNAVAILABLE, "The hypervisor is away.", "HYPERVISOR_UNAVAILABLE")
    provider.streams = [[away], [away], [refusal(code_pb2.PERMISSION_DENIED, "Not yours.", "NOT_ALLOWED")]]
    assert vmpower("watch").err.splitlines() == [
        "The connection is lost; trying to take it up again.",
        "vmpower: Not yours. [NOT_ALLOWED]",
    ]


@pytest.mark.parametrize(
    ("words", "field", "seconds"),
    [(["5m"], "extension", 300), (["--timeout", "90s"], "timeout", 90)],
)
def test_extend_by_a_length_or_to_a_new_grace_period(
    vmpower: Shell, provider: FakeProvider, words: list[str], field: str, seconds: int
) -> None:
    provider.answers["ExtendOperation"] = running()
    assert vmpower("extend", "op-web", *words).code == 0
    request = provider.request("ExtendOperation")
    assert (request.WhichOneof("until"), getattr(request, field).seconds) == (field, seconds)


def test_extend_until_a_moment(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ExtendOperation"] = running()
    vmpower("extend", "op-web", "--until", "2026-01-31T12:00:00Z")
    assert provider.request("ExtendOperation").force_after.ToJsonString() == "2026-01-31T12:00:00Z"


def test_extend_says_until_when_the_guest_has_now(
    vmpower: Shell, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    extended = running()
    extended.force_after.FromJsonString("2026-01-31T12:05:00Z")
    provider.answers["ExtendOperation"] = extended
    assert vmpower("extend", "web", "5m").out.startswith("web has until 2026-01-31 ")


def test_extend_while_hooks_run_says_how_long_it_has_after_them(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ExtendOperation"] = running(timeout={"seconds": 1860})
    assert vmpower("extend", "web", "30m").out == "web has 31m once its hooks have ended.\n"


@pytest.mark.parametrize("words", [[], ["5m", "--timeout", "90s"]])
def test_extend_wants_exactly_one_length(vmpower: Shell, provider: FakeProvider, words: list[str]) -> None:
    done = vmpower("extend", "op-web", *words)
    assert done.code == 2
    assert "in one way" in done.err
    assert provider.requests("ExtendOperation") == []


def test_force_waits_and_forced_is_as_wanted(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ForceOperation"] = running(state=pb.OPERATION_STATE_FORCING)
    provider.streams = [[ended("web", pb.OUTCOME_FORCED, verdict={"reason": pb.REASON_REQUESTED})]]
    done = vmpower("force", "op-web")
    assert done.code == 0
    assert done.out.startswith("web: FORCED (REQUESTED)")


def test_force_on_a_vm_that_is_not_there_any_more_exits_6(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ForceOperation"] = running(state=pb.OPERATION_STATE_FORCING)
    provider.streams = [[ended("web", pb.OUTCOME_UNKNOWN, state=pb.OPERATION_STATE_FAILED)]]
    assert vmpower("force", "op-web").code == 6


def test_a_watched_operation_whose_end_cannot_be_known_exits_6(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetOperation"] = running()
    provider.streams = [[ended("web", pb.OUTCOME_UNKNOWN)]]
    done = vmpower("watch", "op-web")
    assert (done.code, done.out.split(" after")[0]) == (6, "web: UNKNOWN")


def test_cancel_is_as_wanted_when_cancelled(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["CancelOperation"] = running()
    provider.streams = [[running(state=pb.OPERATION_STATE_CANCELLED)]]
    done = vmpower("cancel", "op-web")
    assert (done.code, done.out) == (0, "web: CANCELLED.\n")


def test_cancel_that_came_too_late_exits_4(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["CancelOperation"] = running()
    provider.streams = [[ended()]]
    assert vmpower("cancel", "op-web").code == 4


def test_a_vm_stands_for_its_active_operation(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["CancelOperation"] = running(state=pb.OPERATION_STATE_CANCELLED)
    vmpower("cancel", "web")
    assert provider.request("CancelOperation").id == "op-web"


def test_a_vm_with_nothing_under_way_is_a_usage_error(vmpower: Shell) -> None:
    done = vmpower("force", "idle")
    assert done.code == 2
    assert "Nothing is under way on idle" in done.err


def test_a_name_that_means_nothing_is_a_usage_error(vmpower: Shell) -> None:
    done = vmpower("force", "nothing")
    assert (done.code, done.err) == (2, "vmpower: Neither an operation nor a VM is called 'nothing'.\n")


@pytest.mark.parametrize(
    ("command", "method"),
    [
        (("extend", "web", "5m"), "ExtendOperation"),
        (("force", "web", "--no-wait"), "ForceOperation"),
        (("cancel", "web", "--no-wait"), "CancelOperation"),
    ],
)
def test_why_is_passed_on(vmpower: Shell, provider: FakeProvider, command: tuple[str, ...], method: str) -> None:
    provider.answers[method] = running()
    vmpower(*command, "--reason", "it hangs")
    (request,) = provider.requests(method)
    assert request.reason == "it hangs"
