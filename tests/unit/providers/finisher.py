"""A hypervisor that finishes a shutdown by itself, as Proxmox VE does, and a provider on it; in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from google.protobuf.duration_pb2 import Duration

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import (
    VM,
    ActiveVMs,
    Change,
    Changed,
    Delegation,
    Ended,
    Escalation,
    Grace,
    OffCause,
    PowerState,
    Problem,
    Reason,
    Signal,
    none_active,
)
from providers.core.errors import CommandFailed, HypervisorUnavailable, VmpowerError
from providers.core.extension import Extension
from providers.core.model import Operation
from providers.server import validation
from providers.sim.script import guest_id
from tests.unit.providers.fakes import OneVM
from tests.unit.providers.world import ProviderOf, virtual_clock

WEB = VM(guest_id("web"), "web", PowerState.ON, signals=(Signal.ACPI,), delegation=Delegation())
NOT_REVOCABLE = Delegation(revocable=False)
OWN_TIME = 60.0
"""Seconds that it gives a guest where nobody names a time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What it was told: when, with which escalation, and the time in seconds."""

    at: float
    escalation: Escalation
    timeout: float | None


class Finisher(OneVM):
    """It has one VM, `web`, whose guest goes off `takes` seconds after it was asked; None: never."""

    margin = timedelta(seconds=15)

    def __init__(self, vm: VM = WEB, takes: float | None = None) -> None:
        super().__init__(vm)
        self.takes = takes
        self.asked = list[Asked]()
        self.withdrawn = list[float]()
        self.powered_off = list[float]()
        self.refusals = list[VmpowerError]()
        """What the next requests come to, after 5 s."""
        self.withdraws = True
        self.cuts = True
        """Whether it cuts the power at the end of the time, as it should."""
        self.away = False
        """Whether the VM's host is: the list still shows the VM."""
        self._task: asyncio.Task[None] | None = None

    def change(self, **fields: Any) -> None:
        """Let something become of the VM; everybody is told."""
        self.vms[WEB.id] = replace(self.vms[WEB.id], **fields)
        self.news.put_nowait(Changed(self.vms[WEB.id]))

    def lock(self) -> None:
        self.change(signals=(), problems=(Problem("A backup holds it.", Reason.LOCKED, passing=True),))

    def unlock(self) -> None:
        self.change(signals=(Signal.ACPI,), problems=())

    def lose_host(self) -> None:
        self.away = True
        self.change(power_state=PowerState.UNKNOWN, signals=())

    def find_host(self, **fields: Any) -> None:
        self.away = False
        self.change(**({"power_state": PowerState.ON, "signals": (Signal.ACPI,)} | fields))

    def go_off(self, **fields: Any) -> None:
        if self.vms[WEB.id].power_state is not PowerState.OFF:
            self.change(power_state=PowerState.OFF, signals=(), **fields)

    async def watch(self, active_vms: ActiveVMs = none_active, /) -> AsyncIterator[Change]:
        self.news = asyncio.Queue()
        async for change in super().watch(active_vms):
            yield change

    async def get(self, vm_id: str) -> VM:
        self._reach_host()
        return await super().get(vm_id)

    async def power_on(self, vm_id: str) -> None:
        self._reach_host()
        self.change(power_state=PowerState.ON, signals=(Signal.ACPI,), ended=None)

    async def power_off(self, vm_id: str) -> bool:
        self._reach_host()
        self.powered_off.append(seconds(virtual_clock()))
        cut = self.vms[WEB.id].power_state is not PowerState.OFF
        self.go_off(ended=Ended(OffCause.HOST))
        return cut

    async def send_signal(self, vm_id: str, signal: Signal, grace: Grace) -> None:
        self._reach_host()
        timeout = grace.timeout.total_seconds() if grace.timeout is not None else None
        if self._task and not self._task.done():
            await asyncio.wait({self._task})
            return
        self.asked.append(Asked(seconds(virtual_clock()), grace.escalation, timeout))
        if self.refusals:
            await asyncio.sleep(5)
            raise self.refusals.pop(0)
        if self.takes is not None:
            leave = partial(self.go_off, ended=Ended(OffCause.GUEST))
            asyncio.get_running_loop().call_later(self.takes, leave)
        self._task = asyncio.create_task(self._finish(OWN_TIME if timeout is None else timeout, grace.escalation))
        await asyncio.wait({self._task})  # which goes on when the provider is gone

    async def _finish(self, timeout: float, escalation: Escalation) -> None:
        await asyncio.sleep(timeout)
        if escalation is Escalation.FORCE and self.cuts:
            self.go_off(ended=Ended(OffCause.HOST, Reason.TIMEOUT))

    async def withdraw(self, vm_id: str) -> None:
        self._reach_host()
        self.withdrawn.append(seconds(virtual_clock()))
        if not self.withdraws:
            raise CommandFailed("It is not to be stopped.")
        if self._task:
            self._task.cancel()

    def _reach_host(self) -> None:
        if self.away:
            raise HypervisorUnavailable("The VM's host does not answer.")


class FinisherProvider(ProviderOf[Finisher]):
    """A provider on such a hypervisor, asked as by the contract."""

    async def ask(self, **fields: Any) -> Operation:
        """A Shutdown; `timeout` in seconds.

        Raises:
            InvalidRequest, VMRefused
        """
        if timeout := fields.pop("timeout", None):
            fields["timeout"] = Duration(seconds=timeout)
        message = pb.ShutdownRequest(vm="web", **fields)
        request = validation.shutdown(message, self.inventory.resolve, self.settings)
        return await self.operations.start(request)

    async def extending(self, operation: Operation, extension: Extension) -> asyncio.Task[Operation]:
        """An ExtendOperation that counts, and whose answer is still to come."""
        extended = asyncio.create_task(self.operations.extend(operation.id, extension))
        async for known in self.operations.watch(operation.id):
            if "extended" in told(known):
                break
        return extended


MakeFinisher = Callable[..., Awaitable[FinisherProvider]]


def seconds(moment: datetime | None) -> float:
    """Of virtual time."""
    assert moment
    return round((moment - virtual_clock()) / timedelta(seconds=1) + asyncio.get_running_loop().time(), 2)


def told(operation: Operation) -> str:
    """All its steps."""
    return "\n".join(step.message for step in operation.steps)
