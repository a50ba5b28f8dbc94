import fcntl
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2

from plans.history import History, Start
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.commands.conftest import SPEC, Plan
from tests.unit.cli.conftest import Shell
from tests.unit.cli.fake import FakeProvider, not_found, refusal
from tests.unit.cli.samples import ended, running

# forecast


def test_a_forecast_is_a_tree_of_tiers_and_asks_no_guest(plan: Plan, provider: FakeProvider, vms: list[pb.VM]) -> None:
    told = plan("forecast", "FILE")
    assert told.code == 0
    assert told.out == (
        "night: it fits, with 6 min 50 s to spare\n"
        "├── 9 min 00 s for the tiers, 1 min 00 s for what is left over\n"
        "├── apps: begins after 0.0 s, has 1 min 05 s, 6 min 50 s to spare; critical\n"
        "│   └── lab/web: graceful by ACPI, has 1 min 00 s\n"
        "└── databases, after apps: begins after 1 min 05 s, has 1 min 05 s, 6 min 50 s to spare; critical\n"
        "    └── lab/db: graceful by ACPI, has 1 min 00 s\n"
    )
    assert provider.requests("Shutdown") == []


def test_a_forecast_names_who_lacks_time_and_exits_with_3_where_that_is_asked(plan: Plan, vms: list[pb.VM]) -> None:
    budget = {"total": "2m", "reserve": "10s"}
    told = plan("forecast", "FILE", "--check", budget=budget)
    assert told.code == 3
    assert told.out.startswith("night: it fits because tiers give back 20.0 s\n")
    assert "lab/web: graceful by ACPI, has 40.0 s of the 1 min 00 s that it needs" in told.out
    assert plan("forecast", "FILE", budget=budget).code == 0


def test_of_less_than_what_is_kept_in_any_case_nothing_is_left_for_the_tiers(plan: Plan, vms: list[pb.VM]) -> None:
    told = plan("forecast", "FILE", budget={"total": "3s"})
    assert "├── 0.0 s for the tiers, 3.0 s for what is left over\n" in told.out


def test_a_forecast_for_programs_has_the_times_as_go_writes_them(plan: Plan, vms: list[pb.VM]) -> None:
    told = json.loads(plan("forecast", "FILE", "-o", "json").out)
    assert (told["plan"], told["slack"], told["critical"]) == ("night", "6m50s", ["apps", "databases"])
    assert told["tiers"][1]["vms"] == [{"vm": "lab/db", "id": "id-db", "needs": "1m", "has": "1m", "graceful": True}]


def saving(provider: FakeProvider, vms: list[pb.VM], **tier: str) -> list[dict[str, Any]]:
    """A tier whose VMs are to be saved, of which db cannot be; its provider saves memory."""
    info = pb.GetProviderInfoResponse(type="fake", save=True)
    info.default_timeout.FromSeconds(60)
    vms[1].forecast.CopyFrom(pb.Forecast(graceful=True, save_problems=[pb.Problem(message="It is tied.")]))
    provider.answers |= {"GetProviderInfo": info, "ListVMs": pb.ListVMsResponse(vms=vms)}
    return [{"name": "apps", "members": [{"vms": ["lab/web", "lab/db"]}], "atDeadline": "Save"} | tier]


@pytest.mark.parametrize(("written", "then"), [({}, "left running"), ({"saveFallback": "Force"}, "forced")])
def test_a_forecast_names_who_is_saved_and_what_becomes_of_who_cannot_be(
    plan: Plan, provider: FakeProvider, vms: list[pb.VM], written: dict[str, str], then: str
) -> None:
    told = plan("forecast", "FILE", tiers=saving(provider, vms, **written)).out.splitlines()
    assert told[2] == "└── apps: begins after 0.0 s, has 3 min 05 s, 5 min 55 s to spare; critical"
    assert told[3].endswith("lab/web: graceful by ACPI, has 1 min 00 s; is saved then")
    assert told[4].endswith(f"has 1 min 00 s; is {then} then, as it cannot be saved: It is tied.")


def test_programs_are_told_what_keeps_memory_from_being_saved(
    plan: Plan, provider: FakeProvider, vms: list[pb.VM]
) -> None:
    told = json.loads(plan("forecast", "FILE", "-o", "json", tiers=saving(provider, vms, saveTime="90s")).out)
    assert [vm["saveProblems"] for vm in told["tiers"][0]["vms"]] == [[], ["It is tied."]]
    assert told["tiers"][0]["vms"][0] == {
        "vm": "lab/web", "id": "id-web", "needs": "1m", "has": "1m", "graceful": True,
        "saveTime": "1m30s", "saveProblems": [], "forcedIfUnsaved": False,
    }  # fmt: skip


