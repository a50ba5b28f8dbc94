"""vSphere's states and ours.

Names and their meaning are those of the vSphere Web Services API reference: VirtualMachineRuntimeInfo, GuestInfo,
TaskInfo, TaskDescription.
"""

from collections.abc import Mapping
from typing import TypeVar

from providers.core.adapter import VM, Cause, Ended, OffCause, PowerState, Problem, Reason, Signal
from providers.core.errors import UnknownNativeState
from providers.vsphere.properties import Manager, Question, Task, VMProperties

T = TypeVar("T")

POWER_STATES = {
    "poweredOn": PowerState.ON,
    "poweredOff": PowerState.OFF,
    "suspended": PowerState.SUSPENDED,
}

TOOLS = {
    "guestToolsRunning": None,
    "guestToolsExecutingScripts": Problem(
        "Its VMware Tools are starting; it is asked when they have.",
        Reason.TOOLS_UNAVAILABLE,
        passing=True,
        causes=(Cause.AGENT_BUSY,),
    ),
    "guestToolsNotRunning": Problem(
        "Its VMware Tools are not running; the guest's owner starts or installs them.",
        Reason.TOOLS_UNAVAILABLE,
        causes=(Cause.AGENT_STOPPED,),
    ),
}
"""guest.toolsRunningStatus, and what it keeps the guest from."""

NO_TOOLS = "guestToolsNotRunning"
CRASHED = Problem(
    "Its guest has crashed, as vCenter has told, and its VMware Tools do not run since; its owner looks into it.",
    Reason.TOOLS_UNAVAILABLE,
)
TOOLS_STOPPED = Problem(
    "Its VMware Tools stopped a moment ago: they restart or are updated, or its guest goes down or restarts; "
    "it is asked when they run again.",
    Reason.TOOLS_UNAVAILABLE,
    passing=True,
    causes=(Cause.AGENT_STOPPED,),
)
TOOLS_SILENT = Problem(
    "Its VMware Tools do not answer at this moment; it is asked again in a few seconds.",
    Reason.TOOLS_UNAVAILABLE,
    passing=True,
    causes=(Cause.AGENT_BUSY,),
)

SUSPEND = "SuspendVM_Task"
UNSAVABLE = Problem(
    "Its memory cannot be saved: vCenter has disabled SuspendVM_Task for it, as it does where a VM has a device of its "
    "host's or is fault tolerant."
)
DISABLED = Problem(
    "vCenter has disabled ShutdownGuest for it; whoever did (a backup, a solution) enables it again.",
    Reason.LOCKED,
    passing=True,
    causes=(Cause.LOCKED,),
)

GUEST_STATES = {
    "": "",
    "running": "",
    "notRunning": "",
    "unknown": "",
    "shuttingDown": "Its guest is going down already.",
    "resetting": "Its guest is restarting; it is asked when it is up again.",
    "standby": "Its guest sleeps (standby) and hears nothing; the guest's owner wakes it.",
}
"""guest.guestState, and what keeps a guest in it from being asked. Whether its tools run is told by
toolsRunningStatus."""
GOING_DOWN = frozenset({"shuttingDown", "resetting"})
"""Those of a guest whose tools end before it is gone, or up again."""

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
"""runtime.connectionState, and why a VM in it can be neither asked nor switched. What vCenter then says of its power is
what it last heard."""

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

VAPP_OFF_TASK = "VirtualApp.powerOff"
"""It asks or cuts each VM of a vApp, as the vApp is configured, and has no task for each."""

POWER_ON_TASKS = frozenset({"VirtualMachine.powerOn", "Drm.ExecuteVmPowerOnLRO"})
OTHER_POWER_TASKS = frozenset(
    f"VirtualMachine.{name}" for name in ("reset", "suspend", "shutdownGuest", "rebootGuest", "standbyGuest")
)
POWER_TASKS = POWER_OFF_TASKS | POWER_ON_TASKS | OTHER_POWER_TASKS
"""Tasks that are what a VM's power does; every other one that runs may hold up a request to its guest."""

