"""What vCenter has told so far, and what of it is news. Nothing here calls vCenter."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from providers.core.adapter import VM, Change, Changed, Listed, PowerState, Removed
from providers.vsphere.properties import Machine, Place, Task, Update
from providers.vsphere.states import CUTS, STARTS, has_ended, to_vm

_FIRST = (Task, Place, Machine)
"""Tasks before the machines that they end: the two may come in one answer, in any order."""
GOING_DOWN = ("shuttingDown", "resetting")
"""guest.guestState of a guest that somebody has asked already; its tools end before it is gone, or up again."""
NO_TOOLS = "guestToolsNotRunning"
_EVER = datetime.min.replace(tzinfo=UTC)


class Picture:
    """All objects of one watch, by their ids within vCenter."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self._machines: dict[str, Machine] = {}
        self._places: dict[str, Place] = {}
        self._told: dict[str, VM] = {}
        self._moids: dict[str, str] = {}
        self._tasks_of: dict[str, set[str]] = {}
        self._spent: set[str] = set()
        self._locked: dict[str, set[str]] = {}
        self._strays: set[str] = set()
        self._touched: set[str] = set()

    def apply(self, updates: Iterable[Update]) -> list[Change]:
        """Take note of updates, and tell what they change.

        Raises:
            UnknownNativeState
        """
        for update in sorted(updates, key=lambda update: _FIRST.index(update.kind)):
            if update.kind is Task:
                self._task(update)
            elif update.kind is Place:
                self._place(update)
            else:
                self._machine(update)
        touched, self._touched = self._touched, set()
        return [change for moid in sorted(touched) for change in self._news(moid)]

    def listed(self) -> Listed:
        """All VMs."""
        return Listed(tuple(self._told[moid] for moid in self._moids.values()))

    def moid(self, vm_id: str) -> str:
        """The id within vCenter of a VM; empty: none is known."""
        return self._moids.get(vm_id, "")

    def machine(self, moid: str) -> Machine | None:
        """What is known of a VM."""
        return self._machines.get(moid)

    def vm(self, read: Update) -> VM | None:
        """A VM that was just read, with what only the news told; None: it has no id.

        Whoever read it knows this now. Where the news has it otherwise, the next one says so again: what came and went
        between two of them would else be believed for ever.
        """
        machine = self._with(read)
        if not machine.readable:
            return None
        vm = self._vm(machine)
        if read.moid in self._told:
            self._told[read.moid] = vm
            self._touched.add(read.moid)
        return vm

    def lock(self, moid: str, task: str) -> None:
        """vCenter refused us because of this task; the VM is locked until that ends."""
        held = self.tasks.get(task)
        if moid in self._machines and not (held and has_ended(held)):
            self._machines[moid] = replace(self._machines[moid], locked_by=task)
            self._locked.setdefault(task, set()).add(moid)

    def take_strays(self) -> set[str]:
        """VMs that left while they ran: vCenter must be asked whether they still exist."""
        strays, self._strays = self._strays, set()
        return strays

    def stray(self, moid: str, found: Update | None) -> list[Change]:
        """What became of a VM that left while it ran; None: it exists no more."""
        if found is not None:
            self._machines[moid] = replace(self._with(found), strayed=True)
        else:
            self._machines.pop(moid, None)
        return self._news(moid)

    # Each kind of object

    def _task(self, update: Update) -> None:
        before = self.tasks.get(update.moid)
        if update.fields is None:
            self.tasks.pop(update.moid, None)
            self._spent.discard(update.moid)
            self._tasks_of.get(before.entity if before else "", set()).discard(update.moid)
        else:
            task = self.tasks[update.moid] = replace(before or Task(update.moid), **update.fields)
            self._tasks_of.setdefault(task.entity, set()).add(update.moid)
            self._touched.add(task.entity)
        if update.fields is None or has_ended(self.tasks[update.moid]):
            self._unlock(self._locked.pop(update.moid, set()))

    def _unlock(self, moids: set[str]) -> None:
        for moid in moids & self._machines.keys():
            self._machines[moid] = replace(self._machines[moid], locked_by="")
            self._touched.add(moid)

    def _place(self, update: Update) -> None:
        if update.fields is None:
            self._places.pop(update.moid, None)
        else:
            self._places[update.moid] = replace(self._places.get(update.moid, Place(update.moid)), **update.fields)
        self._touched |= self._machines.keys()  # any name may be part of theirs

    def _machine(self, update: Update) -> None:
        before = self._machines.get(update.moid)
        if update.fields is not None:
            machine = self._machines[update.moid] = self._with(update)
            if machine.power == "poweredOn" and (before is None or before.power != "poweredOn"):
                self._spent |= {task for task in self._tasks_of.get(update.moid, ()) if has_ended(self.tasks[task])}
        elif before and before.power == "poweredOn":
            self._strays.add(update.moid)
            return
        else:
            self._machines.pop(update.moid, None)
        self._touched.add(update.moid)

    def _with(self, update: Update) -> Machine:
        before = self._machines.get(update.moid)
        blank = Machine(update.moid)
        if before and update.enters:
            noticed = {name: getattr(before, name) for name in ("seen_running", "leaving", "locked_by")}
            before = replace(blank, **noticed)
        machine = replace(before or blank, **update.fields or {})
        running, off = machine.power == "poweredOn", machine.power == "poweredOff"
        return replace(
            machine,
            seen_running=running or (off and machine.seen_running),
            leaving=running and (machine.guest_state in GOING_DOWN or (machine.leaving and machine.tools == NO_TOOLS)),
        )

    # What it means

    def _news(self, moid: str) -> list[Change]:
        machine, told = self._machines.get(moid), self._told.get(moid)
        vm = self._vm(machine) if machine and machine.readable else None
        if vm == told or (vm and told and self._undecided(moid, told, vm)):
            return []
        changes = list[Change]()
        if told and (vm is None or vm.id != told.id):
            changes += self._forget(moid, told)
        if vm:
            self._told[moid], self._moids[vm.id] = vm, moid
            changes.append(Changed(vm))
        return changes

    def _undecided(self, moid: str, told: VM, vm: VM) -> bool:
        """It went off while somebody's power-off is still under way: its end tells whether the guest was faster."""
        went_off = told.power_state is PowerState.ON and vm.power_state is PowerState.OFF
        tasks = [self.tasks[task] for task in self._tasks_of.get(moid, set()) - self._spent]
        return went_off and any(task.kind in CUTS and not has_ended(task) for task in tasks)

    def _forget(self, moid: str, told: VM) -> list[Change]:
        """Another VM may bear the same id for a while: one that is registered anew beside its own remains."""
        del self._told[moid]
        if self._moids.get(told.id) != moid:
            return []
        for other, vm in self._told.items():
            if vm.id == told.id:
                self._moids[vm.id] = other
                return [Changed(vm)]
        del self._moids[told.id]
        return [Removed(told.id)]

    def _vm(self, machine: Machine) -> VM:
        host = self._places.get(machine.host)
        return to_vm(
            machine,
            cut=self._cut(machine.moid),
            lock=self._lock(machine.locked_by),
            node=host.name if host else "",
            path=self._path(machine),
        )

    def _cut(self, moid: str) -> bool:
        """Whether the last task that switched it, since it was seen on, ended its run."""
        tasks = [self.tasks[task] for task in self._tasks_of.get(moid, set()) - self._spent]
        switched = [task for task in tasks if task.kind in CUTS | STARTS and task.state != "error"]
        return bool(switched) and max(switched, key=lambda task: task.queued or _EVER).kind in CUTS

    def _lock(self, task: str) -> str:
        if not task:
            return ""
        known = self.tasks.get(task)
        return known.kind if known else task

    def _path(self, machine: Machine) -> str:
        """Its inventory path; empty where a folder above it is not shown to us."""
        names, above = [machine.name], machine.parent
        while place := self._places.get(above):
            if not place.parent:  # the root folder's name is no part of a path
                return "/" + "/".join(reversed(names))
            names.append(place.name)
            above = place.parent
        return ""
