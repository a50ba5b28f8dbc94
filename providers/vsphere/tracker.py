"""The state of all VMs as vCenter's updates have it, and the changes that they make. Nothing here calls vCenter."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from providers.core.adapter import VM, Change, Changed, Listed, PowerState, Removed
from providers.vsphere.properties import Place, Task, Update, VMProperties
from providers.vsphere.states import POWER_OFF_TASKS, POWER_ON_TASKS, has_ended, to_vm

_FIRST = (Task, Place, VMProperties)
"""Tasks before the VMs that they end: the two may come in one answer, in any order."""
GOING_DOWN = ("shuttingDown", "resetting")
"""guest.guestState of a guest that goes down or restarts already; its tools end before it is gone, or up again."""
NO_TOOLS = "guestToolsNotRunning"
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Tracker:
    """All objects of one watch, by their ids within vCenter. `_reported` are the VMs as the watch has told them."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self._properties: dict[str, VMProperties] = {}
        self._places: dict[str, Place] = {}
        self._reported: dict[str, VM] = {}
        self._moids: dict[str, str] = {}
        self._tasks_of: dict[str, set[str]] = {}
        self._earlier_runs_tasks: set[str] = set()
        self._locked: dict[str, set[str]] = {}
        self._missing: set[str] = set()
        self._touched: set[str] = set()

    def apply(self, updates: Iterable[Update]) -> list[Change]:
        """Apply updates; returns what they change."""
        for update in sorted(updates, key=lambda update: _FIRST.index(update.kind)):
            if update.kind is Task:
                self._task(update)
            elif update.kind is Place:
                self._place(update)
            else:
                self._vm_update(update)
        touched, self._touched = self._touched, set()
        return [change for moid in sorted(touched) for change in self._changes(moid)]

    def listed(self) -> Listed:
        return Listed(tuple(self._reported[moid] for moid in self._moids.values()))

    def moid(self, vm_id: str) -> str:
        """The id within vCenter of a VM; empty: none is known."""
        return self._moids.get(vm_id, "")

    def properties(self, moid: str) -> VMProperties | None:
        """A VM's properties; None: no such VM is known."""
        return self._properties.get(moid)

    def vm(self, read: Update) -> VM | None:
        """A VM that was just read, with what only updates tell; None: it has no id.

        The caller knows this state from now on. If the updates' state differs, the next `apply` reports that again:
        otherwise a change between two updates would never be corrected.
        """
        properties = self._with(read)
        if not properties.readable:
            return None
        vm = self._vm(properties)
        if read.moid in self._reported:
            self._reported[read.moid] = vm
            self._touched.add(read.moid)
        return vm

    def lock(self, moid: str, task: str) -> None:
        """vCenter refused us because of this task; the VM is locked until that ends."""
        held = self.tasks.get(task)
        if moid in self._properties and not (held and has_ended(held)):
            self._properties[moid] = replace(self._properties[moid], locked_by=task)
            self._locked.setdefault(task, set()).add(moid)

    def take_missing(self) -> set[str]:
        """VMs that left the views while they ran: each must be read, for it may exist out of scope."""
        missing, self._missing = self._missing, set()
        return missing

    def settle_missing(self, moid: str, found: Update | None) -> list[Change]:
        """A missing VM was `found`, out of scope; None: it exists no more."""
        if found is not None:
            self._properties[moid] = replace(self._with(found), out_of_scope=True)
        else:
            self._properties.pop(moid, None)
        return self._changes(moid)

    # Each kind of object

    def _task(self, update: Update) -> None:
        before = self.tasks.get(update.moid)
        if update.fields is None:
            self.tasks.pop(update.moid, None)
            self._earlier_runs_tasks.discard(update.moid)
            self._tasks_of.get(before.entity if before else "", set()).discard(update.moid)
        else:
            task = self.tasks[update.moid] = replace(before or Task(update.moid), **update.fields)
            self._tasks_of.setdefault(task.entity, set()).add(update.moid)
            self._touched.add(task.entity)
        if update.fields is None or has_ended(self.tasks[update.moid]):
            for moid in self._locked.pop(update.moid, set()) & self._properties.keys():
                self._properties[moid] = replace(self._properties[moid], locked_by="")
                self._touched.add(moid)

    def _place(self, update: Update) -> None:
        if update.fields is None:
            self._places.pop(update.moid, None)
        else:
            self._places[update.moid] = replace(self._places.get(update.moid, Place(update.moid)), **update.fields)
        self._touched |= self._properties.keys()  # any name may be part of theirs

    def _vm_update(self, update: Update) -> None:
        before = self._properties.get(update.moid)
        if update.fields is not None:
            properties = self._properties[update.moid] = self._with(update)
            if properties.power == "poweredOn" and (before is None or before.power != "poweredOn"):
                self._earlier_runs_tasks |= {
                    task for task in self._tasks_of.get(update.moid, ()) if has_ended(self.tasks[task])
                }
        elif before and before.power == "poweredOn":
            self._missing.add(update.moid)
            return
        else:
            self._properties.pop(update.moid, None)
        self._touched.add(update.moid)

    def _with(self, update: Update) -> VMProperties:
        before = self._properties.get(update.moid)
        blank = VMProperties(update.moid)
        if before and update.enters:
            noticed = {name: getattr(before, name) for name in ("seen_running", "going_down", "locked_by")}
            before = replace(blank, **noticed)
        properties = replace(before or blank, **update.fields or {})
        running, off = properties.power == "poweredOn", properties.power == "poweredOff"
        return replace(
            properties,
            seen_running=running or (off and properties.seen_running),
            going_down=running
            and (properties.guest_state in GOING_DOWN or (properties.going_down and properties.tools == NO_TOOLS)),
        )

    # What it means

    def _changes(self, moid: str) -> list[Change]:
        properties, reported = self._properties.get(moid), self._reported.get(moid)
        vm = self._vm(properties) if properties and properties.readable else None
        if vm == reported or (vm and reported and self._power_off_pending(moid, reported, vm)):
            return []
        changes = list[Change]()
        if reported and (vm is None or vm.id != reported.id):
            changes += self._forget(moid, reported)
        if vm:
            self._reported[moid], self._moids[vm.id] = vm, moid
            changes.append(Changed(vm))
        return changes

    def _power_off_pending(self, moid: str, reported: VM, vm: VM) -> bool:
        """It went off while a power-off task is still under way, whose end tells whether the guest was faster."""
        went_off = reported.power_state is PowerState.ON and vm.power_state is PowerState.OFF
        return went_off and any(
            task.kind in POWER_OFF_TASKS and not has_ended(task) for task in self._tasks_of_run(moid)
        )

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
        host, lock = self._places.get(properties.host), self.tasks.get(properties.locked_by)
        return to_vm(
            properties,
            ended_by_task=self._ended_by_task(properties.moid),
            lock=lock.kind if lock else properties.locked_by,
            node=host.name if host else "",
            path=self._path(properties),
        )

    def _ended_by_task(self, moid: str) -> bool:
        """Whether the last task that switched it, since it was seen on, ended its run."""
        kinds = POWER_OFF_TASKS | POWER_ON_TASKS
        switched = [task for task in self._tasks_of_run(moid) if task.kind in kinds and task.state != "error"]
        return bool(switched) and max(switched, key=lambda task: task.queued or _EARLIEST).kind in POWER_OFF_TASKS

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
