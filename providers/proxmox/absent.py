"""Guests that cluster/resources leaves out: they are looked for before anybody is told that they are not here.

It may leave one out that runs, for a moment while it moves to another node. So a guest's own node is asked first, then
cluster/resources again, and at last whether any node has a guest of this number. Until that is known, a guest stays as
it was; while its node does not answer, it is not known how it is.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from providers.core.adapter import ActiveVMs, Change
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.proxmox.api import Api
from providers.proxmox.guests import Guest
from providers.proxmox.tracker import Tracker
from providers.proxmox.visits import Visits

AT_ONCE = 16
"""Guests that are looked for after one poll, those with operations first, then those longest ago; the same if all of
10,000 are missing."""


class Reader(Protocol):
    """The poller, as far as it is needed here."""

    async def ask(self, guest: Guest) -> None:
        """Ask its node how a guest is."""

    async def refresh(self) -> None:
        """Read cluster/resources now."""

    def report(self, changes: Iterable[Change]) -> None:
        """Yield these changes with the next ones."""


class Absent:
    """Looks for guests, and reports what it finds out."""

    def __init__(self, api: Api, tracker: Tracker, visits: Visits, reader: Reader) -> None:
        self._api, self._tracker, self._visits, self._reader = api, tracker, visits, reader
        self._missing = dict[str, Guest]()
        self._looked = dict[str, int]()
        """How often each was looked for."""

    def among(self, rows: Sequence[Guest]) -> list[Guest]:
        """The rows, and the guests that are missing there, as they were known."""
        listed = {row.id for row in rows}
        self._missing = {vm_id: guest for vm_id, guest in self._tracker.guests.items() if vm_id not in listed}
        self._looked = {vm_id: self._looked.get(vm_id, 0) for vm_id in self._missing}
        return [*rows, *self._missing.values()]

    async def look(self, active_vms: ActiveVMs) -> None:
        """Look for some of them."""
        active = active_vms()
        turn = sorted(self._missing, key=lambda vm_id: (vm_id not in active, self._looked[vm_id]))[:AT_ONCE]
        for vm_id in turn:
            self._looked[vm_id] += 1
        keys = {f"guest {vm_id}": vm_id for vm_id in turn}
        await self._visits.make({key: self._look(vm_id) for key, vm_id in keys.items() if not self._visits.busy(key)})

    async def is_gone(self, vm_id: str) -> bool:
        """Whether a guest that is not where it was is nowhere else either; then that is told."""
        if not await self._api.is_free(vm_id):
            return False
        self.forget(vm_id)
        return True

    def forget(self, vm_id: str) -> None:
        """Tell that a guest is not here any more: it was destroyed, or is not for this account to see."""
        if vm_id in self._tracker.guests:
            self._reader.report(self._tracker.remove(vm_id))

    async def _look(self, vm_id: str) -> None:
        guest = self._missing[vm_id]
        try:
            await self._reader.ask(guest)
        except VMNotFound:
            await self._reader.refresh()
            await self._tell(vm_id)
        except CommandFailed as error:
            if is_forbidden(error):
                self.forget(vm_id)
            else:
                self._reader.report(self._tracker.lose(vm_id))
        except HypervisorUnavailable:
            if guest.node in await self._api.nodes():
                self._reader.report(self._tracker.lose(vm_id))
            else:  # which is a node no more
                await self._tell(vm_id)

    async def _tell(self, vm_id: str) -> None:
        """Of one that its node does not have: that it is gone, or that it is not known how it is."""
        if vm_id in self._missing and not await self.is_gone(vm_id):
            self._reader.report(self._tracker.lose(vm_id))


def is_forbidden(error: CommandFailed) -> bool:
    """Whether the account may not do that; of a guest that was destroyed that had its rights from a pool, neither."""
    return error.metadata.get("status") == "403"
