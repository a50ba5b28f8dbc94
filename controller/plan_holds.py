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
        self._told: dict[tuple[str, str], tuple[str, str]] = {}
        """For each VM that is held, the run that holds it and the operation by which its memory was saved, if any."""
        self._holders: dict[tuple[str, str], list[tuple[History, Target]]] = {}
        self._settled = False

    def holder(self, provider: str, vm: str) -> str:
        """The run that holds a VM of the Provider NAMESPACE/NAME; empty: none."""
        self._settle()
        return self._told.get((provider, vm), ("", ""))[0]

    def holders(self, provider: str, vm: str) -> Sequence[tuple[History, Target]]:
        """All runs that hold a VM of the Provider NAMESPACE/NAME, oldest first, each with what it calls it."""
        self._settle()
        return self._holders.get((provider, vm), ())

    def saved(self, provider: str, vm: str) -> str:
        """The operation by which the run that holds a VM has saved its memory; empty: none has."""
        self._settle()
        return self._told.get((provider, vm), ("", ""))[1]

    def changed(self) -> None:
        """A history has changed, or there is one more or less."""
        if self._settled:
            self._settled = False
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        if self._settled:
            return
        before, self._settled = self._told, True
        self._told, self._holders = {}, {}
        for history in self._histories():
            for target in filter(history.holds, targets(history)):
                vm = (full_name(history.start.namespace, target.provider), target.vm)
                self._holders.setdefault(vm, []).append((history, target))
                saved = history.saved_by(target) or self._told.get(vm, ("", ""))[1]
                self._told[vm] = (history.start.called, saved)
        if changed := {vm for vm, _ in before.items() ^ self._told.items()}:
            self._wake(changed)