def test_our_own_vm_is_told_last(plan: Plan, vms: list[pb.VM]) -> None:
    tiers = SPEC["tiers"][:1]
    told = plan("forecast", "FILE", "--self", "lab/db", tiers=tiers)
    assert "└── (self), what vmpower runs on: in the reserve, when all others are off\n" in told.out


# What is refused


def test_mistakes_in_a_plan_are_told_by_their_fields(plan: Plan, provider: FakeProvider, vms: list[pb.VM]) -> None:
    provider.answers["GetVM"] = not_found("VM", "mail")
    told = plan("run", "FILE", tiers=[{"name": "a", "members": [{"vms": ["lab/mail", "pve/x"]}]}])
    assert told.code == 2
    assert told.err == (
        "vmpower: The plan is refused; nothing was done.\n"
        "  spec.tiers[0].members[0].vms[0]: provider 'lab' has no VM with the id or name 'mail'\n"
        "  spec.tiers[0].members[0].vms[1]: no provider is called 'pve'; known: lab\n"
    )


def test_a_file_that_is_no_plan_is_told_by_its_fields(plan: Plan) -> None:
    told = plan("forecast", "FILE", budget={"total": "1m", "reserve": "2m"}, more=1)
    assert told.code == 2
    assert "is no PowerPlan.\n" in told.err
    assert "  spec.budget: reserve must be less than total\n" in told.err
    assert "  spec.more: is not known here\n" in told.err


def test_a_file_that_is_not_there_is_told(vmpower: Shell) -> None:
    told = vmpower("plan", "forecast", "nothing.yaml")
    assert (told.code, "nothing.yaml cannot be read: No such file" in told.err) == (2, True)


def test_a_provider_that_does_not_answer_is_told_and_nothing_is_done(plan: Plan, provider: FakeProvider) -> None:
    provider.answers["GetProviderInfo"] = refusal(code_pb2.UNAVAILABLE, "It is away.", "HYPERVISOR_UNAVAILABLE")
    told = plan("run", "FILE")
    assert (told.code, "It is away." in told.err, provider.requests("Shutdown")) == (5, True, [])


# run and report


def test_a_run_asks_tier_by_tier_and_reports(plan: Plan, obedient: FakeProvider) -> None:
    done = plan("run", "FILE")
    assert done.code == 0
    assert [request.vm for request in obedient.requests("Shutdown")] == ["id-web", "id-db"]
    assert "lab/db: GRACEFUL. The guest shut itself down." in done.out
    lines = [line.split(" ", 1)[1] for line in done.err.splitlines()[1:]]
    assert lines[1:3] == ["lab/web: GRACEFUL. The guest shut itself down.", "tier apps is over; all are off"]


def test_the_report_says_what_the_run_said(plan: Plan, obedient: FakeProvider) -> None:
    done = plan("run", "FILE")
    assert plan("report").out == done.out
    name = done.out.split(":")[0]
    assert plan("report", name).out == done.out
    events = json.loads(plan("report", name, "-o", "json").out)["events"]
    assert [event["event"] for event in events][:2] == ["tier began", "vm ended"]


def test_the_shared_options_may_stand_before_the_command(plan: Plan, vmpower: Shell, obedient: FakeProvider) -> None:
    plan("run", "FILE")
    assert json.loads(vmpower("-o", "json", "plan", "report").out)["start"]["plan"] == "night"


def test_our_own_vm_is_left_alone_where_that_is_asked(plan: Plan, obedient: FakeProvider) -> None:
    tiers = SPEC["tiers"][:1]
    assert plan("run", "FILE", "--self", "lab/db", "--leave-self", tiers=tiers, others="First").code == 0
    assert [request.vm for request in obedient.requests("Shutdown")] == ["id-web"]


def test_a_forced_vm_exits_with_3(plan: Plan, provider: FakeProvider, vms: list[pb.VM]) -> None:
    provider.answers["Shutdown"] = ended("web", pb.OUTCOME_FORCED)
    provider.streams = [[ended("web", pb.OUTCOME_FORCED)], [ended("db")]]
    assert plan("run", "FILE").code == 3
    assert plan("report").code == 3


def test_a_vm_that_still_runs_exits_with_4(plan: Plan, provider: FakeProvider, vms: list[pb.VM]) -> None:
    still = ended("web", pb.OUTCOME_STILL_RUNNING, state=pb.OPERATION_STATE_FAILED)
    provider.answers["Shutdown"] = still
    provider.streams = [[still], [ended("db")]]
    done = plan("run", "FILE")
    assert (done.code, "tier apps is over; not off: lab/web" in done.err) == (4, True)


