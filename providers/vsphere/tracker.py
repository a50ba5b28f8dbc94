"""The state of all VMs as vCenter's updates have it, and the changes that they make. Nothing here calls vCenter."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from providers.core.adapter import VM, Change, Changed, Listed, OffCause, PowerState, Problem, Reason, Removed
from providers.core.errors import UnknownNativeState
from providers.vsphere.properties import Crashes, Place, Task, Update, VMProperties
from providers.vsphere.states import (
    GOING_DOWN,
    NO_TOOLS,
    POWER_OFF_TASKS,
    POWER_ON_TASKS,
    POWER_TASKS,
    TOOLS_STOPPED,
    VAPP_OFF_TASK,
    has_ended,
    locked,
    to_vm,
)

_FIRST = (Task, Place, VMProperties, Crashes)
"""Tasks before the VMs that they end, and those before the crashes of their guests: all may come in one answer, in any
order."""
_EARLIEST = datetime.min.replace(tzinfo=UTC)

TOOLS_RETURN_SECONDS = 300.0
"""How long VMware Tools that stopped are expected to come back: about as long as an update of them, or a restart of the
guest, takes."""
CRASH_SECONDS = 120.0
"""How long a guest's tools may be told as running after it crashed. Longer, and it lives again: one that restarts by
itself must not count as crashed when it shuts down later."""
HOLD_SECONDS = 5.0
"""How long a VM counts as held by what we cannot follow, before its guest may be asked again."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why vCenter refused us for now. It ends with its task, or, where the updates tell of none, at `until`."""

    problem: Problem
    task: str
    until: float


