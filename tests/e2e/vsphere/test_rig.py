"""The rig's guests: what they do and what vCenter says of them, when nobody of ours is there."""

from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from tests.rigs.vsphere.client import Following, client, ended, machine
from tests.rigs.vsphere.vcenter import VCenter

QUICK: dict[str, object] = {"shutdown_time": "300ms", "boot_time": "100ms"}
VMS: dict[str, dict[str, object]] = {
    "web": QUICK,
    "deaf": {"ignores": True, "shutdown_time": 0},
    "off": {"power": "off", "boot_time": "200ms"},
    "asleep": {"power": "suspended"},
    "golden": {"template": True},
    "shadow": {"ft_secondary": True},
    "spare": {},
}
TOOLS = ["guest.toolsRunningStatus", "guest.guestState", "guest.guestStateChangeSupported"]
PATHS = ["name", "runtime.powerState", "runtime.question", *TOOLS]


@pytest.fixture(scope="module")
def rig() -> Iterator[VCenter]:
    with VCenter(VMS) as rig:
        yield rig


@pytest.fixture(scope="module")
def content(rig: VCenter) -> Iterator[Any]:
    with client(rig) as content:
        yield content


@pytest.fixture
def spare(rig: VCenter, content: Any) -> Iterator[Any]:
    """A healthy VM that runs, for one test."""
    rig.add("one", **QUICK)
    yield machine(content, rig, "one")
    rig.remove("one")


@pytest.mark.parametrize("esx", [False, True], ids=["vcenter", "esx"])
def test_a_guest_goes_down_when_it_is_asked_and_takes_its_time(esx: bool) -> None:
    with VCenter({"web": QUICK}, esx=esx) as rig, client(rig) as content:
        following = Following(content, PATHS)
        machine(content, rig, "web").ShutdownGuest()
        told = following.until(rig.show("web")["moid"], "runtime.powerState", "poweredOff")
        shown = rig.show("web")
    assert [asked["method"] for asked in shown["asked_at"]] == ["ShutdownGuest"]
    assert shown["off_cause"] == "guest"
    assert shown["asked_at"][0]["time"] + 0.3 <= shown["off_at"] <= told


def test_tools_of_a_guest_that_goes_down_are_gone_before_its_power(content: Any, spare: Any) -> None:
    following = Following(content, PATHS)
    spare.ShutdownGuest()
    following.until(spare._moId, "guest.guestState", "shuttingDown")
    following.until(spare._moId, "guest.toolsRunningStatus", "guestToolsNotRunning")
    assert following.values[spare._moId]["runtime.powerState"] == "poweredOn"


def test_tools_of_a_guest_that_boots_run_their_scripts_first(rig: VCenter, content: Any) -> None:
    following = Following(content, PATHS)
    off = machine(content, rig, "off")
    ended(off.PowerOnVM_Task())
    following.until(off._moId, "guest.toolsRunningStatus", "guestToolsExecutingScripts")
    assert not following.values[off._moId]["guest.guestStateChangeSupported"]
    following.until(off._moId, "guest.toolsRunningStatus", "guestToolsRunning")
    assert following.values[off._moId]["guest.guestStateChangeSupported"]


def test_a_guest_that_ignores_accepts_and_goes_on(rig: VCenter, content: Any, spare: Any) -> None:
    following = Following(content, PATHS)
    machine(content, rig, "deaf").ShutdownGuest()
    spare.ShutdownGuest()
    following.until(spare._moId, "runtime.powerState", "poweredOff")
    assert rig.show("deaf")["power"] == "poweredOn"


def test_a_guest_that_refuses_says_so(rig: VCenter, spare: Any) -> None:
    rig.set("one", refuses=True)
    with pytest.raises(vim.fault.InvalidState):
        spare.ShutdownGuest()


@pytest.mark.parametrize("tools", ["not_running", "not_installed", "executing_scripts"])
def test_tools_that_do_not_run_are_unavailable(rig: VCenter, spare: Any, tools: str) -> None:
    rig.set("one", tools=tools)
    with pytest.raises(vim.fault.ToolsUnavailable, match="VMware Tools is not running"):
        spare.ShutdownGuest()


def test_old_tools_do_their_work(rig: VCenter, spare: Any) -> None:
    rig.set("one", tools="old")
    assert spare.guest.toolsVersionStatus2 == "guestToolsSupportedOld"
    spare.ShutdownGuest()


