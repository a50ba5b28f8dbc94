from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from providers.core.errors import HypervisorUnavailable
from providers.vsphere import collector
from providers.vsphere.collector import LATEST_CRASHES, POLL_SECONDS
from providers.vsphere.events import EVENTS
from providers.vsphere.properties import Task, VMProperties
from providers.vsphere.session import SessionLost
from tests.unit.providers.vsphere.fake import PC, FakeStub, change, link, news, told

VM = vim.VirtualMachine("vm-1", None)


@pytest.fixture
def stub() -> FakeStub:
    stub = FakeStub()
    stub.answers = {
        "CreatePropertyCollector": PC("collector-2", stub),
        "CreateFilter": PC.Filter("filter-1", stub),
        "CreateContainerView": lambda *_: vim.view.ContainerView("view-1", stub),
    }
    return stub


def specs(stub: FakeStub) -> list[Any]:
    return [spec for spec, _ in stub.called("CreateFilter")]


async def test_one_filter_is_for_tasks_and_one_for_everything_else_before_it(stub: FakeStub) -> None:
    assert await collector.subscribe(link(stub), "") == "collector-2"
    followed = [[props.type._wsdlName for props in spec.propSet] for spec in specs(stub)]
    assert followed == [["VirtualMachine", "Folder", "Datacenter", "HostSystem"], ["Task"]]


async def test_events_of_guests_that_crashed_are_followed_by_one_collector_a_session(stub: FakeStub) -> None:
    stub.answers["CreateCollectorForEvents"] = vim.event.EventHistoryCollector("events-1", stub)
    session = link(stub)
    for _ in range(2):
        await collector.subscribe(session, "")
    [(spec,)] = stub.called("CreateCollectorForEvents")
    assert (spec.eventTypeId, spec.maxCount) == (["VmGuestOSCrashedEvent"], LATEST_CRASHES)
    [followed] = specs(stub)[-1].objectSet
    assert (followed.obj._moId, specs(stub)[-1].propSet[0].pathSet) == ("events-1", ["latestPage"])


@pytest.mark.parametrize(
    "fault",
    [vim.fault.InvalidState(), vim.fault.NoPermission(), vmodl.fault.NotSupported(), vmodl.fault.NotImplemented()],
)
async def test_a_vcenter_that_gives_no_events_is_followed_without_them(stub: FakeStub, fault: Exception) -> None:
    stub.answers["CreateCollectorForEvents"] = fault
    assert await collector.subscribe(link(stub), "") == "collector-2"
    assert len(specs(stub)) == 2


async def test_without_a_scope_all_vms_are_followed(stub: FakeStub) -> None:
    await collector.subscribe(link(stub), "")
    container, kinds, recursive = stub.called("CreateContainerView")[0]
    assert (container._moId, kinds, recursive) == ("root", [vim.VirtualMachine], True)


@pytest.mark.parametrize("scope", ["/dc/vm/prod", "dc/vm/prod/"])
async def test_only_vms_in_scope_are_followed_and_all_folders(stub: FakeStub, scope: str) -> None:
    stub.answers["FindByInventoryPath"] = vim.Folder("group-7", stub)
    await collector.subscribe(link(stub), scope)
    assert stub.called("FindByInventoryPath") == [("dc/vm/prod",)]
    assert [container._moId for container, *_ in stub.called("CreateContainerView")] == ["group-7", "root"]


async def test_a_scope_that_does_not_exist_is_told(stub: FakeStub) -> None:
    with pytest.raises(HypervisorUnavailable, match=r"no /dc/vm/prdo.*--scope"):
        await collector.subscribe(link(stub), "/dc/vm/prdo")


# Waiting


async def test_news_is_what_changed_and_the_version_to_go_on_from(stub: FakeStub) -> None:
    stub.answers["WaitForUpdatesEx"] = news("2", change(VM, name="web"), change(VM, "leave"), truncated=True)
    answer = await collector.wait_for_updates(link(stub), "collector-2", "1")
    assert (answer.version, answer.more) == ("2", True)
    assert [(update.kind, update.fields, update.enters) for update in answer.updates] == [
        (VMProperties, {"name": "web"}, False),
        (VMProperties, None, False),
    ]


async def test_an_object_that_enters_is_marked(stub: FakeStub) -> None:
    task = vim.Task("task-1", None)
    stub.answers["WaitForUpdatesEx"] = news("2", change(task, "enter", info_state="running"))
    [update] = (await collector.wait_for_updates(link(stub), "collector-2", "1")).updates
    assert (update.kind, update.moid, update.enters) == (Task, "task-1", True)


async def test_no_news_keeps_the_version(stub: FakeStub) -> None:
    answer = await collector.wait_for_updates(link(stub), "collector-2", "1")
    assert (answer.version, answer.updates, answer.more) == ("1", (), False)


async def test_vcenter_is_told_how_long_to_hold_the_call(stub: FakeStub) -> None:
    await collector.wait_for_updates(link(stub), "collector-2", "1")
    [(version, options)] = stub.called("WaitForUpdatesEx")
    assert (version, options.maxWaitSeconds) == ("1", POLL_SECONDS)