class Tracker:
    """All objects of one watch, by their ids within vCenter. `_reported` are the VMs as the watch has told them.

    `scoped`: there may be VMs that the watch does not follow. `ids`: those of VMs that an earlier watch knew; vCenter
    tells no instance UUID of a VM whose files it cannot read. `clock` is in seconds.
    """

    def __init__(
        self, *, scoped: bool = False, ids: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tasks: dict[str, Task] = {}
        self.ids = dict(ids or {})
        self._scoped = scoped
        self._clock = clock
        self._properties: dict[str, VMProperties] = {}
        self._places: dict[str, Place] = {}
        self._reported: dict[str, VM] = {}
        self._moids: dict[str, str] = {}
        self._tasks_of: dict[str, set[str]] = {}
        self._earlier_runs_tasks: set[str] = set()
        self._holds: dict[str, Hold] = {}
        self._missing: set[str] = set()
        self._touched: set[str] = set()
        self._looked_up: set[str] = set()
        """VMs that are off, and whose ends were looked for among vCenter's events."""
        self._last_crash = 0
        """The number of the last crash that was told."""

    def apply(self, updates: Iterable[Update]) -> list[Change]:
        """Apply updates; returns what they change."""
        for update in sorted(updates, key=lambda update: _FIRST.index(update.kind)):
            if update.kind is Task:
                self._task(update)
            elif update.kind is Place:
                self._place(update)
            elif update.kind is Crashes:
                self._note_crashes(update)
            else:
                self._vm_update(update)
        self._touched |= self._passed()
        touched, self._touched = self._touched, set()
        return [change for moid in sorted(touched) for change in self._changes(moid)]

    def listed(self) -> Listed:
        self.ids = {moid: vm.id for moid, vm in self._reported.items()}
        return Listed(tuple(self._reported[moid] for moid in self._moids.values()))

    def moid(self, vm_id: str) -> str:
        """The id within vCenter of a VM; empty: none is known."""
        return self._moids.get(vm_id, "")

    def properties(self, moid: str) -> VMProperties | None:
        """A VM's properties; None: no such VM is known."""
        return self._properties.get(moid)

    def is_outside(self, moid: str) -> bool:
        """Whether a VM that exists is out of the provider's scope."""
        properties = self._properties.get(moid)
        return properties.out_of_scope if properties else self._scoped

    def vm(self, read: Update) -> VM | None:
        """A VM that was just read, with what only updates tell; None: it has no id.

        The caller knows this state from now on. If the updates' state differs, the next `apply` reports that again,
        though it may be older, for neither bears a time: otherwise a change between two updates would never be
        corrected.
        """
        properties = replace(self._with(read), out_of_scope=self.is_outside(read.moid))
        if self.is_behind(read):
            properties = replace(properties, seen_running=False)
        if not properties.readable:
            return None
        vm = self._vm(properties)
        if read.moid in self._reported:
            self._reported[read.moid] = vm
            self._touched.add(read.moid)
        return vm

    def is_behind(self, read: Update) -> bool:
        """Whether the updates have yet to tell that a VM that was read off is off, and so which task ended its run."""
        told, power = self._properties.get(read.moid), (read.fields or {}).get("power")
        followed = told is not None and not told.out_of_scope
        return followed and power == "poweredOff" and not self.is_settled(read.moid)

    def is_settled(self, moid: str) -> bool:
        """Whether the updates tell that a VM is off, and the end of each task that may have done it."""
        told = self._properties.get(moid)
        return told is not None and told.power == "poweredOff" and not self._is_being_cut(moid)

    # Refusals

    def hold(self, moid: str, problem: Problem, task: str = "") -> None:
        """vCenter refused us because of this, or of this task; its guest is not asked before that has passed."""
        held = self.tasks.get(task)
        if moid in self._properties and not (held and has_ended(held)):
            self._holds[moid] = Hold(problem, task, self._clock() + HOLD_SECONDS)

    def task_under_way(self, moid: str) -> str:
        """A task that runs on a VM and is not its power's; empty: none does."""
        running = (task for task in self._tasks_of.get(moid, ()) if self._is_work(self.tasks[task]))
        return min(running, default="")

    # Evidence

    def unexplained(self, vm_ids: Iterable[str]) -> frozenset[str]:
        """Those of these VMs, by their ids within vCenter, that are off for a reason that nothing here tells, and whose
        ends were not looked for yet."""
        moids = (self._moids.get(vm_id, "") for vm_id in vm_ids)
        return frozenset(moid for moid in moids if moid and self._is_unexplained(moid))

    def explain(self, moids: frozenset[str], ends: Mapping[str, OffCause]) -> list[Change]:
        """Who ended the runs of these VMs, as far as vCenter's events tell; returns what that changes."""
        self._looked_up |= set(moids)
        for moid in moids & self._properties.keys() & ends.keys():
            self._properties[moid] = replace(self._properties[moid], recorded=ends[moid])
        return [change for moid in sorted(moids) for change in self._changes(moid)]

    def take_missing(self) -> set[str]:
        """VMs that left the views while they ran: each must be read, for it may exist out of scope."""
        missing, self._missing = self._missing, set()
        return missing

    def settle_missing(self, moid: str, found: Update | None) -> list[Change]:
        """A missing VM was `found`, out of scope; None: it exists no more.

        One that runs out there is shown as long as it is not known to be off. Who ended it, nobody told us.
        """
        if found is None:
            self._properties.pop(moid, None)
            return self._changes(moid)
        left = self._properties[moid] = replace(self._with(found), out_of_scope=True, seen_running=False)
        changes = self._changes(moid)
        if left.power == "poweredOff":
            del self._properties[moid]
            changes += self._changes(moid)
        return changes

    # Each kind of object

    def _task(self, update: Update) -> None:
        before = self.tasks.get(update.moid)
        if update.fields is None:
            if before:
                self._task_left(before)
        else:
            task = self.tasks[update.moid] = replace(before or Task(update.moid), **update.fields)
            self._tasks_of.setdefault(task.entity, set()).add(update.moid)
            self._touched.add(task.entity)
        for moid, hold in tuple(self._holds.items()):
            if hold.task == update.moid:
                self._touched.add(moid)
                if update.fields is None or has_ended(self.tasks[update.moid]):
                    del self._holds[moid]

    def _task_left(self, task: Task) -> None:
        """vCenter lists it no more. If it may have ended a run and its own end was not told, nobody knows whose end
        that was."""
        del self.tasks[task.moid]
        self._earlier_runs_tasks.discard(task.moid)
        self._tasks_of.get(task.entity, set()).discard(task.moid)
        properties = self._properties.get(task.entity)
        if properties and task.kind in POWER_OFF_TASKS and not has_ended(task) and properties.power == "poweredOff":
            self._properties[task.entity] = replace(properties, seen_running=False)
        self._touched.add(task.entity)

    def _place(self, update: Update) -> None:
        if update.fields is None:
            self._places.pop(update.moid, None)
        else:
            self._places[update.moid] = replace(self._places.get(update.moid, Place(update.moid)), **update.fields)
        self._touched |= self._properties.keys()  # any name may be part of theirs

    def _vm_update(self, update: Update) -> None:
        before = self._properties.get(update.moid)
        if update.fields is not None:
            self._missing.discard(update.moid)
            properties = self._properties[update.moid] = self._with(update)
            if properties.power == "poweredOn" and (before is None or _is_another_run(before, properties)):
                self._earlier_runs_tasks |= {
                    task
                    for entity in (update.moid, properties.vapp)
                    for task in self._tasks_of.get(entity, ())
                    if has_ended(self.tasks[task])
                }
            elif before and before.power == "poweredOn" and self._goes_off_with_its_vapp(properties):
                self._properties[update.moid] = replace(properties, seen_running=False)
        elif before and before.power == "poweredOn":
            self._missing.add(update.moid)
            return
        else:
            self._properties.pop(update.moid, None)
        self._touched.add(update.moid)

    def _note_crashes(self, update: Update) -> None:
        """Note those that were not told before. At first vCenter tells old ones, too: of guests that live again, as
        their tools show, and of runs that are over."""
        latest = (update.fields or {}).get("latest", ())
        new = [crash for crash in latest if crash.number > self._last_crash]
        self._last_crash = max((crash.number for crash in new), default=self._last_crash)
        for crash in new:
            properties = self._properties.get(crash.vm)
            if properties is None or not _is_in_run(crash.at, properties):
                continue
            silent = properties.tools == NO_TOOLS
            told = None if update.enters else self._clock()
            self._properties[crash.vm] = replace(properties, crash_told=told, crashed=silent)
            self._touched.add(crash.vm)

    def _with(self, update: Update) -> VMProperties:
        """A VM's properties after an update, and what is to be noticed in them."""
        blank = VMProperties(update.moid)
        before = self._properties.get(update.moid, blank)
        now = replace(blank if update.enters else before, **update.fields or {})
        return self._noticed(before, now if now.id else replace(now, id=self.ids.get(update.moid, "")))

    def _noticed(self, before: VMProperties, now: VMProperties) -> VMProperties:
        on, off, reached = now.power == "poweredOn", now.power == "poweredOff", now.connection == "connected"
        silent = on and now.tools == NO_TOOLS
        stopped = self._clock() if before.power == "poweredOn" and before.tools != NO_TOOLS else before.tools_stopped
        down = now.guest_state if now.guest_state in GOING_DOWN else before.going_down if silent else ""
        lives = _lives(before, now)
        told = None if lives else before.crash_told
        recently = told is not None and self._clock() < told + CRASH_SECONDS
        return replace(
            now,
            seen_running=reached and (on or (off and before.seen_running)),
            cut_by=before.cut_by if off else None,
            recorded=before.recorded if off else None,
            going_down=down if on else "",
            tools_stopped=stopped if silent else None,
            crash_told=told,
            crashed=silent and not lives and (before.crashed or recently),
        )

    # What it means

    def _changes(self, moid: str) -> list[Change]:
        self._note_cut(moid)
        properties, reported = self._properties.get(moid), self._reported.get(moid)
        if properties is None:
            self.ids.pop(moid, None)
        vm = self._vm(properties) if properties and properties.readable else None
        if vm == reported or (vm and reported and self._is_undecided(moid, reported, vm)):
            return []
        changes = list[Change]()
        if reported and (vm is None or vm.id != reported.id):
            changes += self._forget(moid, reported)
        if vm:
            self._reported[moid], self._moids[vm.id], self.ids[moid] = vm, moid, vm.id
            changes.append(Changed(vm))
        return changes

    def _is_undecided(self, moid: str, reported: VM, vm: VM) -> bool:
        """It went off while a power-off task is still under way, whose end tells whether the guest was faster."""
        went_off = reported.power_state is PowerState.ON and vm.power_state is PowerState.OFF
        return went_off and self._is_being_cut(moid)

    def _is_being_cut(self, moid: str) -> bool:
        return any(task.kind in POWER_OFF_TASKS and not has_ended(task) for task in self._tasks_of_run(moid))

    def _goes_off_with_its_vapp(self, properties: VMProperties) -> bool:
        """Whether its vApp is switched off meanwhile, which does not tell which of its guests went by themselves."""
        return properties.power == "poweredOff" and any(
            task.kind == VAPP_OFF_TASK and task.state != "error" for task in self._tasks_of_run(properties.vapp)
        )

    def _note_cut(self, moid: str) -> None:
        """Note the task that ended a VM's run for as long as it is off: vCenter lists tasks for ten minutes only."""
        properties = self._properties.get(moid)
        if properties is None or properties.power != "poweredOff":
            self._looked_up.discard(moid)
        elif (task := self._last_switch(moid)) and task.kind in POWER_OFF_TASKS:
            self._properties[moid] = replace(properties, cut_by=task.user)

    def _is_unexplained(self, moid: str) -> bool:
        vm = self._reported.get(moid)
        return bool(vm and vm.power_state is PowerState.OFF and vm.ended is None) and moid not in self._looked_up

    def _passed(self) -> set[str]:
        """VMs of which something has passed by itself, which no update tells."""
        now = self._clock()
        holds = {moid for moid, hold in self._holds.items() if hold.task not in self.tasks and hold.until <= now}
        for moid in holds:
            del self._holds[moid]
        return holds | {moid for moid, vm in self._reported.items() if TOOLS_STOPPED in vm.problems}

    def _forget(self, moid: str, reported: VM) -> list[Change]:
        """Removed, unless another VM has the same id: it was registered anew, and the old one is still listed."""
        del self._reported[moid]
        if self._moids.get(reported.id) != moid:
            return []
        for other, vm in self._reported.items():
            if vm.id == reported.id:
                self._moids[vm.id] = other
                return [Changed(vm)]
        del self._moids[reported.id]
        return [Removed(reported.id)]

    def _vm(self, properties: VMProperties) -> VM:
        moid, host = properties.moid, self._places.get(properties.host)
        task, stopped = self.tasks.get(self.task_under_way(moid)), properties.tools_stopped
        try:
            return to_vm(
                properties,
                held=self._held(moid),
                busy=task.kind if task else "",
                tools_return=stopped is not None and self._clock() < stopped + TOOLS_RETURN_SECONDS,
                node=host.name if host else "",
                path=self._path(properties),
            )
        except UnknownNativeState as error:  # of one VM: the others are followed all the same
            problem = Problem(error.message, Reason.TOOLS_UNAVAILABLE, passing=True)
            return VM(properties.id, properties.plain_name, PowerState.UNKNOWN, problems=(problem,))

    def _held(self, moid: str) -> Problem | None:
        hold = self._holds.get(moid)
        if hold is None:
            return None
        task = self.tasks.get(hold.task)
        if task:
            return locked(task.kind)
        return hold.problem if self._clock() < hold.until else None

    def _is_work(self, task: Task) -> bool:
        return task.kind not in POWER_TASKS and not has_ended(task)

    def _last_switch(self, moid: str) -> Task | None:
        """The last task that switched it since it was seen on."""
        kinds = POWER_OFF_TASKS | POWER_ON_TASKS
        switched = [task for task in self._tasks_of_run(moid) if task.kind in kinds and task.state == "success"]
        return max(switched, key=lambda task: task.queued or _EARLIEST, default=None)

    def _tasks_of_run(self, moid: str) -> list[Task]:
        """Its tasks, without those that had ended before its present or last run was seen."""
        return [self.tasks[task] for task in self._tasks_of.get(moid, set()) - self._earlier_runs_tasks]

    def _path(self, properties: VMProperties) -> str:
        """Its inventory path; empty where a folder above it is not shown to us."""
        names, above = [properties.name], properties.parent
        while place := self._places.get(above):
            if not place.parent:  # the root folder's name is no part of a path
                return "/" + "/".join(reversed(names))
            names.append(place.name)
            above = place.parent
        return ""


def _is_another_run(before: VMProperties, now: VMProperties) -> bool:
    """Whether a VM that is on was off in between, which may have been too short for an update of its own."""
    return before.power != "poweredOn" or bool(before.boot_time and now.boot_time != before.boot_time)


def _is_in_run(at: datetime, properties: VMProperties) -> bool:
    """Whether that was in a VM's present run."""
    began = properties.boot_time if properties.power == "poweredOn" else ""
    return bool(began) and at >= datetime.fromisoformat(began)


def _lives(before: VMProperties, now: VMProperties) -> bool:
    """Whether a change shows a guest alive, or in another run, so that an earlier crash of it does not matter."""
    started = before.tools == NO_TOOLS and now.tools != NO_TOOLS
    goes_down = now.guest_state in GOING_DOWN and before.guest_state not in GOING_DOWN
    return now.power != "poweredOn" or _is_another_run(before, now) or started or goes_down
