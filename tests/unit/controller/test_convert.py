import pytest

from controller import convert
from controller.enums import DesiredPower, Escalation, FailurePolicy, Signal
from controller.source import GuestCredentials
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import machine


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


@pytest.mark.parametrize(("fallback", "said"), [("Force", pb.ESCALATION_FORCE), ("Never", pb.ESCALATION_NEVER)])
def test_what_becomes_of_a_vm_that_cannot_be_saved_goes_with_the_shutdown(
    fallback: str, said: "pb.Escalation.ValueType"
) -> None:
    lifecycle = machine(escalation="Save", saveFallback=fallback).spec.lifecycle
    request = convert.shutdown_request("1", lifecycle, "r", None)
    assert (request.escalation, request.save_fallback) == (pb.ESCALATION_SAVE, said)


def test_a_login_goes_with_the_shutdown() -> None:
    login = GuestCredentials("admin", "s3cret")
    request = convert.shutdown_request("1", machine().spec.lifecycle, "r", None, login)
    assert request.guest_credentials == pb.GuestCredentials(username="admin", password="s3cret")


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (Escalation, pb.Escalation, "ESCALATION_"),
        (FailurePolicy, pb.FailurePolicy, "FAILURE_POLICY_"),
        (Signal, pb.Signal, "SIGNAL_"),
    ],
)
def test_every_word_of_the_contract_is_known_here(
    ours: type[DesiredPower], theirs: type[pb.Signal], prefix: str
) -> None:
    contract = {name.removeprefix(prefix) for name in theirs.keys()}  # noqa: SIM118 - no mapping
    assert contract - {"UNSPECIFIED"} == set(ours.__members__)
