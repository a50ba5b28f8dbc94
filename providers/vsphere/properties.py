"""What the provider reads of vSphere's objects, each property by its path.

Paths and types are those of the vSphere Web Services API reference: VirtualMachine, VirtualMachineRuntimeInfo,
GuestInfo, Folder, HostSystem, TaskInfo, EventHistoryCollector. A property that is not set stands for what its field has
by default.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from providers.core.adapter import OffCause
from providers.core.names import canonical


@dataclass(frozen=True, slots=True)
class Question:
    """What a VM waits for a person to answer."""

    text: str
    choices: tuple[str, ...]


class Manager(NamedTuple):
    """The solution that manages a VM (ManagedByInfo), and what the VM is to it."""

    extension: str = ""
    type: str = ""


NOBODY = Manager()


@dataclass(frozen=True, slots=True)
class VMProperties:
    """What is read of a VirtualMachine, in vSphere's words; empty where vSphere says nothing.

    The fields from `seen_running` on are what we noticed ourselves. `seen_running`: its present or last run was
    followed to where it is now, so that an end without a task is the guest's own. `cut_by`: the user whose task ended
    its last run; None: no task did. `recorded`: who ended it, as vCenter's events have it. `going_down`: the state of
    a guest that began to go down or to restart. `tools_stopped`: when its tools stopped in this run, by the tracker's
    clock. `crash_told`: when vCenter told that the guest of this run has crashed, by the same clock; None: it did not,
    or the guest was alive afterwards. `crashed`: its tools do not run since. `out_of_scope`: it was moved to where we
    are not to look.
    """

    moid: str
    name: str = ""
    id: str = ""
    parent: str = ""
    vapp: str = ""
    host: str = ""
    power: str = ""
    connection: str = "connected"
    boot_time: str = ""
    clean_power_off: bool | None = None
    template: bool = False
    ft_role: int = 1
    question: Question | None = None
    tools: str = "guestToolsNotRunning"
    tools_version: str = ""
    guest_state: str = ""
    state_change: bool | None = None
    runs_programs: bool = False
    addresses: tuple[str, ...] = ()
    family: str = ""
    guest_id: str = ""
    system_uuid: str = ""
    disabled: frozenset[str] = frozenset()
    managed_by: Manager = NOBODY
    seen_running: bool = False
    cut_by: str | None = None
    recorded: OffCause | None = None
    going_down: str = ""
    tools_stopped: float | None = None
    crash_told: float | None = None
    crashed: bool = False
    out_of_scope: bool = False

    @property
    def plain_name(self) -> str:
        """Its name as people write it: vSphere's has escapes for three characters, and stands so in paths."""
        return self.name.replace("%2f", "/").replace("%5c", "\\").replace("%25", "%")

    @property
    def readable(self) -> bool:
        """Whether enough is known to tell of it: a VM that is just being made has no id yet."""
        return bool(self.id and self.power)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, a datacenter or a host."""

    moid: str
    name: str = ""
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A task, its kind (descriptionId), how it stands, and the user who began it; empty: it was no user."""

    moid: str
    entity: str = ""
    kind: str = ""
    state: str = "queued"
    queued: datetime | None = None
    error: Exception | None = None
    user: str = ""


@dataclass(frozen=True, slots=True)
class Crash:
    """An event: the guest of a VM has crashed. Events are numbered in the order in which vCenter recorded them."""

    number: int
    vm: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Crashes:
    """The collector of such events, with the latest ones in any order."""

    moid: str
    latest: tuple[Crash, ...] = ()


