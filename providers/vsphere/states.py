"""vSphere's states and ours.

Names and their meaning are those of the vSphere Web Services API reference: VirtualMachineRuntimeInfo, GuestInfo,
TaskInfo, TaskDescription.
"""

from collections.abc import Mapping
from typing import TypeVar

from providers.core.adapter import VM, Ended, OffCause, PowerState, Problem, Reason, Signal
from providers.core.errors import UnknownNativeState
from providers.vsphere.properties import Question, Task, VMProperties

T = TypeVar("T")

POWER_STATES = {
    "poweredOn": PowerState.ON,
    "poweredOff": PowerState.OFF,
    "suspended": PowerState.SUSPENDED,
}

TOOLS = {
    "guestToolsRunning": None,
    "guestToolsExecutingScripts": Problem(
        "Its VMware Tools are starting; it is asked when they have.", Reason.TOOLS_UNAVAILABLE, passing=True
    ),
    "guestToolsNotRunning": Problem(
        "Its VMware Tools are not running; the guest's owner starts or installs them.", Reason.TOOLS_UNAVAILABLE
    ),
}
"""guest.toolsRunningStatus, and what it keeps the guest from."""

OLD_TOOLS = {
    "guestToolsNeedUpgrade": "old",
    "guestToolsSupportedOld": "old",
    "guestToolsTooOld": "too old for this host",
    "guestToolsTooNew": "too new for this host",
    "guestToolsBlacklisted": "of a version that VMware withdrew",
}
"""guest.toolsVersionStatus2 where it deserves a warning; tools of other versions are as they should be."""

CONNECTIONS = {
    "connected": "",
    "disconnected": "its host does not answer vCenter",
    "inaccessible": "its files cannot be reached",
    "invalid": "its configuration cannot be read",
    "orphaned": "its host has forgotten it",
}
"""runtime.connectionState, and why a VM in it can be neither asked nor switched."""

TASK_ENDED = {"queued": False, "running": False, "success": True, "error": True}

POWER_OFF_TASKS = frozenset(
    {
        "VirtualMachine.powerOff",
        "VirtualMachine.terminate",
        "VirtualMachine.terminateFaultTolerantVM",
        "VirtualMachine.revertToCurrentSnapshot",
        "vm.Snapshot.revert",
    }
)
"""info.descriptionId of tasks that end a VM's run from outside. A guest that shuts itself down has none of them."""

POWER_ON_TASKS = frozenset({"VirtualMachine.powerOn", "Drm.ExecuteVmPowerOnLRO"})


def lookup(words: Mapping[str, T], word: str, what: str) -> T:
    """What a word of vSphere's means.

    Raises:
        UnknownNativeState: the word is none of `words`.
    """
    try:
        return words[word]
    except KeyError:
        raise UnknownNativeState(f"vSphere reports the {what} {word!r}; vmpower's makers must add it.") from None


def to_vm(
    properties: VMProperties, *, ended_by_task: bool = False, lock: str = "", node: str = "", path: str = ""
) -> VM:
    """The VM as the core knows it.

    `ended_by_task`: a task ended its run, or is about to. `lock`: the task that holds it. `path`: its inventory path.
    """
    state = lookup(POWER_STATES, properties.power, "power state")
    problems = _problems(properties, state, lock)
    unable = any(problem.reason for problem in problems)
    return VM(
        id=properties.id,
        name=properties.plain_name,
        power_state=state,
        ended=_ended(properties, ended_by_task) if state is PowerState.OFF else None,
        signals=(Signal.VMWARE_TOOLS,) if state is PowerState.ON and not unable else (),
        problems=problems,
        refused=_refused(properties),
        node=node,
        labels={"path": path} if path else {},
        aliases=(path, path.removeprefix("/")) if path else (),
        runs_programs=properties.runs_programs,
    )


def has_ended(task: Task) -> bool:
    """Whether a task succeeded or failed."""
    return lookup(TASK_ENDED, task.state, "task state")


def _ended(properties: VMProperties, ended_by_task: bool) -> Ended | None:
    """Who ended its run: a task; or else a crash of its host process; or else, if we saw it run, the guest.

    runtime.cleanPowerOff is false only for a VM that crashed: also one whose power a task cuts goes off cleanly.
    """
    if ended_by_task:
        return Ended(OffCause.HOST)
    if properties.clean_power_off is False:
        return Ended(OffCause.CRASHED)
    return Ended(OffCause.GUEST) if properties.seen_running else None


def _refused(properties: VMProperties) -> str:
    if properties.template:
        return "it is a template, which never runs"
    if properties.out_of_scope:
        return "it was moved out of the provider's scope"
    if properties.ft_role > 1:
        return "it is the secondary of a fault tolerant VM, which follows its primary"
    return ""


def _problems(properties: VMProperties, state: PowerState, lock: str) -> tuple[Problem, ...]:
    if properties.out_of_scope:
        message = "It was moved out of the provider's scope; nobody tells what becomes of it there."
        return (Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True),)
    if lost := lookup(CONNECTIONS, properties.connection, "connection state"):
        message = (
            f"vCenter cannot reach it: {lost}; its state is what it last was, and vCenter's operator looks into it."
        )
        return (Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True),)
    match state:
        case PowerState.ON:
            return _obstacles(properties, lock)
        case PowerState.SUSPENDED:
            message = "It is suspended, its memory on disk; a hard power-off discards that, a start resumes it."
            return (Problem(message, Reason.SUSPENDED),)
    question = _question(properties.question)  # one that is just being started may ask, too
    return (question,) if question else ()


def _obstacles(properties: VMProperties, lock: str) -> tuple[Problem, ...]:
    """What keeps a running guest from being asked: the first of these, for each makes the next ones moot."""
    held = _question(properties.question) or _locked(lock) or _going_down(properties)
    found = held or _tools_not_running(properties) or _tools_unready(properties) or _tools_outdated(properties)
    return (found,) if found else ()


def _question(question: Question | None) -> Problem | None:
    if question is None:
        return None
    choices = ", ".join(question.choices)
    message = f"It waits for an answer to {question.text!r} ({choices}); somebody gives it in the vSphere Client."
    return Problem(message, Reason.QUESTION_PENDING)


def _locked(lock: str) -> Problem | None:
    message = f"Another task holds it: {lock}; it is asked when that ends."
    return Problem(message, Reason.LOCKED, passing=True) if lock else None


def _going_down(properties: VMProperties) -> Problem | None:
    message = "Its guest is going down or restarting already."
    return Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True) if properties.going_down else None


def _tools_not_running(properties: VMProperties) -> Problem | None:
    if properties.tools_version == "guestToolsNotInstalled":
        return Problem("It has no VMware Tools; the guest's owner installs them.", Reason.TOOLS_UNAVAILABLE)
    return lookup(TOOLS, properties.tools, "state of VMware Tools")


def _tools_unready(properties: VMProperties) -> Problem | None:
    if properties.state_change is False:
        message = "Its VMware Tools run, but take no requests yet; it is asked when they do."
        return Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True)
    if "ShutdownGuest" in properties.disabled:
        message = "vCenter has disabled ShutdownGuest for it; whoever did (a backup, a solution) enables it again."
        return Problem(message, Reason.LOCKED, passing=True)
    return None


def _tools_outdated(properties: VMProperties) -> Problem | None:
    age = OLD_TOOLS.get(properties.tools_version)
    return Problem(f"Its VMware Tools are {age}; the guest's owner updates them.") if age else None