VCLS = (Manager("com.vmware.vim.eam", "cluster-agent"), Manager("VirtualCenter", "vcls-entity"))
"""config.managedBy of vSphere Cluster Services' VMs: deployed as an OVF, and embedded since 8.0 U3 (Broadcom's KB
370219)."""


MANAGED_BY = "managed-by"
"""The label that names the solution a VM belongs to, by its extension key."""


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
    properties: VMProperties,
    *,
    held: Problem | None = None,
    busy: str = "",
    tools_return: bool = False,
    node: str = "",
    path: str = "",
) -> VM:
    """The VM as the core knows it.

    `held`: what made vCenter refuse us, and will pass. `busy`: the task that is under way on it. `tools_return`: its
    tools stopped so recently that they are expected to come back. `path`: its inventory path.

    Raises:
        UnknownNativeState
    """
    state = _power_state(properties)
    problems = _problems(properties, state, held, busy, tools_return)
    unable = any(problem.reason for problem in problems)
    labels = {"path": path, MANAGED_BY: properties.managed_by.extension}
    return VM(
        id=properties.id,
        name=properties.plain_name,
        power_state=state,
        ended=_ended(properties) if state is PowerState.OFF else None,
        signals=(Signal.VMWARE_TOOLS,) if state is PowerState.ON and not unable else (),
        problems=problems,
        refused=_refused(properties),
        node=node,
        labels={name: text for name, text in labels.items() if text},
        aliases=(path, path.removeprefix("/")) if path else (),
        runs_programs=properties.runs_programs,
        guest_addresses=properties.addresses if state is PowerState.ON else (),
        run_id=properties.boot_time if state in (PowerState.ON, PowerState.SUSPENDED) else "",
        crashed=properties.crashed,
        system_uuid=properties.system_uuid,
        saved=state is PowerState.SUSPENDED,
        save_problems=(UNSAVABLE,) if state is PowerState.ON and SUSPEND in properties.disabled else (),
    )


def has_ended(task: Task) -> bool:
    """Whether a task succeeded or failed."""
    return lookup(TASK_ENDED, task.state, "task state")


def _power_state(properties: VMProperties) -> PowerState:
    """UNKNOWN of a VM that vCenter does not reach, and of one that runs where we do not follow it."""
    state = lookup(POWER_STATES, properties.power, "power state")
    unreached = lookup(CONNECTIONS, properties.connection, "connection state")
    gone_from_sight = properties.out_of_scope and state is not PowerState.OFF
    return PowerState.UNKNOWN if unreached or gone_from_sight else state


def _ended(properties: VMProperties) -> Ended | None:
    """Who ended its run: a task; or else a crash of its host process; or else, if we saw it run up to its end, the
    guest; or else whom vCenter's events name.

    runtime.cleanPowerOff is false only for a VM that crashed: also one whose power a task cuts goes off cleanly.
    """
    if properties.cut_by is not None:
        return Ended(OffCause.HOST)
    if properties.clean_power_off is False:
        return Ended(OffCause.CRASHED)
    if properties.seen_running:
        return Ended(OffCause.GUEST)
    return Ended(properties.recorded) if properties.recorded else None


def _refused(properties: VMProperties) -> str:
    if properties.template:
        return "it is a template, which never runs"
    if properties.out_of_scope:
        return "it is out of the provider's scope"
    if properties.ft_role > 1:
        return "it is the secondary of a fault tolerant VM, which follows its primary"
    if is_vcls(properties):
        return (
            "it belongs to vSphere Cluster Services (vCLS), which start it again at once; vCenter's operator puts the "
            "cluster into retreat mode instead"
        )
    return ""


def is_vcls(properties: VMProperties) -> bool:
    """Whether it is one of vSphere Cluster Services' own. A name alone proves nothing: anybody may give it."""
    manager = properties.managed_by
    return manager in VCLS or bool(manager.extension and properties.name.startswith("vCLS"))