@pytest.mark.parametrize(
    "fault",
    [vmodl.fault.ManagedObjectNotFound(), vmodl.fault.RequestCanceled(), vmodl.query.InvalidCollectorVersion()],
)
async def test_a_collector_that_is_gone_or_lost_count_is_made_anew(stub: FakeStub, fault: Exception) -> None:
    stub.answers["WaitForUpdatesEx"] = fault
    with pytest.raises(SessionLost):
        await collector.wait_for_updates(link(stub), "collector-2", "1")


async def test_unsubscribing_destroys_the_collector(stub: FakeStub) -> None:
    await collector.unsubscribe(link(stub), "collector-2")
    assert [name for name, _ in stub.calls] == ["DestroyPropertyCollector"]


# Reading


async def test_vms_are_read_in_one_call_and_what_is_not_set_is_blank(stub: FakeStub) -> None:
    stub.answers["RetrievePropertiesEx"] = told(VM, name="web", runtime_powerState="poweredOff")
    read = await collector.read(link(stub), ["vm-1", "vm-2"])
    assert [objects.obj._moId for objects in stub.called("RetrievePropertiesEx")[0][0][0].objectSet] == ["vm-1", "vm-2"]
    assert (list(read), read["vm-1"].enters) == (["vm-1"], True)
    fields = read["vm-1"].fields or {}
    assert (fields["name"], fields["power"], fields["question"]) == ("web", "poweredOff", None)


async def test_vms_that_vcenter_hands_over_bit_by_bit_are_all_read(stub: FakeStub) -> None:
    first, second = told(VM, name="web"), told(vim.VirtualMachine("vm-2", None), name="db")
    first.token = "more"
    stub.answers |= {"RetrievePropertiesEx": first, "ContinueRetrievePropertiesEx": second}
    assert list(await collector.read(link(stub), ["vm-1", "vm-2"])) == ["vm-1", "vm-2"]
    assert stub.called("ContinueRetrievePropertiesEx") == [("more",)]


async def test_where_none_of_them_exists_nothing_is_read(stub: FakeStub) -> None:
    assert await collector.read(link(stub), ["vm-1"]) == {}


async def test_a_vm_is_found_by_its_instance_uuid(stub: FakeStub) -> None:
    stub.answers["FindByUuid"] = VM
    assert await collector.find(link(stub), "5012") == "vm-1"
    assert stub.called("FindByUuid") == [(None, "5012", True, True)]


async def test_a_vm_that_does_not_exist_is_not_found(stub: FakeStub) -> None:
    assert await collector.find(link(stub), "5012") == ""


async def test_the_managers_of_guests_are_read_once(stub: FakeStub) -> None:
    files, processes = vim.vm.guest.FileManager("f", stub), vim.vm.guest.ProcessManager("p", stub)
    manager = vim.vm.guest.GuestOperationsManager("guests", stub)
    stub.answers["RetrievePropertiesEx"] = told(manager, fileManager=files, processManager=processes)
    made = link(stub)
    made.kept.clear()
    assert await collector.guest_managers(made) == await collector.guest_managers(made) == (files, processes)
    assert len(stub.called("RetrievePropertiesEx")) == 1


# Events

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def event(number: int, vm: str = "vm-1") -> Any:
    argument = vim.event.VmEventArgument(name="web", vm=vim.VirtualMachine(vm, None))
    return vim.event.VmPoweredOffEvent(key=number, vm=argument, userName="")


@pytest.fixture
def recording(stub: FakeStub) -> FakeStub:
    """Has a clock, and a record."""
    stub.answers |= {"CurrentTime": NOW, "QueryEvents": lambda *_: [event(2), event(1), event(3, "vm-2")]}
    return stub


async def test_events_are_told_by_vms_the_oldest_first(recording: FakeStub) -> None:
    found = await collector.power_events(link(recording), timedelta(hours=1))
    assert {moid: [each.key for each in events] for moid, events in found.items()} == {"vm-1": [1, 2], "vm-2": [3]}


async def test_only_events_of_power_are_asked_for_and_those_since_then_by_vcenters_clock(recording: FakeStub) -> None:
    await collector.power_events(link(recording), timedelta(hours=1))
    spec = recording.called("QueryEvents")[0][0]
    assert (spec.time.beginTime, list(spec.eventTypeId)) == (NOW - timedelta(hours=1), list(EVENTS))


async def test_a_record_that_is_cut_off_proves_nothing(recording: FakeStub) -> None:
    recording.answers["QueryEvents"] = lambda *_: [event(number) for number in range(collector.MOST_EVENTS)]
    assert await collector.power_events(link(recording), timedelta(hours=1)) == {}


@pytest.mark.parametrize("fault", [vim.fault.NoPermission(), vmodl.fault.NotImplemented()])
async def test_a_record_that_cannot_be_read_proves_nothing(recording: FakeStub, fault: Exception) -> None:
    recording.answers["QueryEvents"] = fault
    assert await collector.power_events(link(recording), timedelta(hours=1)) == {}
