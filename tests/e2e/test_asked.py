"""Who asked, and what a client may: a real provider, its socket's users, its journal and its audit log."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.power.v1 import power_pb2 as pb
from tests.rigs.calls import Calls, calls
from tests.rigs.process import Provider

SCRIPT = "guests: {web: {shutdown_time: 500ms}, db: {agent: none, acpi: ignores}}"
ACCESS = """
- clients: ["uid:0"]
  vms: {names: [web]}
  allow: [power]
- clients: ["uid:0"]
  vms: {names: [db]}
  allow: [power, exec]
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """With all that tells clients apart; the tests' own user is uid 0, or another that is named in its place."""
    provider = Provider("sim", "--allow-guest-exec")
    me = str(Path("/proc/self").stat().st_uid)
    (provider.folder / "script.yaml").write_text(SCRIPT)
    (provider.folder / "access.yaml").write_text(ACCESS.replace("uid:0", f"uid:{me}"))
    provider.command += [
        f"--script={provider.folder / 'script.yaml'}",
        f"--client-access={provider.folder / 'access.yaml'}",
        f"--audit-log={provider.folder / 'audit.jsonl'}",
        f"--operator-uids={me}",
    ]
    with provider:
        yield provider


@pytest.fixture(scope="module")
def client(provider: Provider) -> Iterator[Calls]:
    with calls(provider.address) as client:
        yield client


def audit(provider: Provider) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (provider.folder / "audit.jsonl").read_text().splitlines()]


def by_me() -> str:
    return f"uid:{Path('/proc/self').stat().st_uid}"


def test_who_asked_and_why_is_in_the_operation_and_outlives_the_provider(provider: Provider) -> None:
    with calls(provider.address) as client:
        begun = client.stub.Shutdown(pb.ShutdownRequest(vm="web", reason="kernel update"))
    assert (begun.requested_by.split()[0], begun.reason) == (by_me(), "kernel update")
    provider.kill()
    provider.start()
    with calls(provider.address) as client:
        found = client.stub.GetOperation(pb.GetOperationRequest(id=begun.id))
        listed = client.stub.ListOperations(pb.ListOperationsRequest(requested_by=by_me()))
        others = client.stub.ListOperations(pb.ListOperationsRequest(requested_by="cn:alice"))
    assert (found.requested_by, found.reason) == (begun.requested_by, "kernel update")
    assert ([one.id for one in listed.operations], list(others.operations)) == ([begun.id], [])


def test_a_program_that_is_no_delegate_speaks_for_nobody_and_is_told_so(client: Calls) -> None:
    assert not client.stub.GetProviderInfo(pb.GetProviderInfoRequest()).on_behalf_of
    with pytest.raises(grpc.RpcError) as refused:
        client.stub.Shutdown(pb.ShutdownRequest(vm="web", on_behalf_of="the boss"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_right_that_is_not_granted_is_not_had_and_nothing_is_done(client: Calls) -> None:
    hook = pb.Hook(exec=pb.ExecHook(command=["id"]))
    with pytest.raises(grpc.RpcError) as refused:
        client.stub.Shutdown(pb.ShutdownRequest(vm="web", pre_stop=[hook]))
    assert "exec is not granted" in str(refused.value.details())
    assert client.stub.Shutdown(pb.ShutdownRequest(vm="db", pre_stop=[hook])).vm_name == "db"


def test_each_decision_and_each_refusal_is_a_line_of_the_audit_log(provider: Provider, client: Calls) -> None:
    (active,) = client.stub.ListOperations(pb.ListOperationsRequest(vm="db", active_only=True)).operations
    client.stub.ForceOperation(pb.ForceOperationRequest(id=active.id, reason="it hangs"))
    lines = audit(provider)
    told = [(one["method"], one["result"], one.get("reason", "")) for one in lines]
    assert ("Shutdown", "OK", "kernel update") in told
    assert ("Shutdown", "PERMISSION_DENIED", "") in told
    assert told[-1] == ("ForceOperation", "OK", "it hangs")
    assert {one["client"].split()[0] for one in lines} == {by_me()}
    assert (lines[-1]["operation"], lines[-1]["vm_name"]) == (active.id, "db")


def test_a_client_that_hangs_up_at_once_is_in_the_audit_log_all_the_same(provider: Provider, client: Calls) -> None:
    before = len(audit(provider))
    call = client.stub.PowerOff.future(pb.PowerOffRequest(vm="web", reason="hit and run"))
    call.cancel()
    with suppress(grpc.RpcError):  # the power-off may be under way
        client.stub.PowerOn(pb.PowerOnRequest(vm="web", reason="after it"))
    told = [one.get("reason") for one in audit(provider)[before:]]
    seen = client.stub.ListOperations(pb.ListOperationsRequest(vm="web")).operations
    assert ("hit and run" in told) >= any(one.reason == "hit and run" for one in seen)
