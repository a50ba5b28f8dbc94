"""Reads what needs calls for each guest: its configuration, whether its agent answers, which task holds its lock."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable

from providers.core.adapter import Change, PowerState
from providers.core.clock import monotonic
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.proxmox.api import Api
from providers.proxmox.guests import QEMU, Config, Guest
from providers.proxmox.states import power_state
from providers.proxmox.tracker import Tracker

AT_ONCE = 8
"""Guests of one node whose details are read at the same time."""
A_FEW = 8
"""Guests that are looked at again beside each idle poll at the least, those longest ago first."""
ROUND_SECONDS = 600.0
"""How long it takes at the most to look at all guests again, as many as there are."""
FRESH_SECONDS = 60.0
"""The age up to which details are taken for granted of a guest that is asked for by itself."""
FIRST_SECONDS = 5.0
"""How long the first listing waits for agents that hang; their guests' details are reported later."""
HOLDERS = 10
NEVER = float("-inf")


class DetailReader:
    """Reads details in the background, and reports what changes by them."""

    def __init__(self, api: Api, tracker: Tracker, report: Callable[[Iterable[Change]], None]) -> None:
        self._api, self._tracker, self._report = api, tracker, report
        self._places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(AT_ONCE))
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._read_at: dict[str, float] = {}

    async def first(self) -> None:
        """Read the details of every guest that has none yet; returns after `FIRST_SECONDS` at the latest."""
        self.want(vm_id for vm_id in self._tracker.guests if self._tracker.details(vm_id).config is None)
        if self._reading:
            await asyncio.wait(self._reading.values(), timeout=FIRST_SECONDS)

    def want(self, vm_ids: Iterable[str]) -> None:
        """Read the details of these guests in the background."""
        for vm_id in vm_ids:
            if vm_id not in self._reading:
                self._reading[vm_id] = asyncio.create_task(self._read(vm_id))

    def sweep(self, every: float) -> None:
        """Read a few again, those longest ago first: so many that, once `every` so many seconds, all have their turn
        within `ROUND_SECONDS`."""
        oldest = sorted(self._tracker.guests, key=lambda vm_id: self._read_at.get(vm_id, NEVER))
        self.want(oldest[: max(A_FEW, math.ceil(len(oldest) * every / ROUND_SECONDS))])

    def due(self, vm_id: str) -> bool:
        """Whether its details are too old to be taken for granted, or there are none."""
        known = self._tracker.details(vm_id).config is not None
        return not known or monotonic() - self._read_at.get(vm_id, NEVER) > FRESH_SECONDS

    async def read(self, guest: Guest) -> None:
        """Read the details of one guest now."""
        config = await self._api.config(guest)
        self._read_at[guest.id] = monotonic()
        answers, error = await self._answers(guest, config)
        holder = await self._lock_holder(guest) if guest.lock else ""
        self._report(
            self._tracker.update_details(guest.id, config=config, answers=answers, ping_error=error, lock_holder=holder)
        )

    async def _read(self, vm_id: str) -> None:
        guest = self._tracker.guests.get(vm_id)
        try:
            async with self._places[guest.node if guest else ""]:
                guest = self._tracker.guests.get(vm_id)
                if guest is not None and power_state(guest) is not PowerState.UNKNOWN:
                    await self.read(guest)
        except (CommandFailed, HypervisorUnavailable, VMNotFound):
            self._read_at[vm_id] = monotonic()  # what was known stays; it is read again in its turn
        finally:
            del self._reading[vm_id]

    async def _answers(self, guest: Guest, config: Config) -> tuple[bool | None, str]:
        if guest.kind != QEMU or not config.agent or power_state(guest) is not PowerState.ON:
            return None, ""
        try:
            return await self._api.ping(guest), ""
        except CommandFailed as error:
            return None, error.message

    async def _lock_holder(self, guest: Guest) -> str:
        for task in await self._api.tasks(guest.node, vmid=guest.id, limit=HOLDERS):
            if task.runs:
                return f"{task.kind} by {task.user}"
        return ""
