import json

from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider, not_found
from tests.unit.cli.samples import deaf, ended, running, vm


def test_list_shows_how_a_shutdown_of_each_vm_would_go_now(vmpower: Shell, provider: FakeProvider) -> None:
    off = vm("db", power_state=pb.POWER_STATE_OFF, forecast=pb.Forecast())
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=[vm("web"), deaf(), off])
    lines = vmpower("list").out.splitlines()
    assert lines[0].split() == ["NAME", "ID", "POWER", "A", "SHUTDOWN", "NOW", "OPERATION", "NODE"]
    assert "graceful by GUEST_AGENT, then ACPI" in lines[1]
    assert "forced: TOOLS_UNAVAILABLE" in lines[2]
    assert "already off" in lines[3]


def test_list_reads_every_page(vmpower: Shell, provider: FakeProvider) -> None:
    pages = {
        "": pb.ListVMsResponse(vms=[vm("one")], next_page_token="2"),
        "2": pb.ListVMsResponse(vms=[vm("two")]),
    }
    provider.answers["ListVMs"] = lambda request: pages[request.page_token]
    assert [found["name"] for found in json.loads(vmpower("list", "-o", "json").out)] == ["one", "two"]


def test_json_has_short_enums_and_every_field(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = deaf()
    found = json.loads(vmpower("get", "deaf", "-o", "json").out)
    assert found["powerState"] == "ON"
    assert found["forecast"] == {
        "graceful": False,
        "signals": [],
        "problems": [{"reason": "TOOLS_UNAVAILABLE", "message": "Neither agent nor ACPI.", "causes": []}],
        "saveProblems": [],
    }


def test_get_shows_what_stands_in_the_way(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = deaf()
    assert "In the way      Neither agent nor ACPI." in vmpower("get", "deaf").out


def test_get_shows_no_number_that_is_for_programs_which_watch(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = pb.VM(id="1", name="web", sequence=7)
    assert "sequence" not in vmpower("get", "web", "-o", "json").out


def test_get_of_an_unknown_vm_is_a_usage_error_in_the_providers_words(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetVM"] = not_found("vm", "wbe")
    ended = vmpower("get", "wbe")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "vmpower: No vm is called 'wbe'. [VM_NOT_FOUND]\n"


def test_info_says_whether_the_hypervisor_answers(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["GetProviderInfo"] = pb.GetProviderInfoResponse(type="sim", endpoint="sim:lab", connected=False)
    assert "sim:lab (not reachable now)" in vmpower("info").out


def test_forecast_asks_about_one_vm(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ForecastShutdown"] = pb.ForecastShutdownResponse(vms=[deaf()])
    ended = vmpower("forecast", "deaf")
    assert ended.code == 0
    assert "Neither agent nor ACPI." in ended.out
    assert provider.request("ForecastShutdown").vm == "deaf"


def test_forecast_check_fails_if_a_running_vm_would_be_forced(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ForecastShutdown"] = pb.ForecastShutdownResponse(vms=[vm("web"), deaf()])
    assert vmpower("forecast", "--check").code == 3


def test_forecast_check_does_not_mind_vms_that_are_off(vmpower: Shell, provider: FakeProvider) -> None:
    off = vm("db", power_state=pb.POWER_STATE_OFF, forecast=pb.Forecast())
    provider.answers["ForecastShutdown"] = pb.ForecastShutdownResponse(vms=[vm("web"), off])
    assert vmpower("forecast", "--check").code == 0


MOVED = pb.Forecast(problems=[pb.Problem(message="It was moved to another host.")])


def test_forecast_check_tells_a_vm_of_unknown_power_from_one_that_would_be_forced(
    vmpower: Shell, provider: FakeProvider
) -> None:
    moved = vm("db", power_state=pb.POWER_STATE_UNKNOWN, forecast=MOVED)
    provider.answers["ForecastShutdown"] = pb.ForecastShutdownResponse(vms=[vm("web"), moved])
    assert vmpower("forecast", "--check").code == 6
    provider.answers["ForecastShutdown"] = pb.ForecastShutdownResponse(vms=[deaf()])
    assert vmpower("forecast", "--check").code == 3


def test_a_vm_of_unknown_power_is_listed_as_that_and_not_as_one_that_would_be_forced(
    vmpower: Shell, provider: FakeProvider
) -> None:
    moved = vm("db", power_state=pb.POWER_STATE_UNKNOWN, forecast=MOVED)
    provider.answers["ListVMs"] = pb.ListVMsResponse(vms=[moved])
    provider.answers["GetVM"] = moved
    assert vmpower("list").out.splitlines()[1].split(maxsplit=2) == ["db", "id-db", "UNKNOWN  not known"]
    assert "It was moved to another host." in vmpower("get", "db").out


def test_operations_shows_how_each_ended(vmpower: Shell, provider: FakeProvider) -> None:
    forced = ended("deaf", pb.OUTCOME_FORCED, seconds=75, verdict={"reason": pb.REASON_TIMEOUT})
    provider.answers["ListOperations"] = pb.ListOperationsResponse(operations=[forced, running("web")])
    lines = vmpower("operations").out.splitlines()
    assert {"op-deaf", "SHUTDOWN", "SUCCEEDED", "FORCED", "TIMEOUT"} <= set(lines[1].split())
    assert lines[1].rstrip().endswith("1 min 15 s")
    assert "WAITING_FOR_GUEST" in lines[2]


def test_operations_reads_no_more_than_its_limit(vmpower: Shell, provider: FakeProvider) -> None:
    page = pb.ListOperationsResponse(operations=[ended("web")] * 3, next_page_token="more")
    provider.answers["ListOperations"] = page
    found = json.loads(vmpower("operations", "web", "--active", "--limit", "4", "-o", "json").out)
    assert len(found) == 4
    asked = provider.requests("ListOperations")
    assert [(request.vm, request.active_only, request.page_size) for request in asked] == [
        ("web", True, 4),
        ("web", True, 1),
    ]


def test_operations_are_those_of_one_name_where_it_is_given(vmpower: Shell, provider: FakeProvider) -> None:
    provider.answers["ListOperations"] = pb.ListOperationsResponse(operations=[ended("web")])
    vmpower("operations", "--by", "cn:alice")
    assert [request.requested_by for request in provider.requests("ListOperations")] == ["cn:alice"]


def test_operations_shows_who_asked_and_for_whom_and_why(vmpower: Shell, provider: FakeProvider) -> None:
    mine, theirs = ended("web"), ended("db")
    mine.requested_by, mine.reason = "cn:alice", "kernel update"
    theirs.requested_by, theirs.on_behalf_of = "cn:controller", "VirtualMachine a/db"
    provider.answers["ListOperations"] = pb.ListOperationsResponse(operations=[mine, theirs])
    _, first, second = vmpower("operations").out.splitlines()
    assert first.rstrip().endswith("cn:alice                                 kernel update")
    assert second.rstrip().endswith("cn:controller (for VirtualMachine a/db)")
