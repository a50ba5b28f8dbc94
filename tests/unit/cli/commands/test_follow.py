import json

import pytest
from google.rpc import code_pb2

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import Answer, FakeProvider, not_found, refusal
from tests.unit.cli.samples import ended, vm


@pytest.fixture(autouse=True)
def two_vms(provider: FakeProvider) -> None:
    known = {name: vm(name.removeprefix("id-")) for name in ("web", "db", "id-web")}
    provider.answers["GetVM"] = lambda request: known.get(request.vm) or not_found("vm", request.vm)
    ends: dict[str, Answer] = {"id-web": ended("web"), "id-db": ended("db", pb.OUTCOME_CRASHED)}
    provider.answers["Shutdown"] = lambda request: ends[request.vm]


def test_several_vms_each_get_their_sentence_and_the_worst_code_counts(vmpower: Shell) -> None:
    done = vmpower("shutdown", "web", "db")
    assert done.code == 3
    assert [line.split(" after")[0] for line in done.out.splitlines()] == ["web: GRACEFUL", "db: CRASHED"]


def test_several_vms_as_json_are_a_list(vmpower: Shell) -> None:
    done = vmpower("shutdown", "web", "db", "-o", "json")
    assert [operation["vmName"] for operation in json.loads(done.out)] == ["web", "db"]


def test_one_unknown_name_among_several_and_nothing_is_done(vmpower: Shell, provider: FakeProvider) -> None:
    done = vmpower("shutdown", "web", "dbb", "x")
    assert done.code == 2
    assert done.err.splitlines() == [
        "vmpower: Nothing was done:",
        "  No vm is called 'dbb'. [VM_NOT_FOUND]",
        "  No vm is called 'x'. [VM_NOT_FOUND]",
    ]
    assert provider.requests("Shutdown") == []


def test_a_vm_named_twice_is_shut_down_once(vmpower: Shell, provider: FakeProvider) -> None:
    vmpower("shutdown", "web", "id-web")
    assert provider.request("Shutdown").vm == "id-web"


def test_a_refusal_of_one_does_not_hold_up_the_others(vmpower: Shell, provider: FakeProvider) -> None:
    busy = refusal(code_pb2.ABORTED, "Busy.", "OPERATION_ACTIVE")
    provider.answers["Shutdown"] = lambda request: busy if request.vm == "id-web" else ended("db")
    done = vmpower("shutdown", "web", "db")
    assert done.code == 4
    assert done.out.startswith("db: GRACEFUL")
    assert "Busy. [OPERATION_ACTIVE]" in done.err


def test_one_request_id_for_several_vms_is_a_usage_error(vmpower: Shell, provider: FakeProvider) -> None:
    assert vmpower("shutdown", "web", "db", "--request-id", "mine").code == 2
    assert provider.requests("Shutdown") == []
