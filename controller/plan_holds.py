"""Which run holds which VM, worked out from the histories of the runs that are hosted."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

from controller.hosted_run import targets
from controller.plan_scope import full_name
from plans.frozen import Target
from plans.history import History


class Holds:
    """Worked out anew when it is asked for after a change, at the latest in the loop's next turn."""

    def __init__(
        self, histories: Callable[[], Iterable[History]], wake: Callable[[Collection[tuple[str, str]]], None]
    ) -> None:
        """`wake` is told the VMs, each by its Provider and id, that another run holds than before, or none."""
        self._histories, self._wake = histories, wake
        self._holds: dict[tuple[str, str], str] = {}
        self._saves: dict[tuple[str, str], str] = {}
        self._holders: dict[tuple[str, str], list[tuple[History, Target]]] = {}
        self._settled = False

    def holder(self, provider: str, vm: str) -> str:
        """The run that holds a VM of the Provider NAMESPACE/NAME; empty: none."""
        if not self._settled:
            self._settle()
        return self._holds.get((provider, vm), "")

    def holders(self, provider: str, vm: str) -> Sequence[tuple[History, Target]]:
        """All runs that hold a VM of the Provider NAMESPACE/NAME, oldest first, each with what it calls it."""
        if not self._settled:
            self._settle()
        return self._holders.get((provider, vm), ())

    def saved(self, provider: str, vm: str) -> str:
        """The operation by which the run that holds a VM has saved its memory; empty: none has."""
        if not self._settled:
            self._settle()
        return self._saves.get((provider, vm), "")

    def changed(self) -> None:
        """A history has changed, or there is one more or less."""
        if self._settled:
            self._settled = False
            asyncio.get_running_loop().call_soon(lambda: self.holder("", ""))

    def _settle(self) -> None:
        held, saved, self._settled = self._holds, self._saves, True
        self._holds, self._saves, self._holders = {}, {}, {}
        for history in self._histories():
            for target in filter(history.holds, targets(history)):
                vm = (full_name(history.start.namespace, target.provider), target.vm)
                self._holds[vm] = history.start.called
                self._holders.setdefault(vm, []).append((history, target))
                if operation := history.saved_by(target):
                    self._saves[vm] = operation
        changed = {vm for vm, _ in (held.items() ^ self._holds.items()) | (saved.items() ^ self._saves.items())}
        if changed:
            self._wake(changed)