def test_without_a_run_there_is_no_report(plan: Plan) -> None:
    assert (plan("report").code, "There is no run in" in plan("report").err) == (2, True)


def test_a_folder_of_records_that_cannot_be_read_is_not_told_as_an_empty_one(vmpower: Shell, tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    told = vmpower("plan", "report", "--state-dir", str(tmp_path / "folder"))
    assert (told.code, f"{tmp_path}/folder cannot be read: Not a directory" in told.err) == (2, True)


def test_a_record_that_this_version_cannot_read_is_told(plan: Plan, obedient: FakeProvider, tmp_path: Path) -> None:
    name = plan("run", "FILE").out.split(":")[0]
    newer = tmp_path / "state" / "vmpower" / "plans" / "night-newer.jsonl"
    newer.write_text('{"event": "started"}\n')
    told = plan("report")
    assert told.out.startswith(name)
    assert f"{newer} is no record of a run that this version can read" in told.err


def test_a_report_of_a_run_that_is_not_there_is_refused(plan: Plan) -> None:
    assert plan("report", "nothing").code == 2


# Ctrl-C, and runs that were left


def test_ctrl_c_aborts_a_run_and_what_it_stopped_comes_up_again(plan: Plan, obedient: FakeProvider) -> None:
    asked = obedient.answers["Shutdown"]

    def interrupted(request: pb.ShutdownRequest) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return asked(request)  # type: ignore[operator]

    def started(request: pb.PowerOnRequest) -> pb.Operation:
        obedient.streams.append([ended("web", pb.OUTCOME_STARTED, kind=pb.OPERATION_KIND_POWER_ON)])
        return running("web", kind=pb.OPERATION_KIND_POWER_ON)

    obedient.answers |= {"Shutdown": interrupted, "PowerOn": started, "ListOperations": pb.ListOperationsResponse()}
    done = plan("run", "FILE")
    assert [request.vm for request in obedient.requests("Shutdown")] == ["id-web"]
    assert [request.vm for request in obedient.requests("PowerOn")] == ["id-web"]
    assert (done.code, "aborted after" in done.out, "Up again." in done.out) == (4, True, True)


def test_a_second_ctrl_c_leaves_a_run_as_it_is(plan: Plan, provider: FakeProvider, vms: list[pb.VM]) -> None:
    def interrupted(_: pb.ShutdownRequest) -> pb.Operation:
        os.kill(os.getpid(), signal.SIGINT)
        return running("web")

    provider.answers["Shutdown"] = interrupted

    def again() -> None:
        provider.opened.get()  # its operation is watched
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=again, daemon=True).start()
    left = plan("run", "FILE")
    assert left.code == 130
    assert "is left as it is; what was begun goes on.\n  vmpower plan run FILE takes it up again.\n" in left.err


def test_a_terminal_that_is_closed_ends_no_run(plan: Plan, obedient: FakeProvider) -> None:
    asked = obedient.answers["Shutdown"]

    def hung_up(request: pb.ShutdownRequest) -> Any:
        os.kill(os.getpid(), signal.SIGHUP)
        return asked(request)  # type: ignore[operator]

    obedient.answers["Shutdown"] = hung_up
    assert plan("run", "FILE").code == 0


def test_what_a_run_has_stopped_is_brought_up_by_name(plan: Plan, obedient: FakeProvider) -> None:
    name = plan("run", "FILE").out.split(":")[0]

    def started(request: pb.PowerOnRequest) -> pb.Operation:
        vm = request.vm.removeprefix("id-")
        obedient.streams.append([ended(vm, pb.OUTCOME_STARTED, kind=pb.OPERATION_KIND_POWER_ON)])
        return running(vm, kind=pb.OPERATION_KIND_POWER_ON)

    obedient.answers["PowerOn"] = started
    up = plan("up", name)
    assert (up.code, up.out.count("Up again.")) == (0, 2)
    assert [request.vm for request in obedient.requests("PowerOn")] == ["id-db", "id-web"]


def test_what_did_not_come_up_is_started_when_it_is_asked_for_again(plan: Plan, obedient: FakeProvider) -> None:
    plan("run", "FILE")
    obedient.answers["PowerOn"] = refusal(code_pb2.FAILED_PRECONDITION, "the host is full", "REFUSED_BY_HYPERVISOR")
    assert plan("up").code == 4

    def started(request: pb.PowerOnRequest) -> pb.Operation:
        vm = request.vm.removeprefix("id-")
        obedient.streams.append([ended(vm, pb.OUTCOME_STARTED, kind=pb.OPERATION_KIND_POWER_ON)])
        return running(vm, kind=pb.OPERATION_KIND_POWER_ON)

    obedient.answers["PowerOn"] = started
    up = plan("up")
    assert (up.code, up.out.count("Up again.")) == (0, 2)