def test_a_guest_that_reboots_instead_keeps_its_power(rig: VCenter, content: Any, spare: Any) -> None:
    rig.set("one", on_shutdown="reboot")
    following = Following(content, PATHS)
    spare.ShutdownGuest()
    following.until(spare._moId, "guest.toolsRunningStatus", "guestToolsNotRunning")
    following.until(spare._moId, "guest.toolsRunningStatus", "guestToolsRunning")
    assert rig.show("one")["off_at"] == 0


def test_a_guest_reboots(rig: VCenter, content: Any, spare: Any) -> None:
    following = Following(content, PATHS)
    spare.RebootGuest()
    following.until(spare._moId, "guest.toolsRunningStatus", "guestToolsNotRunning")
    following.until(spare._moId, "guest.toolsRunningStatus", "guestToolsRunning")
    assert rig.show("one")["power"] == "poweredOn"


def test_a_reset_is_no_end(rig: VCenter, content: Any, spare: Any) -> None:
    following = Following(content, PATHS)
    ended(spare.ResetVM_Task())
    following.until(spare._moId, "guest.toolsRunningStatus", "guestToolsRunning")
    assert rig.show("one")["off_at"] == 0


def test_power_that_is_off_already_is_the_tasks_error(content: Any, spare: Any) -> None:
    ended(spare.PowerOffVM_Task())
    with pytest.raises(vim.fault.InvalidPowerState) as raised:
        ended(spare.PowerOffVM_Task())
    assert raised.value.existingState == "poweredOff"


def test_a_second_power_task_finds_the_first_in_progress(rig: VCenter, spare: Any) -> None:
    rig.set("one", power_off_time="1s")
    task = spare.PowerOffVM_Task()
    with pytest.raises(vim.fault.TaskInProgress):
        spare.PowerOffVM_Task()
    ended(task)
    assert rig.show("one")["off_cause"] == "power_off"


def test_a_suspended_guest_cannot_be_asked(rig: VCenter, content: Any) -> None:
    with pytest.raises(vim.fault.InvalidPowerState) as raised:
        machine(content, rig, "asleep").ShutdownGuest()
    assert raised.value.existingState == "suspended"


def test_a_template_is_one_and_takes_no_power(rig: VCenter, content: Any) -> None:
    golden = machine(content, rig, "golden")
    assert golden.config.template
    with pytest.raises(vmodl.fault.NotSupported):
        golden.PowerOnVM_Task()


def test_a_fault_tolerance_secondary_says_so(rig: VCenter, content: Any) -> None:
    shadow = machine(content, rig, "shadow")
    assert shadow.runtime.faultToleranceState == "running"
    assert isinstance(shadow.config.ftInfo, vim.vm.FaultToleranceSecondaryConfigInfo)


def test_a_question_holds_the_guest_up_until_it_is_answered(rig: VCenter, content: Any, spare: Any) -> None:
    rig.set("one", question={"text": "Moved or copied?", "choices": ["moved", "copied"]})
    following = Following(content, PATHS)
    question = following.values[spare._moId]["runtime.question"]
    assert (question.text, [choice.label for choice in question.choice.choiceInfo]) == (
        "Moved or copied?",
        ["moved", "copied"],
    )
    spare.AnswerVM(question.id, "0")
    following.until(spare._moId, "runtime.question", None)


def test_a_method_that_is_disabled_fails(rig: VCenter, spare: Any) -> None:
    rig.set("one", disabled_methods=["PowerOffVM_Task", "ShutdownGuest"])
    assert {"PowerOffVM_Task", "ShutdownGuest"} <= set(spare.disabledMethod)
    for method in (spare.PowerOffVM_Task, spare.ShutdownGuest):
        with pytest.raises(vim.fault.MethodDisabled):
            method()


def test_what_the_power_state_forbids_is_shown_as_disabled(rig: VCenter, content: Any) -> None:
    assert "ShutdownGuest" in machine(content, rig, "asleep").disabledMethod
    assert "PowerOnVM_Task" in machine(content, rig, "spare").disabledMethod