def _problems(
    properties: VMProperties, state: PowerState, held: Problem | None, busy: str, tools_return: bool
) -> tuple[Problem, ...]:
    if lost := lookup(CONNECTIONS, properties.connection, "connection state"):
        message = (
            f"vCenter cannot reach it: {lost}; whether it runs is not known, and vCenter's operator looks into it."
        )
        return (Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True, causes=(Cause.UNREACHED,)),)
    if properties.out_of_scope:
        message = "It is out of the provider's scope, where it is not followed; whoever moved it moves it back."
        return (Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True, causes=(Cause.UNREACHED,)),)
    match state:
        case PowerState.ON:
            found = (_obstacle(properties, held, tools_return) or _busy(busy), _managed(properties))
        case PowerState.SUSPENDED:
            message = "It is suspended, its memory on disk; a hard power-off discards that, a start resumes it."
            found = (Problem(message, Reason.SUSPENDED, causes=(Cause.SUSPENDED,)), _managed(properties))
        case _:
            found = (_question(properties.question), None)  # one that is just being started may ask, too
    return tuple(problem for problem in found if problem)


def _obstacle(properties: VMProperties, held: Problem | None, tools_return: bool) -> Problem | None:
    """What keeps a running guest from being asked, or at least deserves a warning: the first of these, for each makes
    the next ones moot."""
    return (
        _question(properties.question)
        or (CRASHED if properties.crashed else None)
        or held
        or _not_up(properties)
        or _tools_not_running(properties, tools_return)
        or _tools_unready(properties)
        or _disabled(properties)
        or _tools_outdated(properties)
    )


def _managed(properties: VMProperties) -> Problem | None:
    extension, kind = properties.managed_by
    message = f"It is managed by {extension} ({kind}), which may start or replace it; whoever runs that is asked first."
    return Problem(message, causes=(Cause.MANAGED,)) if extension else None


def _busy(task: str) -> Problem | None:
    message = f"A task is under way on it: {task}; if vCenter refuses to ask the guest meanwhile, it is asked after it."
    return Problem(message, causes=(Cause.LOCKED,)) if task else None


def _question(question: Question | None) -> Problem | None:
    if question is None:
        return None
    choices = ", ".join(question.choices)
    message = f"It waits for an answer to {question.text!r} ({choices}); somebody gives it in the vSphere Client."
    return Problem(message, Reason.QUESTION_PENDING, causes=(Cause.QUESTION,))


def locked(what: str) -> Problem:
    """Something else holds a VM: a task by its kind, or what vSphere calls it."""
    message = f"Another task holds it: {what}; it is asked when that ends."
    return Problem(message, Reason.LOCKED, passing=True, causes=(Cause.LOCKED,))


def _disabled(properties: VMProperties) -> Problem | None:
    return DISABLED if "ShutdownGuest" in properties.disabled else None


def _not_up(properties: VMProperties) -> Problem | None:
    message = lookup(GUEST_STATES, properties.going_down or properties.guest_state, "guest state")
    causes = (Cause.AGENT_BUSY,)
    return Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True, causes=causes) if message else None


def _tools_not_running(properties: VMProperties, tools_return: bool) -> Problem | None:
    if properties.tools_version == "guestToolsNotInstalled":
        message = "It has no VMware Tools; the guest's owner installs them."
        return Problem(message, Reason.TOOLS_UNAVAILABLE, causes=(Cause.AGENT_MISSING,))
    problem = lookup(TOOLS, properties.tools, "state of VMware Tools")
    return TOOLS_STOPPED if tools_return and properties.tools == NO_TOOLS else problem


def _tools_unready(properties: VMProperties) -> Problem | None:
    message = "Its VMware Tools run, but take no requests yet; it is asked when they do."
    unready, causes = properties.state_change is False, (Cause.AGENT_BUSY,)
    return Problem(message, Reason.TOOLS_UNAVAILABLE, passing=True, causes=causes) if unready else None


def _tools_outdated(properties: VMProperties) -> Problem | None:
    age = OLD_TOOLS.get(properties.tools_version)
    message = f"Its VMware Tools are {age}; the guest's owner updates them."
    return Problem(message, causes=(Cause.AGENT_OUTDATED,)) if age else None