def test_a_plan_without_bring_up_starts_nothing(plan: Plan, obedient: FakeProvider) -> None:
    plan("run", "FILE", bringUp=None)
    told = plan("up")
    assert (told.code, "has no bringUp" in told.err) == (2, True)


@pytest.fixture
def killed(plan: Plan, obedient: FakeProvider, tmp_path: Path) -> Path:
    """The record of a run whose process was killed when its first VM had been asked."""
    plan("run", "FILE")
    (record,) = (tmp_path / "state" / "vmpower" / "plans").iterdir()
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:2]))
    obedient.asked.clear()
    return record


def test_a_run_that_was_left_is_taken_up_again_with_the_same_requests(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    done = plan("run", "FILE")
    assert (done.code, f"Run {killed.stem} is taken up again." in done.err) == (0, True)
    assert [request.vm for request in obedient.requests("Shutdown")] == ["id-web", "id-db"]
    assert obedient.requests("ListVMs") == []
    assert len(list(killed.parent.iterdir())) == 1


def test_another_plan_waits_for_the_end_of_a_run_that_was_left(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    told = plan("run", "FILE", name="other")
    assert (told.code, f"Run {killed.stem} of another plan has not ended" in told.err) == (2, True)
    assert obedient.requests("Shutdown") == []


def test_a_run_whose_budget_is_over_is_closed_and_another_begins(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    long_ago(killed)
    assert plan("run", "FILE").code == 0
    assert len(list(killed.parent.iterdir())) == 2
    assert "No process carried it out to its end." in killed.read_text()


def long_ago(record: Path) -> None:
    """The run began so long ago that its budget is over."""
    start, *events = record.read_text().splitlines()
    old = json.loads(start) | {"at": "2020-01-01T00:00:00Z", "ends": "2020-01-01T00:10:00Z"}
    record.write_text("\n".join([json.dumps(old), *events, ""]))


def gone_down(provider: FakeProvider, record: Path) -> None:
    """The VM that the run had asked, when no process followed it."""
    start = Start.model_validate_json(record.read_text().splitlines()[0])
    (web,) = start.tiers[0].targets
    found = ended("web")
    found.request_id = History(start).request_id(start.tiers[0].name, web)

    def started(request: pb.PowerOnRequest) -> pb.Operation:
        provider.streams.append([ended("web", pb.OUTCOME_STARTED, kind=pb.OPERATION_KIND_POWER_ON)])
        return running("web", kind=pb.OPERATION_KIND_POWER_ON)

    provider.answers |= {"ListOperations": pb.ListOperationsResponse(operations=[found]), "PowerOn": started}


def test_what_a_run_that_was_left_had_stopped_comes_up_when_its_budget_is_over(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    long_ago(killed)
    gone_down(obedient, killed)
    up = plan("up", killed.stem)
    assert [request.vm for request in obedient.requests("PowerOn")] == ["id-web"]
    assert (up.code, "left after" in up.out, obedient.requests("Shutdown")) == (0, True, [])


def test_while_there_is_time_for_it_a_run_that_was_left_does_not_come_up(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    told = plan("up", killed.stem)
    assert (told.code, "has not ended: vmpower plan run FILE takes it up again" in told.err) == (2, True)


def test_what_a_run_had_asked_comes_up_with_it_though_another_one_has_closed_it(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    long_ago(killed)
    gone_down(obedient, killed)
    assert plan("run", "FILE").code == 0
    plan("up", killed.stem)
    assert [request.vm for request in obedient.requests("PowerOn")] == ["id-web"]


def test_a_run_whose_provider_is_not_configured_any_more_is_closed_all_the_same(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    long_ago(killed)
    killed.write_text(killed.read_text().replace('"provider": "lab"', '"provider": "old"'))
    assert '"provider": "old"' in killed.read_text()
    assert plan("run", "FILE").code == 0
    assert "No process carried it out to its end." in killed.read_text()


def test_a_run_that_was_shortened_is_over_when_its_shorter_time_is(
    plan: Plan, obedient: FakeProvider, killed: Path
) -> None:
    shorter = {"event": "shortened", "at": "2020-01-01T00:00:00Z", "ends": "2020-01-01T00:05:00Z", "why": "the battery"}
    killed.write_text(killed.read_text() + json.dumps(shorter) + "\n")
    assert plan("run", "FILE").code == 0
    assert len(list(killed.parent.iterdir())) == 2


def test_a_run_that_another_process_carries_out_is_left_to_it(plan: Plan, killed: Path) -> None:
    with killed.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = plan("run", "FILE")
    assert (told.code, f"Another process carries out run {killed.stem}." in told.err) == (4, True)