Item = VMProperties | Place | Task | Crashes
Field = tuple[str, Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Update:
    """An object that was read or changed; `fields` None: it is gone, or out of sight.

    `enters`: it is new, and fields that are not there are not set.
    """

    kind: type[Item]
    moid: str
    fields: Mapping[str, Any] | None
    enters: bool = False


def _moid(reference: Any) -> str:
    return str(reference._moId)


def _question(info: Any) -> Question:
    return Question(info.text, tuple(choice.label for choice in info.choice.choiceInfo))


def _crashes(events: Any) -> tuple[Crash, ...]:
    """Of a page of events, or of one that was added to it."""
    told = events if isinstance(events, list) else [events]
    return tuple(Crash(int(event.key), _moid(event.vm.vm), event.createdTime) for event in told if event.vm)


def _time(time: datetime) -> str:
    """In ISO 8601, of one time always the same text."""
    return time.astimezone(UTC).isoformat()


def _addresses(adapters: Any) -> tuple[str, ...]:
    """Those of all its adapters (GuestNicInfo), as VMware Tools report them."""
    return tuple(str(address) for adapter in adapters for address in adapter.ipAddress or ())[:MAX_ADDRESSES]


MAX_ADDRESSES = 64
"""So many addresses of a guest are kept."""
WATCHED_METHODS = frozenset({"ShutdownGuest", "SuspendVM_Task"})
"""vCenter lists a hundred methods that are disabled on a VM; these tell something."""

VM_PATHS: Mapping[str, Field] = {
    "name": ("name", str),
    "parent": ("parent", _moid),
    "parentVApp": ("vapp", _moid),
    "config.instanceUuid": ("id", canonical),
    "config.uuid": ("system_uuid", canonical),
    "config.template": ("template", bool),
    "config.ftInfo": ("ft_role", lambda info: int(info.role)),
    "config.managedBy": ("managed_by", lambda info: Manager(str(info.extensionKey), str(info.type))),
    "config.guestId": ("guest_id", str),
    "guest.guestFamily": ("family", str),
    "guest.guestState": ("guest_state", str),
    "guest.toolsRunningStatus": ("tools", str),
    "guest.toolsVersionStatus2": ("tools_version", str),
    "guest.guestStateChangeSupported": ("state_change", bool),
    "guest.guestOperationsReady": ("runs_programs", bool),
    "guest.net": ("addresses", _addresses),
    "runtime.powerState": ("power", str),
    "runtime.connectionState": ("connection", str),
    "runtime.bootTime": ("boot_time", _time),
    "runtime.cleanPowerOff": ("clean_power_off", bool),
    "runtime.question": ("question", _question),
    "runtime.host": ("host", _moid),
    "disabledMethod": ("disabled", lambda methods: WATCHED_METHODS.intersection(map(str, methods))),
}
PLACE_PATHS: Mapping[str, Field] = {"name": ("name", str), "parent": ("parent", _moid)}
TASK_PATHS: Mapping[str, Field] = {
    "info.entity": ("entity", _moid),
    "info.descriptionId": ("kind", str),
    "info.state": ("state", str),
    "info.queueTime": ("queued", lambda time: time),
    "info.error": ("error", lambda fault: fault),
    "info.reason": ("user", lambda reason: str(getattr(reason, "userName", None) or "")),
}

KINDS: Mapping[str, tuple[type[Item], Mapping[str, Field]]] = {
    "VirtualMachine": (VMProperties, VM_PATHS),
    "Folder": (Place, PLACE_PATHS),
    "Datacenter": (Place, PLACE_PATHS),
    "HostSystem": (Place, {"name": PLACE_PATHS["name"]}),
    "Task": (Task, TASK_PATHS),
    "EventHistoryCollector": (Crashes, {"latestPage": ("latest", _crashes)}),
}
"""The types that are followed, what they become, and their properties."""


def update(reference: Any, values: Iterable[tuple[str, Any]] | None, *, enters: bool = False) -> Update:
    """What pyvmomi says of an object, in fields; a value of None is one that is not set."""
    kind, paths = KINDS[reference._wsdlName]
    if values is None:
        return Update(kind, _moid(reference), None)
    fields = dict[str, Any]()
    for path, value in values:
        name, convert = paths[path.partition("[")[0]]  # of an array, one element may be told by its key
        fields[name] = kind.__dataclass_fields__[name].default if value is None else convert(value)
    return Update(kind, _moid(reference), fields, enters)