def test_a_vm_whose_host_is_gone_cannot_be_asked(rig: VCenter, spare: Any) -> None:
    rig.set("one", connection="disconnected")
    assert spare.runtime.connectionState == "disconnected"
    with pytest.raises(vmodl.fault.HostNotConnected):
        spare.ShutdownGuest()


def test_faults_come_in_their_order_and_end(rig: VCenter, spare: Any) -> None:
    rig.set("one", faults={"ShutdownGuest": ["ok", "NoPermission"]}, ignores=True)
    spare.ShutdownGuest()
    with pytest.raises(vim.fault.NoPermission):
        spare.ShutdownGuest()
    spare.ShutdownGuest()


def test_a_fault_can_be_the_tasks(rig: VCenter, spare: Any) -> None:
    rig.set("one", faults={"PowerOffVM_Task": ["task:GenericVmConfigFault"]})
    task = spare.PowerOffVM_Task()
    with pytest.raises(vim.fault.GenericVmConfigFault):
        ended(task)
    assert rig.show("one")["power"] == "poweredOn"


def test_a_fault_that_does_not_exist_is_an_error(rig: VCenter, spare: Any) -> None:
    with pytest.raises(ValueError, match="NoSuchFault"):
        rig.set("one", faults={"ShutdownGuest": ["NoSuchFault"]})


def test_a_behaviour_that_does_not_exist_is_an_error(rig: VCenter) -> None:
    with pytest.raises(ValueError, match="shutdwon_time"):
        rig.set("web", shutdwon_time="1s")


@pytest.mark.parametrize(
    ("tools", "memory", "quiesced"), [("running", False, True), ("running", True, False), ("not_running", False, False)]
)
def test_a_snapshot_is_quiesced_only_by_tools_and_without_memory(
    rig: VCenter, spare: Any, tools: str, memory: bool, quiesced: bool
) -> None:
    rig.set("one", tools=tools)
    ended(spare.CreateSnapshot_Task("before", "a word", memory, quiesce=True))
    assert rig.show("one")["snapshots"] == [
        {"name": "before", "description": "a word", "memory": memory, "quiesced": quiesced}
    ]


def test_a_colleagues_hand_is_a_task_with_a_name_to_it(rig: VCenter, content: Any, spare: Any) -> None:
    rig.power("one", "off")
    task = content.taskManager.recentTask[-1].info
    assert (task.entity, task.descriptionId, task.reason.userName) == (
        spare,
        "VirtualMachine.powerOff",
        "colleague@vsphere.local",
    )


def test_a_crash_is_nobodys_task(rig: VCenter, content: Any, spare: Any) -> None:
    before = content.taskManager.recentTask
    rig.power("one", "crash")
    assert rig.show("one")["off_cause"] == "crash"
    assert content.taskManager.recentTask == before


def test_a_guest_that_panics_keeps_its_power_and_loses_its_tools(rig: VCenter, content: Any, spare: Any) -> None:
    rig.power("one", "panic")
    assert (spare.runtime.powerState, spare.guest.toolsRunningStatus) == ("poweredOn", "guestToolsNotRunning")
    told = content.eventManager.QueryEvents(vim.event.EventFilterSpec(eventTypeId=["VmGuestOSCrashedEvent"]))
    assert told[-1].vm.vm == spare


def test_events_tell_what_a_guest_was_asked_and_what_became_of_it(rig: VCenter, content: Any, spare: Any) -> None:
    following = Following(content, PATHS)
    spare.ShutdownGuest()
    following.until(spare._moId, "runtime.powerState", "poweredOff")
    itself = vim.event.EventFilterSpec.ByEntity(entity=spare, recursion="self")
    events = sorted(
        content.eventManager.QueryEvents(vim.event.EventFilterSpec(entity=itself)), key=lambda event: event.key
    )
    assert [(type(event).__name__.rpartition(".")[2], event.userName) for event in events[-2:]] == [
        ("VmGuestShutdownEvent", rig.username),
        ("VmPoweredOffEvent", ""),
    ]


def test_an_address_is_known_while_tools_run(rig: VCenter, spare: Any) -> None:
    rig.set("one", address="127.0.0.7")
    assert (spare.guest.ipAddress, spare.guest.net[0].ipAddress[0]) == ("127.0.0.7", "127.0.0.7")
    rig.set("one", tools="not_running")
    assert (spare.guest.ipAddress, spare.guest.net) == (None, [])
