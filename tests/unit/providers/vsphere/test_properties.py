from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pyVmomi import vim

from providers.vsphere.properties import KINDS, Crash, Manager, Place, Question, Task, VMProperties, update

VM = vim.VirtualMachine("vm-1", None)


def read(path: str, value: Any, reference: Any = VM) -> Any:
    """The one field that a property becomes."""
    fields = update(reference, [(path, value)]).fields
    assert fields is not None
    [field] = fields.values()
    return field


def question() -> Any:
    choices = [vim.ElementDescription(label=label, summary=label, key=label) for label in ("moved", "copied")]
    return vim.vm.QuestionInfo(
        id="1", text="Moved or copied?", choice=vim.option.ChoiceOption(choiceInfo=choices, valueIsReadonly=True)
    )


def adapters(*addresses: list[str] | None) -> Any:
    """The network adapters of a guest, each with these addresses."""
    return [vim.vm.GuestInfo.NicInfo(ipAddress=each, connected=True, deviceConfigId=4000) for each in addresses]


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("name", "web", "web"),
        ("config.instanceUuid", "5012-abc", "5012-abc"),
        ("config.uuid", "4212-ABC", "4212-ABC"),
        ("runtime.powerState", vim.VirtualMachine.PowerState.poweredOn, "poweredOn"),
        ("runtime.host", vim.HostSystem("host-1", None), "host-1"),
        ("runtime.question", question(), Question("Moved or copied?", ("moved", "copied"))),
        ("config.ftInfo", vim.vm.FaultToleranceConfigInfo(role=2), 2),
        ("guest.guestStateChangeSupported", True, True),
        ("runtime.cleanPowerOff", False, False),
        ("runtime.bootTime", datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "2030-01-01T00:00:00+00:00"),
        (
            "guest.net",
            adapters(["192.0.2.1", "fe80::1"], None, ["198.51.100.1"]),
            ("192.0.2.1", "fe80::1", "198.51.100.1"),
        ),
        ("guest.net", adapters(["192.0.2.1"] * 1000), ("192.0.2.1",) * 64),
        ("config.managedBy", vim.ext.ManagedByInfo(extensionKey="key", type="kind"), Manager("key", "kind")),
        ("disabledMethod", ["PowerOnVM_Task", "ShutdownGuest"], frozenset({"ShutdownGuest"})),
    ],
)
def test_a_property_becomes_a_field(path: str, value: Any, field: object) -> None:
    assert read(path, value) == field


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("runtime.question", None),
        ("guest.net", ()),
        ("runtime.bootTime", ""),
        ("config.managedBy", Manager()),
        ("guest.toolsRunningStatus", "guestToolsNotRunning"),
        ("parent", ""),
    ],
)
def test_a_property_that_is_not_set_is_what_its_field_is_by_default(path: str, field: object) -> None:
    assert read(path, None) == field


def test_a_tasks_error_is_kept_as_it_is() -> None:
    fault = vim.fault.InvalidPowerState()
    assert read("info.error", fault, vim.Task("task-1", None)) is fault


def test_a_tasks_time_is_kept() -> None:
    time = datetime(2030, 1, 1, tzinfo=UTC)
    assert read("info.queueTime", time, vim.Task("task-1", None)) == time


def test_who_began_a_task_is_kept() -> None:
    assert read("info.reason", vim.TaskReasonUser(userName="root"), vim.Task("task-1", None)) == "root"


def test_a_task_that_no_user_began_has_none() -> None:
    assert read("info.reason", vim.TaskReasonSystem(), vim.Task("task-1", None)) == ""


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        (VM, VMProperties),
        (vim.Folder("group-1", None), Place),
        (vim.Datacenter("dc-1", None), Place),
        (vim.HostSystem("host-1", None), Place),
        (vim.Task("task-1", None), Task),
    ],
)
def test_an_object_is_known_by_its_type_and_id(reference: Any, kind: type) -> None:
    told = update(reference, [])
    assert (told.kind, told.moid) == (kind, reference._moId)


def test_an_object_that_left_has_no_fields() -> None:
    assert update(VM, None).fields is None


def test_every_path_is_one_of_vsphere() -> None:
    for name, (_, paths) in KINDS.items():
        for path in paths:
            owner: Any = getattr(vim, name)
            for step in path.split("."):
                owner = owner._GetPropertyInfo(step).type
            assert owner


def test_a_vm_is_readable_once_it_has_id_and_power() -> None:
    assert not VMProperties("vm-1", name="new", power="poweredOff").readable
    assert not VMProperties("vm-1", id="5012").readable
    assert VMProperties("vm-1", id="5012", power="poweredOff").readable


def test_the_escapes_in_a_name_are_for_vsphere_only() -> None:
    assert VMProperties("vm-1", name="50%25 a%2fb%5cc").plain_name == "50% a/b\\c"


AT = datetime(2030, 1, 1, tzinfo=UTC)
EVENTS = vim.event.EventHistoryCollector("events-1", None)


def crash(number: int, vm: Any = VM) -> Any:
    of = vim.event.VmEventArgument(vm=vm, name="web") if vm else None
    return vim.event.VmGuestOSCrashedEvent(key=number, chainId=number, createdTime=AT, userName="", vm=of)


@pytest.mark.parametrize(
    ("path", "value"),
    [("latestPage", [crash(7), crash(8, None)]), ("latestPage[7]", crash(7))],
    ids=["the page", "one more"],
)
def test_events_of_crashes_name_their_vms(path: str, value: Any) -> None:
    assert read(path, value, EVENTS) == (Crash(7, "vm-1", AT),)


def test_an_empty_page_has_no_crashes() -> None:
    assert read("latestPage", None, EVENTS) == ()
